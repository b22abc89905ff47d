"""The trace context that a call carries."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from toolring import trace_headers, traced
from toolring.context import at_hand
from toolring.errors import InvalidArguments
from toolring.protocol import MAX_TRACE
from toolring.tracing import current, joined

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
