"""The cache: owns entries, weight, time and counts. Which entry leaves is a strategy's only question."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from toolring.plugins.specs import CacheStrategy

OVERHEAD: Final = 200
"""Bytes that an entry costs beside its key and value: tuple, two dict slots, the strategy's node."""
LINES: Final = 16
"""Times to live whose entries stand in lines of their own, where they expire in order of insertion; those of further
ones share a heap, which costs more."""
SWEPT: Final = 2
"""Expired entries that a put removes, if there are so many: more than it adds, so that their memory comes back."""


class Cache:
    """Values by key, limited by entries and by bytes, each with its own time to live (seconds).

    That is counted from ``put`` and not renewed by access, so it is a maximum age too. Expired entries are never
    returned and leave before live ones. ``clock`` must be monotonic; under a frozen or backward one nothing expires
    early. Any value may be kept, None too. Not thread-safe: a worker runs one tool at a time.
    """

    __slots__ = (
        "_added",
        "_clock",
        "_entries",
        "_heap",
        "_lines",
        "_max_bytes",
        "_max_entries",
        "_newest",
        "_removed",
        "_soonest",
        "_touched",
        "_victim",
        "bytes",
        "evictions",
        "expirations",
        "hits",
        "misses",
    )

    def __init__(
        self,
        strategy: CacheStrategy,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._added, self._touched = strategy.added, strategy.touched
        self._removed, self._victim = strategy.removed, strategy.victim
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: dict[bytes, tuple[Any, float, OrderedDict[bytes, float] | None, int]] = {}
        """Value, expiry, line, weight."""
        self._lines: dict[float, OrderedDict[bytes, float]] = {}
        """Expiries by key, for some times to live."""
        self._heap: list[tuple[float, bytes]] = []
        """Expiries of all others; records of what has left stay until they are due or too many."""
        self._soonest = math.inf
        """Nothing expires before this."""
        self._newest = -math.inf
        """When the last was put into a line."""
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self.expirations = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        """Not an access."""
        entry = self._entries.get(key)
        return entry is not None and self._clock() < entry[1]

    def get(self, key: bytes, default: Any = None) -> Any:
        """The value, counted as a hit, or the default, counted as a miss."""
        entry = self._entries.get(key)
        if entry is not None:
            if self._clock() < entry[1]:
                self.hits += 1
                self._touched(key)
                return entry[0]
            self._remove(key)
            self.expirations += 1
        self.misses += 1
        return default

    def peek(self, key: bytes, default: Any = None) -> Any:
        """The value or the default; not an access, and counted nowhere."""
        entry = self._entries.get(key)
        return entry[0] if entry is not None and self._clock() < entry[1] else default

    def put(self, key: bytes, value: Any, ttl: float | None, weight: int | None = None) -> bool:
        """Keep a value for ``ttl`` seconds (None: for ever).

        ``weight``: its bytes, all told; by default those of key, value (then of bytes) and OVERHEAD. False if it isn't
        kept, because ttl <= 0 or it is larger than the whole cache; what was there before is gone all the same.
        """
        if weight is None:
            weight = len(key) + len(value) + OVERHEAD
        entries = self._entries
        if key in entries:
            self._remove(key)
        if (ttl is not None and ttl <= 0) or weight > self._max_bytes or self._max_entries < 1:
            return False
        now = self._clock()
        if now >= self._soonest:
            self._sweep(now)
        while len(entries) >= self._max_entries or self.bytes + weight > self._max_bytes:
            if now >= self._soonest and self._expire(now):
                continue
            self._remove(self._victim())
            self.evictions += 1
        expiry, line = math.inf, None
        if ttl is not None:
            expiry = now + ttl
            if now >= self._newest:  # else the clock went back, and it would stand behind what expires later
                self._newest = now
                line = self._lines.get(ttl)
                if line is None and len(self._lines) < LINES:
                    line = self._lines[ttl] = OrderedDict()
            if line is not None:
                line[key] = expiry
            else:
                self._put_on_heap(expiry, key)
            self._soonest = min(self._soonest, expiry)
        entries[key] = value, expiry, line, weight
        self.bytes += weight
        self._added(key)
        return True

    def delete(self, key: bytes) -> bool:
        """False if it wasn't there."""
        if key not in self._entries:
            return False
        self._remove(key)
        return True

    def clear(self) -> None:
        for key in list(self._entries):
            self._remove(key)
        self._heap.clear()

    def shrink(self, share: float) -> None:
        """Keep no more than this share of the bytes that it holds; who leaves the strategy says."""
        most = int(self.bytes * share)
        now = self._clock()
        while self._entries and self.bytes > most:
            if now >= self._soonest and self._expire(now):
                continue
            self._remove(self._victim())
            self.evictions += 1

    def stats(self) -> dict[str, int]:
        return {
            "entries": len(self._entries),
            "bytes": self.bytes,
            "hits": self.hits,
            "misses": self.misses,
            "evictions": self.evictions,
            "expirations": self.expirations,
        }

    def _put_on_heap(self, expiry: float, key: bytes) -> None:
        """Records of what has left are dropped once they are most: each put pays for the few that it made."""
        if len(self._heap) > 2 * len(self._entries) + 64:
            get, nothing = self._entries.get, (None, None)
            self._heap = [record for record in self._heap if get(record[1], nothing)[1] == record[0]]
            heapify(self._heap)
            self._lines = {ttl: line for ttl, line in self._lines.items() if line}
        heappush(self._heap, (expiry, key))

    def _sweep(self, now: float) -> None:
        for _ in range(SWEPT):
            if not self._expire(now):
                return

    def _expire(self, now: float) -> bool:
        """Remove one expired entry, if there is one."""
        heap, soonest = self._heap, math.inf
        while heap and heap[0][0] <= now:
            at, key = heappop(heap)
            entry = self._entries.get(key)
            if entry is not None and entry[1] == at:
                self._remove(key)
                self.expirations += 1
                return True
        if heap:
            soonest = heap[0][0]
        for line in self._lines.values():
            for key, expiry in line.items():
                if expiry <= now:
                    self._remove(key)
                    self.expirations += 1
                    return True
                soonest = min(soonest, expiry)
                break
        self._soonest = soonest
        return False

    def _remove(self, key: bytes) -> None:
        _, _, line, weight = self._entries.pop(key)
        if line is not None:
            del line[key]
        self.bytes -= weight
        self._removed(key)
