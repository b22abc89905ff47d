"""How jobs end other than by their worker's answer: cancelled, expired, with their worker, or with the node.

Each of these ends a job wherever it is: waiting for another's answer, in line, with a worker, or running there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolring.errors import Cancelled, OutcomeUnknown, Poisoned, ToolringError, Unhealthy
from toolring.lane import CANCEL, DONE, STARTED, TAKEN
from toolring.protocol import NIL
from toolring.supervisor.core import STUCK_COST, Core
from toolring.supervisor.fleet import Change, Leftover, Life, Worker
from toolring.supervisor.ledger import Entry, Event, Session, State


class Endings:
    """Ends the jobs of one core."""

    def __init__(self, core: Core, cooperate: float = 0.0) -> None:
        """``cooperate``: seconds that a tool which takes the Context has to notice that its job has ended, before it
        is interrupted and its worker replaced."""
        self._core = core
        self._cooperate = cooperate

    def cancel(self, entry: Entry, now: float, why: str = "cancelled by its caller") -> None:
        """End a job, wherever it is. Its caller hears CANCELLED now; what runs is interrupted."""
        self._stop(entry, Event.CANCEL, Cancelled(f"{entry.tool.name}: {why}"), now)

    def expire(self, entry: Entry, now: float, error: ToolringError) -> None:
        """End a job whose time is up, wherever it is. Its caller hears it now."""
        self._stop(entry, Event.EXPIRE, error, now)

    def abandon(self, entry: Entry, now: float) -> None:
        """Give up a job that waits, because no worker can be had."""
        core = self._core
        error = Unhealthy(
            f"{entry.tool.name}: the node's workers keep dying; see its log", limit="unhealthy", retry_after=1.0
        )
        core.settle(entry, Event.FAIL, core.error_answer(entry, error), now)

    def _stop(self, entry: Entry, event: Event, error: ToolringError, now: float) -> None:
        core = self._core
        if entry.state is State.JOINED:
            core.settle(entry, event, core.error_answer(entry, error), now)
            record = entry.record
            if record is not None:
                record.waiting = [other for other in record.waiting if other is not entry]
                runs = record.entry
                if runs is not None and not record.waiting and not (record.keep and event is not Event.CANCEL):
                    self._stop(runs, event, error, now)
            return
        worker = entry.worker if entry.state is State.DISPATCHED else None
        if worker is not None:
            core.harvest(worker, now)
            if entry.final:
                return  # it had ended in time after all
            if entry.worker is worker:  # else it was skipped, and waits again
                self._drop(worker, entry, now)
        core.settle(entry, event, core.error_answer(entry, error), now)
        entry.args = NIL

    def _drop(self, worker: Worker, entry: Entry, now: float) -> None:
        """Make sure that a worker doesn't start, or doesn't go on with, a job that it holds."""
        place = worker.line.index(entry)
        seq = worker.head + place
        worker.line[place] = None
        worker.load -= entry.cost
        self.take_back(worker)
        at, state = worker.lane.at()
        if at == seq and state in (TAKEN, STARTED):
            entry.begun = True
            spec, sure = entry.tool.spec, not worker.unsure
            worker.unsure = worker.unsure or bool(spec.invalidates)
            asked = spec.asks and self._cooperate and worker.life is Life.READY
            permit = entry.tool.valve if entry.permit else None
            worker.leftover = Leftover(seq, spec.name, permit, now + self._cooperate if asked else None, sure)
            if asked:
                worker.lane.words[CANCEL] = seq
                worker.load = max(worker.load, STUCK_COST)
            else:
                self.end(worker, seq, now, f"{spec.name} had to be ended")

    def end(self, worker: Worker, seq: int, now: float, reason: str) -> None:
        """Interrupt what a worker runs and let another take its place; the watch sees it to its end."""
        core = self._core
        worker.lane.words[CANCEL] = seq
        if worker.life is not Life.ENDING:
            self.take_back(worker)
            worker.reason = reason
            worker.next_ending = now
            slot = worker.slot
            core.fleet.change(worker, Change.END)
            if slot.worker is None and slot.start_at is None:
                slot.start_at = now
        core.signals.append(worker)

    def press(self, worker: Worker, left: Leftover, now: float) -> None:
        """Interrupt what a worker was asked to come to an end with, if it had its time and has not done so."""
        if left.until is not None and now >= left.until and worker.lane.at() < (left.seq, DONE):
            worker.leftover = left._replace(until=None)
            self.end(worker, left.seq, now, f"{left.tool} had to be ended")

    def take_back(self, worker: Worker) -> None:
        """Let others run what a worker was given but has not begun."""
        core = self._core
        held = worker.line
        taken = worker.lane.recall(worker.tail - 1)
        back: list[Entry] = []
        for place in range(max(0, taken - worker.head + 1), len(held)):
            entry = held[place]
            if entry is not None:
                held[place] = None
                worker.load -= entry.cost
                back.append(entry)
        core.requeue(back, Event.TAKE_BACK)

    def lost(self, worker: Worker, cause: str, facts: Mapping[str, Any], now: float) -> bool:
        """A worker is gone. Its finished jobs are answered, the untouched ones run elsewhere, and the one that had
        started is repeated, told as OUTCOME_UNKNOWN, or POISONED. True if it died while it ran a tool.
        """
        core = self._core
        core.harvest(worker, now)
        at, state = worker.lane.at()
        begun = state in (STARTED, DONE) and at >= worker.head
        again: list[Entry] = []
        untouched: list[Entry] = []
        for place, entry in enumerate(worker.line):
            if entry is None:
                continue
            touched = worker.head + place <= at
            if touched and not self._survives(entry, worker, begun, cause, facts, now):
                continue
            if touched and begun:
                again.append(entry)
            else:
                untouched.append(entry)
        if worker.unsure:
            core.sharing.doubt()
        worker.came_to_end()
        worker.line.clear()
        core.requeue(untouched, Event.TAKE_BACK)
        core.requeue(again, Event.REPEAT)
        return begun

    def _survives(
        self, entry: Entry, worker: Worker, begun: bool, cause: str, facts: Mapping[str, Any], now: float
    ) -> bool:
        """Does a job run again whose worker died with it in hand? If not, it gets its answer here.

        ``begun``: the tool had been called. Before that even a job that may not be repeated is safe, but one that
        kills workers while they look at it must not do so for ever.
        """
        core = self._core
        entry.deaths += 1
        name = entry.tool.name
        worker.unsure = worker.unsure or (begun and bool(entry.tool.spec.invalidates))
        known = {"worker": worker.pid, "cause": cause, **facts}
        if begun and not entry.tool.repeatable:
            text = f"{name}: its worker was lost ({cause}) after it had started, and it may not be repeated"
            core.settle(entry, Event.LOSE, core.error_answer(entry, OutcomeUnknown(text, **known)), now)
            return False
        if entry.deaths >= core.limits.deaths:
            text = f"{name}: {entry.deaths} workers died of it ({cause}); it is not tried again"
            core.settle(
                entry, Event.POISON, core.error_answer(entry, Poisoned(text, deaths=entry.deaths, **known)), now
            )
            return False
        if begun:
            entry.attempt += 1
            entry.until = entry.deadline  # it has started once, which is all that is promised
        return True

    def leave(self, session: Session, now: float) -> None:
        """A client is gone for good: its calls are cancelled, what it submitted to be kept goes on."""
        core = self._core
        for entry in list(session.jobs.values()):
            if entry.final:
                continue  # a worker that had to be ended for an earlier one had finished this one
            if entry.record is not None and entry.record.keep:
                entry.record.waiting = [other for other in entry.record.waiting if other is not entry]
                core.settle(entry, Event.CANCEL, core.error_answer(entry, Cancelled("its client left")), now)
            else:
                self.cancel(entry, now, "its client vanished")
        session.out.clear()

    def shut_down(self, now: float) -> None:
        """Give every job its final answer, because the workers are about to be ended."""
        core = self._core
        for one in core.fleet.workers.values():
            self.take_back(one)
        for session in [core.house, *core.sessions.values()]:
            for entry in list(session.jobs.values()):
                if entry.final:
                    continue
                worker = entry.worker if entry.state is State.DISPATCHED else None
                if worker is not None:
                    core.harvest(worker, now)
                    if entry.final:
                        continue
                if worker is not None and entry.worker is worker:
                    at, state = worker.lane.at()
                    place = worker.line.index(entry)
                    worker.line[place] = None
                    if state >= TAKEN and worker.head + place == at and not entry.tool.repeatable:
                        lost = OutcomeUnknown(f"{entry.tool.name}: the node was stopped while it ran", cause="shutdown")
                        core.settle(entry, Event.LOSE, core.error_answer(entry, lost), now)
                        continue
                stopped = Cancelled(f"{entry.tool.name}: the node was stopped", cause="shutdown")
                core.settle(entry, Event.CANCEL, core.error_answer(entry, stopped), now)
