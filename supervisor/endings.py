"""How jobs end other than by their worker's answer: cancelled, expired, with their worker, or with the node.

Each of these ends a job wherever it is: waiting for another's answer, in line, with a worker, or running there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from toolring.errors import Cancelled, OutcomeUnknown, Poisoned, ToolringError
from toolring.lane import CANCEL, DONE, STEP
from toolring.protocol import NIL, Halt
from toolring.supervisor.core import Core
from toolring.supervisor.fleet import Change, Leftover, Life, Worker
from toolring.supervisor.history import note_attempt
from toolring.supervisor.ledger import Entry, Event, Session, State
from toolring.supervisor.placing import STUCK_COST

ZYGOTE_LOST: Final = "its zygote was lost"
"""Why a worker ended that died with all others of its code: no job of theirs is more to blame than the others."""


LOST: Final = "LOST"
"""In the place of an error's code: a run that had no answer, and may be repeated."""


class Grace(NamedTuple):
    """How a run that must end is ended, and with it its worker, if need be. Seconds."""

    interrupt: float = 0.5
    """Interrupts a tenth of a second apart, or the time from the cancellation of an async job: until TERM."""
    terminate: float = 0.3
    """From TERM to KILL."""
    shield: float = 5.0
    """The most that a tool's shield may put an ending off."""
    start: float = 120.0
    """How long a worker may take from its start until it is ready."""
    cooperate: float = 0.0
    """What a tool that takes the Context has to notice that its job has ended, before it is interrupted and its worker
    replaced."""
    neighbours: float = 5.0
    """What those have that run beside one which doesn't end, and may not be repeated."""


