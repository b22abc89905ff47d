"""One attempt in this very process, on a real lane."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct

from toolring import Context, Retry, ToolringError, remaining, tool
from toolring.context import at_hand
from toolring.declare import Tool
from toolring.errors import Conflict
from toolring.lane import AT, CANCEL, INTERRUPT, RECALL, STARTED, TAKEN, Lane, Lanes
from toolring.plugins.caches.lru import LRU
from toolring.protocol import (
    ALIVE,
    CACHED,
    ERROR,
    LAYER_SHIFT,
    OK,
    PART_BYTES,
    PROGRESS,
    SKIPPED,
    STREAMED,
    Answer,
    Part,
    Work,
    decode_value,
    encode,
)
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
seen_lane: list[Lane] = []


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


@tool
def counts(n: int, how: str = "") -> Generator[Any, None, str]:
    try:
        for k in range(n):
            if how == "raise" and k == 2:
                raise ValueError("no further")
            if how == "interrupt" and k == 2:
                os.kill(os.getpid(), INTERRUPT)
                for _ in range(1000):
                    pass
            if how == "object" and k == 2:
                yield object()
            yield "x" * 300 if how == "large" else k
    finally:
        seen.append("closed")
        if how == "closing":
            raise ValueError("even its cleanup fails")
    return "all"


@tool
def tells(n: int, context: Context) -> float | None:
    for k in range(n):
        context.progress(k, n, "on its way")
    context.progress(n, n)
    with pytest.raises(TypeError, match="two numbers and a text are wanted"):
        context.progress("a", 1)  # type: ignore[arg-type]
    return remaining()


@tool(batch=3)
def doubles(n: list[int], context: Context) -> Any:
    seen.append((list(n), context.tool))
    if 13 in n:
        raise ValueError("unlucky")
    if 5 in n:
        return n[:1]
    return [ValueError("seven") if k == 7 else Conflict("eight") if k == 8 else 2 * k for k in n]


def strike() -> None:
    """A real signal, and time for it to arrive."""
    os.kill(os.getpid(), INTERRUPT)
    for _ in range(1000):
        pass


@tool
def numbers(n: int, end: str = "") -> Generator[int, None, dict[str, int]]:
    """Tells when it yields, and when it is closed."""
    try:
        for number in range(n):
            seen.append(number)
            yield number
        if end == "exit":
            raise SystemExit(3)
        if end == "raise":
            raise ValueError("it broke")
        return {"all": n}
    finally:
        seen.append("closed")


@tool
def tidies(how: str) -> Iterator[str]:
    """Its cleanup does what a cleanup should not."""
    try:
        while True:
            yield "x" * 300
    finally:
        seen.append("closing")
        if how == "raises":
            raise RuntimeError("while it was closed")
        if how == "yields":
            yield "once more"
        if how == "strikes":
            strike()
            seen.append("closed")


@tool(read_only=True, cache=60)
def listed(n: int) -> Iterator[int]:
    seen.append(n)
    yield from range(n)


@tool
def steps(n: int, context: Context) -> Iterator[int]:
    for number in range(n):
        context.progress(number, n, f"step {number}")
        yield number


@tool
def says(done: Any, total: Any, context: Context) -> str:
    context.progress(done, total, "so far")
    return "said"


@tool
def left() -> float | None:
    return remaining()


@tool
def left_by_keyword(*, fail: bool = False) -> Any:
    if fail:
        raise ValueError(remaining())
    return remaining()


@tool
def left_as_parts() -> Iterator[float | None]:
    yield remaining()
    yield remaining()


@tool(batch=8)
def left_together(keys: list[str]) -> list[float | None]:
    return [remaining() for _ in keys]


class Question(Struct):
    a: int
    how: str = ""


@tool(batch=3)
def weigh(questions: list[Question]) -> Any:
    """Tells the items of each run. What one of them asks for happens to all of its run, or to itself."""
    seen.append([question.a for question in questions])
    results: list[Any] = [2 * question.a for question in questions]
    for place, question in enumerate(questions):
        if question.how in ("raise", "retry", "memory"):
            raise {"raise": ValueError("all"), "retry": Retry("later"), "memory": MemoryError()}[question.how]
        if question.how == "strike":
            seen_lane[0].words[CANCEL] = 4
            strike()
        if question.how in ("none", "fewer"):
            return None if question.how == "none" else results[:-1]
        if question.how in ("bad", "unsendable"):
            results[place] = ValueError("this one") if question.how == "bad" else object()
    return results


@tool(batch=2)
def weigh_knowing(keys: list[str], context: Context) -> list[Any]:
    """Returns in time when it is asked to end."""
    seen.append(list(keys))
    if "stop" in keys:
        seen_lane[0].words[CANCEL] = 1
    return [[key, context.job, context.cancelled] for key in keys]


TOOLS: list[Tool[..., Any]] = [add, keyword, asks, fails, watches, hangs, swallows, counts, tells, doubles]
TOOLS += [numbers, tidies, steps, says, left, left_by_keyword, left_as_parts, left_together, weigh, weigh_knowing]


@pytest.fixture
def lane() -> Iterator[Lane]:
    lanes = Lanes(1)
    seen.clear()
    seen_lane[:] = lanes.all
    yield lanes.all[0]
    lanes.close()


class Followed:
    """A channel to whoever follows: what was posted, and what is granted when it is waited for."""

    def __init__(self) -> None:
        self.posted: list[Part] = []
        self.grants: list[int] = []
        self.waits: list[tuple[int, int]] = []
        """Whose parts were waited for, and how many there were."""
        self.half: Callable[[], None] = lambda: None
        """Happens while a message is half sent."""

        self.opened: list[int] = []
        """Whose it was, one after the other; 0: nobody's."""

    def open(self, seq: int) -> None:
        self.opened.append(seq)

    def close(self) -> None:
        self.opened.append(0)

    def post(self, part: Part) -> None:
        self.half()
        self.posted.append(part)

    def wait(self, seq: int) -> int:
        self.waits.append((seq, len(self.posted)))
        if not self.grants:
            strike()
        return self.grants.pop(0)

    @property
    def told(self) -> list[Any]:
        return [(part.id, part.number, decode_value(part.value)) for part in self.posted]


