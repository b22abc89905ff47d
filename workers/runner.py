"""One attempt at a job inside a worker that runs one at a time: deadline -> validate -> cache -> call -> encode."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.context import Context, at_hand
from toolring.errors import (
    Cancelled,
    ToolError,
    ToolringError,
    UnknownTool,
    WorkerOutOfMemory,
    from_wire,
)
from toolring.lane import AT, CANCEL, RECALL, SHIELD, STARTED, TAKEN, Lane
from toolring.protocol import ERROR, NIL, OK, SKIPPED, STREAMED, Answer, Part, Work
from toolring.tracing import adopt
from toolring.workers.cache.results import Found, Question, ResultCache
from toolring.workers.failures import cause, check_raw, failure, refine
from toolring.workers.interrupt import Armed, JobInterrupted, Shield
from toolring.workers.outlet import Outlet
from toolring.workers.resources import BUFFERS
from toolring.workers.runnable import (
    Runnable,
    all_fail,
    calls_of,
    check_count,
    failed,
    failures,
    fitted,
    found_answer,
    spread,
    succeeded,
    together,
    until,
    within,
)

_astuple = msgspec.structs.astuple
_encode = protocol.encode
_NOTHING: Final[dict[str, Any]] = {}


class Channel(Protocol):
    """To whoever follows the job at hand. A tool's threads may use it as well, between ``open`` and ``close``."""

    def open(self, seq: int) -> None: ...

    def close(self) -> None: ...

    def post(self, part: Part) -> None: ...

    def wait(self, seq: int) -> int:
        """Wait until the caller has taken in more of this job's parts: bytes of them that may be sent in all."""
        ...


