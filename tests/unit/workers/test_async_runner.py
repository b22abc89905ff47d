"""Many attempts in one event loop: each way to an answer, and what the lane says meanwhile."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from msgspec import Raw

from toolring import Context, remaining, tool
from toolring.declare import Tool
from toolring.errors import Cancelled, Retry
from toolring.lane import AT, RECALL, SHIELD, STARTED, STEP, TAKEN, Lanes
from toolring.plugins.caches.lru import LRU
from toolring.plugins.specs import Stored
from toolring.protocol import (
    ALIVE,
    CACHED,
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
from toolring.workers import runnable as runnable_module
from toolring.workers.async_runner import AsyncRunner
from toolring.workers.cache.base import Cache
from toolring.workers.cache.guarded import Guarded
from toolring.workers.cache.results import ResultCache
from toolring.workers.runnable import Runnable

seen: list[Any] = []
gates: dict[str, asyncio.Event] = {}


@tool
async def add(a: int, b: int = 2) -> int:
    return a + b


@tool
async def gate(name: str) -> str:
    seen.append(f"begin {name}")
    try:
        await gates.setdefault(name, asyncio.Event()).wait()
    finally:
        seen.append(f"end {name}")
    return name


@tool
async def deaf(name: str) -> str:
    """Takes no notice of the first cancellation."""
    try:
        await gates.setdefault(name, asyncio.Event()).wait()
    except asyncio.CancelledError:
        return "whatever"
    return name


@tool
async def fails(how: str) -> object:
    if how == "cancelled":
        raise asyncio.CancelledError
    if how == "object":
        return object()
    if how == "large":
        return "x" * 2000
    kinds: dict[str, type[BaseException]] = {"value": ValueError, "exit": SystemExit, "memory": MemoryError}
    raise Retry("later") if how == "retry" else kinds[how]("no")


@tool
async def told(context: Context) -> list[Any]:
    context.progress(1, 2, "half")
    left = remaining()
    return [context.job, context.attempt, left is not None and left < 1000]


@tool
async def careful(name: str, seconds: float, context: Context) -> None:
    with context.shield(seconds), context.shield(seconds):
        seen.append("in")
        await gates.setdefault(name, asyncio.Event()).wait()
        seen.append("complete")
    await asyncio.sleep(60)


@tool
async def count(n: int, fail: int = -1) -> AsyncIterator[int]:
    try:
        for k in range(n):
            if k == fail:
                raise ValueError("no further")
            yield k
            await asyncio.sleep(0)
    finally:
        seen.append("closed")


@tool(batch=3)
async def double(n: list[int]) -> list[object]:
    seen.append(list(n))
    if 13 in n:
        raise ValueError("unlucky")
    return [ValueError("seven") if k == 7 else 2 * k for k in n]


@tool(read_only=True, cache=60, cache_errors=60)
async def cached(n: int) -> int:
    seen.append(n)
    if n < 0:
        raise ValueError("negative")
    return n


@tool
def plain() -> str:
    """toolring's own, which goes along with whatever workers there are."""
    return "plain"


@tool
async def nested(outer: float, inner: float, context: Context) -> str:
    with context.shield(outer):
        with context.shield(inner):
            await asyncio.sleep(1)
            seen.append("inner")
        await asyncio.sleep(1)
        seen.append("outer")
    await asyncio.sleep(1)
    seen.append("beyond")
    return "over"


@tool
async def tidies(context: Context) -> None:
    """Its cleanup has a section that must not be broken into, and something more to do after it."""
    try:
        await asyncio.sleep(60)
    finally:
        seen.append(context.cancelled)
        with context.shield():
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        seen.append("tidy")


@tool
async def shielded(seconds: float, section: float, context: Context) -> None:
    with context.shield(seconds):
        await asyncio.sleep(section)


@tool(batch=2)
async def many(keys: list[str], context: Context) -> Any:
    """What the first key asks for happens to the run."""
    seen.append(list(keys))
    if keys[0] == "deaf":
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return ["deaf"] * len(keys)
    if keys[0] == "wait":
        await asyncio.sleep(60)
    if keys[0] == "memory":
        raise MemoryError
    if keys[0] == "none":
        return None
    return [f"{key} of {len(keys)}" for key in keys]


