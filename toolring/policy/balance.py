"""Balancers: which slot of a node gets a job. Pure; the slots' loads come in, a slot's index goes out.

The default needs no balancer at all: jobs wait in one line, and the slot with the least work in hand takes the
next (least outstanding). A balancer is asked when a job must be placed before anyone is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from toolring.policy.ring import Ring

OVERFLOW_SECONDS: Final = 0.05
OVERFLOW_FACTOR: Final = 1.25


class Balancer(Protocol):
    """Places one job.

    ``point`` is the job's place on the 64-bit circle (a hash of its key), ``loads`` the expected seconds of work
    in hand of each slot; None marks a slot that can't take jobs now. At least one slot can.
    """

    def place(self, point: int, loads: Sequence[float | None]) -> int: ...


class RoundRobin:
    """Each slot in turn."""

    __slots__ = ("_next",)

    def __init__(self, slots: int) -> None:
        self._next = 0

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        for _ in loads:
            index = self._next % len(loads)
            self._next = index + 1
            if loads[index] is not None:
                return index
        raise ValueError("no slot can take jobs")


class LeastOutstanding:
    """The slot with the least work in hand; the first of equals."""

    __slots__ = ()

    def __init__(self, slots: int) -> None:
        pass

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        return min((load, index) for index, load in enumerate(loads) if load is not None)[1]


class RingOverflow:
    """The key's own slot, so that its caches stay warm, unless it is far busier than the others.

    After Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018), with load in
    seconds: a slot is full at 1.25 x the mean, but never under 50 ms of work; then the next on the ring is asked.
    """

    __slots__ = ("_order", "_ring")

    def __init__(self, slots: int) -> None:
        self._ring = Ring([str(index) for index in range(slots)])
        self._order = {str(index): index for index in range(slots)}

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        home = self._order[self._ring.find(point)]
        load = loads[home]
        if load is not None and load <= OVERFLOW_SECONDS:
            return home
        known = [load for load in loads if load is not None]
        limit = max(OVERFLOW_SECONDS, OVERFLOW_FACTOR * sum(known) / len(known))
        for name in self._ring.walk(point):
            load = loads[self._order[name]]
            if load is not None and load <= limit:
                return self._order[name]
        return LeastOutstanding(len(loads)).place(point, loads)


BALANCERS = {"ring": RingOverflow, "round_robin": RoundRobin, "least_outstanding": None}
"""By the name that ``@tool(balancer=...)`` and the configuration use; None: one line for all."""
