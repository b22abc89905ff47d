"""What must be noticed without being told: deadlines, stuck and stopped workers, endings that drag on.

Pure like the core: the loop calls ``tick`` with the time and then performs what was decided.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from math import inf
from typing import Final, NamedTuple

from toolring.errors import Expired
from toolring.lane import AT, DONE, STARTED
from toolring.supervisor.core import Core
from toolring.supervisor.endings import Endings
from toolring.supervisor.fleet import Change, Life, Slot, Worker
from toolring.supervisor.ledger import Entry, State
from toolring.supervisor.lineup import Lineup
from toolring.supervisor.placing import STUCK_COST
from toolring.supervisor.reloads import Reloads, Stage
from toolring.supervisor.renewals import Renewals
from toolring.supervisor.restarts import Restarts
from toolring.supervisor.scaling import Scaling

BUSY_TICK: Final = 0.01
IDLE_TICK: Final = 0.25
SCAN_SECONDS: Final = 0.02
"""Deadlines are looked at no more often than this, all of them at once."""
LATE_SECONDS: Final = 0.005
"""Finished answers that haven't arrived for so long are read from shared memory."""
STUCK_SECONDS: Final = 0.01
MANY_STUCK_SECONDS: Final = 0.05
"""An event loop that doesn't begin what it was sent for so long is held up by one of its jobs."""
BLOCKED_SECONDS: Final = 0.5
"""An event loop that hasn't turned for so long hears nothing."""
STOPPED_SECONDS: Final = 0.25
"""A worker that makes no progress for so long is looked up in the process table."""
BEGIN_SECONDS: Final = 2.0
"""A worker that doesn't even begin what it was sent is lost after so long."""
VACANT_SECONDS: Final = 0.25
"""How long jobs wait for the next worker of their slot while others could take them."""
LEAVE_SECONDS: Final = 1.0
"""How long a worker that said goodbye may take to be gone."""
KILL_NOW: Final = 1000
"""Steps of an ending after which only SIGKILL is left."""


class Kill(NamedTuple):
    worker: Worker
    signal: int
    group: bool


