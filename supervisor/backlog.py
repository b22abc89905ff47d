"""The backlog: who of those that wait is next. Fair between callers, and for each caller in order of priority.

Callers share the workers by weight: start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queueing",
SIGCOMM 1996), with the seconds that a tool is expected to run as the length of a packet. Who sends eight hundred
jobs waits for their own; another's first job is next. One virtual clock and one account a caller serve all lines,
so it is the same whether jobs wait for anybody or for one slot.

Of one caller's jobs those of a higher priority go first, but each level has a share of its own, so that none starves.
A line in which the oldest has waited for more than half of its time is served from its other end: with more work
than can be done, some are answered in time that way, rather than all too late (Maurer, "Fail at Scale", ACM Queue,
2015).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush, heapreplace
from itertools import chain
from math import inf
from typing import Final

from toolring.supervisor.accounts import Account
from toolring.supervisor.ledger import Entry, State

SHARES: Final = (1.0, 4.0, 16.0)
"""Of one caller's low, normal and high jobs, while some of each wait."""


_QUEUED: Final = State.QUEUED
GUESSED_COST: Final = 0.02
"""Seconds that a caller pays for a run of a tool that nobody knows yet."""


class Flow:
    """One caller's jobs in one line, by priority."""

    __slots__ = ("_passes", "account", "levels", "only")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.only: deque[Entry] = deque()
        """Those of normal priority: nearly always all of them."""
        self.levels: tuple[deque[Entry], ...] | None = None
        """All three, once there was one of another priority."""
        self._passes = [0.0, 0.0, 0.0]

    def level(self, priority: int) -> deque[Entry]:
        if priority == 0:
            return self.only
        if self.levels is None:
            self.levels = (deque(), self.only, deque())
        return self.levels[priority + 1]

    def joins(self, priority: int) -> None:
        """A level that was empty doesn't make up for the time in which nobody was in it."""
        if self.levels is not None:
            others = [p for p, queue in zip(self._passes, self.levels, strict=True) if queue]
            if others:
                at = priority + 1
                self._passes[at] = max(self._passes[at], min(others))

    def next(self) -> deque[Entry]:
        """The level whose turn it is: stride scheduling (Waldspurger and Weihl, 1995). Empty only if all are."""
        if self.levels is None or not self:
            return self.only
        best = min((p, -at) for at, p in enumerate(self._passes) if self.levels[at])
        return self.levels[-best[1]]

    def took(self, queue: deque[Entry]) -> None:
        if self.levels is not None:
            at = next(at for at, level in enumerate(self.levels) if level is queue)
            self._passes[at] += 1.0 / SHARES[at]

    def __bool__(self) -> bool:
        return bool(self.only) or (self.levels is not None and any(self.levels))

    def __iter__(self) -> Iterator[Entry]:
        for queue in reversed(self.levels) if self.levels is not None else (self.only,):
            yield from queue


class Backlog:
    """What all lines share: the virtual clock, and how many wait."""

    __slots__ = ("clock", "count", "turns")

    def __init__(self) -> None:
        self.clock = 0.0
        self.count = 0
        """Jobs that wait, in some line or to be tried again, without those that were answered meanwhile."""
        self.turns = 0

    def line(self) -> Line:
        return Line(self)


