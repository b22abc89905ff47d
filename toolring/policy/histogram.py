"""A histogram of times in whole microseconds, in buckets of logarithmic width; two of them add up exactly.

Up to 127 µs each microsecond has a bucket of its own, then each octave has 64. A bucket's middle is within 0.8 % of
whatever fell into it, from a microsecond to an hour and beyond. Only buckets that are in use take memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Final

_BITS: Final = 7
_LINEAR: Final = 1 << _BITS
_HALF: Final = _BITS - 1
_TABLED: Final = 1 << 14
"""Microseconds below which a table has the buckets."""
_FURTHEST: Final = 1 << 12
"""No time ends up in a bucket beyond: that would be longer than the age of the universe."""


def bucket_of(micros: int) -> int:
    """The number of the bucket that a time falls into."""
    shift = micros.bit_length() - _BITS
    return micros if shift <= 0 else (shift << _HALF) + (micros >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """The first and the last microsecond of a bucket."""
    shift = max(0, (bucket >> _HALF) - 1)
    mantissa = bucket - (shift << _HALF)
    return mantissa << shift, ((mantissa + 1) << shift) - 1


def _table() -> list[int]:
    """The buckets of the times that are met most often: to look one up is quicker than to work it out."""
    found = list(range(_LINEAR))
    bucket, width = _LINEAR, 2
    while len(found) < _TABLED:
        for _ in range(1 << _HALF):
            found += [bucket] * width
            bucket += 1
        width *= 2
    return found


_TABLE: Final = _table()


class Histogram:
    """Counts by bucket, and the exact sum. Times below zero count as zero."""

    __slots__ = ("counts", "marks", "total")

    def __init__(self, counts: Mapping[int, int] | None = None, total: int = 0) -> None:
        self.counts: dict[int, int] = dict(counts or {})
        self.total = total
        """Microseconds, of all that was recorded."""
        self.marks: list[int] | None = None
        """What somebody has worked out of the counts; forgotten as soon as they change."""

    def record(self, micros: int, often: int = 1) -> None:
        """Count one time, as often as it was met."""
        micros = micros if micros > 0 else 0
        bucket = _TABLE[micros] if micros < _TABLED else bucket_of(micros)
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + often
        self.total += micros * often
        self.marks = None

    def record_all(self, micros: Iterable[int]) -> None:
        """Count many at once, which is cheaper by far: equal ones are found together."""
        self.count(Counter(micros))

    def count(self, times: Mapping[int, int]) -> None:
        """Count each time as often as it says."""
        counts, table, total = self.counts, _TABLE, 0
        for micros, often in times.items():
            micros = micros if micros > 0 else 0
            total += micros * often
            bucket = table[micros] if micros < _TABLED else bucket_of(micros)
            counts[bucket] = counts.get(bucket, 0) + often
        self.total += total
        self.marks = None

    def add(self, other: Histogram) -> None:
        """Take in another one's counts, bucket for bucket."""
        counts = self.counts
        for bucket, often in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + often
        self.total += other.total
        self.marks = None

    @property
    def n(self) -> int:
        """How many were recorded."""
        return sum(self.counts.values())

    @property
    def mean(self) -> float | None:
        """Exact; None of nothing."""
        n = self.n
        return self.total / n if n else None

    def quantiles(self, wanted: Sequence[float]) -> list[float | None]:
        """Microseconds that the given shares (ascending, 0 to 1) don't exceed: the nearest rank. None of nothing."""
        n = self.n
        if not n:
            return [None] * len(wanted)
        found: list[float | None] = []
        ordered = iter(sorted(self.counts.items()))
        bucket, seen = next(ordered)
        for share in wanted:
            rank = max(1, ceil(share * n))
            while seen < rank:
                bucket, more = next(ordered)
                seen += more
            first, last = bounds_of(bucket)
            found.append((first + last) / 2)
        return found


class Coarse:
    """Few wide buckets, up to each of some bounds (microseconds, ascending) and beyond the last. What a histogram holds
    counts below a bound if all of its bucket lies there."""

    def __init__(self, bounds: Sequence[int]) -> None:
        self.size = len(bounds) + 1
        self._places: list[int] = []
        place = 0
        for bucket in range(_FURTHEST):
            last = bounds_of(bucket)[1]
            while place < len(bounds) and last > bounds[place]:
                place += 1
            self._places.append(place)

    def counts(self, times: Histogram) -> list[int]:
        """How many lie in each."""
        found, places = [0] * self.size, self._places
        for bucket, often in times.counts.items():
            found[places[bucket]] += often
        return found
