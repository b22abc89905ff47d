"""What must be noticed without being told: deadlines, stuck and stopped workers, endings that drag on.

Pure like the core: the loop calls ``tick`` with the time and then performs what was decided.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final, NamedTuple

from toolring.errors import Expired
from toolring.lane import DONE, SHIELD, STARTED
from toolring.policy.restart import RestartBudget
from toolring.supervisor.core import STUCK_COST, Core
from toolring.supervisor.endings import Endings
from toolring.supervisor.fleet import Change, Life, Slot, Worker
from toolring.supervisor.ledger import Entry, State

BUSY_TICK: Final = 0.01
IDLE_TICK: Final = 0.25
SCAN_SECONDS: Final = 0.02
"""Deadlines are looked at no more often than this, all of them at once."""
LATE_SECONDS: Final = 0.005
"""Finished answers that haven't arrived for so long are read from shared memory."""
STUCK_SECONDS: Final = 0.01
STOPPED_SECONDS: Final = 0.25
"""A worker that makes no progress for so long is looked up in the process table."""
BEGIN_SECONDS: Final = 2.0
"""A worker that doesn't even begin what it was sent is lost after so long."""
VACANT_SECONDS: Final = 0.25
"""How long jobs wait for the next worker of their slot while others could take them."""
LIVED_SECONDS: Final = 1.0
LEAVE_SECONDS: Final = 1.0
"""How long a worker that said goodbye may take to be gone."""
KILL_NOW: Final = 1000
"""Steps of an ending after which only SIGKILL is left."""


class Kill(NamedTuple):
    worker: Worker
    signal: int
    group: bool


class Grace(NamedTuple):
    """How a worker that must end is ended: interrupts a tenth of a second apart, then TERM, then KILL (seconds)."""

    interrupt: float = 0.5
    terminate: float = 0.3
    shield: float = 5.0
    """The most that a tool's shield may put an ending off."""
    start: float = 120.0
    """How long a worker may take from its start until it is ready."""


