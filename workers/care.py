"""A worker's care for its own memory: looked at between jobs, once a second at most, and while it has nothing to do for
as long as anything is wrong. What it can do itself it does at once; that it should be replaced, or be killed, the
supervisor is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from math import inf
from typing import Any, Final, Protocol

from toolring.errors import LoadError
from toolring.heap import Rest
from toolring.policy.memory import Action, MemoryPolicy, State, Warden
from toolring.probe import Probe, trim
from toolring.workers.allocations import Allocations, Growth
from toolring.workers.cache.base import Cache
from toolring.workers.native import NativeAllocations

THOROUGH_SECONDS: Final = 30.0
UNEASY_SECONDS: Final = 2.0
"""So often it is looked at while anything is wrong."""
LEAST_SECONDS: Final = 0.05
TRIM_SHARE: Final = 0.5
"""Of what its caches hold: so much they keep."""


class Tracer(Protocol):
    """Finds out which allocations grow."""

    def start(self) -> None: ...

    def top(self, most: int) -> list[Growth]: ...

    def stop(self) -> None: ...


class Care:
    """Made in the worker itself."""

    def __init__(
        self,
        policy: MemoryPolicy,
        processes: int,
        caches: Callable[[], Collection[Cache]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``processes``: how many share the memory limit."""
        self._probe = Probe(processes, clock)
        self._warden = Warden(policy)
        self._caches = caches
        self._clock = clock
        self._thorough = clock()
        self._began_with = self._probe.snapshot().rss
        """What it shares with its siblings, and what a successor would have, too."""
        self._rest = Rest(self._probe.resident)
        self._trims = self._collections = self._returned = 0
        self._allocations: Tracer = Allocations()
        self._trace: tuple[int, float, float, int] | None = None
        """The number of the request, since when allocations are traced, until when, and how many lines are wanted."""
        self._grown: dict[str, Any] | None = None
        """What came of it."""

    def figures(self) -> dict[str, Any]:
        """Look, do what is due, and tell: what was seen, what is wanted of the supervisor, and what is to be known."""
        now = self._clock()
        thorough = now >= self._thorough
        if thorough:
            self._thorough = now + THOROUGH_SECONDS
        seen = self._probe.snapshot(thorough)
        floor = None if seen.floor is None else max(0, seen.floor - self._began_with)
        own = seen._replace(rss=max(0, seen.rss - self._began_with), floor=floor)
        verdict = self._warden.look(own)
        wants = verdict.action if verdict.action in (Action.RECYCLE, Action.KILL) else None
        if verdict.action in (Action.TRIM, Action.COLLECT):
            if verdict.action is Action.TRIM:
                self._trim()
            self.collect()
            self._warden.done(self._clock())
        self._look_at_allocations(self._clock())
        trend = self._warden.trend
        return {
            "rss": seen.rss,
            "grown": own.rss,
            "uss": seen.uss,
            "children": seen.children,
            "collections": seen.collections,
            "pauses": round(seen.pauses, 6),
            "state": self._warden.state.name.lower(),
            "growth": None if trend is None else round(trend.slope.middle, 1),
            "leaks": self._warden.leaks,
            "trims": self._trims,
            "collects": self._collections,
            "returned": self._returned,
            "wants": wants,
            "limit": seen.limit,
            "used": seen.used,
            "allocations": self._grown,
            "alerts": [alert._asdict() for alert in verdict.alerts],
        }

    @property
    def again(self) -> float:
        """Seconds after which there is something to be seen or done, though no job comes; inf: there isn't."""
        uneasy = inf if self._warden.state is State.CALM else UNEASY_SECONDS
        traced = inf if self._trace is None else max(LEAST_SECONDS, self._trace[2] - self._clock())
        return min(uneasy, traced)

    def trace(self, number: int, seconds: float, most: int, native: bool = False) -> None:
        """Find out which allocations grow from now on, with ``native`` those of C code too; tools are some times
        slower meanwhile. ``seconds`` 0: the trace of this number has been going on for long enough."""
        if not seconds:
            if self._trace is not None and self._trace[0] == number:
                self.leave()
            return
        self._allocations.stop()
        self._trace = None
        try:
            self._allocations = NativeAllocations() if native else Allocations()
            self._allocations.start()
        except LoadError as error:
            self._allocations = Allocations()
            self._grown = {"number": number, "error": error.to_wire()}
            return
        now = self._clock()
        self._trace = number, now, now + seconds, most

    def leave(self) -> bool:
        """A trace that is under way, if there is one, has been going on for long enough."""
        if self._trace is None:
            return False
        self._trace = (*self._trace[:2], self._clock(), self._trace[3])
        return True

    def _look_at_allocations(self, now: float) -> None:
        if self._trace is None or now < self._trace[2]:
            return
        number, since, _, most = self._trace
        lines = [growth._asdict() for growth in self._allocations.top(most)]
        self._grown = {"number": number, "seconds": round(now - since, 1), "top": lines}
        self._trace = None
        self._allocations.stop()

    def rest(self) -> None:
        """There is nothing to do."""
        self._rest()

    def collect(self) -> None:
        """Collect garbage, and give what is free back to the system."""
        self._returned += max(0, trim().returned)
        self._collections += 1

    def _trim(self) -> None:
        for cache in self._caches():
            cache.shrink(TRIM_SHARE)
        self._trims += 1
