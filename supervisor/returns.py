"""Returns: what workers have finished, by message or from shared memory, goes to those who wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from msgspec import Raw

from toolring import protocol
from toolring.errors import ProtocolError, ToolError
from toolring.lane import ACK
from toolring.protocol import CACHED, ERROR, OK, REFRESH, SKIPPED, STREAMED, Answer
from toolring.supervisor.fleet import Worker
from toolring.supervisor.ledger import TABLE, Entry, Event, State

if TYPE_CHECKING:
    from toolring.supervisor.core import Core

_DONE = TABLE[State.DISPATCHED][Event.SUCCEED]


class Returns:
    """Settles the jobs of one core that workers have answered."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def answers(self, worker: Worker, answers: list[Answer], now: float) -> None:
        """Settle what a worker finished. Those that were harvested before are passed over.

        Answers come in order, but from a worker that runs many at once.
        """
        core = self._core
        held = worker.line
        head = worker.head
        popleft = held.popleft
        load = worker.load
        skipped: list[Entry] = []
        try:
            for answer in answers:
                if answer.id != head or not held:
                    entry = _out_of_turn(worker, answer.id, head)
                    if entry is None:
                        continue
                else:
                    head += 1
                    entry = popleft()
                    if entry is None:
                        worker.came_to_end(answer.id)
                        continue
                load -= entry.cost
                status = answer.status
                if status == OK:
                    tool = entry.tool
                    tool.answered += 1
                    if answer.flags & CACHED:
                        tool.hit(answer.flags)
                        if answer.flags & REFRESH:
                            answer.flags &= ~REFRESH
                            core.joining.renew(entry, worker, now)
                    tool.observe(answer.run_us, entry.chunk)
                    if entry.record is not None or core.on_finished is not None or tool.guarded:
                        if tool.learn is not None:
                            tool.learn(worker.slot.place, answer.run_us * 1e-6)
                        for valve in tool.valves:
                            if valve.limit is not None:
                                valve.limit.ended(answer.run_us * 1e-6 / (entry.chunk or 1), valve.running)
                        core.settle(entry, Event.SUCCEED, answer, now)
                        continue
                    entry.state = _DONE
                    session = entry.session
                    answer.id = entry.id
                    del session.jobs[entry.id]
                    core.bytes -= len(entry.args)
                    out = session.out
                    if not out and not session.parts:
                        core.dirty.append(session)
                    out.append(answer)
                elif status == SKIPPED:
                    skipped.append(entry)
                else:
                    self._failed(entry, worker, answer, now)
        finally:
            if skipped:
                core.placing.requeue(skipped, Event.TAKE_BACK)
            if worker.many:
                while held and held[0] is None:
                    popleft()
                    head += 1
            else:
                worker.lane.words[ACK] = head - 1
            worker.answered += head - worker.head
            worker.head = head
            worker.load = load if held else 0.0
            worker.progress = now

    def _failed(self, entry: Entry, worker: Worker, answer: Answer, now: float) -> None:
        core, tool = self._core, entry.tool
        tool.answered += 1
        tool.observe(answer.run_us, entry.chunk)
        if tool.learn is not None:
            tool.learn(worker.slot.place, answer.run_us * 1e-6)
        if answer.flags & CACHED:
            tool.hit(answer.flags)
            tool.cached_errors += 1
        error = self._error(entry, worker, answer)
        if entry.permit >= 0:
            core.circuits.failed(entry, error, answer.run_us, now)
        if tool.budget is None or entry.members is not None or not core.retries.delay(entry, error, now):
            told = Answer(answer.id, ERROR, Raw(protocol.encode(error)), answer.run_us, answer.flags, 0, answer.parts)
            core.settle(entry, Event.FAIL, told, now)

    def _error(self, entry: Entry, worker: Worker, answer: Answer) -> Mapping[str, Any]:
        """A worker's error with what only the supervisor knows."""
        try:
            error = protocol.decode_value(answer.value)
        except (ValueError, RecursionError) as fault:  # facts of the tool's own making
            error = {"code": ToolError.code, "message": f"{entry.tool.name}: its error can't be read: {fault}"}
        if entry.members is None:  # else they are counted one by one
            entry.tool.failed(error)
        error.update(job=entry.name, worker=worker.pid)
        return cast(Mapping[str, Any], error)

    def harvest(self, worker: Worker, now: float) -> None:
        """Read what a worker has finished from shared memory: its messages are late, or died with it.

        A stream whose last parts haven't arrived is not over; if they died with the worker, it was lost with it.
        """
        try:
            answers = protocol.decode_answer_list(worker.lane.journal())
            early = [at for at, answer in enumerate(answers) if _parts_are_missing(worker, answer)]
            if early and worker.many:
                answers = [answer for at, answer in enumerate(answers) if at not in early]
            elif early:
                del answers[early[0] :]  # those behind it have their turn after it
            self.answers(worker, answers, now)
        except (ValueError, RecursionError, ProtocolError) as error:  # a tool wrote to memory that isn't its own
            self._core.faulty.append((worker, f"its journal can't be read: {error}"))


def _out_of_turn(worker: Worker, seq: int, head: int) -> Entry | None:
    """The job that an answer is for which isn't the oldest; None: it is nobody's. Raises ProtocolError."""
    place = seq - head
    if place < 0 or (worker.many and place < len(worker.line) and worker.line[place] is None):
        worker.came_to_end(seq)
        return None
    if place >= len(worker.line):
        raise ProtocolError(f"worker {worker.name} answered {seq}, which it was never given")
    if not worker.many:
        raise ProtocolError(f"worker {worker.name} answered {seq} before {head}")
    entry, worker.line[place] = worker.line[place], None
    return entry


def _parts_are_missing(worker: Worker, answer: Answer) -> bool:
    if not answer.flags & STREAMED:
        return False
    place = answer.id - worker.head
    entry = worker.line[place] if 0 <= place < len(worker.line) else None
    return entry is not None and entry.live is not None and answer.parts > entry.live.parts
