"""What the workers of a node share of the endpoints of services: how many requests each endpoint has under way, and
what an operator has said of its circuit.

A balancer needs to know the first of the whole node: a worker that runs one tool at a time has never more than one
request under way itself. Each worker writes its own numbers only, so nothing is locked.
"""

from __future__ import annotations

from toolring.policy.service import MOST_ENDPOINTS


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
        """``lane``: whose numbers ``own`` writes."""
        self._words = memory.cast("B").cast("H")
        self._lanes = len(self._words) // MOST_ENDPOINTS - 1
        self._lane = lane

    def clear(self, lane: int) -> None:
        """That worker is gone: what it had under way is over."""
        for at in range(MOST_ENDPOINTS + lane, len(self._words), self._lanes):
            if self._words[at]:
                self._words[at] = 0

    def own(self, endpoint: int, under_way: int) -> None:
        """So many requests of this worker are under way there."""
        self._words[MOST_ENDPOINTS + endpoint * self._lanes + self._lane] = min(under_way, 0xFFFF)

    def total(self, endpoint: int) -> int:
        """Requests of all workers that are under way there."""
        first = MOST_ENDPOINTS + endpoint * self._lanes
        return sum(self._words[first : first + self._lanes])

    def order(self, endpoint: int) -> int:
        """What an operator wants of its circuit: the place of his word in ``policy.breaker.ORDERS``."""
        return self._words[endpoint]

    def give(self, endpoint: int, order: int) -> None:
        self._words[endpoint] = order
