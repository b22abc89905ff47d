"""One attempt at a job inside a worker: deadline -> validate -> cache -> call -> encode."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.context import Context
from toolring.declare import Tool
from toolring.errors import (
    Cancelled,
    InvalidArguments,
    TooLarge,
    ToolError,
    ToolringError,
    UnknownTool,
    WorkerOutOfMemory,
    from_wire,
)
from toolring.lane import AT, CANCEL, RECALL, SHIELD, STARTED, TAKEN, Lane
from toolring.protocol import ERROR, NIL, OK, SKIPPED, Answer, Work
from toolring.workers.cache.results import Found, Question, ResultCache
from toolring.workers.failures import cause, check_raw, failure, refine
from toolring.workers.interrupt import Armed, JobInterrupted, Shield

_astuple = msgspec.structs.astuple
_encode = protocol.encode


class Runnable:
    """A tool made ready to be called many times: what the hot path needs, looked up once."""

    __slots__ = ("cache", "call", "changes", "context", "decode", "decode_all", "name", "positional", "tool")

    def __init__(
        self,
        tool: Tool[..., Any],
        cache: ResultCache | None,
        changes: Callable[[msgspec.Struct], None] | None = None,
    ) -> None:
        """``changes`` is told the arguments of each run that has ended, however it ended."""
        self.tool = tool
        self.name = tool.spec.name
        self.decode = tool.decode
        self.decode_all = msgspec.msgpack.Decoder(list[tool.arguments]).decode  # type: ignore[name-defined]
        self.cache = cache
        self.context = tool.context_parameter
        self.call = tool.function
        self.changes = changes
        self.positional = _all_positional(tool)


_decode_calls = msgspec.msgpack.Decoder(list[Raw]).decode


def _calls(work: Work) -> list[Raw]:
    try:
        calls = _decode_calls(work.args)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArguments(f"{work.tool}: a chunk's arguments are an array of maps: {error}") from None
    _check_count(work, len(calls))
    return calls


def _check_count(work: Work, count: int) -> None:
    if count != work.chunk:
        raise InvalidArguments(f"{work.tool}: {count} calls, where {work.chunk} were announced")


def _failed(seq: int, error: ToolringError, work: Work) -> bytes:
    return b"\x92\x01" + bytes(failure(seq, error, work).value)


def _joined(work: Work, parts: list[bytes], limit: int) -> Raw:
    """The results of a chunk as one array. Raises TooLarge."""
    value = b"".join((b"\xdd", len(parts).to_bytes(4, "big"), *parts))
    if len(value) > limit:
        text = f"{work.tool}: the results of {len(parts)} calls have {len(value)} bytes, the limit is {limit}"
        raise TooLarge(text, size=len(value), limit=limit)
    return Raw(value)


def _until(hold: float) -> int:
    return int((time.monotonic() + hold) * 1e6) if hold > 0 else 0


def _all_positional(tool: Tool[..., Any]) -> bool:
    """Can the arguments be passed by position, in the struct's order? It is half the cost of keywords."""
    code = getattr(tool.function, "__code__", None)
    if code is None or tool.context_parameter is not None or hasattr(tool.function, "__wrapped__"):
        return False
    fields = tool.arguments.__struct_fields__
    return bool(code.co_kwonlyargcount == 0 and code.co_varnames[: code.co_argcount] == fields)


