"""Valves: what a tool's own limits let through. Only tools that have such limits have one.

Behind its valve a job waits for a worker like any other, at the front of its caller's jobs, since it has waited
before. A permit is given back when the run is over in truth: not when its caller has heard that the deadline passed,
but when the worker has come to an end with it.
"""

from __future__ import annotations

from toolring.policy.limits import Fixed, Gradient, RateLimit
from toolring.spec import ToolSpec
from toolring.supervisor.backlog import Backlog

MOST_ADAPTIVE = 1000


class Valve:
    """One tool's limits, and who waits for them."""

    __slots__ = ("backlog", "limit", "line", "rate", "running", "waiting")

    def __init__(self, spec: ToolSpec, backlog: Backlog) -> None:
        self.limit: Fixed | Gradient | None = None
        if spec.adaptive:
            self.limit = Gradient(4, spec.concurrency or MOST_ADAPTIVE)
        elif spec.concurrency:
            self.limit = Fixed(spec.concurrency)
        self.rate = RateLimit(spec.rate, spec.burst or 0) if spec.rate else None
        self.backlog = spec.backlog
        """Jobs that may wait; None: as many as the node allows."""
        self.line = backlog.line()
        self.running = 0
        """Permits that are out."""
        self.waiting = 0
        """Jobs of the tool that wait, before the valve or behind it."""

    @property
    def full(self) -> bool:
        return self.backlog is not None and self.waiting >= self.backlog

    def open(self, now: float) -> bool:
        """May one more go through?"""
        limit = self.limit
        if limit is not None and self.running >= limit.limit:
            return False
        return self.rate is None or self.rate.available(now) > 0

    def passed(self, now: float) -> None:
        self.running += 1
        if self.rate is not None:
            self.rate.take(now)

    def returned(self) -> None:
        self.running -= 1

    def what(self) -> str:
        """The limit that is in the way, as a caller is told it."""
        if self.limit is not None and self.running >= self.limit.limit:
            return "concurrency"
        return "rate" if self.rate is not None else "workers"

    def wait(self, cost: float, now: float) -> float:
        """Seconds until one that comes now may expect to go through, ``cost`` being those of one run."""
        ahead = self.waiting
        by_number = 0.0 if self.limit is None else ahead * cost / self.limit.limit
        by_rate = 0.0 if self.rate is None else self.rate.wait(now) + ahead * self.rate.step
        return max(by_number, by_rate)


def valve_of(spec: ToolSpec, backlog: Backlog) -> Valve | None:
    """None for a tool without limits of its own."""
    limited = spec.concurrency or spec.adaptive or spec.rate or spec.backlog
    return Valve(spec, backlog) if limited else None
