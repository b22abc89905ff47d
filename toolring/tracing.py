"""The W3C trace context of a call: from whoever calls, to the tool, and on to what the tool calls in turn.

It is handed on as https://www.w3.org/TR/trace-context/ asks. On the wire it is one text: the traceparent, and after a
space the tracestate, if there is one. A program that uses OpenTelemetry needs to say nothing: the span in which a call
is made is its parent, and so is that of a tool's call for the spans that the tool makes. It is never imported here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from toolring.context import job_at_hand
from toolring.errors import InvalidArguments

_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,510}[\x21-\x7e])?")
_given: ContextVar[str] = ContextVar("toolring_trace", default="")


@contextmanager
def traced(traceparent: str, tracestate: str = "") -> Iterator[None]:
    """``with traced(headers["traceparent"]):`` - the calls that are made in here belong to that trace.

    The tool sees it as ``context.traceparent``; calls and requests to services that it makes carry it on by themselves.
    Raises InvalidArguments for what is no W3C trace context.
    """
    token = _given.set(joined(traceparent, tracestate))
    try:
        yield
    finally:
        _given.reset(token)


def trace_headers() -> dict[str, str]:
    """The headers of the trace that this code belongs to, for what it calls by other means; empty if there is none."""
    parent, _, state = current().partition(" ")
    if not _PARENT.fullmatch(parent):  # by another client than toolring's own
        return {}
    return {"traceparent": parent, **({"tracestate": state} if _STATE.fullmatch(state) else {})}


def current() -> str:
    """As it travels: what ``traced`` says, else OpenTelemetry's, else that of the job that this code runs for."""
    given = _given.get() or _span()
    if given:
        return given
    job = job_at_hand()
    return "" if job is None else job.trace


def _span() -> str:
    """OpenTelemetry's current span, in a program that uses it."""
    otel = sys.modules.get("opentelemetry.trace")
    if otel is None or not hasattr(otel, "get_current_span"):  # it is just being imported
        return ""
    span = otel.get_current_span().get_span_context()
    if not span.is_valid:
        return ""
    parent, state = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}", span.trace_state.to_header()
    return f"{parent} {state}" if _STATE.fullmatch(state) else parent


def adopt(trace: str) -> Callable[[], object]:
    """Spans that are made from here on, in this thread or task, are children of this one; gives what undoes that."""
    otel, context = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.context")
    parent, _, state = trace.partition(" ")
    if otel is None or context is None or not _PARENT.fullmatch(parent):
        return lambda: None
    _, number, span, flags = parent.split("-")
    told = otel.SpanContext(
        int(number, 16), int(span, 16), True, otel.TraceFlags(int(flags, 16)), otel.TraceState.from_header([state])
    )
    token = context.attach(otel.set_span_in_context(otel.NonRecordingSpan(told)))
    return lambda: context.detach(token)


def is_trace(trace: str) -> bool:
    """Is it a trace context, as it travels? Clients other than toolring's own may send anything."""
    return _PARENT.fullmatch(trace.partition(" ")[0]) is not None


def joined(traceparent: str, tracestate: str = "") -> str:
    """Both as one text. Raises InvalidArguments."""
    for name, value, form in (("traceparent", traceparent, _PARENT), ("tracestate", tracestate, _STATE)):
        if not isinstance(value, str) or not (form.fullmatch(value) or (name == "tracestate" and not value)):
            raise InvalidArguments(f"{name}={value!r:.100} is not a W3C {name}", argument=name)
    return f"{traceparent} {tracestate}".rstrip(" ")
