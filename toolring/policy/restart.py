"""How often workers may die young before their group is taken to be failing."""

from __future__ import annotations

from collections import deque


class RestartBudget:
    """An OTP-like budget: more than ``intensity`` deaths within ``period`` seconds is too many.

    Source: Erlang/OTP, Design Principles, "Maximum Restart Intensity". Only deaths before a worker's first answer
    are to be counted: those say that workers can't work here, whereas a tool that kills its worker now and then,
    a recycled worker or a kill from outside says nothing of the kind. Between restarts the delay doubles, for as
    long as no worker has lived, or as there was no death for longer than any delay.
    """

    def __init__(self, intensity: int, period: float, first_delay: float = 0.05, longest_delay: float = 10.0) -> None:
        self._intensity = intensity
        self._period = period
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._deaths: deque[float] = deque()
        self._series = 0
        self.last = float("-inf")
        """When somebody died last."""

    def died(self, now: float) -> None:
        if now - self.last > self._period + self._longest_delay:
            self._series = 0
        self._series += 1
        self.last = now
        self._deaths.append(now)
        self._forget(now)

    def lived(self) -> None:
        """A worker lived for a while: whatever was wrong is over."""
        self._deaths.clear()
        self._series = 0

    def exhausted(self, now: float) -> bool:
        self._forget(now)
        return len(self._deaths) > self._intensity

    def delay(self) -> float:
        """Seconds to wait before the next start; none after the first death, so that one crash costs no time."""
        series = self._series
        return 0.0 if series < 2 else min(self._longest_delay, self._first_delay * 2.0 ** min(series - 2, 30))

    def _forget(self, now: float) -> None:
        while self._deaths and self._deaths[0] <= now - self._period:
            self._deaths.popleft()