class Runner:
    """Runs attempts one after the other in the main thread, so that a signal can end them."""

    __slots__ = ("_armed", "_lane", "_make_logger", "_max_result", "_runnables", "_words", "forked", "retired")

    def __init__(
        self,
        runnables: Mapping[str, Runnable],
        lane: Lane,
        armed: Armed,
        make_logger: Callable[..., Any],
        max_result: int,
    ) -> None:
        self._runnables = runnables
        self._lane = lane
        self._words = lane.words
        self._armed = armed
        self._make_logger = make_logger
        self._max_result = max_result
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
        try:
            if work.chunk:
                parts = self._plain_chunk(seq, work, runnable) or self._chunk(seq, work, runnable, start)
                return Answer(seq, OK, _joined(work, parts, self._max_result), int((time.monotonic() - start) * 1e6))
            arguments = runnable.decode(work.args)
            cache = runnable.cache
            if cache is not None and work.partition is not None:
                try:
                    question = cache.question(arguments, work.partition)
                except Exception:
                    pass  # what has no key is not cached
                else:
                    return self._cached(seq, work, runnable, cache, question, arguments, start)
            value = self._execute(seq, work, runnable, arguments)
        except ToolringError as error:
            return failure(seq, error, work, start)
        return Answer(seq, OK, value, int((time.monotonic() - start) * 1e6))

    def _plain_chunk(self, seq: int, work: Work, runnable: Runnable) -> list[bytes] | None:
        """The calls of a chunk in one sweep: the way for functions that take microseconds. None: it isn't for this
        tool, or some arguments don't fit; nothing has run then."""
        if not runnable.positional or runnable.cache is not None or runnable.changes is not None:
            return None
        try:
            calls = runnable.decode_all(work.args)
        except Exception:
            return None  # one by one it will be known which is wrong
        _check_count(work, len(calls))
        armed, call = self._armed, runnable.call
        parts: list[bytes] = []
        add = parts.append
        self._words[AT] = seq << 2 | STARTED
        try:
            try:
                armed.seq = seq
                for arguments in calls:
                    try:
                        result = call(*_astuple(arguments))
                        encoded = _encode((0, result))
                        if type(result) is Raw:
                            check_raw(work, _encode(result))
                        add(encoded)
                    except (JobInterrupted, MemoryError):
                        raise
                    except BaseException as error:
                        refined = error if isinstance(error, ToolringError) else refine(work, error)
                        add(_failed(seq, refined, work))
            finally:
                armed.seq = 0
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
        calls = _calls(work)
        parts: list[bytes] = []
        for call in calls:
            if self._words[CANCEL] == seq:
                raise Cancelled(f"{work.tool}: ended after {len(parts)} of {len(calls)} calls")
            try:
                parts.append(b"\x92\x00" + self._one_of(seq, work, runnable, call, start))
            except ToolringError as error:
                if self.retired:
                    raise
                parts.append(_failed(seq, error, work))
        return parts

    def _one_of(self, seq: int, work: Work, runnable: Runnable, call: Raw, start: float) -> bytes:
        """One call of a chunk, from the cache or run. Raises a ToolringError."""
        arguments = runnable.decode(call)
        cache = runnable.cache
        if cache is None or work.partition is None:
            return bytes(self._execute(seq, work, runnable, arguments))
        try:
            question = cache.question(arguments, work.partition)
        except Exception:  # what has no key is not cached
            return bytes(self._execute(seq, work, runnable, arguments))
        answer = self._cached(seq, work, runnable, cache, question, arguments, start)
        if answer.status != OK:
            raise from_wire(protocol.decode_value(answer.value))
        return bytes(answer.value)

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
            spent = int((time.monotonic() - start) * 1e6)
            return Answer(seq, found.status, Raw(found.value), spent, found.flags, _until(found.hold))
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
        return Answer(seq, OK, value, int((time.monotonic() - start) * 1e6), 0, _until(hold))

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
        armed = self._armed
        call = runnable.call
        if runnable.positional:
            args: tuple[Any, ...] = _astuple(arguments)
            kwargs: dict[str, Any] = {}
        else:
            args = ()
            kwargs = {f: getattr(arguments, f) for f in arguments.__struct_fields__}
            if runnable.context is not None:
                kwargs[runnable.context] = self._context(seq, work)
        self._words[AT] = seq << 2 | STARTED
        try:
            try:
                armed.seq = seq
                result = call(*args, **kwargs)
                encoded = _encode(result)
                if type(result) is Raw:
                    check_raw(work, encoded)
            finally:
                armed.seq = 0  # a bare store: no signal can be handled before it
                if self.forked:
                    os._exit(1)  # a child that the tool forked came back here; the job is its parent's
                if runnable.changes is not None:
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
        if len(encoded) > self._max_result:
            raise TooLarge(
                f"{work.tool}: the result has {len(encoded)} bytes, the limit is {self._max_result}",
                size=len(encoded),
                limit=self._max_result,
            )
        return Raw(encoded)

    def _context(self, seq: int, work: Work) -> Context:
        words = self._words
        words[SHIELD] = self._armed.shields = 0
        return Context(
            job=f"{work.session}-{work.id}",
            tool=work.tool,
            attempt=work.attempt,
            deadline=work.deadline,
            cancelled=lambda: words[CANCEL] == seq,
            shield=Shield(self._armed, self._lane, seq),
            make_logger=self._make_logger,
        )
