"""Returns: what workers have finished, by message or from shared memory, goes to those who wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from msgspec import Raw

from toolring import protocol
from toolring.errors import ProtocolError, Retry, ToolError
from toolring.lane import ACK
from toolring.protocol import CACHED, ERROR, NIL, OK, REFRESH, SKIPPED, STREAMED, TOLD, Answer
from toolring.supervisor.fleet import Worker
from toolring.supervisor.history import note
from toolring.supervisor.ledger import TABLE, Entry, Event, State

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.core import Core
    from toolring.supervisor.rows import Rows

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
        if not answers:
            return
        core = self._core
        held = worker.line
        head = worker.head
        pop = held.pop
        load = worker.load
        before = len(held)
        skipped: list[Entry] = []
        figures, house = core.figures, core.house
        listened = core.on_finished is not None or core.spans is not None
        remember = None if core.history is None else core.history.remember
        rows: Rows | None = None
        parts: list[tuple[int, float, float, float]] = []
        runs: list[int] = []
        bytes_in = bytes_out = 0
        of: ServedTool | None = None
        accepted = sent = -1.0
        try:
            for answer in answers:
                seq = answer.id
                if seq == head:
                    head += 1
                elif seq > head and not worker.many:
                    raise ProtocolError(f"worker {worker.name} answered {seq} before {head}")
                entry = pop(seq, None)
                if entry is None:
                    if seq >= worker.tail:
                        raise ProtocolError(f"worker {worker.name} answered {seq}, which it was never given")
                    worker.came_to_end(seq)
                    continue
                load -= entry.cost
                flags = answer.flags
                if flags:
                    flags = self._flagged(entry, worker, answer, now)
                status = answer.status
                if status == OK:
                    run, tool, session, size = answer.run_us, entry.tool, entry.session, len(entry.args)
                    chunk = entry.chunk
                    tool.answered += chunk or 1
                    tool.observe(run, chunk)
                    if chunk and answer.failed:
                        self._calls_failed(entry, answer.failed)
                    if figures is not None:
                        if session is house or chunk or entry.attempt > 1:
                            figures.ran(entry, worker, answer, now)
                            if session is not house:
                                figures.ended(entry, answer, now)
                        else:
                            if entry.accepted is not accepted or entry.sent is not sent or tool is not of:
                                accepted, sent = entry.accepted, entry.sent
                                if tool is not of:
                                    if rows is not None:
                                        rows.bytes_in += bytes_in
                                        rows.bytes_out += bytes_out
                                        bytes_in = bytes_out = 0
                                    of, rows = tool, figures.rows(worker, tool, now)
                                    parts, runs = rows.parts, rows.runs
                                parts.append((len(runs), accepted, sent, now))
                            if flags:
                                figures.hit(tool, flags, now)
                            runs.append(run)
                            bytes_in += size
                            bytes_out += len(answer.value)
                    if entry.record is not None or listened or tool.guarded or chunk:
                        self._noticed(entry, worker, answer, now)
                        continue
                    entry.state = _DONE
                    answer.id = entry.id
                    del session.jobs[entry.id]
                    core.bytes -= size
                    if remember is not None:
                        entry.ended, entry.run_us, entry.flags, entry.args = now, run, flags, NIL
                        remember(entry)
                    out = session.out
                    if not out and not session.parts:
                        core.dirty.append(session)
                    out.append(answer)
                elif status == SKIPPED:
                    skipped.append(entry)
                else:
                    self._failed(entry, worker, answer, now)
        finally:
            if rows is not None:
                rows.bytes_in += bytes_in
                rows.bytes_out += bytes_out
            worker.answered += before - len(held) - len(skipped)
            if skipped:
                core.placing.requeue(skipped, Event.TAKE_BACK)
            if not worker.many:
                worker.lane.words[ACK] = head - 1
                worker.head = head
            worker.load = load if held or worker.held_up is not None else 0.0
            if len(held) < before:  # else all of it had been harvested
                worker.progress = now

    def _flagged(self, entry: Entry, worker: Worker, answer: Answer, now: float) -> int:
        """What a worker says of an answer, beside it: its tool has written something, or it came from a cache. Gives
        the flags that are for others, too."""
        core, flags = self._core, answer.flags
        if flags & TOLD:
            core.outputs.drain(worker, answer.id, entry)
        if flags & CACHED and answer.status == OK:
            entry.tool.hit(flags)
            if flags & REFRESH:
                core.joining.renew(entry, worker, now)
        answer.flags = flags & ~(TOLD | REFRESH)
        return answer.flags

    def _noticed(self, entry: Entry, worker: Worker, answer: Answer, now: float) -> None:
        """Settle an entry of which others hear, too: limits, balancers, a record, whoever listens."""
        tool, seconds = entry.tool, answer.run_us * 1e-6
        if tool.learn is not None and worker.slot.group is tool.group:
            tool.learn(worker.slot.place, seconds)
        for valve in tool.valves:
            if valve.limit is not None:
                valve.limit.ended(seconds / (entry.chunk or 1), valve.running)
        self._core.settle(entry, Event.SUCCEED, answer, now)

    def _calls_failed(self, entry: Entry, failed: dict[str, int]) -> None:
        """Some calls of a chunk ended with errors; the whole is answered all the same. Of calls that travelled
        together, each will be told of by itself."""
        if entry.members is not None:
            return
        note(entry, "calls_failed", calls=entry.chunk, failed=failed)
        if entry.session is not self._core.house:
            entry.tool.calls_failed(failed)

    def _failed(self, entry: Entry, worker: Worker, answer: Answer, now: float) -> None:
        core, tool = self._core, entry.tool
        if core.figures is not None:
            core.figures.ran(entry, worker, answer, now)
        tool.observe(answer.run_us, entry.chunk)
        if tool.learn is not None and worker.slot.group is tool.group:
            tool.learn(worker.slot.place, answer.run_us * 1e-6)
        if answer.flags & CACHED:
            tool.hit(answer.flags)
            tool.cached_errors += 1
        error = self._error(entry, worker, answer)
        if entry.permit >= 0:
            core.circuits.failed(entry, error, answer.run_us, now)
        single = entry.members is None  # else they are counted, and tried again, one by one
        if single and tool.budget is not None and core.retries.delay(entry, error, now):
            return
        tool.answered += entry.chunk or 1
        if single:
            if entry.session is not core.house:  # else each of those whom it ran for is counted
                tool.failed(error, entry.chunk or 1)
            if error["code"] == Retry.code:
                which = f"attempt {entry.attempt} of {tool.spec.retries + 1}"
                error["message"] = f"{tool.name}: {error.get('message')} ({which})"
        told = Answer(answer.id, ERROR, Raw(protocol.encode(error)), answer.run_us, answer.flags, 0, answer.parts)
        core.settle(entry, Event.FAIL, told, now)

    def _error(self, entry: Entry, worker: Worker, answer: Answer) -> dict[str, Any]:
        """A worker's error with what only the supervisor knows."""
        try:
            error = protocol.decode_value(answer.value)
        except (ValueError, RecursionError) as fault:  # facts of the tool's own making
            error = {"code": ToolError.code, "message": f"{entry.tool.name}: its error can't be read: {fault}"}
        error.update(job=entry.name, worker=worker.pid)
        return cast(dict[str, Any], error)

    def harvest(self, worker: Worker, now: float, lost: bool = False) -> None:
        """Read what a worker has finished from shared memory: its messages are late, or were lost with it.

        A stream whose last parts haven't arrived is not over; if they died with the worker, it was lost with it.
        """
        self._core.outputs.drain(worker)
        try:
            answers = protocol.decode_answer_list(worker.lane.journal())
            early = [at for at, answer in enumerate(answers) if _parts_are_missing(worker, answer)]
            if early and not worker.many and not lost:
                del answers[early[0] :]  # those behind it have their turn after it
            answers = [answer for at, answer in enumerate(answers) if at not in early]
            if early and lost:
                worker.head = worker.tail  # nothing comes any more that these could be before
            self.answers(worker, answers, now)
        except (ValueError, RecursionError, ProtocolError) as error:  # a tool wrote to memory that isn't its own
            self._core.faulty.append((worker, f"its journal can't be read: {error}"))


def _parts_are_missing(worker: Worker, answer: Answer) -> bool:
    if not answer.flags & STREAMED:
        return False
    entry = worker.line.get(answer.id)
    return entry is not None and entry.live is not None and answer.parts > entry.live.parts
