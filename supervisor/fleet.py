"""The fleet: one record a worker process, one slot a place in the ring.

A slot outlives its workers: its successor takes over the same share of keys. A worker that is being ended has
left its slot already, so a replacement starts while the old one still cleans up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from toolring.lane import Lane
from toolring.supervisor.backlog import Backlog
from toolring.supervisor.ledger import Entry
from toolring.supervisor.valves import Valve


class Life(IntEnum):
    STARTING = 0
    READY = 1
    RETIRING = 2
    """Finishes what it runs, gets nothing new; no signal is sent."""
    ENDING = 3
    """Is being ended: soft interrupt, TERM, KILL."""
    GONE = 4


class Change(IntEnum):
    READY = 0
    RETIRE = 1
    END = 2
    EXIT = 3


TABLE: dict[Life, dict[Change, Life]] = {
    Life.STARTING: {
        Change.READY: Life.READY,
        Change.RETIRE: Life.RETIRING,
        Change.END: Life.ENDING,
        Change.EXIT: Life.GONE,
    },
    Life.READY: {Change.RETIRE: Life.RETIRING, Change.END: Life.ENDING, Change.EXIT: Life.GONE},
    Life.RETIRING: {Change.READY: Life.RETIRING, Change.END: Life.ENDING, Change.EXIT: Life.GONE},
    Life.ENDING: {Change.READY: Life.ENDING, Change.EXIT: Life.GONE},
    Life.GONE: {},
}


class IllegalChange(Exception):
    """A bug of the supervisor: this can't happen to a worker in that state. The record is unchanged."""


class Leftover(NamedTuple):
    """A job that has ended for its caller while its worker still ran it."""

    seq: int
    tool: str
    permit: Valve | None
    """Given back when the run is over in truth."""
    until: float | None
    """Its tool was asked to come to an end by itself, and is interrupted then; None: it is interrupted."""
    sure: bool
    """If it does so, no doubt is left about what it changed."""


class Worker:
    """One worker process. ``line`` holds what it was sent and hasn't answered, oldest first.

    Sequence numbers count up by one, so the first of the line has number ``head``. A place in the line is None
    once its job was taken back or answered otherwise; the worker's own answer to it is then ignored.
    """

    __slots__ = (
        "answered",
        "at",
        "at_since",
        "endings",
        "head",
        "identity",
        "lane",
        "leftover",
        "life",
        "line",
        "load",
        "next_ending",
        "pid",
        "progress",
        "ready_since",
        "reason",
        "shield_end",
        "slot",
        "started",
        "unsure",
    )

    def __init__(self, slot: Slot, lane: Lane, identity: bytes, now: float) -> None:
        self.slot = slot
        self.lane = lane
        self.identity = identity
        self.life = Life.STARTING
        self.started = now
        self.pid = 0
        self.line: deque[Entry | None] = deque()
        self.head = 1
        self.load = 0.0
        """Expected seconds of work in hand: what credit is measured by."""
        self.answered = 0
        self.unsure = False
        """It ended or ends while a tool runs that invalidates results: whether that happened nobody knows."""
        self.at = 0
        """The lane's word when the supervisor last looked, and since when it reads so."""
        self.at_since = now
        self.progress = now
        """When an answer last arrived."""
        self.ready_since = 0.0
        self.reason: str | None = None
        """Why it is being ended, for the logs."""
        self.endings = 0
        self.next_ending = 0.0
        self.shield_end: float | None = None
        """From then on no shield of its tool is respected; None until it is being ended."""
        self.leftover: Leftover | None = None

    def step(self, change: Change) -> None:
        try:
            self.life = TABLE[self.life][change]
        except KeyError:
            raise IllegalChange(f"{change.name} in state {self.life.name}: worker {self.pid}") from None

    def came_to_end(self) -> None:
        """The run of a job that had ended for its caller is over."""
        left, self.leftover = self.leftover, None
        if left is not None:
            if left.permit is not None:
                left.permit.returned()
            if left.until is not None and left.sure:
                self.unsure = False

    @property
    def tail(self) -> int:
        """The sequence number that the next job will get."""
        return self.head + len(self.line)

    @property
    def name(self) -> str:
        return self.identity.decode()


class Slot:
    """A place in the ring, its present worker, and the jobs that were placed here."""

    __slots__ = ("generation", "index", "start_at", "waiting", "worker")

    def __init__(self, index: int, backlog: Backlog) -> None:
        self.index = index
        self.generation = 0
        self.worker: Worker | None = None
        self.start_at: float | None = 0.0
        """When to start a worker; None while there is one."""
        self.waiting = backlog.line()

    @property
    def load(self) -> float | None:
        """Expected seconds of work in hand and in line; None while nobody works here."""
        worker = self.worker
        if worker is None or worker.life > Life.READY:
            return None
        return worker.load + self.waiting.pending


class Fleet:
    """Slots, their workers, and the lanes that are free."""

    def __init__(self, slots: int, lanes: list[Lane]) -> None:
        self.backlog = Backlog()
        self.slots = [Slot(index, self.backlog) for index in range(slots)]
        self.free = deque(lanes)
        self.workers: dict[bytes, Worker] = {}
        self.ready: list[Worker] = []
        """Those that can take jobs. Rebuilt on every change, read on every dispatch."""

    def hire(self, slot: Slot, now: float) -> Worker | None:
        """A new worker's record for a slot; None while every lane is in use by workers that haven't ended."""
        if not self.free:
            return None
        lane = self.free.popleft()
        lane.clear()
        slot.generation += 1
        identity = f"{slot.index}.{slot.generation}".encode()
        worker = Worker(slot, lane, identity, now)
        slot.worker = worker
        slot.start_at = None
        self.workers[identity] = worker
        return worker

    def change(self, worker: Worker, change: Change) -> None:
        """Move a worker on, and keep ``ready``, slots and lanes in step with it."""
        worker.step(change)
        self.ready = [w for w in self.workers.values() if w.life is Life.READY]
        if worker.life > Life.READY and worker.slot.worker is worker:
            worker.slot.worker = None
        if worker.life is Life.GONE:
            del self.workers[worker.identity]
            self.free.append(worker.lane)

    def vacant(self) -> Iterator[Slot]:
        return (slot for slot in self.slots if slot.worker is None)
