"""Placing: from acceptance through a tool's valves into a line, and from there to a worker that has credit."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from toolring.errors import OutcomeUnknown
from toolring.policy.ring import hash64
from toolring.protocol import INLINE, NIL, PACK, Work
from toolring.supervisor.backlog import Line, refund
from toolring.supervisor.fleet import Group, Slot, Worker
from toolring.supervisor.history import note, note_attempt
from toolring.supervisor.ledger import TABLE, Entry, Event, State, step
from toolring.supervisor.streams import Live
from toolring.supervisor.valves import CREDIT, Valve

if TYPE_CHECKING:
    from toolring.supervisor.core import Core

MAX_LINE: Final = 512
NOTED: Final = 0.001
"""Seconds before a limit's valve that are worth writing down."""
STUCK_COST: Final = 1.0
"""What a worker is charged that sits on a job longer than expected: nothing more goes its way."""

_DISPATCHED = TABLE[State.QUEUED][Event.DISPATCH]
_LAST: Final = (float("inf"), float("inf"))


class Send(NamedTuple):
    """One message of work."""

    worker: Worker
    first: int
    work: list[Work]
    body: Any


class Placing:
    """Decides who runs what, and when, for one core."""

    __slots__ = ("_core", "_refused")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._refused = False
        """One was refused when it was its turn, so its valves may be open again."""

    # ---- waiting

    def enter(self, entry: Entry, route: bytes) -> None:
        """Let a job wait for its tool's limits, or else at once for a worker. Without a route, equal arguments go
        the same way."""
        entry.route = bytes(route)
        for valve in entry.tool.valves:
            valve.waiting += 1
        self._further(entry, False)

    def _further(self, entry: Entry, first: bool) -> None:
        """To the next valve that hasn't let it through, or to those who wait for a worker."""
        valves = entry.tool.valves
        if entry.passed < len(valves):
            valve = valves[entry.passed]
            if not valve.line.size:
                valve.since = entry.accepted
            valve.line.append(entry, first)
        else:
            self._queue(entry, first)

    def _open(self, valve: Valve, now: float) -> bool:
        """Let through what a valve's limits allow; False: nothing."""
        if valve.batch:
            went = self._core.gathering.open(valve, now)
            valve.holds(now)
            return went
        line, went = valve.line, False
        fits = valve.fits if valve.memory else None
        while line.size and valve.open(now) and (entry := line.take(now, free=True, fits=fits)) is not None:
            self.let_through(entry, valve, now)
            went = True
        valve.holds(now)
        return went

    def let_through(self, entry: Entry, valve: Valve, now: float) -> None:
        """It has a permit, and goes on."""
        if valve.held and now - (entry.first or entry).accepted >= NOTED:
            note(entry, "waited", ended=now, waits_for=valve.held, of=valve.of)
        valve.let_through(entry, now)
        entry.passed += 1
        self._further(entry, True)

    def leave_valves(self, entry: Entry, before: State) -> None:
        """It is answered: it waits no more, and gives its permits back, unless a worker still runs it."""
        tool = entry.tool
        if before is State.QUEUED:
            for valve in tool.valves:
                valve.waiting -= 1
            if entry.passed < len(tool.valves) and (held := (valve := tool.valves[entry.passed]).held):
                note(entry, "waited", waits_for=held, of=valve.of)
        if not entry.begun:  # else its worker owes them
            self.return_permits(entry)

    def return_permits(self, entry: Entry) -> None:
        tool = entry.tool
        for valve in tool.valves[: entry.passed]:
            valve.returned(tool)
        entry.passed = 0

    def _queue(self, entry: Entry, first: bool) -> None:
        """Put a job in the line of the slot that it is placed in, or in that of its group if any slot will do or none
        can work."""
        group, balancer = entry.tool.group, entry.tool.balancer
        if balancer is not None and not entry.alone:
            loads = [slot.load for slot in group.slots]
            if any(load is not None for load in loads):
                point = 0
                if balancer.keyed:
                    point = entry.point = hash64(entry.route or memoryview(entry.args))
                at = balancer.place(point, loads)
                if at is not None:
                    self.wait_in(group.slots[at], entry, first)
                    return
        _line_for(entry).append(entry, first)

    def wait_in(self, slot: Slot, entry: Entry, first: bool = False) -> None:
        entry.cost = slot.group.share or entry.tool.cost
        slot.waiting.append(entry, first)

    def requeue(self, entries: list[Entry], event: Event) -> None:
        """Back to the front of the line, in the old order."""
        core = self._core
        for entry in reversed(entries):
            step(entry, event)
            if event is Event.TAKE_BACK:
                note_attempt(entry, "taken_back")
            entry.worker = entry.begun_as = None
            core.circuits.spared(entry)
            refund(entry)
            core.next_deadline = min(core.next_deadline, entry.until)
            for valve in entry.tool.valves:
                valve.waiting += 1
            _line_for(entry).append(entry, first=True)

    def again(self, entry: Entry, event: Event) -> None:
        """To be run once more while its first run may not be over: it waits for its limits anew, before the others."""
        step(entry, event)
        note_attempt(entry, "taken_out")
        entry.worker = entry.begun_as = None
        self._core.circuits.spared(entry)
        self._core.next_deadline = min(self._core.next_deadline, entry.until)
        for valve in entry.tool.valves:
            valve.waiting += 1
        self._further(entry, True)

    def release(self, slot: Slot, now: float, patience: float) -> None:
        """A slot whose next worker doesn't come soon must not keep its jobs from the others."""
        if slot.waiting.size and slot.load is None and now - slot.waiting.turn()[1] > patience:
            for entry in slot.waiting.clear():
                slot.group.line.append(entry)

    # ---- going out

    def dispatch(self, now: float) -> None:
        """Give work to whoever has credit, the least laden first."""
        core = self._core
        if core.retries.delayed:
            core.retries.due(now)
        while self._round(now):
            pass

    def _round(self, now: float) -> bool:
        """Open what may be open, give work to those who are free. True if something moved, and more may now: of some
        tools no more is let through at once than there are workers for."""
        core = self._core
        sent, went = len(core.sends), False
        for valve in core.valves:
            went = self._open(valve, now) or went
        for group in core.fleet.groups:
            self._dispatch_in(group, now)
        if self._refused:
            self._refused = False
            return True
        return (went or len(core.sends) > sent) and any(valve.paced and valve.line.size for valve in core.valves)

    def _dispatch_in(self, group: Group, now: float) -> None:
        ready, line = group.ready, group.line
        if group.apart.size:
            ready = self._give_apart(group, now)
        for worker in ready:
            if worker.slot.waiting.size:
                self._give_own(worker, now, line.turn())
        while line.size and ready:
            worker = ready[0]
            for other in ready:
                if other.load < worker.load:
                    worker = other
            if worker.load >= CREDIT or len(worker.line) >= MAX_LINE:
                break
            if not self._give(worker, line, min(PACK, -(-line.size // len(ready))), now):
                break
        for worker in ready:
            if worker.slot.waiting.size:
                self._give_own(worker, now, _LAST)

    def _give_apart(self, group: Group, now: float) -> list[Worker]:
        """A worker of its own for each that has to be alone. Who is next to be empty gets nothing else until it is.
        Gives the others."""
        others = [worker for worker in group.ready if worker.held_up is None]
        while others and group.apart.size:
            worker = min(others, key=lambda one: len(one.line))
            others.remove(worker)
            if worker.line:
                break
            if not self._give(worker, group.apart, 1, now):
                others.append(worker)  # nobody was left there
                break
        return others

    def _give_own(self, worker: Worker, now: float, before: tuple[float, float]) -> None:
        """Give a worker what was placed in its slot's line, as far as it is to be served ``before``."""
        waiting = worker.slot.waiting
        while waiting.turn() <= before and waiting.size and worker.load < CREDIT and len(worker.line) < MAX_LINE:
            if not self._give(worker, waiting, PACK, now):
                break

    def _give(self, worker: Worker, line: Line, most: int, now: float) -> int:
        """Send one message of work: up to ``most`` jobs, or up to the worker's credit, or one large one. How many?"""
        held = worker.line
        first = seq = worker.tail
        load = worker.load
        many = worker.many
        batch: list[Work] = []
        body: Any = None
        while load < CREDIT and len(batch) < most and (entry := line.take(now)) is not None:
            odd = many or entry.odd
            if odd and entry.barred:
                line.put_back(entry)
                self.bar(entry, now)
                continue
            if odd and entry.members is not None:
                self._core.gathering.load(entry)
            args = entry.args
            if len(args) > INLINE:
                if batch:
                    line.put_back(entry)
                    break
                body = args
                args = NIL
            tool = entry.tool
            if odd and tool.circuit.armed and not self._core.circuits.lets(entry, now):
                line.put_back(entry)
                self._core.circuits.refuse(entry, now)
                self._refused = True
                body = None
                continue
            cost = tool.cost
            entry.state = _DISPATCHED
            entry.worker = worker
            entry.sent = now
            held[seq] = entry
            seq += 1
            owner = entry.first or entry
            work = Work(tool.name, args, entry.deadline, owner.session.name, owner.id, entry.attempt)
            if tool.places:
                work.partition, work.renew = entry.partition, entry.renew
            if odd:
                cost = self._particulars(entry, work, worker, now)
            entry.cost = cost
            load += cost
            for valve in tool.valves:
                valve.waiting -= 1
            batch.append(work)
            if body is not None:
                break
        if batch:
            if len(held) == len(batch):
                worker.progress = now
            if many and worker.lane.at()[0] >= first - 1:
                worker.sent_at = now
            worker.tail = seq
            worker.load = load
            self._core.sends.append(Send(worker, first, batch, body))
        return len(batch)

    def bar(self, entry: Entry, now: float) -> None:
        """A job that waits, and may not run any more. Of several that travel together each is looked at by itself."""
        core, self._refused = self._core, True
        if entry.members is not None:
            for member in core.gathering.dissolve(entry, now):
                core.gathering.by_itself(member)
            return
        text = f"{entry.tool.name}: it may have begun before its code was reloaded, and this code may not repeat it"
        core.settle(entry, Event.LOSE, core.error_answer(entry, OutcomeUnknown(text, cause="reload")), now)

    def _particulars(self, entry: Entry, work: Work, worker: Worker, now: float) -> float:
        """What only some jobs have; the seconds of credit that it takes up."""
        core, tool = self._core, entry.tool
        cost = tool.cost
        work.trace = entry.trace if core.spans is None or not entry.trace else core.spans.handed_on(entry)
        if entry.chunk:
            work.chunk = entry.chunk
            work.gathered = entry.members is not None
            cost *= entry.chunk
        live = entry.live
        if worker.many:
            cost = CREDIT if entry.alone else worker.slot.group.share
            if (longest := tool.longest(entry)) is not None:
                live = entry.live = live or Live()
                live.over = now + longest
        if live is not None:
            work.stream = live.granted
            work.progress = live.progress or live.idle < inf
            live.heard = now
            if worker.many:
                core.next_deadline = min(core.next_deadline, live.due)
        return cost


def _line_for(entry: Entry) -> Line:
    """Where those wait whom any worker of their group may run."""
    group = entry.tool.group
    return group.apart if entry.alone and group.many else group.line