class Line:
    """Jobs that wait for the same workers, or for the same permit.

    A job that was answered while it waited stays until its turn comes, and is dropped then: such a ghost is counted
    in ``size`` only.
    """

    __slots__ = ("_backlog", "_flows", "_heap", "pending", "size")

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._flows: dict[Account, Flow] = {}
        self._heap: list[tuple[float, int, Flow]] = []
        """(where its caller stands on the virtual clock, as far as is known; a number; the flow)."""
        self.size = 0
        self.pending = 0.0
        """Seconds of work that those in it are expected to be, as far as their ``cost`` is known."""

    def __iter__(self) -> Iterator[Entry]:
        """Those that wait, by caller."""
        for flow in self._flows.values():
            for entry in flow:
                if entry.state is State.QUEUED:
                    yield entry

    def snapshot(self) -> list[Entry]:
        """All in it at this moment, ghosts too: quickly made, to be looked through in steps."""
        return [*chain.from_iterable(queue for flow in self._flows.values() for queue in flow.levels or (flow.only,))]

    def append(self, entry: Entry, first: bool = False) -> None:
        """Let a job wait; ``first``: before the others of its caller, for it was further already."""
        backlog = self._backlog
        account = entry.account
        account.waiting += 1
        backlog.count += 1
        self.size += 1
        self.pending += entry.cost
        flow = self._flows.get(account)
        if flow is None:
            flow = self._flows[account] = Flow(account)
            backlog.turns += 1
            heappush(self._heap, (max(account.finish, backlog.clock), backlog.turns, flow))
        queue = flow.only if entry.priority == 0 else flow.level(entry.priority)
        if not queue:
            flow.joins(entry.priority)
            account.finish = max(account.finish, backlog.clock)  # a share that wasn't used is not made up for
        if first:
            queue.appendleft(entry)
        else:
            queue.append(entry)

    def turn(self) -> tuple[float, float]:
        """Of two lines the one whose turn is less is served first: where its caller stands, and since when it waits."""
        queue = self._queue()
        return (inf, inf) if queue is None else (self._heap[0][0], queue[0].accepted)

    def take(self, now: float, free: bool = False, fits: Callable[[Entry], bool] | None = None) -> Entry | None:
        """Take who is next; None: nobody waits, or who is next doesn't fit yet (others don't overtake it). Its caller
        pays with what its tool is expected to run, unless it is ``free``. Of that caller's jobs, how long they wait
        says which."""
        heap = self._heap
        while heap:
            key, _, flow = heap[0]
            account = flow.account
            if account.finish > key:  # it was served meanwhile, here or from another line
                key = account.finish
                if len(heap) > 1:
                    self._backlog.turns += 1
                    heapreplace(heap, (key, self._backlog.turns, flow))
                    continue
            queue = flow.only if flow.levels is None else flow.next()
            if not queue:
                heappop(heap)
                del self._flows[account]
                continue
            entry = queue[0]
            late = now - entry.accepted > entry.until - now and entry.state is _QUEUED  # ghosts leave by the front
            if fits is not None and not self._fits(queue[-1 if late else 0], fits):
                return None
            entry = queue.pop() if late else queue.popleft()
            self.size -= 1
            if entry.cost:
                self.pending = max(0.0, self.pending - entry.cost) if self.size else 0.0
            if entry.state is not _QUEUED:
                continue
            if flow.levels is not None:
                flow.took(queue)
            backlog = self._backlog
            backlog.count -= 1
            account.waiting -= 1
            backlog.clock = max(backlog.clock, key)
            if not free:
                account.finish = key + _charge(entry)
            return entry
        return None

    @staticmethod
    def _fits(entry: Entry, fits: Callable[[Entry], bool]) -> bool:
        return entry.state is not _QUEUED or fits(entry)

    def put_back(self, entry: Entry) -> None:
        """What was taken is not given to anybody after all: it is next again, and was not paid for."""
        refund(entry)
        self.append(entry, first=True)

    def clear(self) -> list[Entry]:
        """Take all who wait, uncharged, each caller's in their order."""
        taken = list(self)
        for entry in taken:
            entry.account.waiting -= 1
        self._backlog.count -= len(taken)
        self._flows.clear()
        self._heap.clear()
        self.size, self.pending = 0, 0.0
        return taken

    def _queue(self) -> deque[Entry] | None:
        """The queue that is served next, with somebody who waits at its front."""
        heap = self._heap
        while heap:
            key, _, flow = heap[0]
            finish = flow.account.finish
            if finish > key and len(heap) > 1:  # its caller was served meanwhile, here or from another line
                self._backlog.turns += 1
                heapreplace(heap, (finish, self._backlog.turns, flow))
                continue
            if finish > key:
                heap[0] = (finish, 0, flow)
            queue = flow.only if flow.levels is None else flow.next()
            while queue and queue[0].state is not _QUEUED:
                ghost = queue.popleft()
                self.size -= 1
                self.pending = max(0.0, self.pending - ghost.cost) if self.size else 0.0
            if queue:
                return queue
            if not flow:
                heappop(heap)
                del self._flows[flow.account]
        return None


def refund(entry: Entry) -> None:
    """It was taken from its line, and has not begun."""
    entry.account.finish -= _charge(entry)


def _charge(entry: Entry) -> float:
    """What its run costs its caller, on the virtual clock."""
    tool = entry.tool
    cost = tool.cost if tool.known else GUESSED_COST
    if entry.chunk:
        cost *= 0 if entry.members is not None else entry.chunk  # what runs together was paid for one by one
    return cost / entry.account.weight
