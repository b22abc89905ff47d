"""The asyncio client of several nodes: what the synchronous one does, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import Any, Self

from toolring.client.aio import AsyncClient, AsyncHandle, AsyncStream
from toolring.client.batches import Call, Plan
from toolring.client.feed import WINDOW, Feed, OnProgress, checked
from toolring.client.journey import Journey, due
from toolring.client.mapping import async_mapped
from toolring.client.membership import Membership
from toolring.client.nodes import WAIT_SECONDS, Node, Nodes
from toolring.client.routes import Key
from toolring.client.stored import AsyncStoredResult, life_of
from toolring.errors import ToolringError
from toolring.protocol import CALL, KEEP
from toolring.spec import ToolSpec


class AsyncClusterHandle(Journey[AsyncClient, AsyncHandle]):
    """A job that was submitted to a cluster, wherever it is now. Awaiting it is awaiting its ``result()``."""

    _over: asyncio.Future[None]

    def follow(self) -> Self:
        """Have it move on by itself, whether somebody waits for it or not."""
        self._over = asyncio.get_running_loop().create_future()
        self._follow()
        return self

    def _follow(self) -> None:
        job = self.job
        if self.adrift:
            self._over.get_loop().call_later(WAIT_SECONDS, self._look_again, job)
            return
        assert job.future is not None
        job.future.add_done_callback(partial(self._settled_there, job))

    def _look_again(self, job: AsyncHandle) -> None:
        """No node has it: is one there now?"""
        with suppress(Exception):  # whatever it is, the next look may go well
            self._nodes.glance()
        self._settled_there(job)

    def _settled_there(self, job: AsyncHandle, _: asyncio.Future[None] | None = None) -> None:
        if self.goes_on(job):
            self._follow()
        else:
            self._over.set_result(None)

    def __await__(self) -> Any:
        return self.result().__await__()

    def done(self) -> bool:
        return self.settled

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Raises the job's error, or TimeoutError after ``timeout`` seconds (the job goes on)."""
        async with asyncio.timeout(timeout):
            await asyncio.shield(self._over)
        return self.outcome()

    async def exception(self, timeout: float | None = None) -> ToolringError | None:
        """Wait, and return the job's error; None if it succeeded."""
        try:
            await self.result(timeout)
        except ToolringError as error:
            return error
        return None


class AsyncClusterStream(AsyncStream):
    """One that moves on as long as the nodes of its list refuse it, and stays where it has begun."""

    def __init__(
        self, tool: str, set_out: Callable[[], Awaitable[AsyncClusterHandle]], on_progress: OnProgress | None
    ) -> None:
        async def start() -> AsyncHandle:
            way = await set_out()
            ways.append(way)
            return way.job

        ways: list[AsyncClusterHandle] = []
        super().__init__(tool, start, on_progress)
        self._ways = ways
        """The first is the one; others were begun at the same time, and are cancelled."""

    @property
    def _way(self) -> AsyncClusterHandle | None:
        return self._ways[0] if self._ways else None

    async def __anext__(self) -> Any:
        """Wait for the next part. Raises what the job ended in, after all parts before it."""
        await self._begun()
        way = self._way
        assert way is not None
        while way.under_way:
            self._handle = job = way.job
            if way.has_begun(job):
                way.stay()
            elif job.settled:
                if way.goes_on(job) and way.adrift:
                    await asyncio.sleep(WAIT_SECONDS)
            else:
                await job._told(None)
        return await super().__anext__()

    def close(self) -> None:
        """End the job, if it isn't over; one that hasn't begun never will."""
        self._closed = True
        if self._way is not None:
            self._way.cancel()

    def _outcome(self) -> Any:
        assert self._way is not None
        return self._way.outcome()


