"""What is kept of jobs that are over: the entries themselves, the last so many, and failures beside them, so that what
goes well doesn't push them out; and of each tool its slowest of the last minutes and its last failures, so that no
other tool pushes those out.

What always happens to a job stands in its entry already. What happens rarely is written down when it does, here; the
story is told from both when somebody asks (``story.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappush, heapreplace
from itertools import chain, count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from toolring import protocol
from toolring.protocol import ERROR, NIL, Answer

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.ledger import Entry, Session
    from toolring.supervisor.outputs import Line

MOST_EVENTS: Final = 50
"""Of one job; further ones are counted."""
ERROR_BYTES: Final = 4096
"""Of an error that are kept; of a longer one its code and message, and no traceback."""
_TEXT: Final = 500
SLOWEST: Final = 10
"""Of each tool, of every ``PERIOD_SECONDS``; those of the last and of this one are kept."""
PERIOD_SECONDS: Final = 300.0
FAILURES: Final = 5
"""Of each tool, the last."""
SHARE: Final = 100
"""Of one tool no more are kept aside than one in so many of all: who wants to keep few has few."""
LOOK_SECONDS: Final = 0.05
"""So often what is new is looked at: much sooner than it leaves."""

_ended = attrgetter("ended")
Slow = dict["ServedTool", list[tuple[float, int, "Entry"]]]
"""Heaps, by tool: the fastest of the slowest first."""


class Happened(NamedTuple):
    """Something that happens to few jobs."""

    what: str
    facts: dict[str, Any]


class Past:
    """What happened to one job beyond what happens to all."""

    __slots__ = ("error", "events", "forgotten", "more", "output")

    def __init__(self) -> None:
        self.events: list[Happened] = []
        self.more = 0
        """Events that found no room."""
        self.error = b""
        self.output: list[Line] = []
        """What its tool wrote."""
        self.forgotten = 0
        """Lines that have left to make room."""


class Held(NamedTuple):
    """A call whose result the supervisor held: it never was a job that waited."""

    session: Session
    id: int
    tool: ServedTool
    ended: float

    @property
    def name(self) -> str:
        return f"{self.session.name}-{self.id}"

    @property
    def accepted(self) -> float:
        return self.ended


class History:
    """The last jobs of one core, and the last that failed."""

    __slots__ = (
        "_failed_of",
        "_floors",
        "_last",
        "_most_failed",
        "_most_slow",
        "_next",
        "_numbers",
        "_seen",
        "_slow",
        "_turn",
        "done",
        "failed",
        "remember",
    )

    def __init__(self, keep: int, failures: int) -> None:
        self.done: deque[Entry | Held] = deque(maxlen=keep)
        self.failed: deque[Entry] = deque(maxlen=failures)
        self.remember = self.done.append
        self._most_slow, self._most_failed = min(SLOWEST, keep // SHARE), min(FAILURES, failures // SHARE)
        self._failed_of: dict[str, deque[Entry]] = {}
        """By tools' names: they outlive reloads."""
        self._slow: Slow = {}
        self._last: Slow = {}
        """Those of the period before."""
        self._floors: dict[ServedTool, float] = {}
        """By tool, seconds that one must have taken to be among the slowest."""
        self._seen: Entry | Held | None = None
        """The last that was looked at."""
        self._numbers = count()
        self._next = self._turn = 0.0

    def settled(self, entry: Entry, answer: Answer, now: float, house: bool) -> None:
        """An entry is over, whose answer didn't take the short way. What ran for others isn't kept for itself, but by
        those whom it ran for."""
        entry.ended, entry.run_us, entry.flags = now, answer.run_us, answer.flags
        entry.args = NIL
        entry.record = None
        if house:
            return
        if answer.status == ERROR:
            past_of(entry).error = _shortened(answer.value)
            self.failed.append(entry)
            if self._most_failed:
                self._failed_of.setdefault(entry.tool.name, deque(maxlen=self._most_failed)).append(entry)
        else:
            self.done.append(entry)

    def look(self, now: float) -> None:
        """Now and then look which of the latest are slow for their tool, so that nothing of it is on a job's way."""
        if now < self._next or not self._most_slow:
            return
        self._next = now + LOOK_SECONDS
        if now >= self._turn:
            self._turn = now + PERIOD_SECONDS
            self._last, self._slow, self._floors = self._slow, {}, {}
        seen, floors = self._seen, self._floors
        of: ServedTool | None = None
        quick: float | None = None
        floor = 0.0
        for one in reversed(self.done):  # the latest first, so of those accepted together the slowest
            if one is seen:
                break
            tool, accepted = one.tool, one.accepted
            if accepted is quick and tool is of:
                continue
            if tool is not of:
                of, floor = tool, floors.get(tool, 0.0)
            took, quick = one.ended - accepted, accepted
            if took > floor:
                self._slowest(cast("Entry", one), took)  # what was held took no time
                quick, floor = None, floors.get(tool, 0.0)
        self._seen = self.done[-1] if self.done else None

    def _slowest(self, entry: Entry, took: float) -> None:
        heap = self._slow.setdefault(entry.tool, [])
        item = (took, next(self._numbers), entry)
        if len(heap) < self._most_slow:
            heappush(heap, item)
        else:
            heapreplace(heap, item)
        if len(heap) == self._most_slow:
            self._floors[entry.tool] = heap[0][0]

    def find(self, session: str, number: int) -> Entry | Held | None:
        """The latest of that name."""
        for some in (reversed(self.failed), reversed(self.done), self._failures_aside(), self._slow_aside()):
            for one in some:
                if one.id == number and one.session.name == session:
                    return one
        return None

    def failures(self) -> list[Entry]:
        """All that failed, the latest last."""
        return [*_without(self._failures_aside(), self.failed), *self.failed]

    def others(self) -> list[Entry | Held]:
        """All that went well, the latest last."""
        return [*_without(self._slow_aside(), self.done), *self.done]

    def latest(self, failed: bool = False) -> Iterator[Entry | Held]:
        """The failed ones, and then, unless only those are wanted, the others, the latest first."""
        yield from reversed(self.failures())
        if not failed:
            yield from reversed(self.others())

    def _failures_aside(self) -> Iterator[Entry]:
        return chain.from_iterable(self._failed_of.values())

    def _slow_aside(self) -> Iterator[Entry]:
        return (entry for heaps in (self._last, self._slow) for heap in heaps.values() for _, _, entry in heap)