@tool
async def one_of(how: str) -> Any:
    """A call of a chunk, perhaps."""
    seen.append(how)
    if how == "nested":
        raise Cancelled("what it called was cancelled")
    if how == "memory":
        raise MemoryError
    if how == "deaf":
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "deaf"
    if how == "wait":
        await asyncio.sleep(60)
    return how


@tool
async def parts(how: str = "", context: Context | None = None) -> AsyncIterator[Any]:
    """Endless, with a cleanup that takes some time."""
    try:
        while True:
            await asyncio.sleep(0.1)
            if how == "progress":
                assert context is not None
                context.progress(1, 2)
            if how == "raw":
                yield Raw(b"\xc1")
            yield "x" * 300
    finally:
        await asyncio.sleep(0.1)
        seen.append("closed")
        if how == "raises":
            raise RuntimeError("while it was closed")


@tool(read_only=True, cache=60)
async def listed(n: int) -> AsyncIterator[int]:
    seen.append(n)
    for number in range(n):
        yield number


@tool(read_only=True, cache=60)
async def uncertain(n: int) -> int:
    """Cached, but not its errors."""
    seen.append(n)
    if n < 0:
        raise ValueError("negative")
    return n


@tool
async def waits_for_another(how: str) -> None:
    """What it waits for is cancelled, but nobody has cancelled it."""
    inner = asyncio.create_task(asyncio.sleep(60))
    asyncio.get_running_loop().call_later(0.1, inner.cancel)
    await inner


@tool
async def left(through: str = "") -> float | None:
    async def within() -> float | None:
        return remaining()

    await asyncio.sleep(0.1)
    if through == "task":
        return await asyncio.create_task(within())
    return remaining()


TOOLS: list[Tool[..., Any]] = [add, gate, deaf, fails, told, careful, count, double, cached, plain]
TOOLS += [nested, tidies, shielded, many, one_of, parts, listed, uncertain, waits_for_another, left]
CACHED_TOOLS: list[Tool[..., Any]] = [cached, listed, uncertain]


class Jumping(selectors.DefaultSelector):
    """Waits for nothing: the loop's clock jumps to whatever is due next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop without time."""

    def __init__(self) -> None:
        self.jumping = Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class Bench:
    """A runner in the loop of the test, and what it told."""

    def __init__(self, runner: AsyncRunner, answers: list[Answer], parts: list[Part], words: Any) -> None:
        self.runner = runner
        self.answers = answers
        self.parts = parts
        self.words = words
        self.also: dict[str, Any] = {}
        """What the next jobs bring beside their arguments."""
        self._seq = 0

    def begin(self, name: str, /, deadline: float = 1e12, chunk: int = 0, stream: int = 0, **arguments: Any) -> int:
        self._seq += 1
        args = arguments.pop("calls", arguments)
        work = Work(name, Raw(encode(args)), deadline, "abcd", 7, 1)
        work.chunk, work.stream, work.progress = chunk, stream, bool(stream) or name == "told"
        for field, value in self.also.items():
            setattr(work, field, value)
        self.runner.begin(self._seq, work)
        return self._seq

    async def answer(self, seq: int) -> Answer:
        for _ in range(2000):
            for answer in self.answers:
                if answer.id == seq:
                    return answer
            await asyncio.sleep(0)
        raise AssertionError(f"no answer to {seq}")

    async def call(self, name: str, /, **more: Any) -> Answer:
        return await self.answer(self.begin(name, **more))

    async def chunk(self, name: str, *calls: Any) -> Answer:
        return await self.over(self.begin(name, chunk=len(calls), calls=list(calls)))

    async def over(self, seq: int) -> Answer:
        """The answer, whatever time it takes."""
        while seq in self.runner.runs:
            await asyncio.sleep(0.05)
        return await self.answer(seq)

    async def halted(self, seq: int, after: float) -> Answer:
        await asyncio.sleep(after)
        self.runner.runs[seq].halt()
        return await self.over(seq)


