"""From what went wrong in a tool to the error that its caller gets: bounded, and always possible to encode."""

from __future__ import annotations

import os
import time
import traceback
from types import TracebackType
from typing import Any, Final

from msgspec import Raw

from toolring import protocol
from toolring.errors import InvalidResult, ProtocolError, ToolError, ToolringError
from toolring.protocol import ERROR, Answer, Work

LONGEST: Final = 16_384
"""Characters of an error's text, and of its traceback: a result's limit must not be passed by way of an error."""
_FRAMES: Final = 30
_HERE: Final = os.path.dirname(__file__) + os.sep


def refine(work: Work, error: BaseException) -> ToolringError:
    """The error for what a tool raised, or for a result that can't be encoded."""
    if isinstance(error, TypeError | ValueError | RecursionError | OverflowError) and _from_encoder(error):
        return InvalidResult(f"{work.tool}: the result can't be sent: {error}")
    return of_the_tool(work, error)


def of_the_tool(work: Work, error: BaseException) -> ToolringError:
    """The error for an exception of the tool's own."""
    if isinstance(error, ToolringError):
        error.facts.setdefault("tool", work.tool)
        return error
    try:
        text = str(error)[:LONGEST]
    except BaseException:  # the tool's own exception breaks while it is printed
        text = "(its message can't be printed)"
    return ToolError(f"{work.tool}: {type(error).__name__}: {text}", **cause(error))


def cause(error: BaseException) -> dict[str, Any]:
    """The facts of a tool's exception; the traceback without toolring's own frames."""
    below = _below(error.__traceback__)
    try:
        text = "".join(traceback.format_exception(type(error), error, below, limit=-_FRAMES))[-LONGEST:]
    except BaseException:
        text = f"{type(error).__name__} (its traceback can't be printed)"
    return {"type": type(error).__name__, "traceback": text}


def check_raw(work: Work, encoded: bytes) -> None:
    """A tool's own bytes must not break what they travel with. Raises InvalidResult."""
    try:
        protocol.check_value(encoded)
    except ProtocolError as error:
        raise InvalidResult(f"{work.tool}: the result is not msgpack: {error}") from None


def failure(seq: int, error: ToolringError, work: Work, start: float | None = None) -> Answer:
    """The answer that carries an error; ``start`` is when the attempt began (monotonic seconds)."""
    error.facts.setdefault("tool", work.tool)
    error.facts["attempt"] = work.attempt
    try:
        body = protocol.encode(error.to_wire())
    except (TypeError, ValueError, RecursionError, OverflowError):
        body = protocol.encode({key: _plain(value) for key, value in error.to_wire().items()})
    spent = 0 if start is None else int((time.monotonic() - start) * 1e6)
    return Answer(seq, ERROR, Raw(body), spent)


def _plain(value: Any) -> Any:
    """Something that can be encoded for sure; text keeps what UTF-8 can't carry as escapes."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    try:
        text = str(value)
    except Exception:
        text = f"({type(value).__name__})"
    return text[:LONGEST].encode("utf-8", "backslashreplace").decode()


def _from_encoder(error: BaseException) -> bool:
    """Was it raised by the encoder itself, that is, in no frame below the worker's own?"""
    return error.__traceback__ is not None and _below(error.__traceback__) is None


def _below(trace: TracebackType | None) -> TracebackType | None:
    """The tool's own frames."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    return trace
