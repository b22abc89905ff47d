"""One attempt in this very process, on a real lane."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Raw

from toolring import Context, ToolringError, tool
from toolring.declare import Tool
from toolring.errors import Conflict
from toolring.lane import AT, CANCEL, INTERRUPT, RECALL, STARTED, TAKEN, Lane, Lanes
from toolring.plugins.caches.lru import LRU
from toolring.protocol import CACHED, ERROR, LAYER_SHIFT, OK, SKIPPED, Answer, Part, Work, decode_value, encode
from toolring.settings import CacheSettings
from toolring.stamps import BYTES, Stamps
from toolring.workers.cache.base import Cache
from toolring.workers.cache.results import ResultCache
from toolring.workers.interrupt import Armed, install
from toolring.workers.runnable import Runnable
from toolring.workers.runner import Runner


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


seen: list[Any] = []


@tool
def add(a: int, b: int = 1) -> int:
    return a + b


@tool
def keyword(*, a: int) -> int:
    return a


@tool
def asks(context: Context, n: int) -> list[Any]:
    return [context.job, context.tool, context.attempt, context.cancelled, n]


@tool
def fails(how: str) -> Any:
    if how == "exit":
        raise SystemExit(3)
    if how == "memory":
        raise MemoryError
    if how == "own":
        raise Conflict("it is taken", holder="me")
    if how == "own_unsendable":
        raise ToolringError("bad facts", thing=object())
    if how == "unprintable":
        raise Unprintable
    if how == "recursion":
        return fails.function("recursion")
    if how == "type":
        return 1 + "1"  # type: ignore[operator]
    if how == "unsendable":
        return object()
    if how == "deep":
        value: Any = []
        for _ in range(100_000):
            value = [value]
        seen.append(value)
        return value
    if how == "large":
        return b"x" * 2000
    raise ValueError("it broke")


@tool
def watches() -> tuple[int, int]:
    lane = seen[-1]
    return lane.at()


@tool
def hangs() -> str:
    try:
        end = time.monotonic() + 5
        os.kill(os.getpid(), INTERRUPT)
        while time.monotonic() < end:
            pass
        return "never interrupted"
    finally:
        seen.append("cleaned up")


@tool
def swallows() -> str:
    try:
        os.kill(os.getpid(), INTERRUPT)
        for _ in range(1000):
            pass
    except BaseException:
        return "swallowed"
    return "never interrupted"


@tool(read_only=True, cache=60)
def cached(n: Any) -> list[int]:
    seen.append(n)
    return [1]


TOOLS: list[Tool[..., Any]] = [add, keyword, asks, fails, watches, hangs, swallows]


@pytest.fixture
def lane() -> Iterator[Lane]:
    lanes = Lanes(1)
    seen.clear()
    yield lanes.all[0]
    lanes.close()


class Followed:
    """A channel to whoever follows: what was posted, and what is granted when it is waited for."""

    def __init__(self) -> None:
        self.posted: list[Part] = []
        self.grants: list[int] = []

    def post(self, part: Part) -> None:
        self.posted.append(part)

    def wait(self, seq: int) -> int:
        return self.grants.pop(0)


@pytest.fixture
def channel() -> Followed:
    return Followed()


@pytest.fixture
def runner(lane: Lane, channel: Followed) -> Iterator[Runner]:
    import signal

    before = signal.getsignal(INTERRUPT)
    armed = Armed()
    install(armed, lane)
    runnables = {one.spec.name: Runnable(one, None) for one in TOOLS}
    cache = ResultCache(Cache(LRU(10), 10, 100_000), cached.spec, CacheSettings(), Stamps(bytearray(BYTES)))
    runnables["cached"] = Runnable(cached, cache)
    yield Runner(runnables, lane, armed, lambda **bound: bound, 1000, channel)
    signal.signal(INTERRUPT, before)


def work(name: str, arguments: dict[Any, Any] | None = None, deadline: float = float("inf"), attempt: int = 1) -> Work:
    return Work(name, Raw(encode(arguments or {})), deadline, "abcd", 7, attempt)


def error(answer: Answer) -> dict[str, Any]:
    assert answer.status == ERROR
    return decode_value(answer.value)


def test_a_result(runner: Runner, lane: Lane) -> None:
    answer = runner.run(3, work("add", {"a": 4}))
    assert (answer.id, answer.status, decode_value(answer.value), answer.flags) == (3, OK, 5, 0)
    assert 0 <= answer.run_us < 1_000_000
    assert lane.at() == (3, STARTED), "DONE is for whoever made the answer safe"


def test_arguments_by_position_and_by_keyword(runner: Runner) -> None:
    assert decode_value(runner.run(1, work("add", {"b": 10, "a": 1})).value) == 11
    assert decode_value(runner.run(2, work("keyword", {"a": 1})).value) == 1


def test_the_context_knows_the_attempt(runner: Runner) -> None:
    answer = runner.run(1, work("asks", {"n": 5}, attempt=3))
    assert decode_value(answer.value) == ["abcd-7", "asks", 3, False, 5]


def test_started_is_written_before_the_tool_is_called(runner: Runner, lane: Lane) -> None:
    seen.append(lane)
    assert decode_value(runner.run(9, work("watches")).value) == [9, STARTED]


def test_what_was_recalled_does_not_run(runner: Runner, lane: Lane) -> None:
    lane.words[RECALL] = 5
    seen.append(lane)
    assert runner.run(5, work("watches")).status == SKIPPED
    assert lane.at() == (5, TAKEN)
    assert runner.run(6, work("watches")).status == OK


def test_what_is_past_its_deadline_does_not_run(runner: Runner, lane: Lane) -> None:
    """The supervisor tells its caller, or knows of a later deadline by now."""
    assert runner.run(5, work("add", {"a": 1}, deadline=time.monotonic() - 1)).status == SKIPPED
    assert lane.at() == (5, TAKEN)
    assert runner.run(6, work("add", {"a": 1}, deadline=time.monotonic() + 60)).status == OK


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (work("add", {"a": "four"}), "INVALID_ARGUMENTS"),
        (work("nothing"), "UNKNOWN_TOOL"),
        (Work("add", Raw(b"\xc1"), float("inf"), "abcd", 7, 1), "INVALID_ARGUMENTS"),
        (Work("add", Raw(b""), float("inf"), "abcd", 7, 1), "INVALID_ARGUMENTS"),
    ],
)
def test_what_never_starts(runner: Runner, lane: Lane, job: Work, code: str) -> None:
    found = error(runner.run(4, job))
    assert found["code"] == code
    assert found["tool"] == job.tool
    assert found["attempt"] == 1
    assert lane.at() == (4, TAKEN), "so it may run elsewhere if this process dies now"


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("value", "TOOL_ERROR", "ValueError: it broke"),
        ("exit", "TOOL_ERROR", "SystemExit: 3"),
        ("type", "TOOL_ERROR", "TypeError"),
        ("recursion", "TOOL_ERROR", "RecursionError"),
        ("unprintable", "TOOL_ERROR", "Unprintable"),
        ("unsendable", "INVALID_RESULT", "can't be sent"),
        ("deep", "INVALID_RESULT", "can't be sent"),
        ("large", "TOO_LARGE", "2003 bytes, the limit is 1000"),
        ("memory", "WORKER_OOM", "out of memory"),
        ("own", "CONFLICT", "it is taken"),
        ("own_unsendable", "ERROR", "bad facts"),
    ],
)
def test_what_goes_wrong_in_a_tool_is_its_answer(runner: Runner, how: str, code: str, says: str) -> None:
    found = error(runner.run(1, work("fails", {"how": how}, attempt=2)))
    seen.clear()
    assert found["code"] == code
    assert says in found["message"]
    assert found["tool"] == "fails"
    assert found["attempt"] == 2
    assert runner.retired == (how == "memory")


def test_a_traceback_begins_at_the_tool(runner: Runner) -> None:
    found = error(runner.run(1, work("fails", {"how": "value"})))
    assert found["type"] == "ValueError"
    assert "in fails" in found["traceback"]
    assert "workers/runner.py" not in found["traceback"].replace("tests/unit/workers", "")
    assert found["traceback"].count("File ") == 1


def test_facts_of_a_tools_own_error_arrive(runner: Runner) -> None:
    assert error(runner.run(1, work("fails", {"how": "own"})))["holder"] == "me"


def test_after_memory_ran_out_nothing_more_runs_here(runner: Runner) -> None:
    runner.run(1, work("fails", {"how": "memory"}))
    assert runner.run(2, work("add", {"a": 1})).status == SKIPPED


def test_an_interrupt_ends_the_tool_and_its_cleanup_runs(runner: Runner, lane: Lane) -> None:
    lane.words[CANCEL] = 2
    began = time.monotonic()
    assert error(runner.run(2, work("hangs")))["code"] == "CANCELLED"
    assert time.monotonic() - began < 2
    assert seen == ["cleaned up"]
    assert runner.retired
    assert runner.run(3, work("add", {"a": 1})).status == SKIPPED


def test_an_interrupt_meant_for_another_attempt_does_nothing(runner: Runner, lane: Lane) -> None:
    lane.words[CANCEL] = 1
    answer = runner.run(2, work("swallows"))
    assert decode_value(answer.value) == "never interrupted"
    assert not runner.retired


def test_a_tool_that_swallows_its_interrupt_answers_with_its_result(runner: Runner, lane: Lane) -> None:
    lane.words[CANCEL] = 2
    assert decode_value(runner.run(2, work("swallows")).value) == "swallowed"


def test_equal_arguments_are_answered_from_the_cache(runner: Runner, lane: Lane) -> None:
    first = runner.run(1, work("cached", {"n": 1}))
    again = runner.run(2, work("cached", {"n": 1}))
    assert (first.flags, again.flags) == (0, CACHED | 1 << LAYER_SHIFT)
    assert bytes(again.value) == bytes(first.value)
    assert lane.at() == (2, TAKEN), "a hit starts nothing"
    assert seen == [1]


def test_arguments_that_differ_in_type_alone_are_not_equal(runner: Runner) -> None:
    for seq, n in enumerate([1, 1.0, True, "1", b"1", [1], None], 1):
        assert runner.run(seq, work("cached", {"n": n})).flags == 0
    assert len(seen) == 7


def test_arguments_without_an_order_are_run_and_may_miss(runner: Runner) -> None:
    one = runner.run(1, work("cached", {"n": {1: "a", "2": "b"}}))
    assert one.status == OK
    assert runner.run(2, work("cached", {"n": {1: "a", "2": "b"}})).flags & CACHED
    assert runner.run(3, work("cached", {"n": {1: "a", "2": "c"}})).flags == 0


def test_the_word_at_is_left_to_others_after_an_error(runner: Runner, lane: Lane) -> None:
    runner.run(5, work("fails", {"how": "value"}))
    assert lane.words[AT] == 5 << 2 | STARTED
