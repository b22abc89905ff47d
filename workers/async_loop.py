"""The loop of a worker that has many jobs under way at once: one event loop, which the supervisor's socket wakes.

The socket's descriptor is edge-triggered, so whoever sends looks afterwards whether something has arrived.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from math import inf
from typing import Any, Final

from msgspec import Raw

from toolring import protocol
from toolring.lane import TURNED, Lane
from toolring.protocol import (
    INLINE,
    NIL,
    Answer,
    Batch,
    Collect,
    Done,
    Halt,
    Leaving,
    More,
    Part,
    Parts,
    Ready,
    Report,
    Trace,
)
from toolring.workers.async_runner import AsyncRunner
from toolring.workers.journal import LARGEST, Journal
from toolring.workers.loop import (
    Reports,
    Socket,
    descriptor,
    has_arrived,
    receive,
    report,
    report_last,
    say,
)
from toolring.workers.output import Output
from toolring.workers.resources import Resources
from toolring.workers.runnable import Runnable

TURN_SECONDS: Final = 0.1
"""While jobs are under way, the lane tells so often that the event loop turns."""
REPORT_SECONDS: Final = 1.0
_PACK: Final = 128

_encode = protocol.encode


class AsyncLoop:
    """One worker process's event loop, from ready to its end. Made inside that loop."""

    def __init__(
        self,
        socket: Socket,
        lane: Lane,
        runnables: Mapping[str, Runnable],
        make_logger: Callable[..., Any],
        max_result: int,
        reports: Reports,
        output: Output | None,
    ) -> None:
        self._socket = socket
        self._fd = descriptor(socket)
        self._words = lane.words
        self._journal = Journal(lane)
        self._runner = AsyncRunner(runnables, lane, make_logger, max_result, self._answer, self._part)
        self._make_logger = make_logger
        self._reports = reports
        self._output = output
        self._report_at: asyncio.TimerHandle | None = None
        self._answered = 0.0
        """When the last answers left."""
        self._answers: list[Answer] = []
        self._parts: list[Part] = []
        self._count = 0
        """Answers so far, over this worker's life."""
        self._soon = False
        self._turning = False
        self._told = False
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()

    async def run(self, pid: int) -> None:
        """Serve until told to stop, or until what runs is over in a process that must not begin anything more."""
        loop = self._loop
        loop.set_exception_handler(self._stray)
        loop.add_reader(self._fd, self._readable)
        say(self._socket, Ready(pid))
        self._report_within(REPORT_SECONDS)
        self._readable()
        await self._over.wait()
        loop.remove_reader(self._fd)
        self._flush()
        report_last(self._socket, self._reports)
        say(self._socket, Leaving())

    def _stray(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task that a tool left behind has failed."""
        error = context.get("exception")
        self._make_logger().error("stray_task_failed", reason=str(context.get("message")), error=repr(error))

    # ---- what arrives

    def _readable(self) -> None:
        socket = self._socket
        while has_arrived(socket):
            message, body = receive(socket)
            if isinstance(message, Batch):
                self._begin(message, body)
            elif isinstance(message, Halt):
                for seq in message.ids:
                    if (run := self._runner.runs.get(seq)) is not None:
                        run.halt()
            elif isinstance(message, More):
                if (run := self._runner.runs.get(message.id)) is not None:
                    run.more(message.granted)
            elif isinstance(message, Collect | Trace | Report):
                self._reports.tend(message)
                self._report()
            else:
                self._stop()
        if self._answers or self._parts:
            self._flush_soon()

    def _begin(self, batch: Batch, body: Any) -> None:
        if len(body):
            batch.work[0].args = Raw(body.buffer)
        for seq, work in enumerate(batch.work, batch.first):
            self._runner.begin(seq, work)
        if self._runner.runs and not self._turning:
            self._turn()

    def _stop(self) -> None:
        """Cancel what runs; the process ends once that is over."""
        self._told = self._runner.retired = True
        for run in list(self._runner.runs.values()):
            run.halt()
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._told and not self._runner.runs:
            self._over.set()

    def _turn(self) -> None:
        """Tell that the loop turns, as long as something is under way."""
        self._turning = bool(self._runner.runs)
        self._words[TURNED] = int(time.monotonic() * 1e6)
        if self._turning:
            self._loop.call_later(TURN_SECONDS, self._turn)

    # ---- what leaves

    def _answer(self, answer: Answer) -> None:
        """Make an answer safe; it leaves with those that are ready in the same turn of the loop."""
        if self._output is not None and self._output.open:
            self._output.ended(answer)
        self._count += 1
        self._journal.reclaim()
        encoded = _encode(answer) if len(answer.value) <= LARGEST else b""
        if encoded and len(encoded) <= LARGEST:
            self._journal.append(self._count, encoded)  # if it is full, what is on its way is all there is
        self._answers.append(answer)
        self._flush_soon()
        if self._runner.retired:
            self._retire()
        self._end_if_over()

    def _retire(self) -> None:
        """Memory ran out: the supervisor gives nothing more, and what runs may come to its end."""
        if not self._told:
            self._told = True
            self._flush()
            say(self._socket, Leaving())
            self._look_again()

    def _part(self, part: Part) -> None:
        if threading.get_ident() != self._thread:
            with suppress(RuntimeError):  # the loop has ended, and nobody listens any more
                self._loop.call_soon_threadsafe(self._part, part)
            return
        self._parts.append(part)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._soon:
            self._loop.call_soon(self._flush)
            self._soon = True

    def _flush(self) -> None:
        """Parts first, since they come before their jobs' answers."""
        self._soon = False
        parts, self._parts = self._parts, []
        answers, self._answers = self._answers, []
        for large, some in _messages(parts):
            say(self._socket, Parts(some), large)
        count = self._count - len(answers)
        for large, some in _messages(answers):
            count += len(some)
            say(self._socket, Done(some, count), large)
        if answers:
            self._answered = self._loop.time()
            self._report_within(REPORT_SECONDS)
        self._look_again()

    def _look_again(self) -> None:
        """After something was sent: the sign that something has arrived is given once, and sending may use it up."""
        if has_arrived(self._socket):
            self._loop.call_soon(self._readable)

    def _report_within(self, seconds: float) -> None:
        """Tell the figures after so long, if not before."""
        due, timer = self._loop.time() + seconds, self._report_at
        if timer is not None and timer.when() > due:
            timer.cancel()
            timer = None
        if timer is None:
            self._report_at = self._loop.call_at(due, self._report)

    def _report(self) -> None:
        if self._report_at is not None:
            self._report_at.cancel()
            self._report_at = None
        idle = not self._runner.runs
        rests = idle and self._loop.time() - self._answered >= REPORT_SECONDS
        if rests:
            self._reports.rest()
        report(self._socket, self._reports)
        self._look_again()
        again = min(REPORT_SECONDS if idle and not rests else inf, self._reports.again)
        if again < inf:
            self._report_within(again)


def _messages(things: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Answers or parts in their order, as many in a message as may be; a large value travels alone, in a frame."""
    some: list[Any] = []
    for thing in things:
        large = len(thing.value) > INLINE
        if some and (large or len(some) == _PACK):
            yield None, some
            some = []
        if large:
            body, thing.value = thing.value, NIL
            yield body, [thing]
        else:
            some.append(thing)
    if some:
        yield None, some


def serve(
    socket: Socket,
    lane: Lane,
    runnables: Mapping[str, Runnable],
    resources: Resources,
    group: str,
    make_logger: Callable[..., Any],
    max_result: int,
    reports: Reports,
    output: Output | None = None,
) -> None:
    """Serve until told to stop, in an event loop of this process's main thread."""

    async def main() -> None:
        resources.begin(group)
        await AsyncLoop(socket, lane, runnables, make_logger, max_result, reports, output).run(os.getpid())
        await asyncio.gather(*resources.closing())

    asyncio.run(main())
