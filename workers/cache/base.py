"""The cache: owns entries, weight, time and counts. Which entry leaves is a strategy's only question."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from toolring.plugins.specs import CacheStrategy

OVERHEAD: Final = 200
"""Bytes that an entry costs beside its key and value: tuple, two dict slots, the strategy's node."""
LINES: Final = 64
"""Times to live that are told apart exactly; further ones are rounded down, by at most a sixteenth."""


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
        "_lines",
        "_max_bytes",
        "_max_entries",
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
        self._entries: dict[bytes, tuple[Any, float, float, int]] = {}
        """Value, expiry, line, weight."""
        self._lines: dict[float, OrderedDict[bytes, float]] = {}
        """Expiries by key, for each time to live: equal times expire in order of insertion."""
        self._soonest = math.inf
        """Nothing expires before this."""
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
        while len(entries) >= self._max_entries or self.bytes + weight > self._max_bytes:
            self._make_room(now)
        if ttl is None:
            entries[key] = value, math.inf, math.inf, weight
        else:
            line = self._lines.get(ttl)
            if line is None:
                ttl, line = self._line(ttl)
            expiry = now + ttl
            self._soonest = min(self._soonest, expiry)
            line[key] = expiry
            entries[key] = value, expiry, ttl, weight
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

    def stats(self) -> dict[str, int]:
        return {
            "entries": len(self._entries),
            "bytes": self.bytes,
            "hits": self.hits,
            "misses": self.misses,
            "evictions": self.evictions,
            "expirations": self.expirations,
        }

    def _line(self, ttl: float) -> tuple[float, OrderedDict[bytes, float]]:
        """A line for a time to live that has none: its own, or, once there are many, one that is a little shorter."""
        if len(self._lines) >= LINES:
            fraction, exponent = math.frexp(ttl)
            ttl = math.ldexp(math.floor(fraction * 32) / 32, exponent)
        return ttl, self._lines.setdefault(ttl, OrderedDict())

    def _make_room(self, now: float) -> None:
        if now >= self._soonest and self._expire(now):
            return
        self._remove(self._victim())
        self.evictions += 1

    def _expire(self, now: float) -> bool:
        """Remove one expired entry, if there is one."""
        soonest = math.inf
        for line in self._lines.values():
            key, expiry = next(iter(line.items()))
            if expiry <= now:
                self._remove(key)
                self.expirations += 1
                return True
            soonest = min(soonest, expiry)
        self._soonest = soonest
        return False

    def _remove(self, key: bytes) -> None:
        _, _, ttl, weight = self._entries.pop(key)
        if ttl != math.inf:
            line = self._lines[ttl]
            del line[key]
            if not line:
                del self._lines[ttl]
        self.bytes -= weight
        self._removed(key)
