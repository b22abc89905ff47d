"""The asyncio client: what the synchronous one does, awaited.

Requests of one turn of the event loop share a message, and so do the answers that arrive in one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from toolring import address as addresses
from toolring.client.arguments import what_to_invalidate
from toolring.client.batches import Call, Plan
from toolring.client.feed import WINDOW, Feed, OnProgress, Progress, checked
from toolring.client.mapping import async_mapped
from toolring.client.operator import AsyncOperator
from toolring.client.session import BEAT_SECONDS, GRACE_SECONDS, Conversation, Pending, broken, silence, unreachable
from toolring.client.stored import AsyncStoredResult, about
from toolring.client.transport import Transport
from toolring.errors import Cancelled, ToolringError, Unreachable, from_wire
from toolring.protocol import CALL, KEEP, Follow, Job
from toolring.spec import INVALIDATE, ToolSpec
from toolring.stored import decoder


class AsyncHandle(Pending):
    """A submitted job. Awaiting it is awaiting its ``result()``."""

    client: AsyncClient | None = None
    future: asyncio.Future[None] | None = None
    stirred: asyncio.Future[None] | None = None
    """Of whoever waits for the next that it tells."""

    def __await__(self) -> Any:
        return self.result().__await__()

    async def _told(self, on_progress: OnProgress | None) -> None:
        """Wait until the job tells something, or is answered; tell of its progress."""
        feed = self.feed
        assert feed is not None
        if not (feed.has_told or self.settled):
            self.stirred = stirred = self._owner._future()
            try:
                await stirred
            finally:
                self.stirred = None
        feed.tell(on_progress)

    @property
    def _owner(self) -> AsyncClient:
        assert self.client is not None
        return self.client

    async def _answered(self) -> None:
        if not self.settled:
            assert self.future is not None
            await asyncio.shield(self.future)

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Raises the job's error, or TimeoutError after ``timeout`` seconds (the job goes on)."""
        async with asyncio.timeout(timeout):
            await self._answered()
        return self.outcome()

    async def exception(self, timeout: float | None = None) -> ToolringError | None:
        """Wait, and return the job's error; None if it succeeded."""
        try:
            await self.result(timeout)
        except ToolringError as error:
            return error
        return None

    def done(self) -> bool:
        return self.settled

    def cancel(self) -> None:
        """Ask the node to end the job, wherever it is; ``result`` then raises Cancelled (or had come before)."""
        self._owner._cancel(self)

    async def status(self) -> str:
        """What the node says of it: queued, dispatched, running, joined, done or failed."""
        if self.settled:
            return "failed" if self.error is not None or (self.answer is not None and self.answer.status) else "done"
        return str((await self._owner.job(self.id))["state"])

    async def position(self) -> int | None:
        """How many jobs are before it, about; None once it doesn't wait in line any more."""
        return None if self.settled else (await self._owner.job(self.id)).get("position")

    async def estimated_wait(self) -> float | None:
        """Seconds until it starts, about; None once it doesn't wait any more."""
        return None if self.settled else (await self._owner.job(self.id)).get("wait")


