"""Reloads: the tools' code is loaded anew beside what serves, and takes over as a whole once all its workers are ready.

A zygote of its own loads it, so that new code is only ever in new processes. Until the turnover nothing changes for
anybody; if the new code can't be loaded, doesn't fit the configuration, or its workers don't come to life, what serves
goes on and the reload is told to have failed. A zygote that was lost is replaced in the same way: only that nothing
serves meanwhile, so it is tried until it succeeds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from toolring.errors import Cancelled, Draining, LoadError, ToolringError
from toolring.spec import ToolSpec
from toolring.supervisor.fleet import Change, Group, Life, Slot, Worker, group_of
from toolring.supervisor.turnover import Changes, turn_over

if TYPE_CHECKING:
    from toolring.supervisor.lineup import Lineup
    from toolring.supervisor.watch import Watch

RETRY_SECONDS: Final = 0.2
KEPT: Final = 20
"""Reloads that are remembered."""


class Stage(Enum):
    IDLE = auto()
    LOADING = auto()
    """A zygote imports the tools' modules."""
    STARTING = auto()
    """Its workers start, and stand by."""


class Step(Enum):
    ASK = auto()
    LOADED = auto()
    TURN_OVER = auto()
    FAIL = auto()


TABLE: Final[dict[Stage, dict[Step, Stage]]] = {
    Stage.IDLE: {Step.ASK: Stage.LOADING},
    Stage.LOADING: {Step.LOADED: Stage.STARTING, Step.FAIL: Stage.IDLE},
    Stage.STARTING: {Step.TURN_OVER: Stage.IDLE, Step.FAIL: Stage.IDLE},
}


class Outcome(NamedTuple):
    """What became of a reload. ``error`` is its map, if it failed; seconds from when it was asked for."""

    number: int
    why: str
    seconds: float
    changes: Changes
    error: dict[str, Any] | None = None


