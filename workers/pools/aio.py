"""A pool of resources for asyncio: the same as for threads, with a task for each resource that is made, checked or
torn down. Between them nothing runs but a timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from inspect import isasyncgenfunction, isawaitable, isgeneratorfunction
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from weakref import ref

from toolring.workers.pools import figures
from toolring.workers.pools.base import Base, place
from toolring.workers.pools.entry import Entry, Held, Hold, Job, Task
from toolring.workers.pools.ledger import Ledger
from toolring.workers.pools.plan import plan

T = TypeVar("T")


class AsyncPool(Base[T]):
    """Of the event loop that uses it first. Its functions may be plain or async; ``create`` may be an async generator
    function. Nothing of it survives a fork, nor what it holds."""

    concurrent = True
    _refused = ((isgeneratorfunction, "a generator function: make it an async one"),)
    _is_generator = isasyncgenfunction

    def _begin(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        """They look at what is to be done: soon, or once something is due. Never both."""
        self._ledger = self._open(self._look_soon, self._lost)

    def acquire(self, timeout: float | None = None) -> AsyncLease[T]:
        """``async with pool.acquire() as resource``. Nothing is taken before that; it waits ``timeout`` seconds at
        most."""
        return AsyncLease(self, self.policy.acquire_timeout if timeout is None else self._patience(timeout))

    def start(self) -> None:
        """Make the first ``min`` resources now, rather than at the first use."""
        self._enter()
        self._ledger.start()

    def stats(self) -> dict[str, float]:
        return figures.stats(self._ledger)

    async def close(self, timeout: float = 5.0) -> list[Held]:
        """Give out nothing more, wait until all is given back and torn down. What isn't after ``timeout`` seconds; it
        is torn down whenever it comes back."""
        loop = self._enter()
        gone = loop.create_future()
        timer = loop.call_later(timeout, _wake, gone)
        self._ledger.close(partial(_wake, gone))
        try:
            await gone
        finally:
            timer.cancel()
        return figures.held(self._ledger, self._clock())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ---- what is to be done

    def _enter(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(f"{self!r} belongs to another event loop")
        return loop

    def _look_soon(self) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._soon is None:
            self._soon = self._loop.call_soon(self._do, self._loop, self._ledger)

    def _lost(self, guard: ref[Hold]) -> None:
        """The collector of garbage calls, in whatever thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ledger.drop, guard)

    def _do(self, loop: asyncio.AbstractEventLoop, ledger: Ledger) -> None:
        self._soon = None
        jobs, pause = plan(ledger, self._clock())
        self._timer = None if pause is None or pause == inf else loop.call_later(pause, self._do, loop, ledger)
        for job in jobs:
            task = loop.create_task(self._perform(ledger, job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _perform(self, ledger: Ledger, job: Job) -> None:
        task, entry, held = job
        if task is Task.REPORT:
            await self._passes(self._on_leak, held)
        elif task is Task.CREATE:
            try:
                async with asyncio.timeout(self.policy.create_timeout):
                    resource, end = await self._make()
            except BaseException as error:
                ledger.failed(entry, error)
            else:
                ledger.made(entry, resource, end)
        elif task is Task.CHECK:
            ledger.checked(entry, await self._passes(self._validate, entry.resource))
        else:
            await self._passes(entry.end)
            ledger.gone(entry)

    async def _make(self) -> tuple[Any, Callable[[], Any] | None]:
        """A resource, and what tears it down."""
        made = self._create()
        if self._yields:
            async for resource in made:
                return resource, partial(_finish, made)
            raise RuntimeError("create is a generator that yields nothing")
        resource = await made if isawaitable(made) else made
        return resource, self._destroy and partial(self._destroy, resource)

    async def _passes(self, function: Callable[..., Any] | None, *arguments: Any) -> bool:
        """Does it neither raise nor return False, in time?"""
        try:
            async with asyncio.timeout(self.policy.create_timeout):
                return function is None or await _settled(function(*arguments)) is not False
        except BaseException:
            return False


async def _settled(result: Any) -> Any:
    return await result if isawaitable(result) else result


async def _finish(generator: AsyncGenerator[Any, None]) -> None:
    """Past its yield, to its end."""
    await anext(generator, None)
    await generator.aclose()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AsyncLease(Hold, Generic[T]):
    """One claim on a resource of a pool. If it is lost while it holds one, that is torn down."""

    __slots__ = ("_ledger", "_pool", "_timeout")

    def __init__(self, pool: AsyncPool[T], timeout: float) -> None:
        super().__init__()
        self._pool = pool
        self._ledger = pool._ledger
        self._timeout = timeout

    async def take(self) -> T:
        """The resource. Raises PoolTimeout, PoolExhausted or PoolClosed."""
        if self.entry is not None:
            raise RuntimeError("this lease holds a resource already")
        pool = self._pool
        loop = pool._enter()
        ledger = self._ledger = pool._ledger
        where = place() if pool.policy.leak_after else ""
        entry = ledger.take(self, where)
        if entry is None:
            entry = await self._wait(loop, ledger, where)
        return entry.resource  # type: ignore[no-any-return]

    __aenter__ = take

    async def give(self, broken: bool = False) -> None:
        """Back to the pool; ``broken``: to be torn down. Raises RuntimeError if it holds nothing."""
        await self._give(broken, False)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # What a cancellation has cut short is in nobody knows what state.
        await self._give(kind is not None and not issubclass(kind, Exception), kind is not None)

    async def _wait(self, loop: asyncio.AbstractEventLoop, ledger: Ledger, where: str) -> Entry:
        awake = loop.create_future()
        timer = loop.call_later(self._timeout, _wake, awake)
        try:
            ledger.wait(self, partial(_wake, awake), where)
            await awake
            return ledger.accept(self)
        except BaseException:
            ledger.leave(self)
            raise
        finally:
            timer.cancel()

    async def _give(self, broken: bool, suspect: bool) -> None:
        reset = self._pool._reset
        try:
            if reset is not None and self.entry is not None and not broken:
                broken = True  # unless it comes through
                broken = await _settled(reset(self.entry.resource)) is False
        except Exception:
            pass
        finally:
            self._ledger.give(self, broken, suspect)
