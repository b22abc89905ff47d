"""Who has which resource, and who waits for one.

Pure: time comes in, and nobody's code is called from here. A shell around it (``pool.py`` with threads, ``aio.py``
with tasks) holds a lock where it needs one, performs what ``plan.py`` finds to do and reports how it went.

The limits and their meaning are after HikariCP and psycopg_pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final
from weakref import ref

from toolring.workers.pools import figures
from toolring.workers.pools.backoff import Backoff
from toolring.workers.pools.entry import Entry, Hold, Job, State, Task, Waiter
from toolring.workers.pools.policy import PoolPolicy

IDLE, OUT, RETIRED = State.IDLE, State.OUT, State.RETIRED  # take and give are called so often that the look-up counts

JITTER: Final = 0.1
"""Of a lifetime."""


class Ledger:
    """Not thread-safe. ``bell`` is called, before anything is changed, whenever there may be something to do; ``lost``
    whenever a claim is collected as garbage that wasn't settled: it is to see to it that ``drop`` is called."""

    def __init__(
        self,
        name: str,
        policy: PoolPolicy,
        checks: bool,
        bell: Callable[[], Any],
        lost: Callable[[ref[Hold]], Any],
        clock: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:
        self.name = name
        self.policy = policy
        self.closed = self.used = False
        self.entries: list[Entry] = []
        self.counts = dict.fromkeys(figures.COUNTS, 0)
        self.idle: list[Entry] = []
        """The last is used next, so that what isn't needed is at the front."""
        self.waiters: deque[Waiter] = deque()
        self._closers: list[Callable[[], Any]] = []
        self._bell, self._lost, self._clock, self._rng = bell, lost, clock, rng
        self._checks = checks
        self._trust = policy.validate_after if checks else inf
        self._most_uses = policy.max_uses or inf
        self.backoff = Backoff(rng)
        self.wait_seconds = self.longest_wait = 0.0

    # ---- taking and giving
    #
    # An exception may be raised into these from a signal handler. CPython calls handlers when a function begins, when a
    # call has returned and when a loop goes round. So between the first change and the last nothing is called: an
    # exception comes before all of them, or after. What must be called at the end, wakes somebody or appends, is not
    # written in Python. The bell may ring before: nobody looks until the lock is free.

    def take(self, hold: Hold, where: str = "") -> Entry | None:
        """An idle resource, if there is one that needs no check and nobody waits for it."""
        idle = self.idle
        if not idle or self.waiters or self.closed:
            return None
        entry = idle[-1]
        now = self._clock()
        if now >= entry.fresh:
            return None
        guard = ref(hold, self._lost)
        entry.state = OUT
        entry.since = now
        entry.uses += 1
        entry.where = where
        entry.guard = guard
        hold.entry = entry
        del idle[-1]
        return entry

    def give(self, hold: Hold, broken: bool = False, suspect: bool = False) -> None:
        """What was taken, for the next; ``suspect``: it is checked before, if it can be. Raises RuntimeError."""
        entry = hold.entry
        if entry is None:
            raise RuntimeError("this lease holds nothing: it was given back already, or never taken")
        now = self._clock()
        ends = entry.ends
        if broken or now >= ends or entry.uses >= self._most_uses or self.closed:
            self._bell()
            entry.since = now
            entry.state = RETIRED
            entry.guard = None
            hold.entry = None
            return
        fresh = now if suspect and self._checks else now + self._trust
        waiters = self.waiters
        if waiters and fresh <= now:
            self._bell()
        entry.used = entry.good = now
        entry.fresh = fresh if fresh < ends else ends
        entry.told = False
        hold.entry = None
        if waiters and fresh > now:  # as hand_over does
            waiter = waiters[0]
            entry.since = now
            entry.uses += 1
            entry.where = waiter.where
            entry.guard = waiter.guard
            waiter.entry = entry
            del waiters[0]
            waiter.wake()
        else:
            entry.state = IDLE
            entry.guard = None
            self.idle.append(entry)

    def wait(self, hold: Hold, wake: Callable[[], Any], where: str = "") -> None:
        """Get into the line; ``wake`` is called once there is a resource, or never will be one."""
        self.used = True
        if self.closed:
            raise figures.closed(self)
        most = self.policy.max_waiting
        if most and len(self.waiters) >= most:
            self.counts["refused"] += 1
            raise figures.exhausted(self)
        if self.idle or len(self.entries) < self.policy.max:
            self._bell()
        hold.waiter = waiter = Waiter(ref(hold, self._lost), wake, self._clock(), where)
        self.waiters.append(waiter)

    def accept(self, hold: Hold) -> Entry:
        """Have what was waited for. Raises PoolTimeout if it isn't there, PoolClosed if it never will be."""
        waiter = hold.waiter
        assert waiter is not None
        waited = self._clock() - waiter.since
        self.counts["waits"] += 1
        self.wait_seconds += waited
        self.longest_wait = max(self.longest_wait, waited)
        if waiter.entry is None:
            self.leave(hold)
            if self.closed:
                raise figures.closed(self)
            self.counts["timeouts"] += 1
            raise figures.timeout(self, waited)
        hold.entry = waiter.entry
        hold.waiter = None
        return waiter.entry

    def leave(self, hold: Hold) -> None:
        """Give up a claim, whatever has become of it; what was handed over goes on to the next."""
        waiter = hold.waiter
        if waiter is not None:
            try:
                self.waiters.remove(waiter)
            except ValueError:
                pass
            hold.entry = waiter.entry
            hold.waiter = None
        if hold.entry is not None:
            self.give(hold)

    def drop(self, guard: ref[Hold]) -> None:
        """A claim is gone without a word. Nobody knows who still uses what it had, so that is torn down."""
        for waiter in self.waiters:
            if waiter.guard is guard:
                self.waiters.remove(waiter)
                return
        for entry in self.entries:
            if entry.guard is guard:
                self.counts["dropped"] += 1
                entry.guard = None
                self._retire(entry, self._clock())
                return

    # ---- what was performed

    def start(self) -> None:
        """The least number is wanted."""
        self._bell()
        self.used = True

    def create(self, now: float) -> Job:
        self.entries.append(Entry(now))
        return Job(Task.CREATE, self.entries[-1])

    def made(self, entry: Entry, resource: Any, end: Callable[[], Any] | None = None) -> None:
        """``end`` tears it down."""
        self._bell()  # more may be made at once, now that it works again
        now = self._clock()
        entry.resource, entry.end = resource, end
        if self.policy.max_lifetime:
            entry.ends = now + self.policy.max_lifetime * (1 - JITTER * self._rng())
        self.counts["created"] += 1
        self.backoff.succeeded()
        entry.used = now
        self._is_good(entry, now)

    def failed(self, entry: Entry, error: BaseException) -> None:
        """Nothing was made."""
        if not entry.told:
            self.count_failure(error)
        self._remove(entry)

    def checked(self, entry: Entry, passed: bool) -> None:
        now = self._clock()
        if passed:
            self._is_good(entry, now)
        else:
            if not entry.told:
                self.counts["invalid"] += 1
            self._retire(entry, now)

    def gone(self, entry: Entry) -> None:
        """It is torn down."""
        self.counts["destroyed"] += 1
        self.counts["uses"] += entry.uses
        self._remove(entry)

    def count_failure(self, error: BaseException) -> None:
        self.counts["create_errors"] += 1
        self.backoff.failed(error, self._clock())

    def hand_over(self, entry: Entry, now: float) -> None:
        """To who has waited longest."""
        waiter = self.waiters.popleft()
        entry.go(OUT, now)
        entry.uses += 1
        entry.where = waiter.where
        entry.guard = waiter.guard
        waiter.entry = entry
        waiter.wake()

    def _is_good(self, entry: Entry, now: float) -> None:
        entry.told = False
        entry.good = now
        entry.fresh = min(now + self._trust, entry.ends)
        if self.closed or now >= entry.ends:
            self._retire(entry, now)
        elif self.waiters:
            self.hand_over(entry, now)
        else:
            self._bell()
            entry.go(IDLE, now)
            self.idle.insert(0, entry)

    def _retire(self, entry: Entry, now: float) -> None:
        self._bell()
        entry.go(RETIRED, now)

    def _remove(self, entry: Entry) -> None:
        self._bell()
        entry.go(State.GONE, self._clock())
        self.entries.remove(entry)
        self._wake_closers()

    # ---- how many there are

    def count(self, *states: State) -> int:
        return sum(entry.state in states for entry in self.entries)

    def alive(self) -> int:
        return len(self.entries) - self.count(RETIRED, State.CLOSING)

    def creating(self) -> int:
        """Without those that take too long."""
        return sum(entry.state is State.CREATING and not entry.told for entry in self.entries)

    def coming(self) -> int:
        """Those that waiters will get without any doing; without those that take too long."""
        return self.creating() + sum(entry.state is State.CHECKING and not entry.told for entry in self.entries)

    # ---- the end

    def close(self, gone: Callable[[], Any]) -> None:
        """Nothing is given out any more; ``gone`` is called once there is no resource left."""
        self._bell()
        self.closed = self.used = True
        self._closers.append(gone)
        while self.waiters:
            self.waiters.popleft().wake()
        self._wake_closers()

    def _wake_closers(self) -> None:
        if self.closed and not self.entries:
            while self._closers:
                self._closers.pop()()