class Reloads:
    """Those of one node. ``patience``: seconds that the tools' modules may take to be imported, and then their workers
    to be ready."""

    def __init__(self, watch: Watch, lineup: Lineup, patience: float) -> None:
        self._watch = watch
        self._core = watch.core
        self._lineup = lineup
        self._patience = patience
        self.stage = Stage.IDLE
        self.code = self._core.fleet.code
        """The generation that comes, or the last that came or failed to."""
        self.outcomes: deque[Outcome] = deque(maxlen=KEPT)
        self.opens_at = inf
        """When the loop is to start a zygote for the code that comes."""
        self.lost = False
        """Does nothing serve until one succeeds?"""
        self._number = 0
        self._why = ""
        self._began = 0.0
        self._loaded = 0.0
        self._specs: Sequence[ToolSpec] = ()
        self._groups: list[Group] = []

    # ---- asked for

    def ask(self, why: str, now: float) -> int:
        """Load anew, instead of what is being loaded; gives the reload's number. Raises Draining."""
        if self._core.draining:
            raise Draining("the node is about to stop, and loads nothing any more")
        if self.stage is not Stage.IDLE:
            self._end(Cancelled("another reload was asked for before this one was done"), now)
        self._begin(why, now, now)
        return self._number

    def replace(self, now: float, delay: float) -> None:
        """The zygote that serves was lost, and its workers with it. What comes already will replace it, too."""
        self.lost = True
        if self.stage is Stage.IDLE and not self._watch.stopping:
            self._begin("the zygote was lost", now, now + delay)

    def _begin(self, why: str, now: float, opens_at: float) -> None:
        self._step(Step.ASK)
        self._number += 1
        self.code += 1
        self._why, self._began = why, now
        self.opens_at = self._opened = opens_at

    def _step(self, step: Step) -> None:
        self.stage = TABLE[self.stage][step]

    # ---- on its way

    def loaded(self, specs: Sequence[ToolSpec], now: float) -> None:
        """The new code is there: its workers may start, if it fits."""
        try:
            self._groups = self._core.fleet.planned(self._lineup.plans(specs))
            for spec in specs:
                self._lineup.balancer(spec, group_of(spec, self._groups))
        except ToolringError as error:
            self.failed(error, now)
            return
        self._specs, self._loaded = specs, now
        self._step(Step.LOADED)

    def processes(self, code: int) -> int:
        """How many workers of this generation there may be."""
        groups = self._groups if code == self.code and self._groups else self._core.fleet.groups
        return sum(len(group.slots) for group in groups)

    def due(self) -> list[Slot]:
        """Slots whose workers of the new code are to be started now."""
        if self.stage is not Stage.STARTING or self._watch.stopping:
            return []
        return [slot for slot in self._slots() if slot.successor is None]

    def _slots(self) -> list[Slot]:
        return [slot for group in self._groups for slot in group.open]

    def look(self, now: float) -> None:
        """Let the new code take over if all its workers stand by; give it up if it takes too long to load."""
        if self.stage is Stage.IDLE:
            return
        if self._core.draining and not self.lost:
            self.failed(Draining("the node is about to stop"), now)
        elif self.stage is Stage.LOADING and now - self._opened > self._patience:
            self.failed(LoadError(f"the tools' modules were not imported within {self._patience:g} s"), now)
        elif self.stage is Stage.STARTING:
            if all(slot.successor is not None and slot.successor.life is Life.STANDBY for slot in self._slots()):
                self._take_over(now)
            elif now - self._loaded > self._patience:
                self.failed(LoadError(f"its workers were not ready within {self._patience:g} s"), now)

    def died(self, worker: Worker, cause: str, now: float) -> None:
        """A worker of the new code came to its end before it could serve."""
        if self.stage is Stage.STARTING and worker.code == self.code:
            self.failed(LoadError(f"a worker of the new code was lost before it could serve: {cause}"), now)

    # ---- its end

    def _take_over(self, now: float) -> None:
        core, fleet, watch = self._core, self._core.fleet, self._watch
        for worker in [one for one in fleet.workers.values() if one.code != self.code]:
            if worker.life is Life.STARTING:
                watch.give_up(worker, now, "other code serves from now on")
            elif worker.life is Life.READY:
                watch.renewals.retire(worker, now)
        changes = turn_over(core, self._lineup, self._specs, self._groups, now)
        watch.scaling.forget()
        watch.restarts.forget()
        fleet.code, self.lost = self.code, False
        for slot in fleet.slots:
            slot.hand_over()
            if slot.worker is not None:
                fleet.change(slot.worker, Change.READY)
        self._step(Step.TURN_OVER)
        self._tell(changes, None, now)

    def failed(self, error: ToolringError, now: float) -> None:
        """The new code can't be loaded, doesn't fit, or can't work. Where nothing serves it is tried again."""
        self._end(error, now)
        if self.lost and not self._watch.stopping:
            self.replace(now, max(RETRY_SECONDS, self._watch.restarts.load_failed(error.message, now)))

    def _end(self, error: ToolringError, now: float) -> None:
        self._step(Step.FAIL)
        self.opens_at = inf
        for worker in [one for one in self._core.fleet.workers.values() if one.code == self.code]:
            if worker.life < Life.ENDING:
                self._watch.give_up(worker, now, "its code is not to serve")
        self._lineup.forget([group for group in self._groups if group not in self._core.fleet.groups])
        self._groups = []
        self._tell(Changes([], [], []), error.to_wire(), now)

    def _tell(self, changes: Changes, error: dict[str, Any] | None, now: float) -> None:
        outcome = Outcome(self._number, self._why, round(now - self._began, 3), changes, error)
        self.outcomes.append(outcome)
        facts: dict[str, Any] = {"reload": outcome.number, "why": outcome.why, "seconds": outcome.seconds}
        if error is None:
            self._core.notes.append(("reloaded", {**facts, **changes._asdict()}))
        else:
            self._core.notes.append(("reload_failed", {**facts, "reason": error.get("message")}))

    def report(self, number: int | None = None) -> dict[str, Any]:
        """What is under way, and what became of one of those before, or of the last."""
        found = [one for one in self.outcomes if number is None or one.number == number]
        return {
            "code": self._core.fleet.code,
            "stage": self.stage.name.lower(),
            "number": self._number,
            "outcome": {**found[-1]._asdict(), "changes": found[-1].changes._asdict()} if found else None,
        }
