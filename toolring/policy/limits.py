"""Limits on how often and how many at once: a rate, and a number that adapts to what is measured. Pure."""

from __future__ import annotations

import math
from typing import Final


class RateLimit:
    """So many starts per second, and ``burst`` at once after a pause.

    The generic cell rate algorithm (ITU-T I.371): one moment is kept, at which the burst will be whole again.
    """

    __slots__ = ("_full_at", "_slack", "step")

    def __init__(self, rate: float, burst: int = 0) -> None:
        """``burst``: 0 for those of one second, and at least one."""
        self.step = 1.0 / rate
        self._slack = (burst or max(1, math.ceil(rate))) * self.step
        self._full_at = -math.inf

    def available(self, now: float) -> int:
        """How many may start now."""
        spent = max(0.0, self._full_at - now)
        return max(0, int((self._slack - spent) / self.step + 1e-9))

    def take(self, now: float, count: int = 1) -> None:
        """So many have started."""
        self._full_at = max(self._full_at, now) + count * self.step

    def wait(self, now: float) -> float:
        """Seconds until the next may start; 0: now."""
        return max(0.0, self._full_at - now - self._slack + self.step)


class Fixed:
    """A number that was declared."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def ended(self, seconds: float, running: int) -> None:
        """A run has ended well after so long, beside so many others. Says nothing here."""


class Gradient:
    """How many may run at once, from how much slower they are than when fewer do.

    After the gradient limit of Netflix's concurrency-limits (2018), whose idea is TCP Vegas' (Brakmo and Peterson,
    1994): the limit follows ``limit * usual / now + sqrt(limit)``. What is usual is measured now and then with half as
    many beside each other; otherwise a tool that is always crowded would in time pass for a slow one.
    """

    __slots__ = ("_aside", "_fastest", "_left", "_limit", "_most", "_now", "_usual")

    TOLERANCE: Final = 1.5
    SMOOTHING: Final = 0.2
    EVERY: Final = 1000
    """Runs between two measurements of what is usual."""

    def __init__(self, first: int, most: int) -> None:
        self._limit = float(min(first, most))
        self._most = most
        self._now = 0.0
        self._usual = 0.0
        self._left = self.EVERY
        self._aside: float | None = None
        """The limit that holds again after the measurement; None: there is none under way."""
        self._fastest = math.inf

    @property
    def limit(self) -> int:
        return int(self._limit)

    def ended(self, seconds: float, running: int) -> None:
        """A run has ended well after so many seconds; ``running`` counts it and those beside it."""
        seconds = max(seconds, 1e-6)
        self._left -= 1
        if not self._usual:
            self._usual = self._now = seconds
        if self._aside is not None:
            self._fastest = min(self._fastest, seconds)
            if self._left <= 0:
                self._usual, self._limit = self._fastest, self._aside
                self._aside, self._left = None, self.EVERY
            return
        self._now += 0.1 * (seconds - self._now)
        if self._left <= 0:
            self._aside, self._fastest = self._limit, math.inf
            self._limit = max(1.0, self._limit / 2)
            self._left = 2 * int(self._aside) + 8  # the first of them began beside more
            return
        if running < self._limit / 2:
            return  # the limit wasn't what held them up, so this says nothing about it
        gradient = min(1.0, max(0.5, self.TOLERANCE * self._usual / self._now))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        moved = (1 - self.SMOOTHING) * self._limit + self.SMOOTHING * wanted
        self._limit = min(float(self._most), max(1.0, moved))
