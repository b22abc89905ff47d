"""Least recently used: the entry that was touched longest ago leaves first."""

from __future__ import annotations

from collections import OrderedDict


class LRU:
    """An OrderedDict in order of use; every operation is O(1)."""

    __slots__ = ("_order",)

    def __init__(self, max_entries: int) -> None:
        self._order: OrderedDict[bytes, None] = OrderedDict()

    def added(self, key: bytes) -> None:
        self._order[key] = None

    def touched(self, key: bytes) -> None:
        self._order.move_to_end(key)

    def removed(self, key: bytes) -> None:
        del self._order[key]

    def victim(self) -> bytes:
        return next(iter(self._order))