class Watch:
    """Looks after one core's workers."""

    def __init__(
        self, core: Core, endings: Endings, budget: RestartBudget, grace: Grace, is_stopped: Callable[[int], bool]
    ) -> None:
        self.core = core
        self.endings = endings
        self.budget = budget
        self.grace = grace
        self._is_stopped = is_stopped
        self._next_scan = 0.0
        self.kills: list[Kill] = []
        self.on_exit: Callable[[Worker, str], None] | None = None
        self.restarts = 0
        self.stopping = False
        """No worker is started any more."""

    def tick(self, now: float) -> float:
        """Look at everything once; returns the seconds until the next look is due."""
        core = self.core
        if now >= core.next_deadline and now >= self._next_scan:
            self._scan_deadlines(now)
        for worker, why in core.faulty:
            if worker.life < Life.GONE:
                self.give_up(worker, now, why)
        core.faulty.clear()
        busy = False
        for worker in list(core.fleet.workers.values()):
            if worker.life is Life.ENDING:
                busy = True
                if now >= worker.next_ending:
                    self._press(worker, now)
            elif worker.life is Life.RETIRING and now >= worker.next_ending:
                busy = True
                self.endings.end(worker, worker.lane.at()[0], now, "did not leave by itself")
            elif worker.line:
                busy = True
                if worker.leftover is not None:
                    self.endings.press(worker, worker.leftover, now)
                self._look_at(worker, now)
            elif worker.life is Life.STARTING and now - worker.started > self.grace.start:
                self.give_up(worker, now, f"was not ready after {self.grace.start:g} s")
        if core.fleet.ready:
            for slot in core.fleet.slots:
                core.release(slot, now, VACANT_SECONDS)
        core.keyring.expire(now)
        if not core.healthy and any(now - w.ready_since > LIVED_SECONDS for w in core.fleet.ready):
            self._recover()
        if busy or core.delayed or core.backlog.count:
            return BUSY_TICK
        return min(IDLE_TICK, max(BUSY_TICK, core.next_deadline - now))

    # ---- deadlines

    def _scan_deadlines(self, now: float) -> None:
        core = self.core
        nearest = float("inf")
        for session in [core.house, *core.sessions.values()]:
            for entry in list(session.jobs.values()):
                due = _due(entry)
                if due > now:
                    nearest = min(nearest, due)
                elif not entry.final:
                    self.endings.expire(entry, now, _expired(entry, now))
        core.next_deadline = nearest
        self._next_scan = now + SCAN_SECONDS

    # ---- workers that hold jobs

    def _look_at(self, worker: Worker, now: float) -> None:
        core = self.core
        word = worker.lane.words[0]
        if word != worker.at:
            worker.at = word
            worker.at_since = now
        seq, state = word >> 2, word & 3
        if (seq > worker.head or (seq == worker.head and state == DONE)) and now - worker.progress > LATE_SECONDS:
            core.harvest(worker, now)
        quiet = now - max(worker.at_since, worker.progress)
        if state == STARTED:
            self._look_at_run(worker, seq, quiet, now)
        elif quiet > BEGIN_SECONDS and worker.line:
            self.give_up(worker, now, "did not begin what it was sent")
        if quiet > STOPPED_SECONDS and worker.life < Life.ENDING and worker.pid and self._is_stopped(worker.pid):
            self.give_up(worker, now, "is stopped (SIGSTOP)")

    def _look_at_run(self, worker: Worker, seq: int, quiet: float, now: float) -> None:
        """A job runs: has it run too long, and does anybody wait behind it?"""
        place = seq - worker.head
        entry = worker.line[place] if 0 <= place < len(worker.line) else None
        if entry is None:
            return
        ran = now - worker.at_since
        timeout = entry.tool.timeout
        if timeout is not None and entry.chunk:
            timeout *= entry.chunk
        if timeout is not None and ran >= timeout:
            self.endings.expire(
                entry, now, Expired(f"{entry.tool.name}: one run may take {timeout:g} s, it was ended", timeout=timeout)
            )
        elif quiet > max(STUCK_SECONDS, 4 * entry.cost) and place + 1 < len(worker.line):
            self.endings.take_back(worker)
            worker.load = max(worker.load, STUCK_COST)

    # ---- endings

    def leaving(self, worker: Worker, now: float) -> None:
        """A worker ends by itself: what it hasn't begun runs elsewhere, and its successor starts now."""
        if worker.life > Life.READY:
            return
        self.endings.take_back(worker)
        self._vacate(worker, Change.RETIRE, now)
        worker.next_ending = now + LEAVE_SECONDS

    def _vacate(self, worker: Worker, change: Change, now: float) -> None:
        slot = worker.slot
        self.core.fleet.change(worker, change)
        if slot.worker is None and slot.start_at is None:
            slot.start_at = now

    def give_up(self, worker: Worker, now: float, why: str) -> None:
        """Replace a worker that will not answer, and kill it: no late answer of it may count."""
        core = self.core
        core.notes.append(("worker_given_up", {"worker": worker.pid, "slot": worker.slot.index, "why": why}))
        worker.reason = why
        if worker.life is not Life.ENDING:
            self._vacate(worker, Change.END, now)
        worker.endings = KILL_NOW
        worker.next_ending = now + 1.0  # again, should its pid not be known yet
        self.kills.append(Kill(worker, signal.SIGKILL, True))

    def _press(self, worker: Worker, now: float) -> None:
        """The next step of an ending: the interrupt again, TERM, KILL. A shield puts it off, for so long at most."""
        if worker.endings < KILL_NOW and self._shielded(worker, now):
            worker.next_ending = now + 0.02
            return
        worker.endings += 1
        interrupts = max(1, round(self.grace.interrupt / 0.1))
        if worker.endings <= interrupts:
            self.core.signals.append(worker)
            worker.next_ending = now + 0.1
        elif worker.endings == interrupts + 1:
            self.kills.append(Kill(worker, signal.SIGTERM, True))
            worker.next_ending = now + self.grace.terminate
        else:
            self.kills.append(Kill(worker, signal.SIGKILL, True))
            worker.next_ending = now + 1.0

    def _shielded(self, worker: Worker, now: float) -> bool:
        """Does the tool ask not to be interrupted now?"""
        if worker.shield_end is None:
            worker.shield_end = now + self.grace.shield
        return now < min(worker.shield_end, worker.lane.words[SHIELD] * 1e-6)

    # ---- deaths and starts

    def exited(self, worker: Worker, status: int, now: float) -> None:
        """A worker's process is gone: settle what it held, and decide when the next one starts."""
        core = self.core
        cause = describe(status)
        ending = worker.life is Life.ENDING
        began = self.endings.lost(worker, worker.reason if ending and worker.reason else cause, {"status": status}, now)
        outside = status in (-signal.SIGKILL, -signal.SIGTERM) and worker.life is not Life.STARTING
        young = worker.answered == 0 and not began and not outside and worker.life <= Life.READY
        slot = worker.slot
        core.fleet.change(worker, Change.EXIT)
        self.restarts += 1
        core.notes.append(
            (
                "worker_exited",
                {"worker": worker.pid, "slot": slot.index, "cause": cause, "reason": worker.reason, "young": young},
            )
        )
        if self.on_exit is not None:
            self.on_exit(worker, cause)
        if young:
            self.budget.died(now)
            if self.budget.exhausted(now) and core.healthy:
                core.healthy = False
                core.notes.append(("node_unhealthy", {"cause": cause}))
                self._refuse_waiting(now)
        if slot.worker is None and slot.start_at is None:
            slot.start_at = now + (self.budget.delay() if young else 0.0)

    def ready(self, worker: Worker, pid: int, now: float) -> None:
        worker.pid = pid
        worker.ready_since = worker.progress = now
        self.core.fleet.change(worker, Change.READY)

    def due(self, now: float) -> list[Slot]:
        """Slots whose next worker is to be started now."""
        if self.stopping:
            return []
        return [slot for slot in self.core.fleet.vacant() if slot.start_at is not None and slot.start_at <= now]

    def _refuse_waiting(self, now: float) -> None:
        """Nobody will come for those who wait: tell them, rather than let them run into their deadlines."""
        core = self.core
        for session in [core.house, *core.sessions.values()]:
            for entry in list(session.jobs.values()):
                if entry.state is State.QUEUED:
                    self.endings.abandon(entry, now)

    def _recover(self) -> None:
        self.budget.lived()
        self.core.healthy = True
        self.core.notes.append(("node_healthy", {}))


def _due(entry: Entry) -> float:
    """When an entry must have got further: started, as long as it waits, else answered."""
    runs = entry.record.entry if entry.state is State.JOINED and entry.record is not None else entry
    waits = runs is None or (runs.state is State.QUEUED and runs.attempt == 1)
    return entry.until if waits else entry.deadline


def _expired(entry: Entry, now: float) -> Expired:
    spent = f"{now - entry.accepted:.3g} s after it was accepted"
    if now < entry.deadline:
        return Expired(f"{entry.tool.name}: not started {spent}; it might wait no longer", limit="queue_timeout")
    where = "it ran" if entry.state is State.DISPATCHED else "it waited"
    return Expired(f"{entry.tool.name}: the deadline passed {spent}, while {where}")


def describe(status: int) -> str:
    """A wait status in multiprocessing's form: negative for signals."""
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exited with status {status}"
