"""Jobs that run for more than one caller: under a key, to be kept, or as equal calls of a cached tool.

What runs belongs to the house. Each caller, the first too, waits beside it, so that any of them may leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolring import protocol
from toolring.errors import Busy, Conflict
from toolring.protocol import CACHED, KEEP, NIL, OK, REPLAYED, Answer, Job
from toolring.stamps import Stamps
from toolring.supervisor.accounts import Account
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.fleet import Worker
from toolring.supervisor.history import Held, note
from toolring.supervisor.keyring import Keyring, Record, digest
from toolring.supervisor.ledger import Entry, Event, Session, State
from toolring.supervisor.sharing import Flight, Name, Sharing
from toolring.supervisor.streams import live_of

if TYPE_CHECKING:
    from toolring.supervisor.core import Core


class Joining:
    """Who waits beside which run of one core: the keyring's records, and the flights of shared results."""

    def __init__(self, core: Core, stamps: Stamps) -> None:
        self._core = core
        self.keyring = Keyring(core.limits.keep_seconds, core.limits.keep_bytes)
        self.sharing = Sharing(stamps, core.limits.hot_bytes)
        self._ids = 0

    # ---- equal calls of a cached tool

    def name(self, session: Session, job: Job, tool: ServedTool, known: bool) -> tuple[str | None, Name | None]:
        """Who shares the result of this call (None: nobody), and the name under which it is shared here, if it is."""
        partition = "" if tool.public else _partition(tool, session, job)
        follow = job.follow
        alone = job.chunk or (follow is not None and (follow.stream or follow.idle))
        if alone or (job.mode and (known or self.keyring.full)):
            return partition, None
        return partition, self.sharing.name(tool.spec, partition, job)

    def held(self, session: Session, job: Job, tool: ServedTool, name: Name, now: float) -> bool:
        """Answer with what is held here, if anything is."""
        core = self._core
        value = self.sharing.get(name, tool.places, now)
        if value is None or core.draining:
            return False
        tool.answered += 1
        tool.cached += 1
        tool.held += 1
        core.accepted += 1
        if core.figures is not None:
            core.figures.held(tool, len(job.args), len(value), now)
        answer = Answer(job.id, OK, value, 0, CACHED)
        if job.mode & KEEP:
            record = Record(digest(job, name[1]), True)
            self.keyring.name(record, f"{session.name}-{job.id}")
            self.keyring.settle(record, Answer(job.id, OK, value, 0, CACHED), now)
        if core.spans is not None and (trace := core.spans.given(job.trace)):
            core.spans.held(session, job.id, tool, trace, now)
        if core.on_finished is not None:
            account = session.account or core.accounts.of(session)
            core.on_finished(Entry(session, job.id, tool, NIL, now, now, account, now, state=State.DONE), answer)
        if core.history is not None:
            core.history.remember(Held(session, job.id, tool, now))
        core.tell(session, answer)
        return True

    def fly(self, entry: Entry, name: Name, job: Job, now: float) -> None:
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
            _extend(runs, entry)

    def renew(self, entry: Entry, worker: Worker, now: float) -> None:
        """Run a tool again, where its result is kept, because that is or soon will be outdated."""
        core = self._core
        flight = entry.record
        if not isinstance(flight, Flight) or flight.name in self.sharing.renewals or core.draining:
            return
        renewal = Flight(flight.name, self.sharing.seen(entry.tool.places), True)
        self.sharing.renewals[flight.name] = renewal
        deadline = now + core.limits.default_timeout
        run = self._run_for(renewal, entry.tool, entry.args, deadline, now, core.accounts.house)
        run.partition, run.renew = entry.partition, True
        core.next_deadline = min(core.next_deadline, run.deadline)
        if run.tool.valves or worker.slot.group is not run.tool.group:
            core.placing.enter(run, b"")
        else:
            core.placing.wait_in(worker.slot, run)

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

    def join(self, entry: Entry, job: Job, now: float) -> None:
        """Run a keyed or kept job for its record, or wait for the one that runs, or replay its answer."""
        core, session = self._core, entry.session
        mark = digest(job, entry.partition)
        key = f"{len(session.caller)}\0{session.caller}{job.key}" if job.key else entry.name
        record = self.keyring.find(key)
        entry.state = State.JOINED
        if record is None:
            if self.keyring.full:
                limit = Busy("the node keeps as many results as it may", limit="keep_bytes", retry_after=5.0)
                core.settle(entry, Event.FAIL, core.error_answer(entry, limit), now)
                return
            record = Record(mark, bool(job.mode & KEEP))
            self.keyring.name(record, key)
            self._begin(record, entry, job, now)
        elif record.digest != mark:
            clash = Conflict(f"the key {job.key!r} was used for another tool, arguments or partition", key=job.key)
            core.settle(entry, Event.FAIL, core.error_answer(entry, clash), now)
            return
        if job.mode & KEEP:
            record.keep = True
            if job.key and entry.name not in record.names and not self.keyring.full:
                self.keyring.name(record, entry.name)
        entry.record = record
        runs = record.entry
        if runs is not None:
            record.waiting.append(entry)
            _extend(runs, entry)
        elif record.answer is not None:
            self._hear(entry, record.answer, now, replayed=True)

    # ---- the run, and its end

    def _begin(self, record: Record, first: Entry, job: Job, now: float) -> None:
        entry = self._run_for(record, first.tool, first.args, first.deadline, now, first.account)
        entry.first, entry.partition, entry.priority = first, first.partition, first.priority
        entry.chunk, entry.odd, entry.trace, entry.resent = first.chunk, first.odd, first.trace, first.resent
        if first.live is not None:
            entry.live = live_of(job.follow, first.tool)
        if first.tool.spec.asks:  # whoever joins may want to hear of it
            entry.live = entry.live or live_of(None, first.tool)
            entry.live.progress = entry.odd = True
        entry.until = first.until
        self._core.placing.enter(entry, job.route)

    def _run_for(
        self, record: Record, tool: ServedTool, args: Any, deadline: float, now: float, account: Account
    ) -> Entry:
        """The house's own entry, which runs for a record."""
        core = self._core
        self._ids += 1
        entry = Entry(core.house, self._ids, tool, args, deadline, now, account, deadline)
        entry.record, record.entry = record, entry
        core.house.jobs[entry.id] = entry
        core.bytes += len(args)
        return entry

    def settled(self, entry: Entry, before: State, event: Event, answer: Answer, now: float) -> None:
        """The run for a record is over: everybody who waits beside it hears."""
        record = entry.record
        assert record is not None
        if shared := isinstance(record, Flight):
            self._land(record, entry, answer, now)
        record.entry = None
        away = before in (State.DISPATCHED, State.BATCHED) and event not in (Event.CANCEL, Event.EXPIRE)
        if entry.begun or away:
            self.keyring.settle(record, answer, now)
        else:  # it never began, so trying again under the same key is safe
            self.keyring.forget(record)
        waiting, record.waiting = record.waiting, []
        for caller in waiting:
            caller.carrier = entry
            if caller is not entry.first:
                note(caller, "joined", job=entry.name)
            self._hear(caller, answer, now, replayed=not shared and caller is not entry.first)

    def _hear(self, entry: Entry, answer: Answer, now: float, replayed: bool) -> None:
        """A caller who waited, or came later, gets the record's answer."""
        event = Event.SUCCEED if answer.status == OK else Event.FAIL
        tool, calls = entry.tool, entry.chunk or 1
        if replayed:  # those of a flight have been counted together
            tool.answered += calls
            tool.joined += calls
        if event is Event.FAIL:
            tool.failed(protocol.decode_value(answer.value), calls)
        elif answer.failed:
            tool.calls_failed(answer.failed)
        flags = answer.flags | (REPLAYED if replayed else 0)
        own = Answer(entry.id, answer.status, answer.value, answer.run_us, flags, 0, 0, answer.failed)
        self._core.settle(entry, event, own, now)


def _extend(runs: Entry, caller: Entry) -> None:
    """What runs for several has the time of whoever has most."""
    runs.deadline = max(runs.deadline, caller.deadline)
    runs.until = runs.deadline if runs.attempt > 1 else max(runs.until, caller.until)


def _partition(tool: ServedTool, session: Session, job: Job) -> str | None:
    """Who shares the result of this call, whose tool is not for everybody; None: nobody."""
    return (session.caller if tool.spec.cache_scope == "caller" else job.partition) or None
