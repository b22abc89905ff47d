"""The fleet: groups of workers, one record a worker process, one slot a place in its group's ring.

A slot outlives its workers: its successor takes over the same share of keys. A worker that is being ended has
left its slot already, so a replacement starts while the old one still cleans up.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from toolring.lane import SHIELD, STARTED, TAKEN, TURNED, Lane
from toolring.policy import groups as policy
from toolring.policy.balance import SECONDS, Members
from toolring.spec import ToolSpec
from toolring.supervisor.backlog import Backlog
from toolring.supervisor.ledger import Entry
from toolring.supervisor.valves import CREDIT, Valve

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool


BUSY_SECONDS: Final = 0.05
"""Work in hand up to which a slot is not too busy for the keys that belong to it."""


class Life(IntEnum):
    STARTING = 0
    STANDBY = 1
    """Could work, and waits until all that run the same new code can."""
    READY = 2
    RETIRING = 3
    """Finishes what it runs, gets nothing new; no signal is sent."""
    ENDING = 4
    """Is being ended: soft interrupt, TERM, KILL."""
    GONE = 5


class Change(IntEnum):
    STAND_BY = 0
    READY = 1
    RETIRE = 2
    END = 3
    EXIT = 4


TABLE: dict[Life, dict[Change, Life]] = {
    Life.STARTING: {
        Change.STAND_BY: Life.STANDBY,
        Change.READY: Life.READY,
        Change.RETIRE: Life.RETIRING,
        Change.END: Life.ENDING,
        Change.EXIT: Life.GONE,
    },
    Life.STANDBY: {Change.READY: Life.READY, Change.END: Life.ENDING, Change.EXIT: Life.GONE},
    Life.READY: {Change.RETIRE: Life.RETIRING, Change.END: Life.ENDING, Change.EXIT: Life.GONE},
    Life.RETIRING: {Change.READY: Life.RETIRING, Change.END: Life.ENDING, Change.EXIT: Life.GONE},
    Life.ENDING: {Change.READY: Life.ENDING, Change.EXIT: Life.GONE},
    Life.GONE: {},
}


class IllegalChange(Exception):
    """A bug of the supervisor: this can't happen to a worker in that state. The record is unchanged."""


class Leftover(NamedTuple):
    """A run that has ended for its caller while its worker is still at it."""

    tool: ServedTool
    passed: int
    """Valves of its tool that it has permits of; given back when the run is over in truth."""
    until: float | None
    """It was asked to come to an end by itself, and is made to then; None: it is interrupted already."""
    invalidates: bool = False
    """It may make results untrue."""

    @classmethod
    def of(cls, entry: Entry, until: float | None) -> Leftover:
        return cls(entry.tool, entry.passed, until, entry.invalidates)


