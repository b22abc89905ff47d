"""Jobs that failed and wait to be tried again. When, and how many of all may be, is decided in ``policy/retry.py``."""

from __future__ import annotations

import random
from collections.abc import Mapping
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from toolring.policy import retry
from toolring.supervisor.history import note_attempt
from toolring.supervisor.ledger import Entry, Event, State, step

if TYPE_CHECKING:
    from toolring.supervisor.core import Core


class Retries:
    """The delayed jobs of one core."""

    __slots__ = ("_core", "_random", "delayed")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._random = random.random
        self.delayed: list[tuple[float, int, Entry]] = []
        """By when they are tried again; a heap. Those that were answered meanwhile stay until then."""

    def delay(self, entry: Entry, error: Mapping[str, Any], now: float) -> bool:
        """Let a failed job wait to be tried again, if that is allowed, may help, and can be over in time."""
        core, tool = self._core, entry.tool
        spec, budget = tool.spec, tool.budget
        if budget is None or entry.attempt > spec.retries or not retry.may_pass(error, spec.retry_on):
            return False
        if entry.live is not None and entry.live.parts:
            return False  # its caller has had some of it
        due = now + max(retry.delay(spec.retry_delay, entry.attempt, self._random), _seconds(error.get("retry_after")))
        if due >= entry.deadline or not budget.take(now):
            return False
        core.attempt_over(entry, str(error.get("code", "")), now)
        step(entry, Event.DELAY)
        said = {name: str(error[name])[:300] for name in ("code", "message", "type") if name in error}
        note_attempt(entry, "failed", ended=now, due=due, **said)
        entry.carrier = None
        core.placing.return_permits(entry)
        entry.worker = entry.begun_as = None
        entry.attempt += 1
        entry.earlier = {name: error[name] for name in ("code", "message", "type") if name in error}
        entry.until = entry.deadline
        entry.account.waiting += 1
        core.backlog.count += 1
        core.backlog.turns += 1
        tool.retried += 1
        if core.figures is not None:
            core.figures.retried(entry, now)
        heappush(self.delayed, (due, core.backlog.turns, entry))
        return True

    def due(self, now: float) -> None:
        """Try those again whose time has come."""
        core, delayed = self._core, self.delayed
        while delayed and (delayed[0][0] <= now or delayed[0][2].state is not State.DELAYED):
            _, _, entry = heappop(delayed)
            if entry.state is State.DELAYED:
                step(entry, Event.RELEASE)
                entry.ready, entry.waited = now, False
                entry.account.waiting -= 1
                core.backlog.count -= 1
                core.placing.enter(entry, entry.route)


def _seconds(value: Any) -> float:
    """A tool's own word on when to come back, if it is one."""
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else 0.0