class Runner:
    """Runs attempts one after the other in the main thread, so that a signal can end them."""

    __slots__ = (
        "_armed",
        "_channel",
        "_lane",
        "_main",
        "_make_logger",
        "_max_result",
        "_outlet",
        "_runnables",
        "_show",
        "_shown",
        "_words",
        "forked",
        "retired",
    )

    def __init__(
        self,
        runnables: Mapping[str, Runnable],
        lane: Lane,
        armed: Armed,
        make_logger: Callable[..., Any],
        max_result: int,
        channel: Channel,
        show: Callable[[str], None] = lambda _tool: None,
    ) -> None:
        """``show`` is told the name of a tool that is about to run, if it isn't the last one's."""
        self._show = show
        self._shown = ""
        self._runnables = runnables
        self._lane = lane
        self._words = lane.words
        self._armed = armed
        self._make_logger = make_logger
        self._max_result = max_result
        self._channel = channel
        self._outlet: Outlet | None = None
        self._main = threading.get_ident()
        self.forked = False
        """Set in a child that a tool forked."""
        os.register_at_fork(after_in_child=self._mark)
        self.retired = False
        """Set once this process must not run another tool: one was interrupted in it, or memory ran out."""

    def _mark(self) -> None:
        self.forked = True

    def run(self, seq: int, work: Work) -> Answer:
        """The answer to one attempt; never raises for what a tool does."""
        words = self._words
        words[AT] = seq << 2 | TAKEN
        if words[RECALL] >= seq or self.retired:
            return Answer(seq, SKIPPED, NIL)
        start = time.monotonic()
        if start >= work.deadline:
            return Answer(seq, SKIPPED, NIL)  # the supervisor tells its caller, or knows of a later deadline
        runnable = self._runnables.get(work.tool)
        if runnable is None:
            return failure(seq, UnknownTool(f"no tool {work.tool!r} in this worker"), work)
        if work.tool != self._shown:
            self._shown = work.tool
            self._show(work.tool)
        if not work.trace:
            return self._perform(seq, work, runnable, start)
        leave = adopt(work.trace)
        try:
            return self._perform(seq, work, runnable, start)
        finally:
            leave()

    def _perform(self, seq: int, work: Work, runnable: Runnable, start: float) -> Answer:
        if work.stream or work.progress:
            return self._followed(seq, work, runnable, start)
        return self._attempt(seq, work, runnable, start)

    def _followed(self, seq: int, work: Work, runnable: Runnable, start: float) -> Answer:
        """An attempt of which somebody wants to hear before it is over."""
        outlet = self._outlet = Outlet(seq, work, self._post, self._max_result)
        self._channel.open(seq)
        try:
            answer = self._attempt(seq, work, runnable, start)
        finally:
            self._channel.close()
            self._outlet = None
        if work.stream:
            answer.flags |= STREAMED
            answer.parts = outlet.parts
        return answer

    def _post(self, part: Part) -> None:
        """Send a part to its end: half a message would be taken for the first half of the next."""
        if threading.get_ident() != self._main:  # no signal is handled there
            self._channel.post(part)
            return
        armed = self._armed
        armed.missed, armed.sending = False, True
        try:
            self._channel.post(part)
        finally:
            armed.sending = False
        if armed.missed:
            raise JobInterrupted

    def _attempt(self, seq: int, work: Work, runnable: Runnable, start: float) -> Answer:
        try:
            if work.chunk:
                parts = self._calls(seq, work, runnable, start)
                value = fitted(seq, work, parts, self._max_result)
                return Answer(seq, OK, value, int((time.monotonic() - start) * 1e6), 0, 0, 0, failures(parts))
            arguments = runnable.decode(work.args)
            cache = runnable.cache
            if cache is not None and (question := runnable.question(arguments, work)) is not None:
                return self._cached(seq, work, runnable, cache, question, arguments, start)
            value = self._execute(seq, work, runnable, arguments)
        except ToolringError as error:
            return failure(seq, error, work, start)
        return Answer(seq, OK, value, int((time.monotonic() - start) * 1e6))

    # ---- many calls as one job

    def _calls(self, seq: int, work: Work, runnable: Runnable, start: float) -> list[bytes]:
        if runnable.item is not None:
            return self._together(seq, work, runnable)
        return self._plain_chunk(seq, work, runnable) or self._chunk(seq, work, runnable, start)

    def _plain_chunk(self, seq: int, work: Work, runnable: Runnable) -> list[bytes] | None:
        """The calls of a chunk in one sweep: the way for functions that take microseconds. None: it isn't for this
        tool, or some arguments don't fit; nothing has run then."""
        alone = (runnable.cache, runnable.changes, runnable.store)
        if not runnable.positional or alone != (None, None, None):
            return None
        try:
            calls = runnable.decode_all(work.args)
        except Exception:
            return None  # one by one it will be known which is wrong
        check_count(work, len(calls))
        armed, call, most = self._armed, runnable.call, self._max_result + 2
        parts: list[bytes] = []
        add = parts.append
        at_hand.job = work
        self._words[AT] = seq << 2 | STARTED
        try:
            try:
                armed.seq = seq
                for arguments in calls:
                    try:
                        result = call(*_astuple(arguments))
                        body = _encode((0, result))
                        if type(result) is Raw:
                            check_raw(work, _encode(result))
                        if len(body) > most:
                            within(work, body[2:], self._max_result)
                        add(body)
                    except (JobInterrupted, MemoryError):
                        raise
                    except BaseException as error:
                        refined = error if isinstance(error, ToolringError) else refine(work, error)
                        add(failed(seq, refined, work))
            finally:
                armed.seq = 0
                at_hand.job = None
                if self.forked:
                    os._exit(1)
        except JobInterrupted:
            self.retired = True
            raise Cancelled(f"{work.tool}: interrupted after {len(parts)} of {len(calls)} calls") from None
        except MemoryError as error:
            self.retired = True
            raise WorkerOutOfMemory(f"{work.tool}: out of memory", **cause(error)) from None
        return parts

    def _chunk(self, seq: int, work: Work, runnable: Runnable, start: float) -> list[bytes]:
        """The calls of a chunk, each as if it had come alone. The whole ends with an error if it must end, or if this
        process must not run another tool."""
        calls = calls_of(work)
        parts: list[bytes] = []
        for call in calls:
            if self._words[CANCEL] == seq:
                raise Cancelled(f"{work.tool}: ended after {len(parts)} of {len(calls)} calls")
            try:
                parts.append(succeeded(self._one_of(seq, work, runnable, call, start)))
            except ToolringError as error:
                if self.retired:
                    raise
                parts.append(failed(seq, error, work))
        return parts

    def _one_of(self, seq: int, work: Work, runnable: Runnable, call: Raw, start: float) -> bytes:
        """One call of a chunk, from the cache or run. Raises a ToolringError."""
        arguments = runnable.decode(call)
        cache = runnable.cache
        if cache is None or (question := runnable.question(arguments, work)) is None:
            return bytes(self._execute(seq, work, runnable, arguments))
        answer = self._cached(seq, work, runnable, cache, question, arguments, start)
        if answer.status != OK:
            raise from_wire(protocol.decode_value(answer.value))
        return bytes(answer.value)

    def _together(self, seq: int, work: Work, runnable: Runnable) -> list[bytes]:
        """All calls in one run of the function, or in as few as it allows."""
        batch = together(seq, work, runnable)
        for items, places in batch.runs(runnable.batch):
            if self._words[CANCEL] == seq:
                raise Cancelled(f"{work.tool}: ended before all of its calls had run")
            args, kwargs = (items,), self._extras(seq, work, runnable)
            try:
                finish = partial(spread, seq, work, batch, places, self._max_result, store=runnable.store)
                self._run(seq, work, runnable, args, kwargs, None, finish)
            except ToolringError as error:
                if self.retired:
                    raise
                all_fail(seq, work, batch, places, error)
        return batch.parts

    # ---- one call

    def _cached(
        self,
        seq: int,
        work: Work,
        runnable: Runnable,
        cache: ResultCache,
        question: Question,
        arguments: msgspec.Struct,
        start: float,
    ) -> Answer:
        """From the cache, or run and kept there."""
        found = cache.find(question, work.renew)
        claimed = False
        if found is None and cache.shared and not work.renew:
            found = self._claim(seq, work, cache, question)
            claimed = found is None
        if found is not None:
            return found_answer(seq, found, start)
        began = time.monotonic()
        try:
            value = self._execute(seq, work, runnable, arguments)
            hold = cache.keep(question, OK, bytes(value), time.monotonic() - began)
        except ToolringError as error:
            answer = failure(seq, error, work, start)
            if cache.keeps_errors and isinstance(error, ToolError) and not self.retired and not work.renew:
                cache.keep(question, ERROR, bytes(answer.value), time.monotonic() - began)
            return answer
        finally:
            if claimed:
                cache.release(question)
        return Answer(seq, OK, value, int((time.monotonic() - start) * 1e6), 0, until(hold))

    def _claim(self, seq: int, work: Work, cache: ResultCache, question: Question) -> Found | None:
        """Wait for another node that makes the same result; may be interrupted as the tool itself may be."""
        self._words[AT] = seq << 2 | STARTED
        try:
            try:
                self._armed.seq = seq
                return cache.claim(question, work.deadline)
            finally:
                self._armed.seq = 0
        except JobInterrupted:
            self.retired = True
            raise Cancelled(f"{work.tool}: interrupted") from None

    def _execute(self, seq: int, work: Work, runnable: Runnable, arguments: msgspec.Struct) -> Raw:
        """Call the tool and encode what it returns. Raises a ToolringError for whatever goes wrong."""
        if runnable.positional:
            body = self._run(seq, work, runnable, _astuple(arguments), _NOTHING, arguments, None)
        else:
            kwargs = {**runnable.keywords(arguments), **self._extras(seq, work, runnable)}
            finish = partial(self._drain, seq, work) if runnable.streams else None
            body = self._run(seq, work, runnable, (), kwargs, arguments, finish)
        if runnable.store is not None:
            body = runnable.store.instead_of(body)
        return Raw(body) if len(body) <= self._max_result else within(work, body, self._max_result)

    def _run(
        self,
        seq: int,
        work: Work,
        runnable: Runnable,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        arguments: msgspec.Struct | None,
        finish: Callable[[Any], Any] | None,
    ) -> Any:
        """The one place where a tool's code runs. What it returns is encoded, or given to ``finish``."""
        armed = self._armed
        call = runnable.call
        at_hand.job = work
        self._words[AT] = seq << 2 | STARTED
        try:
            try:
                armed.seq = seq
                result = call(*args, **kwargs)
                if finish is not None:
                    return finish(result)
                body = _encode(result)
                if type(result) is Raw:
                    check_raw(work, body)
                return body
            finally:
                armed.seq = 0  # a bare store: no signal can be handled before it
                at_hand.job = None
                if self.forked:
                    os._exit(1)  # a child that the tool forked came back here; the job is its parent's
                if runnable.changes is not None and arguments is not None:
                    runnable.changes(arguments)
        except JobInterrupted:
            self.retired = True
            raise Cancelled(f"{work.tool}: interrupted") from None
        except MemoryError as error:
            self.retired = True
            raise WorkerOutOfMemory(f"{work.tool}: out of memory", **cause(error)) from None
        except ToolringError as error:
            error.facts.setdefault("tool", work.tool)
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a tool are the tool's failure too
            raise refine(work, error) from None

    def _drain(self, seq: int, work: Work, generator: Iterator[Any]) -> Raw:
        """Hand on what a generator yields, as fast as it is taken, or collect it."""
        outlet = self._outlet or Outlet(seq, work, self._post, self._max_result)
        outlet.begin()
        try:
            while True:
                try:
                    item = next(generator)
                except StopIteration as end:
                    return outlet.result(end.value)
                while outlet.full:
                    outlet.granted = self._channel.wait(seq)
                outlet.give(item)
        except BaseException:
            with suppress(Exception):
                generator.close()  # type: ignore[attr-defined]  # its cleanup runs now, not when it is collected
            raise

    def _extras(self, seq: int, work: Work, runnable: Runnable) -> Mapping[str, Any]:
        """What the tool asks of toolring: services, the Context."""
        if runnable.context is None:
            return runnable.given
        words = self._words
        words[SHIELD] = self._armed.shields = 0
        context = Context(
            job=f"{work.session}-{work.id}",
            tool=work.tool,
            attempt=work.attempt,
            deadline=work.deadline,
            cancelled=lambda: words[CANCEL] == seq,
            shield=Shield(self._armed, self._lane, seq),
            make_logger=self._make_logger,
            tell=self._outlet.tell if self._outlet is not None else _nobody,
            trace=work.trace,
            buffer=BUFFERS.acquire,
        )
        return {**runnable.given, runnable.context: context}


def _nobody(_done: float, _total: float | None, _message: str) -> None:
    """Nobody listens."""
