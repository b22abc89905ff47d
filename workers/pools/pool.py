"""A pool of resources for threads.

Whoever takes a resource runs nobody's code but ``reset``, when he gives it back. Making, checking and tearing down
happen in threads of their own, so that a call ends in time whatever they do, and a signal that interrupts the main
thread doesn't cut a teardown in half. One thread a pool, the keeper, starts them; it lives as long as the pool has
resources, closed or not. All threads are daemons.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Generator
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Lock, Thread
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar
from weakref import ref

from toolring.workers.pools import figures
from toolring.workers.pools.base import Base, place
from toolring.workers.pools.entry import Entry, Held, Hold, Job, Task
from toolring.workers.pools.ledger import Ledger
from toolring.workers.pools.plan import plan

T = TypeVar("T")

LONGEST_SLEEP: Final = 3600.0


class Pool(Base[T]):
    """Thread-safe; a context manager that closes it. Nothing is made before its first use."""

    concurrent = False
    _refused = (
        (iscoroutinefunction, "a coroutine function: use AsyncPool"),
        (isasyncgenfunction, "an async generator function: use AsyncPool"),
    )

    def _begin(self) -> None:
        self._lock = Lock()
        self._mail: SimpleQueue[ref[Hold] | None] = SimpleQueue()
        """For the keeper: a bell that rang, or a lost lease. ``put`` may be called anywhere; no signal breaks in."""
        self._keeping = False
        self._ledger = self._open(partial(self._mail.put, None), self._mail.put)

    def acquire(self, timeout: float | None = None) -> Lease[T]:
        """``with pool.acquire() as resource``. Nothing is taken before that; it waits ``timeout`` seconds at most."""
        return Lease(self, self.policy.acquire_timeout if timeout is None else self._patience(timeout))

    def start(self) -> None:
        """Make the first ``min`` resources now, rather than at the first use."""
        with self._lock:
            self._ledger.start()
        self._wake_keeper()

    def stats(self) -> dict[str, float]:
        with self._lock:
            return figures.stats(self._ledger)

    def close(self, timeout: float = 5.0) -> list[Held]:
        """Give out nothing more, wait until all is given back and torn down. What isn't after ``timeout`` seconds; it
        is torn down whenever it comes back."""
        gone = allocate_lock()
        gone.acquire()
        with self._lock:
            self._ledger.close(gone.release)
        self._wake_keeper()
        gone.acquire(True, min(max(0.0, timeout), TIMEOUT_MAX))
        with self._lock:
            return figures.held(self._ledger, self._clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the keeper, and what it has done

    def _wake_keeper(self) -> None:
        """Not by a Thread: an interrupt in the midst of its start would leave nobody knows what."""
        if not self._keeping:
            start_new_thread(self._keep, (self._ledger,))

    def _keep(self, ledger: Ledger) -> None:
        with self._lock:
            if self._keeping:
                return
            self._keeping = True
        pause: float | None = 0.0
        while pause is not None:
            lost = self._read_mail(min(pause, LONGEST_SLEEP))
            with self._lock:
                for guard in lost:
                    ledger.drop(guard)
                jobs, pause = plan(ledger, self._clock())
                self._keeping = pause is not None
            for job in jobs:
                try:
                    Thread(target=self._perform, args=(ledger, job), name=repr(self), daemon=True).start()
                except RuntimeError:  # no more threads are to be had
                    self._perform(ledger, job)

    def _read_mail(self, pause: float) -> list[ref[Hold]]:
        mail, found = self._mail, []
        try:
            found.append(mail.get(timeout=pause))
            while True:
                found.append(mail.get_nowait())
        except Empty:
            return [guard for guard in found if guard is not None]

    def _perform(self, ledger: Ledger, job: Job) -> None:
        task, entry, held = job
        if task is Task.REPORT:
            self._passes(self._on_leak, held)
            return
        if task is Task.CREATE:
            try:
                done = partial(ledger.made, entry, *self._make())
            except BaseException as error:
                done = partial(ledger.failed, entry, error)
        elif task is Task.CHECK:
            done = partial(ledger.checked, entry, self._passes(self._validate, entry.resource))
        else:
            self._passes(entry.end)
            done = partial(ledger.gone, entry)
        with self._lock:
            done()
        self._wake_keeper()

    def _make(self) -> tuple[Any, Callable[[], Any] | None]:
        """A resource, and what tears it down."""
        made = self._create()
        if not self._yields:
            return made, self._destroy and partial(self._destroy, made)
        for resource in made:
            return resource, partial(_finish, made)
        raise RuntimeError("create is a generator that yields nothing")

    @staticmethod
    def _passes(function: Callable[..., Any] | None, *arguments: Any) -> bool:
        """Does it neither raise nor return False?"""
        try:
            return function is None or function(*arguments) is not False
        except BaseException:
            return False


def _finish(generator: Generator[Any, None, None]) -> None:
    """Past its yield, to its end."""
    next(generator, None)
    generator.close()


class Lease(Hold, Generic[T]):
    """One claim on a resource of a pool. If it is lost while it holds one, that is torn down."""

    __slots__ = ("_ledger", "_pool", "_timeout")

    def __init__(self, pool: Pool[T], timeout: float) -> None:
        self.entry = None
        self.waiter = None
        self._pool = pool
        self._ledger = pool._ledger
        self._timeout = timeout

    def take(self) -> T:
        """The resource. Raises PoolTimeout, PoolExhausted or PoolClosed."""
        if self.entry is not None:
            raise RuntimeError("this lease holds a resource already")
        pool = self._pool
        ledger = self._ledger = pool._ledger
        where = place() if pool.policy.leak_after else ""
        try:
            with pool._lock:
                entry = ledger.take(self, where)
            if entry is None:
                entry = self._wait(pool, ledger, where)
            return entry.resource  # type: ignore[no-any-return]
        except BaseException:
            with pool._lock:
                ledger.leave(self)
            raise

    __enter__ = take

    def give(self, broken: bool = False) -> None:
        """Back to the pool; ``broken``: to be torn down. Raises RuntimeError if it holds nothing."""
        self._give(broken, False)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # What an interrupt has cut short is in nobody knows what state.
        self._give(kind is not None and not issubclass(kind, Exception), kind is not None)

    def _wait(self, pool: Pool[T], ledger: Ledger, where: str) -> Entry:
        sleep = allocate_lock()
        sleep.acquire()
        with pool._lock:
            ledger.wait(self, sleep.release, where)
        pool._wake_keeper()
        sleep.acquire(True, min(max(0.0, self._timeout), TIMEOUT_MAX))
        with pool._lock:
            return ledger.accept(self)

    def _give(self, broken: bool, suspect: bool) -> None:
        pool = self._pool
        if self._ledger is not pool._ledger and self.entry is not None:
            self.entry = None  # it is the parent process's
            return
        try:
            if pool._reset is not None and self.entry is not None and not broken:
                broken = True  # unless it comes through
                broken = pool._reset(self.entry.resource) is False
        except Exception:
            pass
        finally:
            with pool._lock:
                self._ledger.give(self, broken, suspect)
        if not pool._keeping:
            pool._wake_keeper()
