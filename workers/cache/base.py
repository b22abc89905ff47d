"""The cache: owns entries, weight, time and counts. Which entry leaves is a strategy's only question."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolring.plugins.specs import CacheStrategy

OVERHEAD = 200
"""Bytes that an entry costs beside its key and value: tuple, two dict slots, the strategy's node."""


class Cache:
    """Bytes by key, limited by entries and by bytes, each entry with its own time to live (seconds).

    Expired entries are never returned and leave before live ones. ``clock`` must be monotonic; under a frozen or
    backward one nothing expires early. Not thread-safe: a worker runs one tool at a time.
    """

    def __init__(
        self,
        strategy: CacheStrategy,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._strategy = strategy
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: dict[bytes, tuple[bytes, float, float]] = {}  # value, expiry, ttl
        self._by_ttl: dict[float, OrderedDict[bytes, float]] = {}  # equal TTLs expire in order of insertion
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self.expirations = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """The value, counted as a hit, or None, counted as a miss."""
        entry = self._entries.get(key)
        if entry is not None:
            if self._clock() < entry[1]:
                self.hits += 1
                self._strategy.touched(key)
                return entry[0]
            self._remove(key)
            self.expirations += 1
        self.misses += 1
        return None

    def put(self, key: bytes, value: bytes, ttl: float) -> bool:
        """Keep a value for ``ttl`` seconds; False if it isn't kept (ttl <= 0, or larger than the whole cache)."""
        weight = len(key) + len(value) + OVERHEAD
        if key in self._entries:
            self._remove(key)
        if ttl <= 0 or weight > self._max_bytes or self._max_entries < 1:
            return False
        now = self._clock()
        while len(self._entries) >= self._max_entries or self.bytes + weight > self._max_bytes:
            self._make_room(now)
        self._entries[key] = (value, now + ttl, ttl)
        self._by_ttl.setdefault(ttl, OrderedDict())[key] = now + ttl
        self.bytes += weight
        self._strategy.added(key)
        return True

    def delete(self, key: bytes) -> bool:
        if key not in self._entries:
            return False
        self._remove(key)
        return True

    def clear(self) -> None:
        for key in list(self._entries):
            self._remove(key)

    def stats(self) -> dict[str, int]:
        return {
            "entries": len(self._entries),
            "bytes": self.bytes,
            "hits": self.hits,
            "misses": self.misses,
            "evictions": self.evictions,
            "expirations": self.expirations,
        }

    def _make_room(self, now: float) -> None:
        for line in self._by_ttl.values():
            key, expiry = next(iter(line.items()))
            if expiry <= now:
                self._remove(key)
                self.expirations += 1
                return
        self._remove(self._strategy.victim())
        self.evictions += 1

    def _remove(self, key: bytes) -> None:
        value, _, ttl = self._entries.pop(key)
        line = self._by_ttl[ttl]
        del line[key]
        if not line:
            del self._by_ttl[ttl]
        self.bytes -= len(key) + len(value) + OVERHEAD
        self._strategy.removed(key)
