"""Results that equal calls share before any worker is asked: those in flight, and those that are held here.

Equal means: the same tool, the same partition and the same bytes of arguments; a client's library encodes equal
arguments alike. What is held was given by a worker with the time for which it holds, and goes with any invalidation
that may concern it: the stamps are compared as they were before it was loaded.
"""

from __future__ import annotations

import platform
from collections import OrderedDict
from typing import Final

from msgspec import Raw

from toolring.lane import fence
from toolring.protocol import INLINE, Job
from toolring.spec import ToolSpec
from toolring.stamps import ALL, ANY, SOME_TAG, Stamps, of_tool, place, some_key
from toolring.supervisor.keyring import Record

Name = tuple[str, str, bytes, str]
"""Tool, partition, arguments, and the version of the tool's code."""
OVERHEAD: Final = 400
"""Bytes that a held result costs beside its name and value."""
LARGEST: Final = 1 << 20
_ORDERED: Final = platform.machine() in ("x86_64", "AMD64", "i686")
"""Stores of one processor are seen in their order by the others. Elsewhere it takes a fence to know that who sees the
stamp of anything sees those written before it."""


class Held:
    """A result with its stamps; ``checked`` is that of anything when these were last found to be true."""

    __slots__ = ("checked", "seen", "size", "until", "value")

    def __init__(self, value: Raw, until: float, seen: tuple[int, ...], size: int) -> None:
        self.value = value
        self.until = until
        self.seen = seen
        self.size = size
        self.checked = 0


class Flight(Record):
    """A run that equal calls wait for together; ``renews``: nobody waits, it is for the cache's sake."""

    __slots__ = ("name", "renews", "seen")

    def __init__(self, name: Name, seen: tuple[int, ...], renews: bool) -> None:
        super().__init__(b"", False)
        self.name = name
        self.seen = seen
        self.renews = renews


class Sharing:
    """Flights and held results by name; what was used longest ago leaves first."""

    def __init__(self, stamps: Stamps, max_bytes: int) -> None:
        self._stamps = stamps
        self._words = stamps.words
        self._max_bytes = max_bytes
        self._held: OrderedDict[Name, Held] = OrderedDict()
        self.flights: dict[Name, Flight] = {}
        self.renewals: dict[Name, Flight] = {}
        self.bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._held)

    def name(self, spec: ToolSpec, partition: str | None, job: Job) -> Name | None:
        """None: this call shares nothing here."""
        if partition is None or job.key or len(job.args) > INLINE:
            return None
        return spec.name, partition, bytes(job.args), spec.version

    def seen(self, places: tuple[int, ...]) -> tuple[int, ...]:
        words = self._words
        return tuple([words[at] for at in places])

    def get(self, name: Name, places: tuple[int, ...], now: float) -> Raw | None:
        """What is held, if it is still true."""
        held = self._held.get(name)
        if held is None:
            return None
        stamp = self._words[ANY]
        if held.until > now and held.checked != stamp:
            if not _ORDERED:
                fence()
            if held.seen == self.seen(places):
                held.checked = stamp
        if held.until <= now or held.checked != stamp:
            self._drop(name)
            return None
        self._held.move_to_end(name)
        return held.value

    def put(self, flight: Flight, value: Raw, until: float) -> None:
        """Hold what a flight brought; what was invalidated meanwhile bears old stamps, and is never given."""
        name = flight.name
        size = len(value) + len(name[2]) + OVERHEAD
        if name in self._held:
            self._drop(name)
        if size > min(LARGEST, self._max_bytes):
            return
        while self.bytes + size > self._max_bytes:
            self._drop(next(iter(self._held)))
            self.evictions += 1
        self._held[name] = Held(Raw(bytes(value)), until, flight.seen, size)
        self.bytes += size

    def landed(self, flight: Flight) -> None:
        flights = self.renewals if flight.renews else self.flights
        if flights.get(flight.name) is flight:
            del flights[flight.name]

    def doubt(self) -> None:
        """A tool that invalidates results was lost while it ran: what it changed nobody knows."""
        self._stamps.doubt()

    def _drop(self, name: Name) -> None:
        self.bytes -= self._held.pop(name).size


def places(spec: ToolSpec) -> tuple[int, ...]:
    """The stamps that decide about a tool's results here."""
    of = [ALL, place(of_tool(spec.name)), place(some_key(spec.name))]
    return (*of, place(SOME_TAG)) if spec.tags else tuple(of)
