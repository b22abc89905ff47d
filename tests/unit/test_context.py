from __future__ import annotations

import time
from typing import Any

from toolring.context import Context


def context(deadline: float | None, cancelled: bool = False, made: list[dict[str, Any]] | None = None) -> Context:
    def logger(**bound: Any) -> str:
        (made if made is not None else []).append(bound)
        return "logger"

    return Context(job="s-1", tool="t", attempt=2, deadline=deadline, cancelled=lambda: cancelled, make_logger=logger)


def test_it_says_when_to_return() -> None:
    assert not context(None).cancelled
    assert not context(time.monotonic() + 60).cancelled
    assert context(time.monotonic() - 1).cancelled
    assert context(None, cancelled=True).cancelled


def test_the_rest_of_the_time_is_never_negative() -> None:
    assert context(None).remaining() is None
    assert context(time.monotonic() - 5).remaining() == 0.0
    rest = context(time.monotonic() + 60).remaining()
    assert rest is not None
    assert 59 < rest <= 60


def test_a_logger_is_made_when_it_is_wanted_and_knows_the_job() -> None:
    made: list[dict[str, Any]] = []
    one = context(None, made=made)
    assert made == []
    assert one.logger == "logger"
    assert made == [{"job": "s-1", "tool": "t", "attempt": 2}]
