"""The trace context that a call carries."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Tracer

from toolring import trace_headers, traced
from toolring.context import at_hand
from toolring.errors import InvalidArguments
from toolring.protocol import MAX_TRACE
from toolring.tracing import adopt, current, joined

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Job:
    deadline: float
    trace: str


def test_there_is_none_outside_of_any() -> None:
    assert trace_headers() == {}
    assert current() == ""


def test_what_is_given_holds_in_its_block_and_the_inner_wins() -> None:
    other = PARENT.replace("b7", "c8")
    with traced(PARENT, "a=1,b=2"):
        assert trace_headers() == {"traceparent": PARENT, "tracestate": "a=1,b=2"}
        with traced(other):
            assert trace_headers() == {"traceparent": other}
        assert current() == f"{PARENT} a=1,b=2"
    assert current() == ""


def test_a_tool_has_that_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "job", Job(1.0, f"{PARENT} a=1"))
    assert trace_headers() == {"traceparent": PARENT, "tracestate": "a=1"}
    with traced(PARENT):
        assert trace_headers() == {"traceparent": PARENT}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "0af7651916cd43dd8448eb211c80319c",
        PARENT.upper(),
        PARENT + "-more",
        PARENT.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        PARENT + "\r\nx: y",
    ],
)
def test_what_is_no_traceparent_is_refused(parent: str) -> None:
    with pytest.raises(InvalidArguments, match="traceparent"), traced(parent):
        pass


@pytest.mark.parametrize("state", [" a=1", "a=1\r\nx: y", "a=" + "b" * 600, "ä=1"])
def test_what_is_no_tracestate_is_refused(state: str) -> None:
    with pytest.raises(InvalidArguments, match="tracestate"), traced(PARENT, state):
        pass


def test_the_longest_of_all_travels() -> None:
    assert len(joined(PARENT, "a=" + "b" * 510)) <= MAX_TRACE


# ---- in a program that uses OpenTelemetry


@pytest.fixture
def tracer() -> Tracer:
    return TracerProvider().get_tracer("tests")


def test_the_span_in_which_a_call_is_made_is_its_parent(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracer.start_as_current_span("mine") as span:
        told = span.get_span_context()
        assert current() == f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"
        assert trace_headers() == {"traceparent": current()}
        monkeypatch.setattr(at_hand, "job", Job(1.0, PARENT))
        assert told.trace_id == int(current().split("-")[1], 16), "a span that a tool makes is nearer than its job's"
        with traced(PARENT):
            assert current() == PARENT, "what is said counts more than what is found"
    assert current() == PARENT


def test_its_state_goes_along(tracer: Tracer) -> None:
    leave = adopt(f"{PARENT} a=1,b=2")
    assert current() == f"{PARENT} a=1,b=2"
    with tracer.start_as_current_span("mine"):
        assert current().partition(" ")[2] == "a=1,b=2"
    leave()
    assert current() == ""


def test_spans_are_children_of_what_is_adopted(tracer: Tracer) -> None:
    leave = adopt(PARENT)
    with tracer.start_as_current_span("mine") as span:
        assert isinstance(span, ReadableSpan)
        assert span.parent is not None
        assert span.parent.is_remote
        assert (span.parent.trace_id, span.parent.span_id) == (int(PARENT[3:35], 16), int(PARENT[36:52], 16))
    leave()
    with tracer.start_as_current_span("mine") as span:
        assert isinstance(span, ReadableSpan)
        assert span.parent is None


def test_what_is_no_trace_is_not_adopted() -> None:
    for trace in ("", "nonsense", f"{PARENT}0"):
        leave = adopt(trace)
        assert current() == ""
        leave()


def test_without_it_nothing_is_imported() -> None:
    code = f"""
import sys
from toolring.tracing import adopt, current
adopt({PARENT!r})()
assert current() == ""
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
