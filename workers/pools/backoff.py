"""When a creation may be tried again after some that failed: later each time, and not all pools at once."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 10.0


class Backoff:
    __slots__ = ("_rng", "again", "error", "failures")

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self.failures = 0
        """In a row."""
        self.error: BaseException | None = None
        """The last of them."""
        self.again = -inf
        """Nothing is tried before."""

    def succeeded(self) -> None:
        self.failures, self.error, self.again = 0, None, -inf

    def failed(self, error: BaseException, now: float) -> None:
        self.failures += 1
        self.error = error
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 30))
        self.again = now + pause * (0.5 + 0.5 * self._rng())
