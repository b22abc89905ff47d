"""When a failed run is tried again, and how many of all may be. Pure; randomness comes in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

LONGEST_DELAY: Final = 30.0


def delay(first: float, attempt: int, random: Callable[[], float]) -> float:
    """Seconds before the run after this attempt (1, 2, ...): anything up to twice as long as the last time.

    Full jitter, so that those who failed together don't come back together (Brooker, "Exponential Backoff and
    Jitter", AWS Architecture Blog, 2015). ``first`` is the mean of the first delay.
    """
    return random() * min(LONGEST_DELAY, 2 * first * 2.0 ** min(attempt - 1, 30))


def may_pass(error: Mapping[str, Any], kinds: Collection[str]) -> bool:
    """Does this error say that another run may succeed, by its code, or by its exception's name?"""
    return error.get("code") == "RETRY" or error.get("code") in kinds or error.get("type") in kinds


class RetryBudget:
    """Retries are at most ``ratio`` of the calls, and ``floor`` per second beside that.

    A tool that fails for everybody is so not asked twice for everything. A balance as in Finagle's RetryBudget: each
    call pays in, each retry takes one out, time pays the floor; it holds at most what ten seconds of the floor and
    a hundred calls have paid.
    """

    __slots__ = ("_balance", "_floor", "_ratio", "_seen")

    def __init__(self, ratio: float = 0.1, floor: float = 1.0) -> None:
        self._ratio = ratio
        self._floor = floor
        self._balance = self.most
        self._seen: float | None = None

    @property
    def most(self) -> float:
        return 10 * self._floor + 100 * self._ratio

    def called(self) -> None:
        """A call came in, not a retry."""
        self._balance = min(self.most, self._balance + self._ratio)

    def take(self, now: float) -> bool:
        """May one more be tried again?"""
        if self._seen is not None:
            self._balance = min(self.most, self._balance + self._floor * max(0.0, now - self._seen))
        self._seen = now if self._seen is None else max(self._seen, now)
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