class Endings:
    """Ends the jobs of one core."""

    def __init__(self, core: Core, grace: Grace) -> None:
        self._core = core
        self.grace = grace

    def cancel(self, entry: Entry, now: float, why: str = "cancelled by its caller") -> None:
        """End a job, wherever it is. Its caller hears CANCELLED now; what runs is interrupted."""
        self._stop(entry, Event.CANCEL, Cancelled(f"{entry.tool.name}: {why}"), now)

    def expire(self, entry: Entry, now: float, error: ToolringError) -> None:
        """End a job whose time is up, wherever it is. Its caller hears it now."""
        self._stop(entry, Event.EXPIRE, error, now)

    def abandon(self, entry: Entry, error: ToolringError, now: float) -> None:
        """Give up a job that waits, because no worker can be had."""
        core = self._core
        core.settle(entry, Event.FAIL, core.error_answer(entry, error), now)

    def _stop(self, entry: Entry, event: Event, error: ToolringError, now: float) -> None:
        core = self._core
        if entry.state is State.JOINED:
            record = entry.record
            core.settle(entry, event, core.error_answer(entry, error), now)
            if record is not None:
                record.waiting = [other for other in record.waiting if other is not entry]
                runs = record.entry
                if runs is not None and not record.waiting and not (record.keep and event is not Event.CANCEL):
                    self._stop(runs, event, error, now)
            return
        run = entry.run
        worker = run.worker if run.state is State.DISPATCHED else None
        if worker is not None:
            core.returns.harvest(worker, now)
            if entry.final:
                return  # it had ended in time after all
        if entry.state is State.BATCHED:
            self._leave_batch(entry, event, error, now)
            return
        if worker is not None and entry.worker is worker:  # else it was skipped, and waits again
            self._drop(worker, entry, error.code, now)
            if entry.begun and event is Event.EXPIRE:
                core.circuits.expired(entry, error, now)
        core.settle(entry, event, core.error_answer(entry, error), now)
        entry.args = NIL

    def _leave_batch(self, entry: Entry, event: Event, error: ToolringError, now: float) -> None:
        """The others of a batch go on without it; without any, the batch ends."""
        core, carrier = self._core, entry.carrier
        assert carrier is not None
        worker = carrier.worker if carrier.state is State.DISPATCHED else None
        entry.begun = worker is not None and worker.at_work_on(worker.number_of(carrier))
        core.settle(entry, event, core.error_answer(entry, error), now)
        if not any(other.state is State.BATCHED for other in carrier.members or ()):
            self._stop(carrier, event, error, now)

    def _drop(self, worker: Worker, entry: Entry, code: str, now: float) -> None:
        """Make sure that a worker doesn't start, or doesn't go on with, a job that it holds."""
        seq = worker.number_of(entry)
        worker.drop(seq)
        if not worker.many or not worker.at_work_on(seq):
            self.take_back(worker)
        if not worker.at_work_on(seq):
            return
        entry.begun = True
        self._cut(entry, worker, code, now)
        if worker.many:
            self._leave_behind(worker, seq, entry, now)
            self._core.says.append((worker, Halt([seq])))
            return
        spec, cooperate = entry.tool.spec, self.grace.cooperate
        asked = spec.asks and cooperate and worker.life is Life.READY
        worker.leftovers[seq] = Leftover.of(entry, now + cooperate if asked else None)
        if asked:
            worker.lane.words[CANCEL] = seq
            worker.load = max(worker.load, STUCK_COST)
        else:
            self.end(worker, seq, now, f"{spec.name} had to be ended")

    def _cut(self, entry: Entry, worker: Worker, code: str, now: float, lost: bool = False) -> None:
        if self._core.figures is not None:
            self._core.figures.cut(entry, worker, code, lost, now)

    def _leave_behind(self, worker: Worker, seq: int, entry: Entry, now: float) -> None:
        """One of many is to be cancelled; its permits come back when it is over."""
        worker.leftovers[seq] = Leftover.of(entry, now + self.grace.interrupt)

    def end(self, worker: Worker, seq: int, now: float, reason: str) -> None:
        """Interrupt what a worker runs and let another take its place; the watch sees it to its end."""
        core = self._core
        worker.lane.words[CANCEL] = seq
        if worker.life is not Life.ENDING:
            self.take_back(worker)
            worker.reason = reason
            worker.next_ending = now
            core.fleet.change(worker, Change.END, now)
        core.signals.append(worker)

    def press(self, worker: Worker, seq: int, left: Leftover, now: float) -> None:
        """Interrupt what a worker was asked to come to an end with, if it had its time and has not done so.

        One of many can't be interrupted by itself: the worker has to end.
        """
        if worker.many:
            over = left.until is not None and now >= left.until
            if over and not worker.shielded(now, (left.until or now) + self.grace.shield):
                self.condemn(worker, now, f"{left.tool.name} does not end")
            return
        if left.until is not None and now >= left.until and worker.lane.at() < (seq, DONE):
            worker.leftovers[seq] = left._replace(until=None)
            self.end(worker, seq, now, f"{left.tool.name} had to be ended")

    def condemn(self, worker: Worker, now: float, reason: str) -> None:
        """A worker that runs many must end because of one of them. The others that may be repeated run elsewhere at
        once, those that may not have some time to end by themselves; the watch sees to that."""
        core = self._core
        worker.reason = reason
        self.take_back(worker)
        core.returns.harvest(worker, now)
        again: list[Entry] = []
        halted: list[int] = []
        for seq, entry in list(worker.line.items()):
            if _repeatable(entry):
                self._cut(entry, worker, LOST, now)
                worker.drop(seq)
                self._leave_behind(worker, seq, entry, now)
                entry.passed = 0
                core.attempt_over(entry, "worker ended for another's sake", now)
                _begins_again(entry, now)
                again.append(entry)
                halted.append(seq)
        if halted:
            core.says.append((worker, Halt(halted)))
        for entry in again:
            core.placing.again(entry, Event.REPEAT)
        until = now + self.grace.neighbours
        if worker.life is Life.READY:
            core.fleet.change(worker, Change.RETIRE, now)
            worker.next_ending = until
        else:
            worker.next_ending = min(worker.next_ending, until)  # it was about to leave, with all the time it needed

    def give_up_neighbours(self, worker: Worker, now: float) -> None:
        """What still runs in a worker that must end now is lost with it."""
        core = self._core
        core.returns.harvest(worker, now)
        for seq, entry in list(worker.line.items()):
            if worker.begun(seq):  # else it runs elsewhere once this one is gone
                worker.drop(seq)
                entry.begun = True
                self._cut(entry, worker, OutcomeUnknown.code, now)
                worker.leftovers[seq] = Leftover.of(entry, None)
                text = f"{entry.tool.name}: its worker had to be ended ({worker.reason}), and it may not be repeated"
                unknown = OutcomeUnknown(text, worker=worker.pid, cause=worker.reason)
                core.settle(entry, Event.LOSE, core.error_answer(entry, unknown), now)
        self.end(worker, 0, now, worker.reason or "")

    def take_back(self, worker: Worker) -> None:
        """Let others run what a worker was given but has not begun."""
        core = self._core
        taken = worker.lane.recall(worker.tail - 1)
        back = [worker.drop(seq) for seq in list(worker.line) if seq > taken]
        core.placing.requeue(back, Event.TAKE_BACK)

    def lost(self, worker: Worker, cause: str, facts: Mapping[str, Any], now: float) -> list[Entry]:
        """A worker is gone. Its finished jobs are answered, the untouched ones run elsewhere, and the one that had
        started is repeated, told as OUTCOME_UNKNOWN, or POISONED. Gives what it ran; of several, first what it was at.
        """
        core = self._core
        core.returns.harvest(worker, now, lost=True)
        at, _ = worker.lane.at()
        blamed = worker.lane.words[STEP] if worker.many else 0
        ran: list[Entry] = []
        again: list[Entry] = []
        untouched: list[Entry] = []
        doubt = False
        for seq, entry in list(worker.line.items()):
            touched, begun = seq <= at, worker.begun(seq)
            if begun:
                ran.insert(0 if seq == blamed else len(ran), entry)
                self._cut(entry, worker, LOST if _repeatable(entry) else OutcomeUnknown.code, now, lost=True)
            doubt = doubt or (begun and entry.invalidates)
            fault = (not blamed or blamed == seq) and worker.reason != ZYGOTE_LOST
            if touched and fault and worker.reason is None and (blamed or entry.alone or not worker.many):
                core.circuits.died(entry, now)
            if touched and not self._survives(entry, worker, begun, fault, cause, facts, now):
                continue
            if begun:
                again.append(entry)
            else:
                untouched.append(entry)
        for seq, left in list(worker.leftovers.items()):
            doubt = doubt or left.invalidates
            worker.came_to_end(seq)
        if doubt:
            core.joining.sharing.doubt()
        worker.line.clear()
        core.placing.requeue(untouched, Event.TAKE_BACK)
        core.placing.requeue(again, Event.REPEAT)
        return ran

    def _survives(
        self, entry: Entry, worker: Worker, begun: bool, fault: bool, cause: str, facts: Mapping[str, Any], now: float
    ) -> bool:
        """Does a job run again whose worker died with it in hand? If not, it gets its answer here.

        ``begun``: the tool had been called. Before that even a job that may not be repeated is safe, but one that
        kills workers while they look at it must not do so for ever. ``fault``: it may have been this one that did it,
        rather than one beside it.
        """
        core = self._core
        if entry.members is not None:
            for member in core.gathering.dissolve(entry, now):
                member.alone = True
                if self._survives(member, worker, begun, fault, cause, facts, now):
                    core.gathering.by_itself(member)
            return False
        entry.losses += 1
        note_attempt(entry, "worker_lost", ended=now, cause=cause, begun=begun)
        if fault or entry.losses > core.limits.deaths:  # a thread of it may do it while another's code runs
            entry.deaths += 1
            blamed = worker.many and worker.lane.words[STEP]
            entry.alone = entry.alone or bool(blamed) or entry.deaths >= core.limits.deaths - 1
        name = entry.tool.name
        known = {"worker": worker.pid, "cause": cause, **facts}
        if begun and not _repeatable(entry):
            had = ""
            if entry.live is not None and entry.live.parts:
                known["parts"] = entry.live.parts
                had = f", since its caller has had a part of it ({entry.live.parts} so far)"
            text = f"{name}: its worker was lost ({cause}) after it had started, and it may not be repeated{had}"
            core.settle(entry, Event.LOSE, core.error_answer(entry, OutcomeUnknown(text, **known)), now)
            return False
        if entry.deaths >= core.limits.deaths:
            lost = f"{entry.deaths} workers died of it" if fault else f"{entry.losses} workers were lost with it"
            text = f"{name}: {lost} ({cause}); it is not tried again"
            core.settle(
                entry, Event.POISON, core.error_answer(entry, Poisoned(text, deaths=entry.deaths, **known)), now
            )
            return False
        if begun:
            core.attempt_over(entry, "worker lost", now)
            _begins_again(entry, now)
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
        session.parts.clear()

    def reconnected(self, session: Session, now: float) -> None:
        """A client is back on another connection. What was sent on the old one may not have arrived, so a stream that
        had begun there can't be gone on with."""
        for entry in list(session.jobs.values()):
            if entry.live is not None and entry.live.parts and not entry.final:
                text = f"{entry.tool.name}: the connection was lost after {entry.live.parts} parts of it had been sent"
                unknown = OutcomeUnknown(text, cause="connection lost", parts=entry.live.parts)
                self._stop(entry, Event.LOSE, unknown, now)

    def shut_down(self, now: float) -> None:
        """Give every job its final answer, because the workers are about to be ended."""
        core = self._core
        for one in core.fleet.workers.values():
            self.take_back(one)
        for session in [core.house, *core.sessions.values()]:
            for entry in list(session.jobs.values()):
                if entry.final:
                    continue
                run = entry.carrier or entry
                worker = run.worker if run.state is State.DISPATCHED else None
                if worker is not None:
                    core.returns.harvest(worker, now)
                    if entry.final:
                        continue
                if worker is not None and run.state is State.DISPATCHED and run.worker is worker:
                    runs = worker.at_work_on(worker.number_of(run))
                    if runs and not entry.waited:
                        self._cut(run, worker, (Cancelled if entry.repeatable else OutcomeUnknown).code, now)
                    if run is entry:
                        worker.drop(worker.number_of(run))
                    if runs and not entry.repeatable:
                        lost = OutcomeUnknown(f"{entry.tool.name}: the node was stopped while it ran", cause="shutdown")
                        core.settle(entry, Event.LOSE, core.error_answer(entry, lost), now)
                        continue
                stopped = Cancelled(f"{entry.tool.name}: the node was stopped", cause="shutdown")
                core.settle(entry, Event.CANCEL, core.error_answer(entry, stopped), now)


def _begins_again(entry: Entry, now: float) -> None:
    entry.attempt += 1
    for one in (entry, *(entry.members or ())):
        one.ready, one.waited = now, False
    entry.until = entry.deadline  # it has started once, which is all that is promised


def _repeatable(entry: Entry) -> bool:
    """May it run again although it had begun? Not if its caller has had a part of what it yields."""
    return entry.repeatable and not (entry.live is not None and entry.live.parts)