class AsyncCluster(Membership[AsyncClient]):
    """Calls the tools of several nodes from one event loop. The arguments are those of ``toolring.Cluster``."""

    def __init__(
        self,
        nodes: Iterable[str] | Mapping[str, float],
        *,
        strategy: str = "consistent_hash",
        replication: int | None = None,
        ranges: Mapping[str, Key] | None = None,
        caller: str = "",
        connect_timeout: float = 5.0,
        lost_after: float = 1.0,
    ) -> None:
        connect = partial(AsyncClient, caller=caller, connect_timeout=lost_after)
        self._nodes = Nodes(nodes, connect, strategy, replication, ranges or {}, lost_after, connect_timeout)
        self._watcher: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            await self._reach()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all sessions: calls that are still waited for are cancelled by their nodes."""
        if self._nodes.closed:
            return
        if self._watcher is not None:
            self._watcher.cancel()
        self._nodes.close()

    # ---- calling

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        key: str | None = None,
        partition: str = "",
        priority: str = "normal",
        queue_timeout: float | None = None,
        route: Key | None = None,
    ) -> Any:
        """Run a tool at one of its key's nodes and return its result; see ``Cluster.call``. Cancelling the task cancels
        the job."""

        def submit(client: AsyncClient, left: float | None) -> AsyncHandle:
            return client._submit(name, arguments, left, key, CALL, partition, priority, queue_timeout)

        handle = await self._begun(name, arguments, timeout, route, submit)
        try:
            return await handle.result()
        except BaseException:
            handle.cancel()
            raise

    async def submit(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        key: str | None = None,
        partition: str = "",
        priority: str = "normal",
        queue_timeout: float | None = None,
        route: Key | None = None,
    ) -> AsyncClusterHandle:
        """Start a tool and return a handle; see ``Cluster.submit``."""

        def submit(client: AsyncClient, left: float | None) -> AsyncHandle:
            return client._submit(name, arguments, left, key, KEEP, partition, priority, queue_timeout)

        return await self._begun(name, arguments, timeout, route, submit)

    def stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        window: int = WINDOW,
        on_progress: OnProgress | None = None,
        route: Key | None = None,
    ) -> AsyncStream:
        """Run a generator at one of its key's nodes; see ``AsyncClient.stream``. It is passed on
        while nodes refuse it; no other goes on with what has begun."""
        feed = Feed(checked(window))
        follow = feed.follow(on_progress is not None, None)

        def submit(client: AsyncClient, left: float | None) -> AsyncHandle:
            return client._submit(name, arguments, left, None, CALL, "", feed=feed, follow=follow)

        async def set_out() -> AsyncClusterHandle:
            until = due(name, timeout)
            await self._reach(until)
            await self._until_its_turn(self._nodes.point(name, arguments, route), until)
            return self._start(name, arguments, until, route, submit, measured=False)

        return AsyncClusterStream(name, set_out, on_progress)

    def map(
        self,
        name: str,
        arguments: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        window: int | None = None,
        chunk: int = 1,
        ordered: bool = True,
        errors: str = "raise",
        progress: bool = False,
        partition: str = "",
        priority: str = "normal",
    ) -> AsyncIterator[Any]:
        """Run a tool over many arguments, each call at its key's node; see ``Cluster.map``."""
        plan = Plan(name, window, chunk, ordered, errors, timeout, priority)

        def send(calls: list[Call], timeout: float | None, chunk: bool) -> AsyncClusterHandle:
            def submit(client: AsyncClient, left: float | None) -> AsyncHandle:
                return client._submit_piece(name, partition, priority, calls, left, chunk)

            handle = self._start(name, calls[0], due(name, timeout), None, submit).follow()
            handle._over.add_done_callback(lambda _: self._arrived.set())
            return handle

        async def connect() -> None:
            await self._reach()
            await self._until_its_turn()

        return async_mapped(plan, arguments, send, connect, self._arrived, progress, where=attrgetter("node"))

    # ---- looking

    async def status(self) -> dict[str, dict[str, Any]]:
        """What each node tells of itself, by its address; or ``error`` if it doesn't."""

        async def told(node: Node[AsyncClient]) -> dict[str, Any]:
            try:
                return await node.client.status()
            except ToolringError as error:
                return {"error": error.to_wire()}

        nodes = [node for node, _ in self._nodes.all()]
        found = await asyncio.gather(*[told(node) for node in nodes])
        return {node.address: one for node, one in zip(nodes, found, strict=True)}

    async def open_result(self, handle: str) -> AsyncStoredResult:
        """A stored result of one of the nodes, by its handle. Raises ResultGone."""
        life = life_of(handle)
        await self._reach()
        for pause in self._nodes.unheard(life):
            await asyncio.sleep(pause)
        return await self._nodes.of_life(life).client.open_result(handle)

    async def tools(self) -> list[ToolSpec]:
        """What the nodes serve."""
        await self._reach()
        return self._nodes.specs()

    # ---- inside

    async def _reach(self, until: float | None = None) -> None:
        """Wait until a node answers, if none does. Raises Unreachable."""
        if self._watcher is None and not self._nodes.closed:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        for pause in self._nodes.missing(until):
            await asyncio.sleep(pause)

    async def _until_its_turn(self, point: int | None = None, until: float | None = None) -> None:
        """Wait as long as it would be the turn of a node that is about to answer."""
        for pause in self._nodes.coming(point, until):
            await asyncio.sleep(pause)

    def _start(
        self,
        name: str,
        arguments: Mapping[str, Any] | None,
        until: float | None,
        route: Key | None,
        submit: Callable[[AsyncClient, float | None], AsyncHandle],
        measured: bool = True,
    ) -> AsyncClusterHandle:
        point = self._nodes.point(name, arguments, route)
        handle = AsyncClusterHandle(self._nodes, name, point, until, submit, measured=measured)
        handle.start()
        return handle

    async def _begun(
        self,
        name: str,
        arguments: Mapping[str, Any] | None,
        timeout: float | None,
        route: Key | None,
        submit: Callable[[AsyncClient, float | None], AsyncHandle],
    ) -> AsyncClusterHandle:
        until = due(name, timeout)
        await self._reach(until)
        await self._until_its_turn(self._nodes.point(name, arguments, route), until)
        return self._start(name, arguments, until, route, submit).follow()

    async def _watch(self) -> None:
        """Ask for signs of life; what a lost node had moves on by itself."""
        while True:
            await asyncio.sleep(self._nodes.pause)
            with suppress(Exception):  # whatever it is, the next look may go well
                self._nodes.look()
