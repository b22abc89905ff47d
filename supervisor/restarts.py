"""Restarts: what comes of workers that die before they did anything, and of code that can't be loaded.

A group of such workers is *failing*: its starts come later and later, until a worker that came afterwards has lived for
a while. If none of its workers serves meanwhile, what waits for them is refused rather than kept until its deadline.
The other groups have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from toolring.policy.restart import RestartBudget
from toolring.supervisor.fleet import Group, Worker
from toolring.supervisor.ledger import State
from toolring.supervisor.refusals import broken, unhealthy

if TYPE_CHECKING:
    from toolring.supervisor.core import Core
    from toolring.supervisor.endings import Endings

LIVED_SECONDS: Final = 1.0
"""A worker that has lived for so long could have worked."""


class Restarts:
    """Those of one core. ``make`` gives a budget for a group, and one for the code."""

    def __init__(self, core: Core, endings: Endings, make: Callable[[], RestartBudget]) -> None:
        self._core = core
        self._endings = endings
        self._make = make
        self._budgets: dict[Group, RestartBudget] = {}
        self._loads = make()
        self._unhealthy = False

    def died(self, worker: Worker, cause: str, now: float) -> float:
        """A worker died young. Seconds until the next one may start in its place."""
        group = worker.slot.group
        budget = self._budgets.get(group)
        if budget is None:
            budget = self._budgets[group] = self._make()
        budget.died(now)
        if budget.exhausted(now) and not group.failing:
            group.failing = True
            self._guard(group)
            facts = {"group": group.name, "cause": cause, "serving": len(group.ready)}
            self._core.notes.append(("group_failing", facts))
        return budget.delay()

    def load_failed(self, cause: str, now: float) -> float:
        """The code that is to serve can't be loaded. Seconds until it may be tried again."""
        self._loads.died(now)
        if self._loads.exhausted(now):
            self._core.broken = True
            self.refuse(cause, now)
        return self._loads.delay()

    @property
    def load_delay(self) -> float:
        """Seconds until the code may be loaded again, after what happened before."""
        return self._loads.delay()

    def look(self, now: float) -> None:
        """Has what was wrong passed?"""
        core = self._core
        if core.broken and self._lived(core.fleet.ready, self._loads, now):
            self._loads.lived()
            core.broken = False
        for group in core.fleet.groups:
            if group.failing and self._lived(group.ready, self._budgets[group], now):
                self._budgets[group].lived()
                group.failing = False
                self._guard(group)
                core.notes.append(("group_recovered", {"group": group.name}))
        if self._unhealthy and core.healthy:
            self._unhealthy = False
            core.notes.append(("node_healthy", {}))

    def refuse(self, cause: str, now: float) -> None:
        """Tell those for whom nobody will come, rather than let them run into their deadlines."""
        core = self._core
        if not core.broken and all(group.healthy for group in core.fleet.groups):
            return
        if not core.healthy and not self._unhealthy:
            self._unhealthy = True
            core.notes.append(("node_unhealthy", {"cause": cause}))
        for session in [core.house, *core.sessions.values()]:
            for entry in list(session.jobs.values()):
                if entry.state is not State.QUEUED:
                    continue
                if core.broken:
                    self._endings.abandon(entry, broken(), now)
                elif not entry.tool.group.healthy:
                    self._endings.abandon(entry, unhealthy(entry.tool), now)

    def forget(self) -> None:
        """Groups that are no more."""
        groups = self._core.fleet.groups
        self._budgets = {group: budget for group, budget in self._budgets.items() if group in groups}

    @staticmethod
    def _lived(workers: list[Worker], budget: RestartBudget, now: float) -> bool:
        """Has one lived that came after the last death?"""
        return any(one.ready_since > budget.last and now - one.ready_since > LIVED_SECONDS for one in workers)

    def _guard(self, group: Group) -> None:
        for tool in self._core.tools.values():
            if tool.group is group:
                tool.guard()