class Watch:
    """Looks after one core's workers."""

    def __init__(
        self,
        core: Core,
        endings: Endings,
        restarts: Restarts,
        is_stopped: Callable[[int], bool],
        renewals: Renewals,
        lineup: Lineup,
    ) -> None:
        self.core = core
        self.renewals = renewals
        self.endings = endings
        self.restarts = restarts
        self.grace = endings.grace
        self.reloads = Reloads(self, lineup, self.grace.start)
        self.scaling = Scaling(core, renewals)
        self._is_stopped = is_stopped
        self._next_scan = 0.0
        self.kills: list[Kill] = []
        self.on_exit: Callable[[Worker, str], None] | None = None
        self.exits = 0
        """Ends of workers, for whatever reason,"""
        self.deaths = 0
        """and those that nobody had asked for: one that retires, or is told to stop, ends well."""
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
            elif worker.life is Life.RETIRING and worker.next_ending < inf:
                busy = True
                self._see_off(worker, now)
            elif worker.life is Life.RETIRING or worker.line or worker.leftovers or worker.held_up is not None:
                busy = True
                for seq, left in list(worker.leftovers.items()):
                    self.endings.press(worker, seq, left, now)
                if worker.many:
                    self._look_at_many(worker, now)
                else:
                    self._look_at(worker, now)
                if worker.life is Life.RETIRING:
                    self.renewals.see_off(worker, now)
            elif worker.life is Life.STARTING and now - worker.started > self.grace.start:
                self.give_up(worker, now, f"was not ready after {self.grace.start:g} s")
        if core.fleet.ready:
            for slot in core.fleet.slots:
                core.placing.release(slot, now, VACANT_SECONDS)
        if not (self.stopping or core.draining):
            self.renewals.look(now)
        if not (self.stopping or self.reloads.lost):
            self.scaling.look(now, may_park=not core.draining and self.reloads.stage is Stage.IDLE)
        self.reloads.look(now)
        core.joining.keyring.expire(now)
        self.restarts.look(now)
        if busy or core.retries.delayed or core.backlog.count or self.reloads.stage is not Stage.IDLE:
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
        quiet = now - max(worker.at_since, worker.progress)
        if (seq > worker.head or (seq == worker.head and state == DONE)) and quiet > LATE_SECONDS:
            core.returns.harvest(worker, now)
            quiet = now - max(worker.at_since, worker.progress)
        if state == STARTED:
            self._look_at_run(worker, seq, quiet, now)
        elif quiet > BEGIN_SECONDS and worker.line and now >= worker.patience:
            self.give_up(worker, now, "did not begin what it was sent")
        if quiet > STOPPED_SECONDS and worker.life < Life.ENDING and worker.pid and self._is_stopped(worker.pid):
            self.give_up(worker, now, "is stopped (SIGSTOP)")

    def _look_at_run(self, worker: Worker, seq: int, quiet: float, now: float) -> None:
        """A job runs: has it run too long, and does anybody wait behind it?"""
        entry = worker.line.get(seq)
        if entry is None:
            return
        ran = now - worker.at_since
        timeout = entry.tool.longest(entry)
        live = entry.live
        if timeout is not None and ran >= timeout:
            self.endings.expire(entry, now, _too_long(entry, timeout))
        elif live is not None and now - max(live.heard, worker.at_since) > live.idle:
            self.endings.expire(entry, now, _idle(entry, live.idle))
        elif quiet > max(STUCK_SECONDS, 4 * entry.cost) and len(worker.line) > 1:
            self.endings.take_back(worker)
            worker.load = max(worker.load, STUCK_COST)

    def _look_at_many(self, worker: Worker, now: float) -> None:
        """Jobs run beside each other: does the event loop turn, and is everything begun that was sent?"""
        word = worker.lane.words[AT]
        if word != worker.at:
            worker.at, worker.at_since = word, now
            if worker.held_up is not None:
                worker.held_up, worker.load = None, sum(entry.cost for entry in worker.line.values())
        begun = word >> 2
        waits, quiet = now - max(worker.at_since, worker.sent_at), now - max(worker.at_since, worker.progress)
        blocked = min(worker.blocked(now), quiet)
        if waits > MANY_STUCK_SECONDS and any(seq > begun for seq in reversed(worker.line)):
            worker.held_up = worker.held_up or now - waits
            self.endings.take_back(worker)
            worker.load = max(worker.load, STUCK_COST)
        if blocked > BLOCKED_SECONDS:
            self.core.returns.harvest(worker, now)  # those that had ended before are not kept waiting
            if worker.pid and self._is_stopped(worker.pid):
                self.give_up(worker, now, "is stopped (SIGSTOP)")
        if (
            worker.held_up is not None
            and now - worker.held_up > BEGIN_SECONDS
            and not worker.line
            and not worker.leftovers
            and now >= worker.patience
        ):
            self.give_up(worker, now, "did not begin what it was sent: something holds its event loop up")

    # ---- endings

    def _see_off(self, worker: Worker, now: float) -> None:
        """A worker that gets nothing more: until it has left by itself, or those that run in it have had their time."""
        due = now >= worker.next_ending
        if not worker.many:
            if due:
                self.endings.end(worker, worker.lane.at()[0], now, "did not leave by itself")
            return
        condemned = worker.reason is not None  # one of its jobs doesn't end, so it doesn't leave by itself
        blocked = worker.blocked(now) > BLOCKED_SECONDS
        if due or (condemned and (blocked or not worker.line)):
            worker.reason = worker.reason or "did not leave by itself"
            self.endings.give_up_neighbours(worker, now)
            if blocked:
                worker.endings = self._interrupts  # its event loop hears nothing

    @property
    def _interrupts(self) -> int:
        return max(1, round(self.grace.interrupt / 0.1))

    def leaving(self, worker: Worker, now: float) -> None:
        """A worker ends by itself: what it hasn't begun runs elsewhere, and its successor starts now."""
        if worker.life > Life.READY:
            return
        if worker.life is Life.STANDBY:
            self.give_up(worker, now, "left by itself")
            return
        self.endings.take_back(worker)
        self.core.fleet.change(worker, Change.RETIRE, now)
        worker.next_ending = now + (self.grace.neighbours if worker.many and worker.line else LEAVE_SECONDS)

    def give_up(self, worker: Worker, now: float, why: str) -> None:
        """Replace a worker that will not answer, and kill it: no late answer of it may count."""
        core = self.core
        core.notes.append(("worker_given_up", {"worker": worker.pid, "slot": worker.slot.index, "why": why}))
        worker.reason = why
        succeeds = worker.slot.successor is worker
        if worker.life is not Life.ENDING:
            core.fleet.change(worker, Change.END, now)
        worker.endings = KILL_NOW
        worker.next_ending = now + 1.0  # again, should its pid not be known yet
        self.kills.append(Kill(worker, signal.SIGKILL, True))
        if succeeds:
            self._successor_lost(worker, why, now)

    def _successor_lost(self, worker: Worker, cause: str, now: float) -> None:
        if worker.code == self.core.fleet.code:
            self.renewals.failed(worker, cause, now)
        else:
            self.reloads.died(worker, cause, now)

    def _press(self, worker: Worker, now: float) -> None:
        """The next step of an ending: the interrupt again, TERM, KILL. A shield puts it off, for so long at most."""
        if worker.shield_end is None:
            worker.shield_end = now + self.grace.shield
        if worker.endings < KILL_NOW and worker.shielded(now, worker.shield_end):
            worker.next_ending = now + 0.02
            return
        worker.endings += 1
        interrupts = self._interrupts
        if worker.endings <= interrupts:
            self.core.signals.append(worker)
            worker.next_ending = now + 0.1
        elif worker.endings == interrupts + 1:
            self.kills.append(Kill(worker, signal.SIGTERM, True))
            worker.next_ending = now + self.grace.terminate
        else:
            self.kills.append(Kill(worker, signal.SIGKILL, True))
            worker.next_ending = now + 1.0

    # ---- deaths and starts

    def exited(self, worker: Worker, status: int, now: float) -> None:
        """A worker's process is gone: settle what it held, and decide when the next one starts."""
        core = self.core
        cause = describe(status)
        if status == -signal.SIGXCPU and worker.reason is None:
            worker.reason = "its processor time is used up (cpu_seconds)"  # whoever ran just then is not to blame
        ending = worker.life is Life.ENDING
        known = worker.reason if worker.reason and (ending or status == -signal.SIGXCPU) else cause
        ran = self.endings.lost(worker, known, {"status": status}, now)
        at_work = {"tool": ran[0].tool.name, "job": ran[0].name} if ran else {}
        outside = status in (-signal.SIGKILL, -signal.SIGTERM) and worker.life is not Life.STARTING
        slot = worker.slot
        succeeds = slot.successor is worker
        young = worker.answered == 0 and not ran and not outside and worker.life <= Life.READY and not succeeds
        self.exits += 1
        unasked = not ending and status != 0
        self.deaths += unasked
        core.notes.append(
            (
                "worker_exited",
                {
                    "worker": worker.pid,
                    "slot": slot.index,
                    "cause": cause,
                    "reason": worker.reason,
                    "young": young,
                    **at_work,
                },
            )
        )
        if core.figures is not None:
            core.figures.exited(worker, cause, unasked)
            core.figures.measured.gone(slot.index, worker.generation)
        if self.on_exit is not None:
            self.on_exit(worker, cause)
        core.fleet.change(worker, Change.EXIT, now, self.restarts.died(worker, cause, now) if young else 0.0)
        if slot.group.failing or core.broken:
            self.restarts.refuse(cause, now)
        if succeeds:
            self._successor_lost(worker, cause, now)

    def ready(self, worker: Worker, pid: int, now: float) -> None:
        worker.pid = pid
        worker.ready_since = worker.progress = now
        self.renewals.began(worker)
        if worker.code != self.core.fleet.code and worker.life <= Life.STANDBY:
            if worker.life is Life.STARTING:
                self.core.fleet.change(worker, Change.STAND_BY)
            return
        if worker.slot.successor is worker:
            self.renewals.takes_over(worker, now)
        self.core.fleet.change(worker, Change.READY)

    def due(self, now: float) -> list[tuple[Slot, int]]:
        """Slots whose next worker is to be started now, and the code that it is to run."""
        if self.stopping:
            return []
        reloads, fleet = self.reloads, self.core.fleet
        due = [slot for slot in fleet.vacant() if slot.start_at is not None and slot.start_at <= now]
        if not (self.core.draining or reloads.stage is Stage.STARTING):
            due += self.renewals.due(now)
        serving = [] if reloads.lost else [(slot, fleet.code) for slot in due]
        return serving + [(slot, reloads.code) for slot in reloads.due()]


