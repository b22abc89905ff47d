"""One attempt at a job inside a worker: deadline -> validate -> cache -> call -> encode."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.context import Context
from toolring.declare import Tool
from toolring.errors import (
    Cancelled,
    InvalidResult,
    ProtocolError,
    TooLarge,
    ToolError,
    ToolringError,
    UnknownTool,
    WorkerOutOfMemory,
)
from toolring.lane import AT, CANCEL, RECALL, STARTED, TAKEN, Lane
from toolring.protocol import ERROR, NIL, OK, SKIPPED, Answer, Work
from toolring.workers.cache.results import ResultCache
from toolring.workers.interrupt import Armed, JobInterrupted

_astuple = msgspec.structs.astuple
_encode = protocol.encode


class Runnable:
    """A tool made ready to be called many times: what the hot path needs, looked up once."""

    __slots__ = ("cache", "call", "context", "decode", "name", "positional", "tool")

    def __init__(self, tool: Tool[..., Any], cache: ResultCache | None) -> None:
        self.tool = tool
        self.name = tool.spec.name
        self.decode = tool.decode
        self.cache = cache
        self.context = tool.context_parameter
        self.call = tool.function
        self.positional = _all_positional(tool)


def _all_positional(tool: Tool[..., Any]) -> bool:
    """Can the arguments be passed by position, in the struct's order? It is half the cost of keywords."""
    code = getattr(tool.function, "__code__", None)
    if code is None or tool.context_parameter is not None or hasattr(tool.function, "__wrapped__"):
        return False
    fields = tool.arguments.__struct_fields__
    return bool(code.co_kwonlyargcount == 0 and code.co_varnames[: code.co_argcount] == fields)


class Runner:
    """Runs attempts one after the other in the main thread, so that a signal can end them."""

    __slots__ = ("_armed", "_lane", "_make_logger", "_max_result", "_runnables", "_words", "retired")

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
        self.retired = False
        """Set once this process must not run another tool: one was interrupted in it, or memory ran out."""

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
            return _failure(seq, UnknownTool(f"no tool {work.tool!r} in this worker"), work)
        try:
            arguments = runnable.decode(work.args)
            cache = runnable.cache
            if cache is None:
                value = self._execute(seq, work, runnable, arguments)
            else:
                key = cache.key(arguments)
                hit = cache.get(key)
                if hit is not None:
                    return Answer(seq, OK, Raw(hit), int((time.monotonic() - start) * 1e6), protocol.CACHED)
                value = self._execute(seq, work, runnable, arguments)
                cache.put(key, bytes(value))
        except ToolringError as error:
            return _failure(seq, error, work, start)
        return Answer(seq, OK, value, int((time.monotonic() - start) * 1e6))

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
                    _check_raw(work, encoded)
            finally:
                armed.seq = 0  # a bare store: no signal can be handled before it
        except JobInterrupted:
            self.retired = True
            raise Cancelled(f"{work.tool}: interrupted") from None
        except MemoryError as error:
            self.retired = True
            raise WorkerOutOfMemory(f"{work.tool}: out of memory", **_cause(error)) from None
        except ToolringError as error:
            error.facts.setdefault("tool", work.tool)
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a tool are the tool's failure too
            raise _refine(work, error) from None
        if len(encoded) > self._max_result:
            raise TooLarge(
                f"{work.tool}: the result has {len(encoded)} bytes, the limit is {self._max_result}",
                size=len(encoded),
                limit=self._max_result,
            )
        return Raw(encoded)

    def _context(self, seq: int, work: Work) -> Context:
        words = self._words
        return Context(
            job=f"{work.session}-{work.id}",
            tool=work.tool,
            attempt=work.attempt,
            deadline=work.deadline,
            cancelled=lambda: words[CANCEL] == seq,
            make_logger=self._make_logger,
        )


def _check_raw(work: Work, encoded: bytes) -> None:
    """A tool's own bytes must not break what they travel with. Raises InvalidResult."""
    try:
        protocol.check_value(encoded)
    except ProtocolError as error:
        raise InvalidResult(f"{work.tool}: the result is not msgpack: {error}") from None


def _refine(work: Work, error: BaseException) -> ToolringError:
    if isinstance(error, TypeError | RecursionError) and _from_encoder(error):
        return InvalidResult(f"{work.tool}: the result can't be sent: {error}")
    try:
        text = str(error)
    except Exception:  # the tool's own exception breaks while it is printed
        text = "(its message can't be printed)"
    return ToolError(f"{work.tool}: {type(error).__name__}: {text}", **_cause(error))


def _from_encoder(error: BaseException) -> bool:
    """Was it raised by the encoder itself, that is, in no frame below _execute?"""
    trace = error.__traceback__
    return trace is not None and trace.tb_next is None


def _cause(error: BaseException) -> dict[str, Any]:
    """The facts of a tool's exception; the traceback without toolring's own frames."""
    trace = error.__traceback__
    below = trace.tb_next if trace is not None else None
    try:
        text = "".join(traceback.format_exception(type(error), error, below, limit=-30))[-16384:]
    except Exception:  # a tool's exception may break while it is printed
        text = f"{type(error).__name__} (its traceback can't be printed)"
    return {"type": type(error).__name__, "traceback": text}


def _failure(seq: int, error: ToolringError, work: Work, start: float | None = None) -> Answer:
    error.facts.setdefault("tool", work.tool)
    error.facts["attempt"] = work.attempt
    try:
        body = _encode(error.to_wire())
    except (TypeError, ValueError, RecursionError, OverflowError):
        body = _encode({"code": error.code, "message": error.message, "tool": work.tool, "attempt": work.attempt})
    spent = 0 if start is None else int((time.monotonic() - start) * 1e6)
    return Answer(seq, ERROR, Raw(body), spent)
