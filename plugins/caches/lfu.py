"""Least frequently used, with aging: the entry with the fewest uses leaves first, of several the oldest.

Without aging what was popular once would stay for ever. Here a use adds one to an entry's rank, and a newcomer
begins one above the rank of the last one that left, so that old merit is overtaken (LFU with dynamic aging:
Arlitt, Cherkasova, Dilley, Friedrich, Jin: Evaluating content management techniques for Web proxy caches, 2000).
"""

from __future__ import annotations

from collections import OrderedDict


class LFU:
    """Keys in buckets of equal rank, oldest first. O(1): ranks grow by one, so the least is found by counting up."""

    __slots__ = ("_buckets", "_least", "_ranks")

    def __init__(self, max_entries: int) -> None:
        self._ranks: dict[bytes, int] = {}
        self._buckets: dict[int, OrderedDict[bytes, None]] = {}
        self._least = 0
        """No bucket has a lower rank: that of the last to leave, or of the next."""

    def added(self, key: bytes) -> None:
        self._put(key, self._least + 1)

    def touched(self, key: bytes) -> None:
        rank = self._take(key)
        self._put(key, rank + 1)

    def removed(self, key: bytes) -> None:
        self._take(key)

    def victim(self) -> bytes:
        while self._least not in self._buckets:
            self._least += 1
        return next(iter(self._buckets[self._least]))

    def _put(self, key: bytes, rank: int) -> None:
        self._ranks[key] = rank
        bucket = self._buckets.get(rank)
        if bucket is None:
            bucket = self._buckets[rank] = OrderedDict()
        bucket[key] = None

    def _take(self, key: bytes) -> int:
        rank = self._ranks.pop(key)
        bucket = self._buckets[rank]
        del bucket[key]
        if not bucket:
            del self._buckets[rank]
        return rank