@pytest.fixture
def run() -> Iterator[Callable[[Callable[[Bench], Awaitable[None]]], None]]:
    lanes = Lanes(1)
    seen.clear()
    gates.clear()
    stamps = Stamps(bytearray(BYTES))
    runnables = {one.spec.name: Runnable(one, None) for one in TOOLS}
    memory = Cache(LRU(10), 10, 100_000)
    for one in CACHED_TOOLS:
        runnables[one.spec.name] = Runnable(one, ResultCache(memory, one.spec, CacheSettings(), stamps))
    answers: list[Answer] = []
    parts: list[Part] = []
    lane = lanes.all[0]
    runner = AsyncRunner(runnables, lane, lambda **bound: bound, 1000, answers.append, parts.append)

    def run(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def within() -> None:
            async with asyncio.timeout(200):
                await test(Bench(runner, answers, parts, lane.words))

        with asyncio.Runner(loop_factory=Loop) as loop:
            loop.run(within())
        assert not runner.runs
        assert lane.words[STEP] == 0

    yield run
    lane.words.release()
    lane.bytes.release()
    lanes.close()


Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def error(answer: Answer) -> dict[str, Any]:
    assert answer.status != OK
    found: dict[str, Any] = decode_value(answer.value)
    return found


def test_an_answer(run: Run) -> None:
    async def test(bench: Bench) -> None:
        answer = await bench.call("add", a=1)
        assert decode_value(answer.value) == 3
        assert bench.words[AT] == 1 << 2 | STARTED
        assert answer.flags == answer.parts == 0

    run(test)


def test_what_needs_no_run_is_answered_at_once(run: Run) -> None:
    async def test(bench: Bench) -> None:
        bench.words[RECALL] = 1
        bench.begin("add", a=1)
        bench.begin("add", deadline=time.monotonic() - 1, a=1)
        bench.begin("nope")
        bench.begin("add", a="x")
        assert [answer.status for answer in bench.answers] == [SKIPPED, SKIPPED, 1, 1]
        assert [error(answer)["code"] for answer in bench.answers[2:]] == ["UNKNOWN_TOOL", "INVALID_ARGUMENTS"]
        assert bench.words[AT] == 4 << 2 | TAKEN
        assert not bench.runner.runs

    run(test)


def test_many_are_under_way(run: Run) -> None:
    async def test(bench: Bench) -> None:
        seqs = [bench.begin("gate", name=str(n)) for n in range(50)]
        await asyncio.sleep(0)
        assert len(seen) == len(bench.runner.runs) == 50
        assert bench.words[AT] == 50 << 2 | STARTED
        for n in reversed(range(50)):
            gates[str(n)].set()
        assert [decode_value((await bench.answer(seq)).value) for seq in seqs] == [str(n) for n in range(50)]

    run(test)


@pytest.mark.parametrize("before", [True, False])
def test_one_is_cancelled(run: Run, before: bool) -> None:
    """Before its code has run at all, or in the middle of it."""

    async def test(bench: Bench) -> None:
        one, other = bench.begin("gate", name="one"), bench.begin("gate", name="other")
        if not before:
            await asyncio.sleep(0)
        bench.runner.runs[one].halt()
        assert error(await bench.answer(one))["code"] == "CANCELLED"
        assert ("begin one" in seen) is not before
        assert ("end one" in seen) is not before
        gates["other"].set()
        assert (await bench.answer(other)).status == OK

    run(test)


def test_one_that_takes_no_notice_may_still_answer(run: Run) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("deaf", name="x")
        await asyncio.sleep(0)
        bench.runner.runs[seq].halt()
        assert decode_value((await bench.answer(seq)).value) == "whatever"

    run(test)


@pytest.mark.parametrize(
    ("how", "code", "kind"),
    [
        ("value", "TOOL_ERROR", "ValueError"),
        ("cancelled", "TOOL_ERROR", "CancelledError"),
        ("exit", "TOOL_ERROR", "SystemExit"),
        ("retry", "RETRY", None),
        ("object", "INVALID_RESULT", None),
        ("large", "TOO_LARGE", None),
        ("memory", "WORKER_OOM", "MemoryError"),
    ],
)
def test_errors(run: Run, how: str, code: str, kind: str | None) -> None:
    async def test(bench: Bench) -> None:
        found = error(await bench.call("fails", how=how))
        assert (found["code"], found.get("type"), found["attempt"]) == (code, kind, 1)
        assert "toolring/workers" not in found.get("traceback", "")
        assert bench.runner.retired is (how == "memory")

    run(test)


def test_the_context_and_the_deadline(run: Run) -> None:
    async def test(bench: Bench) -> None:
        answer = await bench.call("told", deadline=time.monotonic() + 100)
        assert decode_value(answer.value) == ["abcd-7", 1, True]
        assert [(part.number, decode_value(part.value)) for part in bench.parts] == [(PROGRESS, [1, 2, "half"])]
        assert remaining() is None

    run(test)


def test_a_shield_holds_until_its_section_ends(run: Run) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("careful", name="x", seconds=1000)
        await asyncio.sleep(0)
        bench.runner.runs[seq].halt()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not bench.answers
        assert bench.words[SHIELD] > (time.monotonic() + 900) * 1e6
        gates["x"].set()
        assert error(await bench.answer(seq))["code"] == "CANCELLED"
        assert seen == ["in", "complete"]
        assert bench.words[SHIELD] == 0

    run(test)


def test_a_shield_holds_no_longer_than_it_says(run: Run) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("careful", name="x", seconds=0.01)
        await asyncio.sleep(0)
        bench.runner.runs[seq].halt()
        while not bench.answers:
            await asyncio.sleep(0.002)
        assert error(bench.answers[0])["code"] == "CANCELLED"
        assert seen == ["in"]

    run(test)


def test_a_generator_collected_and_streamed(run: Run) -> None:
    async def test(bench: Bench) -> None:
        assert decode_value((await bench.call("count", n=3)).value) == [0, 1, 2]
        assert not bench.parts
        answer = await bench.call("count", n=3, stream=10_000)
        assert (decode_value(answer.value), answer.flags, answer.parts) == (None, STREAMED, 3)
        assert [(part.number, decode_value(part.value)) for part in bench.parts] == [(1, 0), (2, 1), (3, 2)]

    run(test)


def test_a_generator_waits_for_its_reader(run: Run) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("count", n=4, stream=100)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(bench.parts) == 2, "one may exceed what was granted"
        bench.runner.runs[seq].more(150)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(bench.parts) == 3
        bench.runner.runs[seq].more(10_000)
        assert (await bench.answer(seq)).parts == 4

    run(test)


def test_a_generator_that_is_cancelled_or_fails_cleans_up(run: Run) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("count", n=9, stream=1)
        for _ in range(20):
            await asyncio.sleep(0)
        bench.runner.runs[seq].halt()
        answer = await bench.answer(seq)
        assert (error(answer)["code"], answer.flags, answer.parts) == ("CANCELLED", STREAMED, 1)
        answer = await bench.call("count", n=9, fail=2, stream=10_000)
        assert (error(answer)["code"], answer.parts) == ("TOOL_ERROR", 2)
        assert seen == ["closed", "closed"]

    run(test)


def test_a_chunk_is_one_call_after_the_other(run: Run) -> None:
    async def test(bench: Bench) -> None:
        calls = [{"a": 1}, {"a": "x"}, {"a": 2, "b": 3}]
        parts = decode_value((await bench.call("add", chunk=3, calls=calls)).value)
        assert [status for status, _ in parts] == [0, 1, 0]
        assert (parts[0][1], parts[2][1]) == (3, 5)
        lists = decode_value((await bench.call("count", chunk=2, calls=[{"n": 2}, {"n": 3}])).value)
        assert lists == [[0, [0, 1]], [0, [0, 1, 2]]]
        assert error(await bench.call("add", chunk=2, calls=[{"a": 1}]))["code"] == "INVALID_ARGUMENTS"

    run(test)


def test_many_calls_in_one_run(run: Run) -> None:
    async def test(bench: Bench) -> None:
        calls = [{"n": k} for k in (1, 7, 2, 13, 5)] + [{"m": 1}]
        parts = decode_value((await bench.call("double", chunk=6, calls=calls)).value)
        assert seen == [[1, 7, 2], [13, 5]]
        assert [status for status, _ in parts] == [0, 1, 0, 1, 1, 1]
        assert [given["code"] for status, given in parts if status] == ["TOOL_ERROR"] * 3 + ["INVALID_ARGUMENTS"]
        assert parts[2] == [0, 4]

    run(test)


def test_a_cached_one_runs_once(run: Run) -> None:
    async def test(bench: Bench) -> None:
        first = await bench.call("cached", n=1)
        assert first.until_us > 0
        again = bench.begin("cached", n=1)
        assert bench.answers[-1].id == again, "at once"
        assert bench.answers[-1].flags & CACHED
        assert error(await bench.call("cached", n=-1))["code"] == "TOOL_ERROR"
        assert error(await bench.call("cached", n=-1))["code"] == "TOOL_ERROR"
        assert seen == [1, -1]
        chunk = decode_value((await bench.call("cached", chunk=2, calls=[{"n": 1}, {"n": 2}])).value)
        assert chunk == [[0, 1], [0, 2]]
        assert seen == [1, -1, 2]

    run(test)


def test_a_plain_function_goes_along(run: Run) -> None:
    async def test(bench: Bench) -> None:
        assert decode_value((await bench.call("plain")).value) == "plain"

    run(test)


def test_the_lane_says_whose_code_runs(run: Run) -> None:
    words: list[int] = []

    async def test(bench: Bench) -> None:
        inner = Runnable(watched, None)
        bench.runner._runnables["watched"] = inner  # type: ignore[index]
        watching.append(bench.words)
        await bench.call("watched")
        words.append(bench.words[STEP])

    run(test)
    assert seen == [1, 1]
    assert words == [0]


watching: list[Any] = []


@tool
async def watched() -> None:
    seen.append(watching[-1][STEP])
    await asyncio.sleep(0)
    seen.append(watching[-1][STEP])


def each(answer: Answer) -> list[Any]:
    """Of a chunk: results, and the codes of errors."""
    assert answer.status == OK, decode_value(answer.value)
    return [value if status == 0 else value["code"] for status, value in decode_value(answer.value)]


# ---- more of shields


@pytest.mark.parametrize(
    ("outer", "inner", "halt", "reached"),
    [
        (10, 10, 0.5, ["inner", "outer"]),
        (10, 0.6, 0.5, ["inner", "outer"]),
        (0.6, 10, 0.5, ["inner"]),
        (0.6, 0.7, 0.5, []),
        (0.3, 0.4, 0.5, []),
        (10, 10, 1.5, ["inner", "outer"]),
        (0.6, 10, 1.5, ["inner"]),
        (10, 10, 2.5, ["inner", "outer"]),
        (0.1, 0.1, None, ["inner", "outer", "beyond"]),
    ],
)
def test_sections_within_sections(run: Run, outer: float, inner: float, halt: float | None, reached: list[str]) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("nested", outer=outer, inner=inner)
        answer = await (bench.over(seq) if halt is None else bench.halted(seq, halt))
        assert seen == reached
        if halt is None:
            assert decode_value(answer.value) == "over"
        else:
            assert error(answer)["code"] == "CANCELLED"
        assert bench.words[SHIELD] == 0

    run(test)


def test_a_section_of_a_cleanup_does_not_cancel_what_comes_after_it(run: Run) -> None:
    """Nothing was put off: it had been cancelled before."""

    async def test(bench: Bench) -> None:
        assert error(await bench.halted(bench.begin("tidies"), 1))["code"] == "CANCELLED"
        assert seen == [True, "tidy"]

    run(test)


@pytest.mark.parametrize("seconds", [0, -1, 1e6, float("inf"), float("nan")])
def test_a_shield_is_for_a_time_that_can_be_told(run: Run, seconds: float) -> None:
    async def test(bench: Bench) -> None:
        found = error(await bench.over(bench.begin("shielded", seconds=seconds, section=0)))
        assert (found["code"], found["type"]) == ("TOOL_ERROR", "ValueError")
        assert bench.words[SHIELD] == 0

    run(test)


def test_the_lane_tells_the_longest_of_those_that_are_up(run: Run) -> None:
    async def test(bench: Bench) -> None:
        def ahead() -> float:
            return max(0.0, bench.words[SHIELD] * 1e-6 - time.monotonic())

        bench.begin("shielded", seconds=100, section=3)
        bench.begin("shielded", seconds=1000, section=2)
        bench.begin("shielded", seconds=10, section=4)
        await asyncio.sleep(1)
        assert 900 < ahead() <= 1000
        await asyncio.sleep(2.5)
        assert ahead() <= 10, "the others are over"
        await asyncio.sleep(1)
        assert bench.words[SHIELD] == 0

    run(test)


# ---- more of errors


def test_what_it_waited_for_was_cancelled_and_not_it(run: Run) -> None:
    async def test(bench: Bench) -> None:
        found = error(await bench.over(bench.begin("waits_for_another", how="")))
        assert (found["code"], found["type"]) == ("TOOL_ERROR", "CancelledError")

    run(test)


@pytest.mark.parametrize(
    ("name", "chunk"), [("add", 0), ("add", 1), ("count", 0), ("double", 1)], ids=["call", "chunk", "parts", "batch"]
)
def test_memory_may_run_out_while_a_result_is_encoded(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int
) -> None:
    def out_of_memory(_: Any) -> bytes:
        raise MemoryError

    async def test(bench: Bench) -> None:
        arguments = {"a": 1} if name == "add" else {"n": 1}
        monkeypatch.setattr(runnable_module, "_encode", out_of_memory)
        seq = bench.begin(name, chunk=chunk, calls=[arguments] if chunk else arguments)
        assert error(await bench.over(seq))["code"] == "WORKER_OOM"
        assert bench.runner.retired

    run(test)


def test_after_memory_ran_out_nothing_is_begun_and_what_runs_may_end(run: Run) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("gate", name="x")
        assert error(await bench.call("fails", how="memory"))["code"] == "WORKER_OOM"
        assert (await bench.call("add", a=1)).status == SKIPPED
        assert bench.words[AT] == 3 << 2 | TAKEN
        gates["x"].set()
        assert decode_value((await bench.answer(seq)).value) == "x"

    run(test)


def test_what_a_run_changed_is_told_however_it_ends(run: Run) -> None:
    changed: list[Any] = []

    async def test(bench: Bench) -> None:
        for name in ("gate", "one_of"):
            bench.runner._runnables[name].changes = lambda arguments: changed.append(arguments.__struct_fields__[0])
        await bench.halted(bench.begin("gate", name="x"), 1)
        assert changed == ["name"]
        await bench.over(bench.begin("one_of", how="nested"))
        await bench.chunk("one_of", {"how": "a"}, {"wrong": 1}, {"how": "b"})
        assert changed == ["name", "how", "how", "how"]

    run(test)


# ---- more of generators


@pytest.mark.parametrize(
    ("how", "stream", "code"),
    [
        ("", 0, "TOO_LARGE"),
        ("raises", 0, "TOO_LARGE"),
        ("raw", 0, "INVALID_RESULT"),
        ("raw", 10_000, "INVALID_RESULT"),
    ],
)
def test_a_generator_is_closed_before_its_error_is_told(run: Run, how: str, stream: int, code: str) -> None:
    async def test(bench: Bench) -> None:
        seq = bench.begin("parts", how=how, stream=stream)
        assert error(await bench.over(seq))["code"] == code
        assert seen == ["closed"]

    run(test)


WINDOW = 3 * (PART_BYTES + 303)


@pytest.mark.parametrize(
    ("stream", "how", "posted"),
    [(0, "", 0), (10**6, "", 10), (WINDOW, "", 3), (WINDOW, "raises", 3)],
    ids=["collected", "streamed", "waiting", "waiting, and its cleanup fails"],
)
def test_a_generator_that_is_cancelled_has_its_cleanup(run: Run, stream: int, how: str, posted: int) -> None:
    async def test(bench: Bench) -> None:
        bench.runner._max_result = 10**6
        answer = await bench.halted(bench.begin("parts", how=how, stream=stream), 1.05)
        assert error(answer)["code"] == "CANCELLED"
        assert seen == ["closed"]
        assert answer.parts == len(bench.parts) == posted

    run(test)


def test_what_is_collected_and_what_is_told_of_it(run: Run) -> None:
    async def test(bench: Bench) -> None:
        bench.runner._max_result = 10**6
        bench.also = {"progress": True}
        await bench.halted(bench.begin("parts"), 1.05)
        assert {part.number for part in bench.parts} == {ALIVE}
        bench.parts.clear()
        await bench.halted(bench.begin("parts", how="progress", stream=10**6), 1.05)
        assert {part.number for part in bench.parts} == {PROGRESS, *range(1, 11)}

    run(test)


def test_a_generator_is_cached_like_any_tool_but_not_as_a_stream(run: Run) -> None:
    async def test(bench: Bench) -> None:
        answers = [await bench.call("listed", n=3, stream=stream) for stream in (999, 0, 0, 999)]
        assert [answer.flags & CACHED for answer in answers] == [0, 0, CACHED, 0]
        assert [decode_value(answer.value) for answer in answers] == [None, [0, 1, 2], [0, 1, 2], None]
        assert [answer.parts for answer in answers] == [3, 0, 0, 3]
        assert seen == [3, 3, 3]

    run(test)


# ---- more of chunks and batches


@pytest.mark.parametrize(
    ("calls", "results"),
    [
        ([{"how": "a"}, {"how": 1}, {"how": "b"}], ["a", "INVALID_ARGUMENTS", "b"]),
        ([{"how": "a"}, {"how": "nested"}, {"how": "b"}], ["a", "CANCELLED", "b"]),
    ],
)
def test_one_calls_error_does_not_stop_the_others(run: Run, calls: list[Any], results: list[Any]) -> None:
    async def test(bench: Bench) -> None:
        assert each(await bench.chunk("one_of", *calls)) == results

    run(test)


@pytest.mark.parametrize(
    ("name", "key", "ran"), [("one_of", "how", [["a"], ["{}"]]), ("many", "keys", [["a", "b"], ["{}", "c"]])]
)
@pytest.mark.parametrize("how", ["wait", "deaf"])
def test_no_further_call_begins_once_it_is_cancelled(run: Run, name: str, key: str, how: str, ran: Any) -> None:
    """Not even if the one at hand takes no notice."""

    async def test(bench: Bench) -> None:
        words = ["a", how, "b"] if name == "one_of" else ["a", "b", how, "c", "d"]
        seq = bench.begin(name, chunk=len(words), calls=[{key: word} for word in words])
        assert error(await bench.halted(seq, 1))["code"] == "CANCELLED"
        expected = [[word.format(how) for word in words] for words in ran]
        assert (seen if name == "many" else [[word] for word in seen]) == expected

    run(test)


@pytest.mark.parametrize(("name", "key"), [("one_of", "how"), ("many", "keys")])
def test_memory_that_runs_out_ends_all_calls(run: Run, name: str, key: str) -> None:
    async def test(bench: Bench) -> None:
        answer = await bench.chunk(name, *[{key: word} for word in ("memory", "a", "b", "c")])
        assert error(answer)["code"] == "WORKER_OOM"
        assert len(seen) == 1

    run(test)


@pytest.mark.parametrize(("name", "key"), [("one_of", "how"), ("many", "keys")])
def test_one_result_that_is_too_large_takes_no_others_along(run: Run, name: str, key: str) -> None:
    async def test(bench: Bench) -> None:
        found = each(await bench.chunk(name, *[{key: word} for word in ("a", "x" * 2000, "b")]))
        assert [found[0][0], found[1], found[2][0]] == ["a", "TOO_LARGE", "b"]

    run(test)


def test_many_calls_and_what_comes_of_them(run: Run) -> None:
    async def test(bench: Bench) -> None:
        words = ["a", 5, "b", "none", "c", "d"]
        answer = await bench.chunk("many", *[{"keys": word} for word in words])
        assert each(answer) == ["a of 2", "INVALID_ARGUMENTS", "b of 2", "INVALID_RESULT", "INVALID_RESULT", "d of 1"]
        assert seen == [["a", "b"], ["none", "c"], ["d"]]
        assert each(await bench.chunk("many", {"keys": 1})) == ["INVALID_ARGUMENTS"]

    run(test)


# ---- more of the cache


def test_which_calls_are_looked_up(run: Run) -> None:
    async def test(bench: Bench) -> None:
        flags = []
        for also in ({}, {}, {"partition": None}, {"renew": True}, {"partition": "p"}, {"partition": "p"}):
            bench.also = also
            flags.append((await bench.call("uncertain", n=1)).flags)
        hit = CACHED | 1 << LAYER_SHIFT
        assert flags == [0, hit, 0, 0, 0, hit]
        assert bench.words[AT] == 6 << 2 | TAKEN, "a hit starts nothing"
        bench.also = {}
        for _ in range(2):
            answer = await bench.call("uncertain", n=-1)
            assert (error(answer)["code"], answer.flags) == ("TOOL_ERROR", 0)
        assert seen == [1, 1, 1, 1, -1, -1]
        assert each(await bench.chunk("cached", *[{"n": n} for n in (-1, 3, -1, 3)])) == [
            *("TOOL_ERROR", 3, "TOOL_ERROR", 3),
        ]
        assert seen[6:] == [-1, 3]

    run(test)


class Elsewhere:
    """A store that another node uses, too: it makes the result meanwhile, or lets go of its claim."""

    shared = True

    def __init__(self) -> None:
        self.refuses = 0
        self.brings: bytes | None = None
        self.log: list[str] = []

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, Any]:
        found = self.brings if self.refuses <= 0 and self.log else None
        return (None if found is None else Stored(found, OK, 50.0, 0.0, 0.1)), "token"

    def put(self, key: bytes, tags: Sequence[bytes], token: Any, entry: Stored) -> None:
        self.log.append("put")

    def claim(self, key: bytes, seconds: float) -> bool:
        self.refuses -= 1
        self.log.append("claim")
        return self.refuses < 0

    def release(self, key: bytes) -> None:
        self.log.append("release")

    def invalidate(self, tags: Sequence[bytes]) -> None: ...
    def stats(self) -> dict[str, int]:
        return {}

    def close(self) -> None: ...


