"""S3-FIFO: newcomers pass through a small queue, so that what is used once leaves soon and harms nobody.

What was used in the small queue moves to the main one; what left the small one and comes back while it is remembered
begins in the main one. Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction (SOSP 2023).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

SMALL: Final = 0.1
"""The small queue's share of the entries."""
PROMOTED: Final = 2
"""Uses in the small queue after which an entry moves on."""
MOST: Final = 3
"""Uses that are counted."""


class S3FIFO:
    """Two queues of keys with their uses, and one of those that left. O(1) amortised: each pass over an entry costs
    it a use."""

    __slots__ = ("_fresh", "_ghosts", "_leaving", "_main", "_max_entries", "_small")

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._small: OrderedDict[bytes, int] = OrderedDict()
        self._main: OrderedDict[bytes, int] = OrderedDict()
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._fresh = True
        """Nothing had to leave yet."""
        self._leaving: bytes | None = None
        """The last victim that came from the small queue: if it is this that leaves, it is remembered."""

    def added(self, key: bytes) -> None:
        if key in self._ghosts:
            del self._ghosts[key]
            self._main[key] = 0
        elif self._fresh and len(self._small) >= self._max_entries * SMALL:
            self._main[key] = 0  # as long as there is room, the first come stay
        else:
            self._small[key] = 0

    def touched(self, key: bytes) -> None:
        queue = self._small if key in self._small else self._main
        uses = queue[key]
        if uses < MOST:
            queue[key] = uses + 1

    def removed(self, key: bytes) -> None:
        if key not in self._small:
            del self._main[key]
            return
        del self._small[key]
        if key == self._leaving:
            self._leaving = None
            self._ghosts[key] = None
            if len(self._ghosts) > max(1, self._max_entries - int(self._max_entries * SMALL)):
                self._ghosts.popitem(last=False)

    def victim(self) -> bytes:
        self._fresh = False
        small, main = self._small, self._main
        while small and len(small) >= SMALL * (len(small) + len(main)):
            key, uses = next(iter(small.items()))
            if uses < PROMOTED:
                self._leaving = key
                return key
            del small[key]
            main[key] = 0
        while True:
            key, uses = next(iter(main.items()))
            if uses == 0:
                return key
            main[key] = uses - 1
            main.move_to_end(key)