def _due(entry: Entry) -> float:
    """When an entry must have got further: started, as long as it waits, else answered."""
    run = entry.run
    waits = run.state in (State.QUEUED, State.JOINED) and run.attempt == 1
    live = entry.live
    if live is not None and entry.state is State.DISPATCHED and entry.worker is not None and entry.worker.many:
        return min(entry.deadline, live.due)
    return entry.until if waits else entry.deadline


def _too_long(entry: Entry, timeout: float) -> Expired:
    text = f"{entry.tool.name}: one run may take {timeout:g} s, it was ended"
    return Expired(text, limit="timeout", timeout=timeout)


def _idle(entry: Entry, idle: float) -> Expired:
    """Or its caller doesn't take in what it has yielded: to the worker that holds it that is the same."""
    text = f"{entry.tool.name}: no part and no word of progress for {idle:g} s, it was ended"
    return Expired(text, limit="idle_timeout", idle=idle)


def _expired(entry: Entry, now: float) -> Expired:
    spent = f"{now - entry.accepted:.3g} s after it was accepted"
    live = entry.live
    if live is not None and entry.state is State.DISPATCHED and now < entry.deadline:
        return _too_long(entry, entry.tool.longest(entry) or 0.0) if now >= live.over else _idle(entry, live.idle)
    if now < entry.deadline:
        return Expired(f"{entry.tool.name}: not started {spent}; it might wait no longer", limit="queue_timeout")
    where = "it ran" if entry.run.state is State.DISPATCHED else "it waited"
    return Expired(f"{entry.tool.name}: the deadline passed {spent}, while {where}")


def describe(status: int) -> str:
    """A wait status in multiprocessing's form: negative for signals."""
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exited with status {status}"