def _without(aside: Iterable[Entry], ring: Iterable[Entry | Held]) -> list[Entry]:
    """Those that have left the ring, the latest last."""
    there = {id(one) for one in ring}
    return sorted((one for one in aside if id(one) not in there), key=_ended)


def past_of(entry: Entry) -> Past:
    if entry.past is None:
        entry.past = Past()
    return entry.past


def note(entry: Entry, what: str, **facts: Any) -> None:
    """Write down what happens to a job, for whoever will ask."""
    past = past_of(entry)
    if len(past.events) < MOST_EVENTS:
        past.events.append(Happened(what, facts))
    else:
        past.more += 1


def note_attempt(entry: Entry, what: str, **facts: Any) -> None:
    """The same, of the attempt that is over now."""
    worker = entry.worker
    if worker is not None:
        facts |= {"worker": worker.pid, "slot": worker.slot.index}
    note(entry, what, attempt=entry.attempt, sent=entry.sent, **facts)


def _shortened(value: Any) -> bytes:
    if len(value) <= ERROR_BYTES:
        return bytes(value)
    try:
        error = protocol.decode_value(value)
        kept = {name: str(error.get(name, ""))[:_TEXT] for name in ("code", "message", "type") if name in error}
    except (ValueError, RecursionError, AttributeError):
        kept = {"code": "ERROR", "message": "it can't be read"}
    return protocol.encode(kept)
