"""First in, first out: the entry that came first leaves first, however often it was used."""

from __future__ import annotations

from collections import OrderedDict


class FIFO:
    """In order of insertion; a use costs nothing. A plain dict would walk over the places of those that left."""

    __slots__ = ("_order",)

    def __init__(self, max_entries: int) -> None:
        self._order: OrderedDict[bytes, None] = OrderedDict()

    def added(self, key: bytes) -> None:
        self._order[key] = None

    def touched(self, key: bytes) -> None:
        pass

    def removed(self, key: bytes) -> None:
        del self._order[key]

    def victim(self) -> bytes:
        return next(iter(self._order))