class Worker:
    """One worker process. What it is sent has numbers that count up by one. What was taken back or answered otherwise
    it holds no more; its own answer to that is then ignored. It answers in order, unless it runs many at once.
    """

    __slots__ = (
        "answered",
        "at",
        "at_since",
        "began_with",
        "code",
        "endings",
        "generation",
        "head",
        "held_up",
        "identity",
        "lane",
        "leftovers",
        "life",
        "line",
        "load",
        "luck",
        "many",
        "next_ending",
        "outgrown",
        "patience",
        "pid",
        "progress",
        "ready_since",
        "reason",
        "renew",
        "sent_at",
        "shield_end",
        "slot",
        "started",
        "tail",
    )

    def __init__(self, slot: Slot, lane: Lane, identity: bytes, now: float, code: int) -> None:
        self.slot = slot
        self.code = code
        """The generation of the tools' code that it runs."""
        self.many = slot.group.many
        self.lane = lane
        self.generation = slot.generation
        self.identity = identity
        self.life = Life.STARTING
        self.started = now
        self.pid = 0
        self.line: dict[int, Entry] = {}
        """What it was sent, hasn't answered, and is still wanted: by sequence number, oldest first."""
        self.head = 1
        """The number that it will answer next, unless it runs many at once."""
        self.tail = 1
        """The number that its next job will get."""
        self.held_up: float | None = None
        """Since when an event loop hasn't begun what it was sent, as far as is known."""
        self.sent_at = now
        """When it was sent the first of what it hasn't begun, if it runs many at once."""
        self.load = 0.0
        """Expected seconds of work in hand: what credit is measured by."""
        self.answered = 0
        self.at = 0
        """The lane's word when the supervisor last looked, and since when it reads so."""
        self.at_since = now
        self.progress = now
        """When an answer last arrived."""
        self.ready_since = 0.0
        self.luck = random.random()
        """Its own share of what a renewal's limits vary by."""
        self.began_with = 0
        """Bytes of memory, when it was ready."""
        self.patience = 0.0
        """Until then it may be busy with what it was asked for between two jobs."""
        self.renew = ""
        """Why it is to be renewed; empty: it isn't."""
        self.outgrown = False
        """That is for its memory."""
        self.reason: str | None = None
        """Why it is being ended, for the logs."""
        self.endings = 0
        self.next_ending = 0.0
        self.shield_end: float | None = None
        """From then on no shield of its tool is respected; None until it is being ended."""
        self.leftovers: dict[int, Leftover] = {}
        """By their sequence numbers; at most one, unless it runs many at once."""

    def step(self, change: Change) -> None:
        try:
            self.life = TABLE[self.life][change]
        except KeyError:
            raise IllegalChange(f"{change.name} in state {self.life.name}: worker {self.pid}") from None

    def came_to_end(self, seq: int) -> None:
        """The run of a job that had ended for its caller is over."""
        left = self.leftovers.pop(seq, None)
        if left is not None:
            for valve in left.tool.valves[: left.passed]:
                valve.returned(left.tool)

    def at_work_on(self, seq: int) -> bool:
        """Does it run this job, or has it taken it and is about to? It was not answered."""
        at, state = self.lane.at()
        return seq <= at if self.many else at == seq and state in (TAKEN, STARTED)

    def begun(self, seq: int) -> bool:
        """Was the tool called for this job? It was not answered."""
        at, state = self.lane.at()
        return seq < at or (seq == at and state >= STARTED)

    def shielded(self, now: float, until: float) -> bool:
        """Does a tool ask not to be ended now? It is heard until then at most."""
        return now < min(until, self.lane.words[SHIELD] * 1e-6)

    def blocked(self, now: float) -> float:
        """Seconds for which an event loop hasn't turned that has something under way."""
        return max(0.0, now - self.lane.words[TURNED] * 1e-6)

    def number_of(self, entry: Entry) -> int:
        """Of one that it holds."""
        return next(seq for seq, one in self.line.items() if one is entry)

    def drop(self, seq: int) -> Entry:
        """It holds this one no more."""
        entry = self.line.pop(seq)
        self.load = self.load - entry.cost if self.line else 0.0
        return entry

    @property
    def idle(self) -> bool:
        """Has it nothing in hand, and nothing left over, that it would have to get done with?"""
        return not (self.line or self.leftovers) and self.held_up is None

    @property
    def name(self) -> str:
        return self.identity.decode()


class Slot:
    """A place in its group's ring, its present worker, and the jobs that were placed here."""

    __slots__ = (
        "generation",
        "group",
        "index",
        "outgrown",
        "parked",
        "place",
        "renew_at",
        "renew_failures",
        "start_at",
        "successor",
        "waiting",
        "worker",
    )

    def __init__(self, index: int, place: int, group: Group, backlog: Backlog) -> None:
        self.index = index
        """Unique in the node."""
        self.place = place
        """Among those of its group."""
        self.group = group
        self.generation = 0
        self.parked = False
        """Its group needs fewer workers now: nobody is to work here."""
        self.worker: Worker | None = None
        self.successor: Worker | None = None
        """It starts while the present one serves, and takes its place once it is ready."""
        self.renew_at = 0.0
        """No successor is started before."""
        self.renew_failures = 0
        """Successors in a row that died before they were ready."""
        self.outgrown = 0
        """Workers that were renewed for their memory."""
        self.start_at: float | None = 0.0
        """When to start a worker; None while there is one."""
        self.waiting = backlog.line()

    def hand_over(self) -> None:
        """To the successor, if there is one."""
        self.worker, self.successor, self.renew_failures = self.successor, None, 0
        if self.worker is not None or self.parked:
            self.start_at = None

    @property
    def load(self) -> float | None:
        """Expected seconds of work in hand and in line; None while nobody works here."""
        worker = self.worker
        if worker is None or worker.life > Life.READY:
            return None
        return worker.load + self.waiting.pending


