"""Valves: what the limits of a tool, or of a group of workers, let through. Where there are none, there is no valve.

Behind its valves a job waits for a worker like any other, at the front of its caller's jobs, since it has waited
before. A permit is given back when the run is over in truth: not when its caller has heard that the deadline passed,
but when the worker has come to an end with it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, cast

from toolring.policy.groups import Bounds, bounds_of
from toolring.policy.limits import Fixed, Gradient, RateLimit
from toolring.spec import ToolSpec
from toolring.supervisor.backlog import Backlog
from toolring.supervisor.ledger import State

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.fleet import Group
    from toolring.supervisor.ledger import Entry

_NOWHERE = cast("Group", None)
MOST_ADAPTIVE: Final = 1000
CREDIT: Final = 0.002
"""Seconds of expected work up to which a worker is given more, measured before the next job is added."""


class Valve:
    """The limits of one tool or group, and who waits for them."""

    __slots__ = (
        "ahead",
        "backlog",
        "batch",
        "delay",
        "group",
        "held",
        "limit",
        "line",
        "memory",
        "of",
        "rate",
        "running",
        "since",
        "used",
        "waiting",
    )

    def __init__(self, of: str, bounds: Bounds, backlog: Backlog) -> None:
        self.of = of
        """``tool NAME`` or ``group NAME``."""
        self.limit: Fixed | Gradient | None = None
        if bounds.adaptive:
            self.limit = Gradient(4, bounds.concurrency or MOST_ADAPTIVE)
        elif bounds.concurrency:
            self.limit = Fixed(bounds.concurrency)
        self.rate = RateLimit(bounds.rate, bounds.burst) if bounds.rate else None
        self.memory = bounds.memory
        """Bytes that all which runs may have declared together; 0: any number."""
        self.backlog = bounds.backlog
        """Jobs that may wait; None: as many as the node allows."""
        self.line = backlog.line()
        self.held = ""
        """What those wait for that had to stay when it was last opened; empty: nobody had to."""
        self.running = 0
        """Permits that are out."""
        self.used = 0
        """Bytes that they stand for."""
        self.waiting = 0
        """Jobs that wait, before the valve or behind it."""
        self.batch = 0
        """Of a tool that takes so many calls at once: they wait for each other here."""
        self.delay = 0.0
        self.since = inf
        """When the first of those that wait for company came."""
        self.ahead: list[Entry] = []
        """Those that were let through and may wait for a worker still, where it matters how many do."""
        self.group: Group = _NOWHERE
        """Whose workers run them, if it is a tool's."""

    @property
    def full(self) -> bool:
        return self.backlog is not None and self.waiting >= self.backlog

    def open(self, now: float) -> bool:
        """May one more go through, if it is not too large?"""
        limit = self.limit
        if limit is not None and self.running >= limit.limit:
            return False
        return self.rate is None or (self.rate.available(now) > 0 and not self.crowded())

    @property
    def paced(self) -> bool:
        """Does it matter how many that it let through wait for a worker?"""
        return self.rate is not None or self.batch > 0

    def crowded(self) -> bool:
        """Do as many wait behind it as there are workers for? More would begin together later, at whatever rate."""
        self.ahead = [entry for entry in self.ahead if entry.state is State.QUEUED and entry.passed]
        return len(self.ahead) >= max(1, sum(worker.load < CREDIT for worker in self.group.ready))

    def fits(self, entry: Entry) -> bool:
        """Is there memory for this one?"""
        return not self.memory or self.used + entry.tool.memory <= self.memory

    def let_through(self, entry: Entry, now: float) -> None:
        self.charge(entry.tool)
        if self.rate is not None:
            self.rate.take(now)
        if self.paced:
            self.ahead.append(entry)

    def charge(self, tool: ServedTool) -> None:
        """One more run has a permit."""
        self.running += 1
        self.used += tool.memory

    def returned(self, tool: ServedTool) -> None:
        self.running -= 1
        self.used -= tool.memory

    def what(self) -> str:
        """The limit that is in the way, as a caller is told it."""
        if self.limit is not None and self.running >= self.limit.limit:
            return "concurrency"
        if self.memory and self.used:
            return "memory"
        if self.rate is not None:
            return "rate"
        return "company" if self.batch else "workers"

    def holds(self, now: float) -> None:
        """Take down what is in the way of those that wait still."""
        self.held = ""
        if self.line.size:
            held = self.what()
            if held == "rate" and self.rate is not None and self.rate.available(now) > 0:
                held = "company" if self.batch else "workers"
            self.held = "workers" if held == "company" and self.crowded() else held

    def wait(self, cost: float, now: float) -> float:
        """Seconds until one that comes now may expect to go through, ``cost`` being those of one run."""
        ahead = self.waiting
        by_number = 0.0 if self.limit is None else ahead * cost / self.limit.limit
        by_rate = 0.0 if self.rate is None else self.rate.wait(now) + ahead * self.rate.step
        return max(by_number, by_rate)


def valve_of(tool: ToolSpec, group: Group, backlog: Backlog) -> Valve | None:
    """A tool's own; None without limits. One that takes many calls at once has one in any case, where they wait for
    each other; its limits count runs, not calls."""
    bounds = bounds_of(tool)
    if not (tool.batch or bounds.limit_anything):
        return None
    valve = Valve(f"tool {tool.name}", bounds, backlog)
    valve.batch, valve.delay, valve.group = tool.batch or 0, tool.batch_delay, group
    return valve
