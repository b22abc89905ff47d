"""Adaptive: several strategies are tried on the keys alone, all the time, and the one that does best is followed.

Each expert runs a shadow cache of the real one's size: keys without values. Its score counts the hits that it would
have had, the recent ones most. Who leaves the real cache is whoever the best expert has dropped already, else whom it
would drop next. So the cache turns into the leader's as fast as entries come, and never does much worse than the
best of them for long. The experts are opposites: LRU trusts recency alone, S3-FIFO distrusts what is new,
W-TinyLFU counts. Costs two to four times an expert's time and memory for keys.

Following the leader with decayed scores: Littlestone and Warmuth: The weighted majority algorithm (1994); as a cache:
Ari, Amer, Gramacy, Miller, Brandt, Long: ACME: adaptive caching using multiple experts (2002).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from toolring.plugins.caches.lru import LRU
from toolring.plugins.caches.s3fifo import S3FIFO
from toolring.plugins.caches.wtinylfu import WTinyLFU
from toolring.plugins.specs import CacheStrategy

MEMORY: Final = 16.0
"""Over how many times the cache's size in accesses a score forgets about two thirds of what it was."""


class _Expert:
    """A strategy with its shadow cache, its score, and the real cache's keys that it would not hold any more."""

    __slots__ = ("dropped", "keys", "score", "strategy")

    def __init__(self, strategy: CacheStrategy) -> None:
        self.strategy = strategy
        self.keys: set[bytes] = set()
        self.dropped: OrderedDict[bytes, None] = OrderedDict()
        self.score = 0.0

    def asked(self, key: bytes, size: int, real: set[bytes]) -> bool:
        """One access; would it have been a hit?"""
        if key in self.keys:
            self.strategy.touched(key)
            return True
        while len(self.keys) >= size:
            gone = self.strategy.victim()
            self.forget(gone)
            if gone in real:
                self.dropped[gone] = None
        self.keys.add(key)
        self.strategy.added(key)
        self.dropped.pop(key, None)
        return False

    def forget(self, key: bytes) -> None:
        if key in self.keys:
            self.keys.remove(key)
            self.strategy.removed(key)


class Adaptive:
    """Follows the best of its experts, at any time."""

    __slots__ = ("_experts", "_keys", "_leader", "_leaving", "_size", "_weight")

    def __init__(self, max_entries: int) -> None:
        self._size = max_entries
        self._keys: set[bytes] = set()
        self._experts = [_Expert(make(max_entries)) for make in (LRU, S3FIFO, WTinyLFU)]
        self._leader = self._experts[0]
        self._leaving: bytes | None = None
        self._weight = 1.0
        """What a hit counts; it grows, so that earlier hits count less, without touching their sum."""

    def added(self, key: bytes) -> None:
        self._keys.add(key)
        self._asked(key)

    def touched(self, key: bytes) -> None:
        self._asked(key)

    def removed(self, key: bytes) -> None:
        self._keys.remove(key)
        for expert in self._experts:
            expert.dropped.pop(key, None)
            if key != self._leaving:  # it didn't have to make room: for the experts too it is no more
                expert.forget(key)
        self._leaving = None

    def victim(self) -> bytes:
        self._size = max(1, len(self._keys))  # a limit in bytes may bind before that of entries
        leader = self._leader
        if leader.dropped:
            self._leaving = next(iter(leader.dropped))
        else:
            self._leaving = leader.strategy.victim()
            if self._leaving not in self._keys:
                self._leaving = next(iter(self._keys))
        return self._leaving

    def _asked(self, key: bytes) -> None:
        best = self._leader
        for expert in self._experts:
            if expert.asked(key, self._size, self._keys):
                expert.score += self._weight
            if expert.score > best.score:
                best = expert
        self._leader = best
        self._weight *= 1 + 1 / (MEMORY * self._size)
        if self._weight > 1e100:
            for expert in self._experts:
                expert.score /= self._weight
            self._weight = 1.0