class Group:
    """The workers that run the same tools, and the line of those that any of them may run."""

    __slots__ = (
        "apart",
        "balancer",
        "failing",
        "line",
        "many",
        "name",
        "plan",
        "ready",
        "renewal",
        "share",
        "slots",
        "valve",
    )

    def __init__(self, plan: policy.Group, numbers: Iterator[int], backlog: Backlog) -> None:
        self.plan = plan
        self.name = plan.name
        self.many = plan.per_worker
        """Runs that one worker has under way at once; 0: it runs one after the other."""
        self.share = CREDIT * (1 + 1e-9) / self.many if self.many else 0.0
        """Where a worker runs many at once, what each is charged: its credit is used up when its places are."""
        self.valve = Valve(f"group {plan.name}", plan.bounds, backlog) if plan.bounds.limit_anything else None
        self.slots = [Slot(next(numbers), place, self, backlog) for place in range(plan.workers)]
        for slot in self.slots[plan.scaling.least :] if plan.scaling is not None else ():
            slot.parked, slot.start_at = True, None
        self.ready: list[Worker] = []
        """Those that can take jobs. Rebuilt on every change, read on every dispatch."""
        self.line = backlog.line()
        self.apart = backlog.line()
        """Those that may have killed workers that ran many at once: each of them is to be alone in one."""
        self.failing = False
        """Its workers die before they can do anything, and nobody who came since has lived."""
        self.renewal = plan.renewal
        self.balancer = plan.balancer
        """Of its tools that don't name one."""

    @property
    def members(self) -> Members:
        """Its slots, as a balancer is made for them."""
        names = tuple(str(place) for place in range(len(self.slots)))
        return Members(names, unit=SECONDS, floor=BUSY_SECONDS)

    @property
    def open(self) -> list[Slot]:
        """Those of its slots that are in use."""
        return [slot for slot in self.slots if not slot.parked]

    @property
    def healthy(self) -> bool:
        """Does anybody work here, or will soon?"""
        return not self.failing or bool(self.ready)

    @property
    def width(self) -> int:
        """Runs that it can have under way at once, now."""
        return max(1, len(self.ready)) * (self.many or 1)


def group_of(spec: ToolSpec, groups: Sequence[Group]) -> Group:
    """Where a tool runs, among these; toolring's own go along with whatever there is."""
    named = [group for group in groups if group.name == spec.group]
    return named[0] if named else min(groups, key=lambda group: group.many)


class Fleet:
    """Groups, their slots and workers, and the lanes that are free."""

    def __init__(
        self, plans: Sequence[policy.Group], lanes: Sequence[Lane], vacated: Callable[[int], None] = lambda _lane: None
    ) -> None:
        """``vacated`` is told of each lane whose worker is gone."""
        self._vacated = vacated
        self.backlog = Backlog()
        self._numbers = count()
        self.code = 1
        """The generation of the tools' code that is served."""
        self.groups: list[Group] = []
        self.slots: list[Slot] = []
        self.regroup(self.planned(plans))
        self.free = deque(lanes)
        self.workers: dict[bytes, Worker] = {}
        self.ready: list[Worker] = []
        """Those of all groups that can take jobs."""

    def planned(self, plans: Sequence[policy.Group]) -> list[Group]:
        """A group for each plan: the one that there is, if it was made by the same."""
        there = {group.plan: group for group in self.groups}
        return [there.get(plan) or Group(plan, self._numbers, self.backlog) for plan in plans]

    def regroup(self, groups: list[Group]) -> None:
        """From now on there are these."""
        self.groups = groups
        self.slots = [slot for group in groups for slot in group.slots]

    def group_of(self, spec: ToolSpec) -> Group:
        """Where a tool runs."""
        return group_of(spec, self.groups)

    def hire(self, slot: Slot, now: float, code: int = 0) -> Worker | None:
        """A new worker's record for a slot, of the code that is served or of another: as a successor, if somebody
        serves there, or if it runs other code. None while every lane is in use by workers that haven't ended."""
        code = code or self.code
        if not self.free:
            return None
        lane = self.free.popleft()
        lane.clear()
        slot.generation += 1
        identity = f"{slot.index}.{slot.generation}".encode()
        worker = Worker(slot, lane, identity, now, code)
        if slot.worker is not None or code != self.code:
            slot.successor = worker
        else:
            slot.worker, slot.start_at = worker, None
        self.workers[identity] = worker
        return worker

    def change(self, worker: Worker, change: Change, now: float = 0.0, delay: float = 0.0) -> None:
        """Move a worker on, and keep ``ready``, slots and lanes in step with it. If it leaves its slot, its successor
        has it; if there is none, another worker is to start there after so many seconds."""
        worker.step(change)
        self.ready = [w for w in self.workers.values() if w.life is Life.READY]
        group = worker.slot.group
        group.ready = [w for w in self.ready if w.slot.group is group]
        slot = worker.slot
        if worker.life > Life.READY:
            if slot.successor is worker:
                slot.successor = None
            elif slot.worker is worker:
                slot.worker = None
                if slot.successor is not None and slot.successor.code == self.code:
                    slot.worker, slot.successor = slot.successor, None
                slot.start_at = now + delay if slot.worker is None and not slot.parked else None
        if worker.life is Life.GONE:
            del self.workers[worker.identity]
            self.free.append(worker.lane)
            self._vacated(worker.lane.index)

    def vacant(self) -> Iterator[Slot]:
        """Slots that are in use, and have nobody."""
        return (slot for slot in self.slots if slot.worker is None and not slot.parked)

    @property
    def whole(self) -> bool:
        """Is there a worker that is ready in each slot that is in use, of groups that aren't failing?"""
        return all(group.failing or len(group.ready) >= len(group.open) for group in self.groups)
