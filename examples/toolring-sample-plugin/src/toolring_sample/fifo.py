"""First in, first out: use does not keep an entry alive."""

from __future__ import annotations


class FIFO:
    """A dict keeps its keys in the order of insertion, which is all that is needed."""

    def __init__(self, max_entries: int) -> None:
        self._order: dict[bytes, None] = {}

    def added(self, key: bytes) -> None:
        self._order[key] = None

    def touched(self, key: bytes) -> None:
        pass

    def removed(self, key: bytes) -> None:
        del self._order[key]

    def victim(self) -> bytes:
        return next(iter(self._order))
