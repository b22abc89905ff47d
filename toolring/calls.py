"""What the workers of a node share of the endpoints of services: how many requests each endpoint has under way, and
what an operator has said of its circuit.

A balancer needs to know the first of the whole node: a worker that runs one tool at a time has never more than one
request under way itself. Each worker writes its own numbers only, so nothing is locked.
"""

from __future__ import annotations

from typing import Final

from toolring.policy.service import MOST_ENDPOINTS

AUTO: Final = 0
OPEN: Final = 1
CLOSE: Final = 2
WATCH: Final = 3
ORDERS: Final = {"open": OPEN, "close": CLOSE, "watch": WATCH, "auto": AUTO}
"""An operator's words, as they are shared."""


def size(lanes: int) -> int:
    """Bytes that so many lanes need."""
    return 2 * MOST_ENDPOINTS * (1 + lanes)


def alone() -> Calls:
    """Of one process that shares nothing."""
    return Calls(memoryview(bytearray(size(1))))


class Calls:
    """Two bytes for the orders of each endpoint, then for each endpoint two of each lane."""

    __slots__ = ("_lane", "_lanes", "_words")

    def __init__(self, memory: memoryview, lane: int = 0) -> None:
        """``lane``: whose numbers are written."""
        self._words = memory.cast("B").cast("H")
        self._lanes = len(self._words) // MOST_ENDPOINTS - 1
        self._lane = lane

    def clear(self) -> None:
        """A worker begins: what its predecessor had under way is over."""
        for endpoint in range(MOST_ENDPOINTS):
            if self._words[self._at(endpoint)]:
                self._words[self._at(endpoint)] = 0

    def own(self, endpoint: int, under_way: int) -> None:
        """So many requests of this worker are under way there."""
        self._words[self._at(endpoint)] = min(under_way, 0xFFFF)

    def total(self, endpoint: int) -> int:
        """Requests of all workers that are under way there."""
        first = MOST_ENDPOINTS + endpoint * self._lanes
        return sum(self._words[first : first + self._lanes])

    def order(self, endpoint: int) -> int:
        return self._words[endpoint]

    def give(self, endpoint: int, order: int) -> None:
        self._words[endpoint] = order

    def _at(self, endpoint: int) -> int:
        return MOST_ENDPOINTS + endpoint * self._lanes + self._lane