def _same(store: Elsewhere) -> Elsewhere:
    return store


def sharing(bench: Bench) -> Elsewhere:
    """Let the cached tool share its results with another node."""
    store = Elsewhere()
    loop = asyncio.get_running_loop()
    stores = [Guarded("elsewhere", partial(_same, store), 1.0, clock=loop.time, shared=True)]
    memory = Cache(LRU(10), 10, 100_000, loop.time)
    stamps = Stamps(bytearray(BYTES))
    cache = ResultCache(memory, cached.spec, CacheSettings(), stamps, stores, clock=loop.time)
    bench.runner._runnables["cached"].cache = cache
    return store


@pytest.mark.parametrize("chunk", [False, True])
@pytest.mark.parametrize(
    ("refuses", "brings", "n", "log", "ran"),
    [
        (0, None, 5, ["claim", "put", "release"], [5]),
        (3, None, 5, ["claim"] * 4 + ["put", "release"], [5]),
        (3, encode(7), 5, ["claim"] * 3 + ["release"], []),
        (0, None, -5, ["claim", "put", "release"], [-5]),
    ],
    ids=["free", "given up", "made elsewhere", "an error"],
)
def test_another_node_that_makes_the_same_is_waited_for(
    run: Run, refuses: int, brings: bytes | None, n: int, log: list[str], ran: list[int], chunk: bool
) -> None:
    async def test(bench: Bench) -> None:
        store = sharing(bench)
        store.refuses, store.brings = refuses, brings
        other = bench.begin("gate", name="other")
        answer = await (bench.chunk("cached", {"n": n}) if chunk else bench.over(bench.begin("cached", n=n)))
        if chunk:
            assert each(answer) == ["TOOL_ERROR" if n < 0 else 7 if brings else n]
        elif n < 0:
            assert error(answer)["code"] == "TOOL_ERROR"
        else:
            assert decode_value(answer.value) == (7 if brings else n)
            assert bool(answer.flags & CACHED) == bool(brings)
        assert (store.log, [one for one in seen if isinstance(one, int)]) == (log, ran)
        gates["other"].set()
        assert (await bench.over(other)).status == OK

    run(test)


def test_to_wait_for_another_node_can_be_cancelled(run: Run) -> None:
    async def test(bench: Bench) -> None:
        store = sharing(bench)
        store.refuses = 10**6
        assert error(await bench.halted(bench.begin("cached", n=5), 1))["code"] == "CANCELLED"
        assert seen == []
        assert set(store.log) == {"claim"}, "what it does not have it does not give back"

    run(test)


# ---- the time that is left


def test_each_knows_its_own_deadline(run: Run) -> None:
    async def test(bench: Bench) -> None:
        now = time.monotonic()
        seqs = [
            bench.begin("left", deadline=now + 100 * n, through=through)
            for n, through in enumerate(["", "task", "", "task"], 1)
        ]
        answers = [decode_value((await bench.over(seq)).value) for seq in seqs]
        assert [round(left + 5, -2) for left in answers] == [100, 200, 300, 400]
        assert remaining() is None

    run(test)