class AsyncStream(AsyncIterator[Any]):
    """What a generator yields, as it comes: ``async for part in client.stream(...)``; see ``toolring.Stream``."""

    def __init__(self, tool: str, start: Callable[[], Awaitable[AsyncHandle]], on_progress: OnProgress | None) -> None:
        self._tool = tool
        self._start = start
        self._on_progress = on_progress
        self._handle: AsyncHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _begun(self) -> AsyncHandle:
        if self._handle is None and not self._closed:
            handle = await self._start()
            if self._handle is None and not self._closed:
                self._handle = handle
            else:
                handle.cancel()  # closed or begun meanwhile; this one has not left yet
        if self._handle is None:
            raise self._cancelled()
        return self._handle

    def _cancelled(self) -> Cancelled:
        return Cancelled(f"{self._tool}: cancelled by its caller", tool=self._tool)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The parts that are left. Whoever leaves them, by ``break`` or by an error, wants no more."""
        try:
            while True:
                try:
                    part = await anext(self)
                except StopAsyncIteration:
                    return
                yield part
        finally:
            self.close()  # after a ``break`` that is soon: asyncio closes the generator in a task of its own

    async def __anext__(self) -> Any:
        """Wait for the next part. Raises what the job ended in, after all parts before it."""
        handle = await self._begun()
        feed = handle.feed
        assert feed is not None
        while True:
            if feed.lost:
                self.close()
                raise broken(handle, "some were lost")
            if feed.parts:
                part = handle._owner._take(handle)
                if not isinstance(part, Progress):
                    return part
                if self._on_progress is not None:
                    self._on_progress(part)
                continue
            if handle.settled:
                if handle.answer is not None and handle.answer.parts > feed.number:
                    raise broken(handle, "some were lost")
                self._outcome()
                raise StopAsyncIteration
            await handle._told(None)

    @property
    def id(self) -> str | None:
        """None before the first part was asked for."""
        return None if self._handle is None else self._handle.id

    @property
    def progress(self) -> Progress | None:
        """The last that the tool has said of its progress."""
        return None if self._handle is None else self._handle.progress

    @property
    def value(self) -> Any:
        """The answer, once it is there: None, since async generators return nothing else. Raises what the job ended
        in; ValueError if it goes on."""
        if self._handle is None and self._closed:
            raise self._cancelled()
        if self._handle is None or not self._handle.settled:
            raise ValueError("the stream is not over")
        return self._outcome()

    def _outcome(self) -> Any:
        assert self._handle is not None
        return self._handle.outcome()

    def close(self) -> None:
        """End the job, if it isn't over; one that hasn't begun never will."""
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()

    def __del__(self) -> None:
        if self._handle is not None:
            self._handle._owner._abandon(self._handle)


class AsyncClient(AsyncOperator):
    """Calls the tools of a node from one event loop. The arguments are those of ``toolring.Client``."""

    def __init__(self, address: str | None = None, *, caller: str = "", connect_timeout: float = 5.0) -> None:
        self.address = addresses.check(address or addresses.default_address(), any_port=False)
        self._connect_timeout = connect_timeout
        self._conversation = Conversation(caller)
        self._transport: Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._scheduled = False
        self._heard = 0.0
        """When the node last said anything."""
        self._closed = False
        self._why_closed = ""
        self._decode = decoder(partial(AsyncStoredResult, self._read_result))

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session: calls that are still waited for are cancelled by the node."""
        self._end("the client was closed")

    def _end(self, why: str, lost: bool = False) -> None:
        """``lost``: the node is not there to hear of it."""
        if self._closed:
            return
        self._closed, self._why_closed = True, why
        self._conversation.lose(why)
        self._wake_settled()
        self._arrived.set()
        if self._beat is not None:
            self._beat.cancel()
        if self._transport is not None and self._loop is not None:
            self._loop.remove_reader(self._transport.fd)
            self._conversation.bye()
            try:
                self._transport.exchange()
            finally:  # what the node says may be what can't be understood
                self._transport.close(lost)

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
        idle_timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """Run a tool and return its result; see ``Client.call``. Cancelling the task cancels the job."""
        await self._connect()
        feed = None if on_progress is None and idle_timeout is None else Feed()
        follow = None if feed is None else feed.follow(on_progress is not None, idle_timeout)
        handle = self._submit(name, arguments, timeout, key, CALL, partition, priority, queue_timeout, feed, follow)
        try:
            while on_progress is not None and not handle.settled:
                await handle._told(on_progress)
            await handle._answered()
            if feed is not None:
                feed.tell(on_progress)
        except BaseException:
            self._cancel(handle)
            raise
        return handle.outcome()

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
        idle_timeout: float | None = None,
        progress: bool = False,
    ) -> AsyncHandle:
        """Start a tool and return a handle; see ``Client.submit``."""
        await self._connect()
        feed = Feed() if progress or idle_timeout is not None else None
        follow = None if feed is None else feed.follow(progress, idle_timeout)
        return self._submit(name, arguments, timeout, key, KEEP, partition, priority, queue_timeout, feed, follow)

    def stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        priority: str = "normal",
        queue_timeout: float | None = None,
        idle_timeout: float | None = None,
        window: int = WINDOW,
        on_progress: OnProgress | None = None,
    ) -> AsyncStream:
        """Run a generator and get what it yields as it comes; see ``Client.stream``. It starts with the first part
        that is asked for, or with ``async with``."""
        feed = Feed(checked(window))
        follow = feed.follow(on_progress is not None, idle_timeout)

        async def start() -> AsyncHandle:
            await self._connect()
            return self._submit(name, arguments, timeout, None, CALL, "", priority, queue_timeout, feed, follow)

        return AsyncStream(name, start, on_progress)

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
        """Run a tool over many arguments; see ``Client.map``."""
        plan = Plan(name, window, chunk, ordered, errors, timeout, priority)
        send = partial(self._submit_piece, name, partition, priority)
        return async_mapped(plan, arguments, send, self._connect, self._arrived, progress)

    # ---- asking

    @property
    def session(self) -> str:
        return self._conversation.name

    async def tools(self) -> list[ToolSpec]:
        """What the node serves."""
        await self._connect()
        return sorted(self._conversation.tools.values(), key=lambda spec: spec.name)

    async def invalidate(
        self,
        tool: str | None = None,
        *,
        tags: Iterable[str] = (),
        arguments: Mapping[str, Any] | None = None,
        partition: str = "",
    ) -> None:
        """Let cached results be forgotten; see ``Client.invalidate``."""
        await self.call(INVALIDATE, what_to_invalidate(tool, tags, arguments, partition))

    async def job(self, job: str) -> dict[str, Any]:
        """What the node knows of a job, by its id: ``state``, and ``value`` once it is done. Raises UnknownJob."""
        return about(await self._ask("job", {"job": job}), partial(AsyncStoredResult, self._read_result))

    async def open_result(self, handle: str) -> AsyncStoredResult:
        """A stored result, by its handle; see ``Client.open_result``."""
        return await AsyncStoredResult.opened(self._read_result, handle)

    async def _read_result(self, handle: str, offset: int, length: int) -> dict[str, Any]:
        return await self._ask("result", {"handle": handle, "offset": offset, "length": length})

    async def _ask(self, what: str, params: dict[str, Any]) -> dict[str, Any]:
        await self._connect()
        conversation = self._conversation
        number = conversation.ask(what, params)
        self._flush()
        await self._until(lambda: conversation.asked[number] is not None)
        told: dict[str, Any] = conversation.asked.pop(number)
        if "error" in told and "code" in told["error"]:
            raise from_wire(told["error"])
        return told

    # ---- inside

    async def _connect(self) -> None:
        if self._closed:
            raise Unreachable(self._why_closed)
        if not self._conversation.node:
            self._open()
            await self._until(lambda: bool(self._conversation.node))

    def _open(self) -> None:
        """Begin to connect, in the event loop that runs."""
        if self._transport is None:
            self._loop = asyncio.get_running_loop()
            self._transport = Transport(self.address, self._conversation)
            self._loop.add_reader(self._transport.fd, self._exchange)
            self._beat = self._loop.create_task(self._keep())
            self._exchange()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that a message brings. Raises Unreachable, or why the node refuses this client."""
        conversation = self._conversation
        end = time.monotonic() + self._connect_timeout
        while not condition():
            if self._closed:
                raise Unreachable(self._why_closed)
            if not conversation.node and (refusal := conversation.refused()) is not None:
                raise refusal
            if time.monotonic() > end:
                raise unreachable(self.address)
            self._arrived.clear()
            try:
                async with asyncio.timeout(min(BEAT_SECONDS, self._connect_timeout)):
                    await self._arrived.wait()
            except TimeoutError:
                conversation.ping()
                self._exchange()

    def _submit(
        self,
        name: str,
        arguments: Mapping[str, Any] | None,
        timeout: float | None,
        key: str | None,
        mode: int,
        partition: str,
        priority: str = "normal",
        queue_timeout: float | None = None,
        feed: Feed | None = None,
        follow: Follow | None = None,
    ) -> AsyncHandle:
        if self._closed:
            raise Unreachable(self._why_closed)
        job = self._conversation.job(name, arguments, timeout, key, mode, partition, priority, queue_timeout, follow)
        handle = self._add(job)
        if feed is not None:
            handle.feed = feed
        return handle

    def _submit_piece(
        self, name: str, partition: str, priority: str, calls: list[Call], timeout: float | None, chunk: bool
    ) -> AsyncHandle:
        """Calls of a map, as one job."""
        if not chunk:
            return self._submit(name, calls[0], timeout, None, CALL, partition, priority)
        if self._closed:
            raise Unreachable(self._why_closed)
        return self._add(self._conversation.chunk(name, calls, timeout, partition, priority))

    def _future(self) -> asyncio.Future[None]:
        assert self._loop is not None
        return self._loop.create_future()

    def _take(self, handle: AsyncHandle) -> Any:
        """A stream's next part; the node hears of it, now and then."""
        assert handle.feed is not None
        value = handle.feed.take()
        if not self._closed:
            self._conversation.more(handle)
            if self._conversation.has_messages:
                self._soon()
        return value

    def _abandon(self, handle: AsyncHandle) -> None:
        """Nobody wants a job any more. It may be the collector that says so, in any thread."""
        if not handle.settled and not self._closed and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel, handle)

    def _add(self, job: Job) -> AsyncHandle:
        assert self._loop is not None
        deadline = self._conversation.deadline(job.timeout, time.monotonic())
        handle = AsyncHandle(
            job,
            self._conversation.name,
            deadline,
            decode=self._decode,
            client=self,
            future=self._loop.create_future(),
        )
        self._conversation.add(handle)
        self._soon()
        return handle

    def _cancel(self, handle: AsyncHandle) -> None:
        if not handle.settled and not self._closed:
            self._conversation.cancel(handle)
            self._soon()

    def _soon(self) -> None:
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self._exchange()

    def _exchange(self) -> None:
        transport = self._transport
        if self._closed or transport is None:
            return
        before = transport.received
        transport.exchange()
        if transport.received != before:
            self._heard = time.monotonic()
            self._arrived.set()
        if self._conversation.settled:
            self._wake_settled()
        for pending in self._conversation.told:
            _stir(pending)
        self._conversation.told.clear()

    def _knock(self) -> float:
        """Ask the node for a sign of life. Gives when the last was heard (seconds of ``time.monotonic()``)."""
        self._conversation.ping()
        return self._listen()

    def _listen(self) -> float:
        """Take in what has arrived. Gives when the last was heard."""
        if not self._closed:
            self._open()
            self._exchange()
        return self._heard

    def _wake_settled(self) -> None:
        if self._conversation.settled:
            self._arrived.set()
        for pending in self._conversation.settled:
            if isinstance(pending, AsyncHandle) and pending.future is not None and not pending.future.done():
                pending.future.set_result(None)
            _stir(pending)
        self._conversation.settled.clear()

    async def _keep(self) -> None:
        """Ask now and then whether the node still knows this session; give up jobs that nobody will answer."""
        conversation, asked = self._conversation, 0.0
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.monotonic()
            for pending in list(conversation.pending.values()):
                if now > pending.deadline + GRACE_SECONDS:
                    conversation.abandon(pending)
                    pending.error = silence(conversation, pending, self.address)
                    conversation.settled.append(pending)
            self._wake_settled()
            if conversation.pending and now - max(self._heard, asked) > BEAT_SECONDS:
                asked = now
                conversation.ping()
                self._exchange()


def _stir(pending: Pending) -> None:
    """Wake whoever waits for what a job tells next."""
    if isinstance(pending, AsyncHandle) and pending.stirred is not None and not pending.stirred.done():
        pending.stirred.set_result(None)