@pytest.fixture
def channel() -> Followed:
    return Followed()


@pytest.fixture
def runner(lane: Lane, channel: Followed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    before = signal.getsignal(INTERRUPT)
    monkeypatch.setattr(at_hand, "job", None)
    armed = Armed()
    install(armed, lane)
    runnables = {one.spec.name: Runnable(one, None) for one in TOOLS}
    for one in (cached, listed):
        cache = ResultCache(Cache(LRU(10), 10, 100_000), one.spec, CacheSettings(), Stamps(bytearray(BYTES)))
        runnables[one.spec.name] = Runnable(one, cache)
    yield Runner(runnables, lane, armed, lambda **bound: bound, 1000, channel)
    signal.signal(INTERRUPT, before)


def work(name: str, arguments: Any = None, deadline: float = float("inf"), attempt: int = 1, **more: Any) -> Work:
    return Work(name, Raw(encode(arguments or {})), deadline, "abcd", 7, attempt, **more)


def chunk(name: str, calls: list[Any], **more: Any) -> Work:
    return work(name, calls, chunk=len(calls), **more)


def each(answer: Answer) -> list[Any]:
    """Of a chunk: results, and the codes of errors."""
    assert answer.status == OK
    return [value if status == 0 else value["code"] for status, value in decode_value(answer.value)]


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


# ---- generators, progress


def followed(name: str, arguments: dict[Any, Any], stream: int = 0, progress: bool = False, chunk: int = 0) -> Work:
    made = work(name, arguments)
    made.stream, made.progress, made.chunk = stream, progress, chunk
    return made


def test_a_generator_is_collected(runner: Runner, channel: Followed) -> None:
    assert decode_value(runner.run(1, work("counts", {"n": 4})).value) == [0, 1, 2, 3]
    assert not channel.posted
    many = followed("counts", [{"n": 2}, {"n": 1}], progress=True, chunk=2)  # type: ignore[arg-type]
    assert decode_value(runner.run(2, many).value) == [[0, [0, 1]], [0, [0]]]
    assert {part.number for part in channel.posted} == {ALIVE}


def test_a_generator_is_streamed_as_far_as_it_is_taken(runner: Runner, channel: Followed) -> None:
    channel.grants = [100, 131, 10_000]
    answer = runner.run(1, followed("counts", {"n": 5}, stream=66))
    assert (decode_value(answer.value), answer.flags, answer.parts) == ("all", STREAMED, 5)
    assert [(part.id, part.number, decode_value(part.value)) for part in channel.posted] == [
        (1, k + 1, k) for k in range(5)
    ]
    assert channel.grants == []


@pytest.mark.parametrize("stream", [0, 10_000])
@pytest.mark.parametrize(
    ("how", "code"),
    [("raise", "TOOL_ERROR"), ("object", "INVALID_RESULT"), ("interrupt", "CANCELLED"), ("closing", "TOOL_ERROR")],
)
def test_a_generator_that_does_not_come_to_its_end(
    runner: Runner, lane: Lane, channel: Followed, stream: int, how: str, code: str
) -> None:
    lane.words[CANCEL] = 1
    answer = runner.run(1, followed("counts", {"n": 4, "how": how}, stream=stream))
    assert error(answer)["code"] == code
    assert seen == ["closed"]
    assert runner.retired is (how == "interrupt")
    assert answer.parts == len(channel.posted) == (0 if not stream else 4 if how == "closing" else 2)


def test_what_is_collected_has_the_limit_of_any_result(runner: Runner) -> None:
    assert error(runner.run(1, work("counts", {"n": 9, "how": "large"})))["code"] == "TOO_LARGE"
    assert seen == ["closed"]
    answer = runner.run(2, followed("counts", {"n": 9, "how": "large"}, stream=100_000))
    assert (answer.status, answer.parts) == (OK, 9)


def test_progress_and_what_remains_of_the_time(runner: Runner, channel: Followed) -> None:
    made = followed("tells", {"n": 1000}, progress=True)
    made.deadline = time.monotonic() + 100
    left = decode_value(runner.run(1, made).value)
    assert 90 < left < 100
    assert remaining() is None
    told = [decode_value(part.value) for part in channel.posted]
    assert {part.number for part in channel.posted} == {PROGRESS}
    assert told[0] == [0, 1000, "on its way"]
    assert told[-1] == [1000, 1000, ""]
    assert len(told) < 100, "not every word is sent"
    channel.posted.clear()
    runner.run(2, work("tells", {"n": 3}))
    assert not channel.posted, "nobody listens"


# ---- many calls in one run


def test_many_calls_in_one_run(runner: Runner) -> None:
    calls = [{"n": k} for k in (1, 7, 8, 13, 2, 3, 5, 4)] + [{"m": 1}, {"n": "x"}]
    made = followed("doubles", calls, chunk=10)  # type: ignore[arg-type]
    runner._max_result = 100_000  # ten errors are longer than the others' limit
    parts = decode_value(runner.run(1, made).value)
    assert seen == [([1, 7, 8], "doubles"), ([13, 2, 3], "doubles"), ([5, 4], "doubles")]
    assert [given["code"] if status else given for status, given in parts] == [
        *(2, "TOOL_ERROR", "CONFLICT"),
        *["TOOL_ERROR"] * 3,
        *["INVALID_RESULT"] * 2,
        *["INVALID_ARGUMENTS"] * 2,
    ]
    assert "1 results" in parts[6][1]["message"]
    assert parts[1][1]["type"] == "ValueError"


# ---- more of generators


def test_it_runs_ahead_of_its_reader_by_the_window_and_no_further(runner: Runner, channel: Followed) -> None:
    size = PART_BYTES + 1
    channel.grants = [2 * size, 2 * size + 1, 4 * size, 100 * size]
    answer = runner.run(4, work("numbers", {"n": 7}, stream=2 * size))
    assert (answer.status, decode_value(answer.value), answer.parts) == (OK, {"all": 7}, 7)
    assert channel.waits == [(4, 2), (4, 2), (4, 3), (4, 4)], "a grant that isn't larger lets nothing through"
    assert [value for _, _, value in channel.told] == list(range(7))


@pytest.mark.parametrize("stream", [0, 10_000])
@pytest.mark.parametrize(("end", "text"), [("raise", "ValueError: it broke"), ("exit", "SystemExit: 3")])
def test_the_traceback_of_a_generator_begins_at_the_tool(
    runner: Runner, channel: Followed, end: str, text: str, stream: int
) -> None:
    found = error(runner.run(4, work("numbers", {"n": 2, "end": end}, stream=stream)))
    assert (found["code"], found["message"]) == ("TOOL_ERROR", f"numbers: {text}")
    assert found["traceback"].count("File ") == 1
    assert seen == [0, 1, "closed"]


def test_a_generator_that_waits_for_its_reader_can_be_interrupted(
    runner: Runner, channel: Followed, lane: Lane
) -> None:
    lane.words[CANCEL] = 4
    answer = runner.run(4, work("numbers", {"n": 9}, stream=1))
    assert error(answer)["code"] == "CANCELLED"
    assert seen == [0, 1, "closed"]
    assert answer.parts == len(channel.posted) == 1
    assert runner.retired


@pytest.mark.parametrize("name", ["numbers", "says"])
def test_an_interrupt_does_not_break_into_a_message_that_is_half_sent(
    runner: Runner, channel: Followed, lane: Lane, name: str
) -> None:
    """What follows on the same socket would be taken for its other half."""
    lane.words[CANCEL] = 4
    channel.half = strike
    arguments = {"numbers": {"n": 1}, "says": {"done": 1, "total": 2}}[name]
    stream = 10_000 if name == "numbers" else 0
    answer = runner.run(4, work(name, arguments, stream=stream, progress=not stream))
    assert len(channel.posted) == 1, "it was sent to its end"
    assert answer.parts == (1 if stream else 0)


@pytest.mark.parametrize("how", ["", "raises", "yields"])
def test_what_is_collected_ends_at_the_limit_whatever_its_cleanup_does(runner: Runner, how: str) -> None:
    found = error(runner.run(4, work("tidies", {"how": how})))
    assert (found["code"], found["limit"], found["size"]) == ("TOO_LARGE", 1000, 4 * 303)
    assert seen == ["closing"]


def test_a_second_interrupt_does_not_break_into_a_generators_cleanup(
    runner: Runner, channel: Followed, lane: Lane
) -> None:
    lane.words[CANCEL] = 4
    assert error(runner.run(4, work("tidies", {"how": "strikes"}, stream=1)))["code"] == "CANCELLED"
    assert seen == ["closing", "closed"]


def test_the_calls_of_a_chunk_are_collected_one_by_one(runner: Runner) -> None:
    runner._max_result = 2000
    calls = [{"n": 2}, {"n": 1, "end": "raise"}, {"n": "x"}, {"n": 0}, {"n": 3000}, {"n": 3}]
    assert each(runner.run(1, chunk("numbers", calls))) == [
        [0, 1],
        "TOOL_ERROR",
        "INVALID_ARGUMENTS",
        [],
        "TOO_LARGE",
        [0, 1, 2],
    ]


def test_a_generator_is_cached_like_any_tool_but_not_as_a_stream(runner: Runner, channel: Followed) -> None:
    answers = [
        runner.run(seq, work("listed", {"n": 3}, stream=stream)) for seq, stream in enumerate([999, 0, 0, 999], 1)
    ]
    assert [answer.flags & CACHED for answer in answers] == [0, 0, CACHED, 0]
    assert [decode_value(answer.value) for answer in answers] == [None, [0, 1, 2], [0, 1, 2], None]
    assert [answer.parts for answer in answers] == [3, 0, 0, 3]
    assert seen == [3, 3, 3]


def test_what_is_no_number_is_the_tools_fault(runner: Runner, channel: Followed) -> None:
    found = error(runner.run(4, work("says", {"done": "half", "total": 2}, progress=True)))
    assert (found["code"], found["type"]) == ("TOOL_ERROR", "TypeError")
    assert channel.posted == []


def test_the_next_job_has_a_channel_of_its_own(runner: Runner, channel: Followed) -> None:
    runner.run(4, work("steps", {"n": 2}, stream=9999, progress=True))
    first = len(channel.posted)
    assert first >= 3
    assert decode_value(runner.run(5, work("steps", {"n": 2})).value) == [0, 1]
    assert len(channel.posted) == first, "nobody asked"
    answer = runner.run(6, work("steps", {"n": 2}, stream=9999))
    assert channel.told[first:] == [(6, 1, 0), (6, 2, 1)]
    assert answer.parts == 2


# ---- more of many calls in one run


@pytest.mark.parametrize(
    ("calls", "results", "runs"),
    [
        ([{"a": 1}], [2], [[1]]),
        ([{"a": n} for n in range(7)], [0, 2, 4, 6, 8, 10, 12], [[0, 1, 2], [3, 4, 5], [6]]),
        ([{"a": 1}, {"a": "x"}, {}, {"a": 2}], [2, "INVALID_ARGUMENTS", "INVALID_ARGUMENTS", 4], [[1, 2]]),
        ([{"a": "x"}], ["INVALID_ARGUMENTS"], []),
        ([{"a": 1}, {"a": 2, "how": "bad"}, {"a": 3}], [2, "TOOL_ERROR", 6], [[1, 2, 3]]),
        ([{"a": 1, "how": "unsendable"}, {"a": 2}], ["INVALID_RESULT", 4], [[1, 2]]),
        ([{"a": 1}, {"a": 2, "how": "fewer"}], ["INVALID_RESULT"] * 2, [[1, 2]]),
        ([{"a": 1}, {"a": 2, "how": "none"}], ["INVALID_RESULT"] * 2, [[1, 2]]),
        ([{"a": 1}, {"a": 2, "how": "retry"}], ["RETRY"] * 2, [[1, 2]]),
        (
            [{"a": 1, "how": "raise"}, {"a": "x"}, {"a": 2}, {"a": 3}, {"a": 4}],
            ["TOOL_ERROR", "INVALID_ARGUMENTS", "TOOL_ERROR", "TOOL_ERROR", 8],
            [[1, 2, 3], [4]],
        ),
    ],
)
def test_each_of_many_calls_has_its_own_answer(
    runner: Runner, lane: Lane, calls: list[Any], results: list[Any], runs: list[list[int]]
) -> None:
    runner._max_result = 100_000  # errors are long
    assert each(runner.run(4, chunk("weigh", calls))) == results
    assert seen == runs
    assert lane.at() == (4, STARTED if runs else TAKEN)


@pytest.mark.parametrize(("how", "code"), [("memory", "WORKER_OOM"), ("strike", "CANCELLED")])
def test_what_ends_the_worker_ends_all_of_them(runner: Runner, how: str, code: str) -> None:
    calls = [{"a": n, "how": how if n == 4 else ""} for n in range(9)]
    assert error(runner.run(4, chunk("weigh", calls)))["code"] == code
    assert seen == [[0, 1, 2], [3, 4, 5]]
    assert runner.retired


@pytest.mark.parametrize("name", ["weigh", "add", "numbers"])
@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_calls_than_was_announced(runner: Runner, lane: Lane, count: int, name: str) -> None:
    call = {"n": 1} if name == "numbers" else {"a": 1}
    job = Work(name, Raw(encode([call] * count)), float("inf"), "abcd", 7, 1, chunk=1)
    assert error(runner.run(4, job))["code"] == "INVALID_ARGUMENTS"
    assert seen == []
    assert lane.at() == (4, TAKEN)


def test_a_run_of_many_may_ask_for_the_context(runner: Runner) -> None:
    calls = [{"keys": key} for key in "abc"]
    assert each(runner.run(4, chunk("weigh_knowing", calls))) == [[key, "abcd-7", False] for key in "abc"]
    assert seen == [["a", "b"], ["c"]]


def test_no_further_run_begins_once_it_must_end(runner: Runner) -> None:
    """It takes the Context, so it is asked before it is interrupted; between two runs nobody else looks."""
    calls = [{"keys": key} for key in ("stop", "a", "b")]
    assert error(runner.run(1, chunk("weigh_knowing", calls)))["code"] == "CANCELLED"
    assert seen == [["stop", "a"]]


# ---- the time that is left


@pytest.mark.parametrize(
    "job",
    [
        work("left"),
        work("left_by_keyword"),
        work("left_by_keyword", {"fail": True}),
        work("left_as_parts"),
        work("left_as_parts", stream=10_000),
        chunk("left", [{}, {}]),
        chunk("left_by_keyword", [{"fail": True}, {}]),
        chunk("left_as_parts", [{}, {}]),
        chunk("left_together", [{"keys": "a"}, {"keys": "b"}]),
    ],
    ids=lambda job: f"{job.tool}-{job.chunk}-{job.stream}",
)
def test_what_remains_is_known_inside_of_a_tool_and_only_there(runner: Runner, channel: Followed, job: Work) -> None:
    job.deadline = time.monotonic() + 50
    answer = runner.run(1, job)
    assert remaining() is None
    told = repr([decode_value(answer.value), *channel.told])
    numbers = [float(number) for number in re.findall(r"\d\d\.\d+", told)]
    assert numbers
    assert all(40 < number <= 50 for number in numbers)


@pytest.mark.parametrize(("name", "arguments"), [("hangs", {}), ("fails", {"how": "memory"})])
def test_what_remains_is_forgotten_however_a_tool_ends(
    runner: Runner, lane: Lane, name: str, arguments: dict[str, Any]
) -> None:
    lane.words[CANCEL] = 1
    assert runner.run(1, work(name, arguments, time.monotonic() + 50)).status == ERROR
    assert remaining() is None
    assert runner.retired


# ---- what a run changes


def test_whoever_wants_to_know_what_a_run_changed_hears_of_each(runner: Runner) -> None:
    changed: list[Any] = []
    for name in ("add", "fails", "numbers"):
        runner._runnables[name].changes = lambda arguments: changed.append(msgspec.structs.astuple(arguments))
    runner.run(1, work("add", {"a": 1}))
    runner.run(2, work("fails", {"how": "value"}))
    runner.run(3, chunk("add", [{"a": 5}, {"a": "x"}, {"a": 6}]))
    runner.run(4, work("numbers", {"n": 1}))
    runner.run(5, work("add", {"a": "x"}))
    assert changed == [(1, 1), ("value",), (5, 1), (6, 1), (1, "")]


@tool
def pads(size: int) -> str:
    return "x" * size


@pytest.mark.parametrize("cached_too", [False, True])
def test_one_result_that_is_too_large_is_that_calls_error(runner: Runner, cached_too: bool) -> None:
    """Whichever way a chunk is run: in one sweep, or call by call."""
    runner._runnables["pads"] = Runnable(pads, None, (lambda _: None) if cached_too else None)  # type: ignore[index]
    calls: Any = [{"size": 3}, {"size": 2000}, {"size": 4}]
    parts = decode_value(runner.run(1, followed("pads", calls, chunk=3)).value)
    assert [given["code"] if status else given for status, given in parts] == ["xxx", "TOO_LARGE", "xxxx"]


def test_of_results_that_are_too_large_together_the_largest_are_errors(runner: Runner) -> None:
    runner._runnables["pads"] = Runnable(pads, None)  # type: ignore[index]
    calls: Any = [{"size": size} for size in (100, 700, 600, 50)]
    answer = runner.run(1, followed("pads", calls, chunk=4))
    parts = decode_value(answer.value)
    assert [given["code"] if status else len(given) for status, given in parts] == [100, "TOO_LARGE", 600, 50]
    assert len(answer.value) <= 1000
