"""The synchronous client. Thread-safe: any number of threads may call at once over one connection.

There is no thread between a caller and the socket. One of the waiting threads polls the descriptor for all of them,
and passes the duty on when it has its own answer. A keeper thread only does what nobody waits for: it sends what was
submitted a moment ago, and notices that the node was lost.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from toolring import address as addresses
from toolring.client.arguments import what_to_invalidate
from toolring.client.batches import Call, Plan, Window
from toolring.client.feed import WINDOW, Feed, OnProgress, checked
from toolring.client.handles import Handle, Stream
from toolring.client.mapping import mapped
from toolring.client.operator import Operator
from toolring.client.session import BEAT_SECONDS, GRACE_SECONDS, Conversation, Pending, silence, unreachable
from toolring.client.stored import StoredResult, about
from toolring.client.transport import Transport
from toolring.errors import Unreachable, from_wire
from toolring.protocol import CALL, KEEP, PACK, Follow
from toolring.spec import INVALIDATE, ToolSpec
from toolring.stored import decoder

CHUNKS: Final = 4
"""Chunks in one message: each is many calls."""
LINGER_SECONDS: Final = 0.0005
"""A job that is submitted right after another may wait so long for company; one that comes alone never does."""


class Client(Operator):
    """Calls the tools of a node.

    Args:
        address: where the node listens; by default TOOLRING_ADDRESS, or this user's ipc socket.
        caller: a name that separates idempotency keys of different callers.
        connect_timeout: seconds to wait for the node to answer at all, before Unreachable is raised.
    """

    def __init__(self, address: str | None = None, *, caller: str = "", connect_timeout: float = 5.0) -> None:
        self.address = addresses.check(address or addresses.default_address(), any_port=False)
        self._connect_timeout = connect_timeout
        self._mutex = threading.Lock()
        self._conversation = Conversation(caller)
        self._transport = Transport(self.address, self._conversation)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._poll = select.poll()
        self._poll.register(self._transport.fd, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        self._polling = False
        self._waiting: dict[int, list[threading.Lock]] = {}
        self._flushed = 0.0
        self._heard = time.monotonic()
        """When the node last said anything."""
        self._closed = False
        self._why_closed = ""
        self._kick = threading.Event()
        self._lingering = False
        self._keeper: threading.Thread | None = None
        self._abandoned: deque[Handle] = deque()
        self._decode = decoder(partial(StoredResult, self._read_result))
        _clients.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session: calls that are still waited for are cancelled by the node."""
        self._end("the client was closed")

    def _end(self, why: str, lost: bool = False) -> None:
        """``lost``: the node is not there to hear of it."""
        with self._mutex:
            if self._closed:
                return
            self._closed, self._why_closed = True, why
            self._conversation.lose(why)
            self._wake(self._conversation.settled)
            self._wake_poller()
        self._kick.set()
        if self._keeper is not None:
            self._keeper.join()
        with self._mutex:
            self._conversation.bye()
            try:
                self._transport.exchange()
            finally:  # what the node says may be what can't be understood
                self._transport.close(lost)
                os.close(self._wake_read)
                os.close(self._wake_write)

    # ---- calling

    def call(
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
        """Run a tool and return its result; of a generator, the list of what it yields.

        Args:
            name: the tool.
            arguments: its arguments by name; anything that msgpack can carry.
            timeout: seconds until there must be an answer; the work is ended then. The node's default otherwise.
            key: an idempotency key: calls with the same key and arguments run once and share the answer.
            partition: who shares a cached result, for tools whose ``cache_scope`` is ``partition``.
            priority: ``low``, ``normal`` or ``high``, among the jobs of this caller.
            queue_timeout: seconds that it may wait until it starts; then it ends as Expired.
            idle_timeout: seconds that it may go without yielding anything or telling of its progress.
            on_progress: called with each ``Progress`` that the tool tells, in this thread.

        Raises:
            ToolringError: whatever the call ended in, by its code (see the reference of errors).
        """
        feed = None if on_progress is None and idle_timeout is None else Feed()
        follow = None if feed is None else feed.follow(on_progress is not None, idle_timeout)
        handle = self._submit(
            name, arguments, timeout, key, CALL, partition, priority, queue_timeout, feed, follow, now=True
        )
        try:
            while on_progress is not None and not handle.settled:
                self._hear(handle, on_progress)
            if not handle.settled:
                self._wait(handle, None)
            if feed is not None:
                feed.tell(on_progress)
        except BaseException:
            self._cancel(handle)
            raise
        return handle.outcome()

    def submit(
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
    ) -> Handle:
        """Start a tool and return a handle at once.

        The job goes on if this client vanishes, and its result can be had by its id for a while (``Client.job``).
        With ``progress``, the handle's ``progress`` is the last that the tool has said of it.
        """
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
    ) -> Stream:
        """Run a generator and get what it yields as it comes.

        Args:
            name, arguments, timeout, priority, queue_timeout, idle_timeout, on_progress: as in ``call``.
            window: bytes of parts that the tool may be ahead of its reader.
        """
        feed = Feed(checked(window))
        follow = feed.follow(on_progress is not None, idle_timeout)
        handle = self._submit(name, arguments, timeout, None, CALL, "", priority, queue_timeout, feed, follow, now=True)
        return Stream(self, handle, on_progress)

    def map(
        self,
        name: str,
        arguments: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        window: int | None = None,
        chunk: int = 1,
        ordered: bool = True,
        errors: str = "raise",
        progress: bool = False,
        partition: str = "",
        priority: str = "normal",
    ) -> Iterator[Any]:
        """Run a tool over many arguments.

        Leaving the iterator early, or by an error, cancels what is under way. What the node is too busy for is sent
        again as there is room for it, until none was answered for as long as one job may take.

        Args:
            timeout: seconds until there must be an answer, of each job.
            window: calls that are under way at once, so ``arguments`` may be endless; fewer if the node is busy. By
                default 256, or 64 chunks.
            chunk: calls that travel and run as one job; for very short ones.
            ordered: give results in the order of the arguments; else ``(index, result)`` as they come.
            errors: ``raise`` the first one, or ``return`` each in place of its result.
            progress: show on a terminal how far it is.
            partition: as in ``call``.
            priority: as in ``call``.
        """
        plan = Plan(name, window, chunk, ordered, errors, timeout, priority)
        send = partial(self._submit_piece, name, partition, priority)
        return mapped(plan, arguments, send, lambda under_way: self._wait_for(under_way, ordered), progress)

    def _wait_for(self, window: Window[Handle], ordered: bool) -> None:
        """Until something arrives that may be for it, or one is to be sent again."""
        moment = time.monotonic()
        patience = min(BEAT_SECONDS, max(0.0, window.next_look() - moment))
        for piece in window.pieces:
            if piece.handle is not None and not piece.settled and moment > piece.handle.deadline + GRACE_SECONDS:
                self._give_up(piece.handle)
                return
        first = window.pieces[0].handle
        if ordered and first is not None and not window.waits:
            self._serve_or_leave(first, patience, lambda: first.settled)
        else:
            self._rest(patience, lambda: window.stirred)

    def _submit_piece(
        self, name: str, partition: str, priority: str, calls: list[Call], timeout: float | None, chunk: bool
    ) -> Handle:
        """Calls of a map, as one job."""
        if not chunk:
            return self._submit(name, calls[0], timeout, None, CALL, partition, priority)
        conversation = self._conversation
        if self._keeper is None:
            self._connect()
        moment = time.monotonic()
        with self._mutex:
            if self._closed:
                raise Unreachable(self._why_closed)
            job = conversation.chunk(name, calls, timeout, partition, priority)
            until = conversation.deadline(job.timeout, moment)
            handle = Handle(job, conversation.name, until, decode=self._decode, client=self)
            conversation.add(handle)
            self._flush(moment, CHUNKS)
        return handle

    # ---- asking

    @property
    def session(self) -> str:
        return self._conversation.name

    def tools(self) -> list[ToolSpec]:
        """What the node serves."""
        self._connect()
        return sorted(self._conversation.tools.values(), key=lambda spec: spec.name)

    def invalidate(
        self,
        tool: str | None = None,
        *,
        tags: Iterable[str] = (),
        arguments: Mapping[str, Any] | None = None,
        partition: str = "",
    ) -> None:
        """Let cached results be forgotten, in every layer: all of them, those of a tool, the one for these arguments
        (in this partition), or those that bear one of these tags. Once it returns, none of them is given any more.
        """
        self.call(INVALIDATE, what_to_invalidate(tool, tags, arguments, partition))

    def job(self, job: str) -> dict[str, Any]:
        """What the node knows of a job, by its id: ``state``, and ``value`` once it is done. Raises UnknownJob."""
        return about(self._ask("job", {"job": job}), partial(StoredResult, self._read_result))

    def open_result(self, handle: str) -> StoredResult:
        """A stored result, by its handle, whoever was given it. Raises ResultGone."""
        return StoredResult.opened(self._read_result, handle)

    def _read_result(self, handle: str, offset: int, length: int) -> dict[str, Any]:
        return self._ask("result", {"handle": handle, "offset": offset, "length": length})

    def _ask(self, what: str, params: dict[str, Any]) -> dict[str, Any]:
        self._connect()
        with self._mutex:
            number = self._conversation.ask(what, params)
        end = time.monotonic() + self._connect_timeout
        while (told := self._conversation.asked[number]) is None:
            if time.monotonic() > end:
                raise unreachable(self.address)
            self._rest(0.05)
        del self._conversation.asked[number]
        if "error" in told and "code" in told["error"]:
            raise from_wire(told["error"])
        return dict(told)

    # ---- inside

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
        now: bool = False,
    ) -> Handle:
        conversation = self._conversation
        if self._keeper is None:
            self._connect()
        moment = time.monotonic()
        with self._mutex:
            if self._closed:
                raise Unreachable(self._why_closed)
            job = conversation.job(name, arguments, timeout, key, mode, partition, priority, queue_timeout, follow)
            until = conversation.deadline(job.timeout, moment)
            handle = Handle(job, conversation.name, until, decode=self._decode, client=self)
            if feed is not None:
                handle.feed = feed
            conversation.add(handle)
            self._flush(moment, 1 if now else PACK)
        return handle

    def _flush(self, moment: float, enough: int) -> None:
        """Send what is queued, if it is ``enough`` or the last went a while ago; else it lingers. Under the mutex."""
        if self._conversation.queued >= enough or moment - self._flushed > LINGER_SECONDS:
            self._flushed = moment
            self._take_in()
        elif not self._lingering:
            self._lingering = True
            self._kick.set()

    def _connect(self) -> None:
        """Wait for the node's welcome. Raises Unreachable."""
        now = time.monotonic()
        end, knock = now + self._connect_timeout, now + BEAT_SECONDS
        while not self._conversation.node:
            with self._mutex:
                refusal = self._conversation.refused()
                now = time.monotonic()
                if now > knock:
                    knock = now + BEAT_SECONDS
                    self._conversation.ping()
            if refusal is not None:
                raise refusal
            if now > end:
                raise unreachable(self.address)
            self._rest(0.02)
        self._start_keeper()

    def _wake(self, heard: list[Pending]) -> None:
        """Wake those who wait for these: their answers have come, or something before. Under the mutex."""
        if self._waiting:
            for pending in heard:
                for lock in self._waiting.pop(pending.job.id, ()):
                    lock.release()
        heard.clear()

    def _wake_poller(self) -> None:
        """Another thread polls, and can't see what was received here. Under the mutex."""
        if self._polling:
            with suppress(BlockingIOError):  # full of wake-ups: one more says nothing new
                os.write(self._wake_write, b".")

    def _wait(self, handle: Handle, timeout: float | None) -> None:
        """Wait until a handle is settled. Raises TimeoutError."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        try:
            while not handle.settled:
                now = time.monotonic()
                if now >= end:
                    raise TimeoutError(f"job {handle.id} has no answer after {timeout} s; it goes on")
                if now > handle.deadline + GRACE_SECONDS:
                    self._give_up(handle)
                    return
                self._serve_or_wait(handle, min(end - now, BEAT_SECONDS), lambda: handle.settled)
        finally:
            if self._waiting and not handle.settled:  # it may have polled for others, and leaves without an answer
                with self._mutex:
                    self._pass_on()

    def _hear(self, handle: Handle, on_progress: OnProgress | None) -> None:
        """Wait until a job tells something, or is answered; tell of its progress."""
        feed = handle.feed
        assert feed is not None
        if time.monotonic() > handle.deadline + GRACE_SECONDS:
            self._give_up(handle)
            return
        self._serve_or_leave(handle, BEAT_SECONDS, lambda: handle.settled or feed.has_told)
        feed.tell(on_progress)

    def _take(self, handle: Handle) -> Any:
        """A stream's next part; the node hears of it, now and then."""
        with self._mutex:
            assert handle.feed is not None
            value = handle.feed.take()
            if not self._closed:
                self._conversation.more(handle)
                if self._conversation.has_messages:
                    self._take_in()
        return value

    def _serve_or_leave(self, handle: Handle, patience: float, enough: Callable[[], bool]) -> None:
        """Wait once, until something arrives or somebody says so; whoever else waits may have to poll then."""
        try:
            self._serve_or_wait(handle, patience, enough)
        finally:
            if self._waiting and not handle.settled:
                with self._mutex:
                    self._pass_on()

    def _serve_or_wait(self, handle: Handle, patience: float, enough: Callable[[], bool]) -> None:
        """Poll for everybody if nobody does, else wait for the one who does."""
        with self._mutex:
            if enough():
                return
            if self._conversation.has_messages:
                self._take_in()
                if enough():
                    return
            poller = not self._polling
            if poller:
                self._polling = True
            else:
                lock = threading.Lock()
                lock.acquire()
                self._waiting.setdefault(handle.job.id, []).append(lock)
        if poller:
            self._poll_for_all(patience, handle)
        elif not lock.acquire(timeout=patience):
            with self._mutex:
                locks = self._waiting.get(handle.job.id, [])
                if lock in locks:
                    locks.remove(lock)
                    if not locks:
                        del self._waiting[handle.job.id]

    def _rest(self, patience: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Wait for anything to arrive, for those who wait for something else than one job's answer; not at all if what
        has arrived is ``enough``."""
        with self._mutex:
            if self._closed:
                raise Unreachable(self._why_closed)
            self._take_in()
            if enough():
                return
            poller = not self._polling
            if poller:
                self._polling = True
        if poller:
            self._poll_for_all(patience, None)
        else:
            time.sleep(min(patience, 0.002))

    def _poll_for_all(self, patience: float, handle: Handle | None) -> None:
        """Wait until something arrives, take it in, and pass the duty on unless it is still needed here."""
        found: list[tuple[int, int]] = []
        try:
            found = self._poll.poll(patience * 1000)
        finally:
            with self._mutex:
                self._polling = False
                if not self._closed:
                    if any(fd == self._wake_read for fd, _ in found):
                        os.read(self._wake_read, 512)
                    self._take_in()
                if handle is None or handle.settled:
                    self._pass_on()

    def _pass_on(self) -> None:
        """Let one of those who wait poll. Under the mutex."""
        if self._waiting and not self._polling:
            for lock in self._waiting.pop(next(iter(self._waiting))):
                lock.release()

    def _take_in(self) -> None:
        """Send what is to be sent, receive all that has arrived. Under the mutex."""
        if self._closed:
            return
        before = self._transport.received
        self._transport.exchange()
        if self._transport.received != before:
            self._heard = time.monotonic()
            self._wake_poller()
        conversation = self._conversation
        if conversation.settled:
            self._wake_poller()  # a job that never left is cancelled without a message
            self._wake(conversation.settled)
        if conversation.told:
            self._wake(conversation.told)

    def _look(self) -> None:
        with self._mutex:
            self._take_in()

    def _knock(self) -> float:
        """Ask the node for a sign of life. Gives when the last was heard (seconds of ``time.monotonic()``)."""
        with self._mutex:
            if not self._closed:
                self._conversation.ping()
        return self._listen()

    def _listen(self) -> float:
        """Take in what has arrived. Gives when the last was heard."""
        self._look()
        return self._heard

    def _give_up(self, handle: Handle) -> None:
        """The node should have spoken long ago: it is gone, and with it whatever is known of the job."""
        with self._mutex:
            if handle.settled:
                return
            self._conversation.abandon(handle)
            handle.error = silence(self._conversation, handle, self.address)

    def _cancel(self, handle: Handle) -> None:
        with self._mutex:
            if not handle.settled and not self._closed:
                self._conversation.cancel(handle)
                self._take_in()

    def _abandon(self, handle: Handle) -> None:
        """Nobody wants a job any more. It may be the collector that says so, in the midst of anything."""
        if handle.settled or self._closed:
            return
        if self._mutex.acquire(blocking=False):
            try:
                self._conversation.cancel(handle)
                self._take_in()
            finally:
                self._mutex.release()
        else:
            self._abandoned.append(handle)

    # ---- the keeper

    def _start_keeper(self) -> None:
        with self._mutex:
            if self._keeper is None and not self._closed:
                self._keeper = threading.Thread(target=self._keep, name="toolring-client", daemon=True)
                self._keeper.start()

    def _keep(self) -> None:
        """Send what lingers; while jobs are pending, ask now and then whether the node still knows this session."""
        asked = 0.0
        while not self._closed:
            if self._kick.wait(BEAT_SECONDS):
                time.sleep(LINGER_SECONDS)
            with self._mutex:
                if self._closed:
                    return
                now = time.monotonic()
                while self._abandoned:
                    self._conversation.cancel(self._abandoned.popleft())
                    self._take_in()
                if self._conversation.queued:
                    self._flushed = now
                    self._take_in()
                else:
                    self._lingering = False
                    self._kick.clear()
                if self._conversation.pending and now - max(self._heard, asked) > BEAT_SECONDS:
                    asked = now
                    self._conversation.ping()
                    self._take_in()


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child a client's connection is its parent's, and its lock may be held by a thread that isn't here."""
    for client in _clients:
        client._mutex = threading.Lock()
        client._closed = True
        client._why_closed = "this client was made before a fork; make one in each process"


os.register_at_fork(after_in_child=_after_fork)
