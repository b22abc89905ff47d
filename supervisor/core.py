"""What to do with a submission and an answer: the brain of a node, without I/O or a clock of its own.

The loop calls it with what arrived and ``now`` (seconds, monotonic), and then performs what it decided:
``sends`` to workers, ``dirty`` sessions that have answers, ``signals``, and ``notes`` for the log. This file is
the hot path: nothing is added to it unmeasured (``make bench``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple, cast

from msgspec import Raw

from toolring import protocol
from toolring.config import CallerSection
from toolring.errors import (
    Busy,
    Conflict,
    OutcomeUnknown,
    ProtocolError,
    ToolError,
    ToolringError,
)
from toolring.lane import ACK
from toolring.policy import retry
from toolring.policy.ring import hash64
from toolring.protocol import CACHED, ERROR, INLINE, KEEP, NIL, OK, PACK, REFRESH, REPLAYED, SKIPPED, Answer, Job, Work
from toolring.stamps import Stamps
from toolring.supervisor.accounts import Account, Accounts
from toolring.supervisor.backlog import Line, refund
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.fleet import Fleet, Slot, Worker
from toolring.supervisor.keyring import Keyring, Record, digest
from toolring.supervisor.ledger import TABLE, Entry, Event, Session, State, step
from toolring.supervisor.refusals import refused_by, unknown_tool, why_full
from toolring.supervisor.sharing import Flight, Name, Sharing
from toolring.supervisor.valves import Valve, valve_of

CREDIT: Final = 0.002
"""Seconds of expected work up to which a worker is given more, measured before the next job is added."""
MAX_LINE: Final = 512
STUCK_COST: Final = 1.0
"""What a worker is charged that sits on a job longer than expected: nothing more goes its way."""

_DISPATCHED = TABLE[State.QUEUED][Event.DISPATCH]
_LAST: Final = (float("inf"), float("inf"))
_DONE = TABLE[State.DISPATCHED][Event.SUCCEED]


class Limits(NamedTuple):
    """What one node takes on. Seconds and bytes."""

    default_timeout: float = 60.0
    backlog: int = 20_000
    backlog_bytes: int = 256 << 20
    per_client: int = 10_000
    clients: int = 10_000
    deaths: int = 3
    keep_seconds: float = 300.0
    keep_bytes: int = 64 << 20
    hot_bytes: int = 64 << 20
    max_body: int = 64 << 20
    callers: Mapping[str, CallerSection] = {}


class Send(NamedTuple):
    worker: Worker
    first: int
    work: list[Work]
    body: Any


class Core:
    """Sessions, entries, and who runs what. Everything that changes an entry's state is here."""

    def __init__(self, tools: Mapping[str, ServedTool], fleet: Fleet, limits: Limits, stamps: Stamps) -> None:
        self.tools = tools
        self.fleet = fleet
        self.limits = limits
        self.sessions: dict[bytes, Session] = {}
        self.house = Session(b"", b"", "")
        """Holds the entries that run for a record; their callers wait beside them."""
        self.keyring = Keyring(limits.keep_seconds, limits.keep_bytes)
        self.sharing = Sharing(stamps, limits.hot_bytes)
        self.accounts = Accounts(limits.callers)
        self.backlog = fleet.backlog
        self.line = self.backlog.line()
        """Jobs that anybody may run."""
        self.valves: list[Valve] = []
        for tool in tools.values():
            tool.valve = valve_of(tool.spec, self.backlog)
            if tool.valve is not None:
                self.valves.append(tool.valve)
        self.delayed: list[tuple[float, int, Entry]] = []
        """Jobs that failed and will be tried again, by when; a heap."""
        self.bytes = 0
        self.next_deadline = float("inf")
        self.draining = False
        self.healthy = True
        self.accepted = 0
        self.refused: dict[str, int] = {}
        self.sends: list[Send] = []
        self.dirty: list[Session] = []
        self.signals: list[Worker] = []
        self.faulty: list[tuple[Worker, str]] = []
        """Workers that can't be trusted any more, and why; for the watch."""
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.on_finished: Callable[[Entry, Answer], None] | None = None
        """Bound once, when somebody listens."""
        self._house_ids = 0
        self._random = random.random

    # ---- jobs come in

    def submit(self, session: Session, jobs: Iterable[Job], now: float) -> None:
        """Accept each job or refuse it at once, with an answer either way."""
        tools, mine = self.tools, session.jobs
        default = self.limits.default_timeout
        account = session.account or self.accounts.of(session)
        room = self._room(session, account, now)
        accepted = paid = 0
        for job in jobs:
            tool = tools.get(job.tool)
            if tool is None:
                self._refuse(session, job.id, unknown_tool(tools, job.tool))
                continue
            known = job.id <= session.highest
            if not known:
                session.highest = job.id
            elif self._sent_again(session, job, tool):
                continue
            name = partition = None
            if tool.places:
                partition = "" if tool.public else _partition(tool, session, job)
                if not (job.chunk or (job.mode and (known or self.keyring.full))):
                    name = self.sharing.name(tool.spec, partition, job)
                if name is not None and self._held(session, job, tool, name, now):
                    continue
            if accepted >= room:
                if account.rate is not None:
                    account.rate.take(now, accepted - paid)
                    paid = accepted
                room = accepted + self._room(session, account, now)  # those that joined others take no place in line
                if accepted >= room:
                    self._refuse(session, job.id, why_full(self, session, account, now))
                    continue
            if tool.valve is not None and (refusal := refused_by(tool, job, now)) is not None:
                self._refuse(session, job.id, refusal)
                continue
            timeout = job.timeout
            until = deadline = now + (default if timeout is None else timeout)
            patience = tool.queue_timeout if job.queue_timeout is None else job.queue_timeout
            if patience is not None and now + patience < until:
                until = now + patience
            self.next_deadline = min(self.next_deadline, until)
            args = job.args
            self.bytes += len(args)
            entry = Entry(session, job.id, tool, args, deadline, now, account, until)
            if job.priority:
                entry.priority = job.priority
            if job.chunk:
                entry.chunk = job.chunk
            if tool.budget is not None:
                tool.budget.called()
            mine[job.id] = entry
            accepted += 1
            if tool.places:
                entry.partition = partition
            if name is not None:
                self._fly(entry, name, job, now)
            elif job.key or job.mode:
                self._join(entry, job, now)
            elif tool.balancer is None and tool.valve is None:
                self.line.append(entry)
            else:
                self._enter(entry, job.route)
        self.accepted += accepted
        if account.rate is not None:
            account.rate.take(now, accepted - paid)

    def _sent_again(self, session: Session, job: Job, tool: ServedTool) -> bool:
        """After a reconnect a client sends again what it has no answer to; False: to be run.

        A job in hand is passed over. One that isn't was answered, and the answer may be lost with the connection;
        what the keyring holds is replayed, and only what may be repeated runs again.
        """
        if job.id in session.jobs:
            return True
        if tool.repeatable or job.key or job.mode:
            return False
        text = f"{job.tool}: it was answered, but the answer was lost, and it may not be repeated"
        self._refuse(session, job.id, OutcomeUnknown(text, tool=job.tool, cause="connection lost"))
        return True

    def _room(self, session: Session, account: Account, now: float) -> int:
        """How many more jobs may be accepted of a session.

        A caller may have as much of the backlog as it leaves free, so whoever comes next finds room (Choudhury and
        Hahne, "Dynamic Queue Length Thresholds", 1998).
        """
        limits = self.limits
        if self.bytes > limits.backlog_bytes or self.draining or not self.healthy:
            return 0
        free = limits.backlog - self.backlog.count
        room = min((free - account.waiting + 1) // 2, limits.per_client - len(session.jobs))
        if account.in_flight:
            room = min(room, account.in_flight - account.jobs())
        if account.rate is not None:
            room = min(room, account.rate.available(now))
        return room

    def _enter(self, entry: Entry, route: bytes) -> None:
        """Let a job wait for its tool's limits, or else at once for a worker."""
        valve = entry.tool.valve
        entry.route = bytes(route)
        if valve is None:
            self._queue(entry, entry.route, False)
            return
        valve.waiting += 1
        valve.line.append(entry)

    def _open(self, valve: Valve, now: float) -> None:
        """Let through what the limits of a tool allow."""
        line = valve.line
        while line.size and valve.open(now) and (entry := line.take(now, free=True)) is not None:
            valve.passed(now)
            entry.permit = True
            self._queue(entry, entry.route, True)

    def _queue(self, entry: Entry, route: bytes, first: bool) -> None:
        """Put a job in the line of the slot that it is placed in, or in everybody's if any slot will do or none can
        work. Without a route, equal arguments go the same way."""
        balancer = entry.tool.balancer
        if balancer is not None:
            loads = [slot.load for slot in self.fleet.slots]
            if any(load is not None for load in loads):
                at = balancer.place(hash64(route or memoryview(entry.args)), loads)
                self._wait_in(self.fleet.slots[at], entry, first)
                return
        self.line.append(entry, first)

    def _wait_in(self, slot: Slot, entry: Entry, first: bool = False) -> None:
        entry.cost = entry.tool.cost
        slot.waiting.append(entry, first)

    def _refuse(self, session: Session, job_id: int, error: ToolringError) -> None:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        self._tell(session, Answer(job_id, ERROR, Raw(protocol.encode(error.to_wire()))))

    # ---- calls that share a cached tool's results

    def _held(self, session: Session, job: Job, tool: ServedTool, name: Name, now: float) -> bool:
        """Answer with what is held here, if anything is."""
        value = self.sharing.get(name, tool.places, now)
        if value is None or self.draining:
            return False
        tool.answered += 1
        tool.cached += 1
        tool.held += 1
        self.accepted += 1
        answer = Answer(job.id, OK, value, 0, CACHED)
        if job.mode & KEEP:
            record = Record(digest(job, name[1]), True)
            self.keyring.name(record, f"{session.name}-{job.id}")
            self.keyring.settle(record, Answer(job.id, OK, value, 0, CACHED), now)
        if self.on_finished is not None:
            account = session.account or self.accounts.of(session)
            self.on_finished(Entry(session, job.id, tool, NIL, now, now, account, now, State.DONE), answer)
        self._tell(session, answer)
        return True

    def _fly(self, entry: Entry, name: Name, job: Job, now: float) -> None:
        """Wait with others for the run that is under way, or begin it."""
        sharing = self.sharing
        seen = sharing.seen(entry.tool.places)
        flight = sharing.flights.get(name)
        entry.state = State.JOINED
        if flight is None or flight.seen != seen:  # one that began before an invalidation is for those before it
            flight = sharing.flights[name] = Flight(name, seen, False)
            self._begin(flight, entry, job, now)
        if job.mode & KEEP:
            flight.keep = True
            flight.digest = digest(job, entry.partition)
            self.keyring.name(flight, entry.name)
        entry.record = flight
        flight.waiting.append(entry)
        runs = flight.entry
        if runs is not None:
            runs.deadline = runs.until = max(runs.deadline, entry.deadline)

    def _renew(self, entry: Entry, worker: Worker, now: float) -> None:
        """Run a tool again, where its result is kept, because that is or soon will be outdated."""
        flight = entry.record
        if not isinstance(flight, Flight) or flight.name in self.sharing.renewals or self.draining:
            return
        renewal = Flight(flight.name, self.sharing.seen(entry.tool.places), True)
        self.sharing.renewals[flight.name] = renewal
        deadline = now + self.limits.default_timeout
        run = self._run_for(renewal, entry.tool, entry.args, deadline, now, self.accounts.house)
        run.partition, run.renew = entry.partition, True
        self.next_deadline = min(self.next_deadline, run.deadline)
        if run.tool.valve is None:
            self._wait_in(worker.slot, run)
        else:
            self._enter(run, b"")

    def _land(self, flight: Flight, entry: Entry, answer: Answer, now: float) -> None:
        """A flight is over: hold its result while that holds."""
        self.sharing.landed(flight)
        tool = entry.tool
        joined = sum(caller is not entry.first for caller in flight.waiting)
        tool.answered += joined
        tool.joined += joined
        if answer.status != OK:
            return
        if flight.renews:
            tool.answered -= 1
            tool.renewed += 1
        until = answer.until_us * 1e-6
        if until > now:
            self.sharing.put(flight, answer.value, until)

    # ---- jobs under a name of their own

    def _join(self, entry: Entry, job: Job, now: float) -> None:
        """Run a keyed or kept job for its record, or wait for the one that runs, or replay its answer."""
        session = entry.session
        mark = digest(job, entry.partition)
        key = f"{len(session.caller)}\0{session.caller}{job.key}" if job.key else entry.name
        record = self.keyring.find(key)
        entry.state = State.JOINED
        if record is None:
            if self.keyring.full:
                limit = Busy("the node keeps as many results as it may", limit="keep_bytes", retry_after=5.0)
                self.settle(entry, Event.FAIL, self.error_answer(entry, limit), now)
                return
            record = Record(mark, bool(job.mode & KEEP))
            self.keyring.name(record, key)
            self._begin(record, entry, job, now)
        elif record.digest != mark:
            clash = Conflict(f"the key {job.key!r} was used for another tool, arguments or partition", key=job.key)
            self.settle(entry, Event.FAIL, self.error_answer(entry, clash), now)
            return
        if job.mode & KEEP:
            record.keep = True
            if job.key and entry.name not in record.names and not self.keyring.full:
                self.keyring.name(record, entry.name)
        entry.record = record
        runs = record.entry
        if runs is not None:
            record.waiting.append(entry)
            runs.deadline = runs.until = max(runs.deadline, entry.deadline)
        elif record.answer is not None:
            self._hear(entry, record.answer, now, replayed=True)

    def _run_for(
        self, record: Record, tool: ServedTool, args: Any, deadline: float, now: float, account: Account
    ) -> Entry:
        """The house's own entry, which runs for a record."""
        self._house_ids += 1
        entry = Entry(self.house, self._house_ids, tool, args, deadline, now, account, deadline)
        entry.record, record.entry = record, entry
        self.house.jobs[entry.id] = entry
        self.bytes += len(args)
        return entry

    def _begin(self, record: Record, first: Entry, job: Job, now: float) -> None:
        entry = self._run_for(record, first.tool, first.args, first.deadline, now, first.account)
        entry.first, entry.partition, entry.priority = first, first.partition, first.priority
        entry.chunk = first.chunk
        self._enter(entry, job.route)

    def _hear(self, entry: Entry, answer: Answer, now: float, replayed: bool) -> None:
        """A caller who waited, or came later, gets the record's answer."""
        event = Event.SUCCEED if answer.status == OK else Event.FAIL
        copy = Answer(
            entry.id,
            answer.status,
            answer.value,
            answer.run_us,
            answer.flags | (REPLAYED if replayed else 0),
        )
        self.settle(entry, event, copy, now)

    # ---- jobs go out

    def dispatch(self, now: float) -> None:
        """Give work to whoever has credit, the least laden first."""
        ready = self.fleet.ready
        line = self.line
        if self.delayed:
            self._try_again(now)
        for valve in self.valves:
            self._open(valve, now)
        for worker in ready:
            if worker.slot.waiting.size:
                self._give_own(worker, now, line.turn())
        while line.size and ready:
            worker = ready[0]
            for other in ready:
                if other.load < worker.load:
                    worker = other
            if worker.load >= CREDIT or len(worker.line) >= MAX_LINE:
                return
            self._give(worker, line, min(PACK, -(-line.size // len(ready))), now)
        for worker in ready:
            if worker.slot.waiting.size:
                self._give_own(worker, now, _LAST)

    def _give_own(self, worker: Worker, now: float, before: tuple[float, float]) -> None:
        """Give a worker what was placed in its slot's line, as far as it is to be served ``before``."""
        waiting = worker.slot.waiting
        while waiting.turn() <= before and waiting.size and worker.load < CREDIT and len(worker.line) < MAX_LINE:
            self._give(worker, waiting, PACK, now)

    def release(self, slot: Slot, now: float, patience: float) -> None:
        """A slot whose next worker doesn't come soon must not keep its jobs from the others."""
        if slot.waiting.size and slot.load is None and now - slot.waiting.turn()[1] > patience:
            for entry in slot.waiting.clear():
                self.line.append(entry)

    def _give(self, worker: Worker, line: Line, most: int, now: float) -> None:
        """Send one message of work: up to ``most`` jobs, or up to the worker's credit, or one large one."""
        held = worker.line
        first = worker.head + len(held)
        load = worker.load
        batch: list[Work] = []
        body = None
        while load < CREDIT and len(batch) < most and (entry := line.take(now)) is not None:
            args = entry.args
            if len(args) > INLINE:
                if batch:
                    line.put_back(entry)
                    break
                body = args
                args = NIL
            tool = entry.tool
            cost = tool.cost
            if entry.chunk:
                cost *= entry.chunk
            entry.cost = cost
            load += cost
            entry.state = _DISPATCHED
            entry.worker = worker
            held.append(entry)
            owner = entry.first or entry
            work = Work(tool.name, args, entry.deadline, owner.session.name, owner.id, entry.attempt)
            if tool.places:
                work.partition, work.renew = entry.partition, entry.renew
            if entry.chunk:
                work.chunk = entry.chunk
            if tool.valve is not None:
                tool.valve.waiting -= 1
            batch.append(work)
            if body is not None:
                break
        if batch:
            if len(held) == len(batch):
                worker.progress = now
            worker.load = load
            self.sends.append(Send(worker, first, batch, body))

    # ---- answers come back

    def answers(self, worker: Worker, answers: list[Answer], now: float) -> None:
        """Settle what a worker finished. Answers come in order; those that were harvested before are passed over."""
        held = worker.line
        head = worker.head
        popleft = held.popleft
        load = worker.load
        skipped: list[Entry] = []
        try:
            for answer in answers:
                if answer.id != head:
                    if answer.id < head:
                        continue
                    raise ProtocolError(f"worker {worker.name} answered {answer.id} before {head}")
                if not held:
                    raise ProtocolError(f"worker {worker.name} answered {answer.id}, which it was never given")
                head += 1
                entry = popleft()
                if entry is None:
                    if worker.leftover is not None and answer.id == worker.leftover.seq:
                        worker.came_to_end()
                    continue
                load -= entry.cost
                status = answer.status
                if status == OK:
                    tool = entry.tool
                    tool.answered += 1
                    if answer.flags:
                        tool.hit(answer.flags)
                        if answer.flags & REFRESH:
                            answer.flags &= ~REFRESH
                            self._renew(entry, worker, now)
                    tool.observe(answer.run_us, entry.chunk)
                    if entry.record is not None or self.on_finished is not None or tool.valve is not None:
                        if tool.valve is not None and tool.valve.limit is not None:
                            tool.valve.limit.ended(answer.run_us * 1e-6 / (entry.chunk or 1), tool.valve.running)
                        self.settle(entry, Event.SUCCEED, answer, now)
                        continue
                    entry.state = _DONE
                    session = entry.session
                    answer.id = entry.id
                    del session.jobs[entry.id]
                    self.bytes -= len(entry.args)
                    out = session.out
                    if not out:
                        self.dirty.append(session)
                    out.append(answer)
                elif status == SKIPPED:
                    skipped.append(entry)
                else:
                    entry.tool.answered += 1
                    entry.tool.observe(answer.run_us, entry.chunk)
                    if answer.flags:
                        entry.tool.hit(answer.flags)
                        entry.tool.cached_errors += 1
                    error = self._error(entry, worker, answer)
                    if entry.tool.budget is None or not self._delay(entry, error, now):
                        self.settle(entry, Event.FAIL, _as_answer(error, answer), now)
        finally:
            if skipped:
                self.requeue(skipped, Event.TAKE_BACK)
            worker.answered += head - worker.head
            worker.head = head
            worker.load = load if held else 0.0
            worker.progress = now
            worker.lane.words[ACK] = head - 1

    def _error(self, entry: Entry, worker: Worker, answer: Answer) -> dict[str, Any]:
        """A worker's error with what only the supervisor knows."""
        try:
            error = protocol.decode_value(answer.value)
        except (ValueError, RecursionError) as fault:  # facts of the tool's own making
            error = {"code": ToolError.code, "message": f"{entry.tool.name}: its error can't be read: {fault}"}
        code = str(error.get("code", ToolError.code))
        entry.tool.errors[code] = entry.tool.errors.get(code, 0) + 1
        error.update(job=entry.name, worker=worker.pid)
        return cast(dict[str, Any], error)

    def _delay(self, entry: Entry, error: Mapping[str, Any], now: float) -> bool:
        """Let a failed job wait to be tried again, if that is allowed, may help, and can be over in time."""
        tool = entry.tool
        spec, budget = tool.spec, tool.budget
        if budget is None or entry.attempt > spec.retries or not retry.may_pass(error, spec.retry_on):
            return False
        due = now + max(retry.delay(spec.retry_delay, entry.attempt, self._random), _seconds(error.get("retry_after")))
        if due >= entry.deadline or not budget.take(now):
            return False
        step(entry, Event.DELAY)
        if entry.permit:
            entry.permit = False
            assert tool.valve is not None
            tool.valve.returned()
        entry.worker = None
        entry.attempt += 1
        entry.until = entry.deadline
        entry.account.waiting += 1
        self.backlog.count += 1
        self.backlog.turns += 1
        tool.retried += 1
        heappush(self.delayed, (due, self.backlog.turns, entry))
        return True

    def _try_again(self, now: float) -> None:
        while self.delayed and (self.delayed[0][0] <= now or self.delayed[0][2].state is not State.DELAYED):
            _, _, entry = heappop(self.delayed)
            if entry.state is State.DELAYED:
                step(entry, Event.RELEASE)
                entry.account.waiting -= 1
                self.backlog.count -= 1
                self._enter(entry, entry.route)

    def harvest(self, worker: Worker, now: float) -> None:
        """Read what a worker has finished from shared memory: its messages are late, or died with it."""
        try:
            self.answers(worker, protocol.decode_answer_list(worker.lane.journal()), now)
        except (ValueError, RecursionError, ProtocolError) as error:  # a tool wrote to memory that isn't its own
            self.faulty.append((worker, f"its journal can't be read: {error}"))

    def requeue(self, entries: list[Entry], event: Event) -> None:
        """Back to the front of the line, in the old order."""
        for entry in reversed(entries):
            step(entry, event)
            entry.worker = None
            refund(entry)
            self.next_deadline = min(self.next_deadline, entry.until)
            if entry.tool.valve is not None:
                entry.tool.valve.waiting += 1
            self.line.append(entry, first=True)

    def in_hand(self) -> int:
        """Jobs that were accepted and have no answer yet."""
        return len(self.house.jobs) + sum(len(session.jobs) for session in self.sessions.values())

    # ---- the one way to an answer

    def error_answer(self, entry: Entry, error: ToolringError) -> Answer:
        tool = entry.tool
        error.facts.update(tool=tool.name, job=entry.name, attempt=entry.attempt)
        if entry.state is not State.JOINED:
            tool.errors[error.code] = tool.errors.get(error.code, 0) + 1
            facts = {k: v for k, v in error.facts.items() if k != "traceback"}
            self.notes.append(("job_failed", {"code": error.code, "reason": error.message, **facts}))
        return Answer(entry.id, ERROR, Raw(protocol.encode(error.to_wire())))

    def settle(self, entry: Entry, event: Event, answer: Answer, now: float) -> None:
        """The final answer of an entry: to its caller, or to everybody who waits for its record."""
        before = entry.state
        step(entry, event)
        tool = entry.tool
        if before is State.QUEUED or before is State.DELAYED:
            self.backlog.count -= 1
            entry.account.waiting -= 1
        if tool.valve is not None:
            if before is State.QUEUED:
                tool.valve.waiting -= 1
            if entry.permit and not entry.begun:  # else its worker owes it
                tool.valve.returned()
        session = entry.session
        answer.id = entry.id
        del session.jobs[entry.id]
        self.bytes -= len(entry.args)
        if self.on_finished is not None and entry.first is None:
            self.on_finished(entry, answer)
        record = entry.record
        if session is not self.house or record is None:
            self._tell(session, answer)
            return
        if shared := isinstance(record, Flight):
            self._land(record, entry, answer, now)
        record.entry = None
        if entry.begun or (before is State.DISPATCHED and event not in (Event.CANCEL, Event.EXPIRE)):
            self.keyring.settle(record, answer, now)
        else:  # it never began, so trying again under the same key is safe
            self.keyring.forget(record)
        waiting, record.waiting = record.waiting, []
        for caller in waiting:
            self._hear(caller, answer, now, replayed=not shared and caller is not entry.first)

    def _tell(self, session: Session, answer: Answer) -> None:
        if not session.out:
            self.dirty.append(session)
        session.out.append(answer)


def _partition(tool: ServedTool, session: Session, job: Job) -> str | None:
    """Who shares the result of this call, whose tool is not for everybody; None: nobody."""
    return (session.caller if tool.spec.cache_scope == "caller" else job.partition) or None


def _as_answer(error: Mapping[str, Any], answer: Answer) -> Answer:
    return Answer(answer.id, ERROR, Raw(protocol.encode(error)), answer.run_us, answer.flags)


def _seconds(value: Any) -> float:
    """A tool's own word on when to come back, if it is one."""
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else 0.0
