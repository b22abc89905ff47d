"""Many calls of one tool: in order or as they come, alone or in chunks, with errors, deaths and a busy node."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Background, Node, eventually, failure, lines
from toolring import AsyncClient, Client
from toolring.errors import InvalidArguments, OutcomeUnknown, ToolError, ToolringError


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_results_come_in_order(client: Client, chunk: int) -> None:
    calls = [{"x": n} for n in range(500)]
    assert list(client.map("echo", calls, chunk=chunk)) == list(range(500))


@pytest.mark.parametrize("chunk", [1, 7])
def test_or_as_they_are_ready_with_their_index(client: Client, chunk: int) -> None:
    calls = [{"seconds": 0.05 if n == 0 else 0.0, "x": n * 10} for n in range(40)]
    given = list(client.map("nap", calls, chunk=chunk, ordered=False))
    assert sorted(given) == [(n, n * 10) for n in range(40)]
    assert given[0][0] != 0, "the first call takes longest"


@pytest.mark.parametrize("chunk", [1, 4])
def test_the_first_error_is_raised_after_the_results_before_it(client: Client, chunk: int) -> None:
    got: list[Any] = []
    with pytest.raises(InvalidArguments):
        got.extend(client.map("square", ({"x": n} if n != 5 else {"x": "no"} for n in range(20)), chunk=chunk))
    assert got == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("tool", ["square", "echo"])
def test_or_each_stands_in_its_place(client: Client, chunk: int, tool: str) -> None:
    calls: list[dict[str, Any]] = [{"x": n} for n in range(10)]
    calls[3] = {"y": 1}
    results = list(client.map(tool, calls, chunk=chunk, errors="return"))
    assert isinstance(results[3], InvalidArguments)
    assert [type(result) for n, result in enumerate(results) if n != 3] == [int] * 9


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("ordered", [True, False])
def test_what_never_leaves_the_client_has_its_place_too(client: Client, chunk: int, ordered: bool) -> None:
    calls: list[dict[str, Any]] = [{"x": n} for n in range(10)]
    calls[5] = {"x": 2**70}
    given = list(client.map("echo", calls, chunk=chunk, errors="return", ordered=ordered))
    results = given if ordered else [result for _, result in sorted(given, key=lambda pair: pair[0])]
    assert isinstance(results[5], InvalidArguments)
    assert results[:5] + results[6:] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    got: list[Any] = []
    with pytest.raises(InvalidArguments):
        got.extend(client.map("echo", calls, chunk=chunk))
    assert got == [0, 1, 2, 3, 4]


def test_the_next_is_read_only_after_a_window_of_one_was_given(client: Client) -> None:
    read: list[int] = []

    def calls() -> Iterator[dict[str, int]]:
        for n in range(5):
            read.append(n)
            yield {"x": n}

    for result in client.map("echo", calls(), window=1):
        assert read == list(range(result + 1))


def test_what_has_come_is_given_before_more_is_read(client: Client) -> None:
    """However much there is room for: a source may be slow."""
    given: list[int] = []

    def answered() -> int:
        return int(client.status()["tools"]["echo"]["answered"])

    before = answered()

    def calls() -> Iterator[dict[str, int]]:
        for n in range(50):
            yield {"x": n}
            eventually(lambda n=n: answered() > before + n)  # type: ignore[misc]
            assert len(given) >= n

    for result in client.map("echo", calls(), window=256):
        given.append(result)
    assert given == list(range(50))


def test_what_a_call_of_a_chunk_raises_is_its_own(client: Client) -> None:
    results = list(client.map("fail", [{"message": str(n)} for n in range(5)], chunk=5, errors="return"))
    assert all(isinstance(result, ToolError) for result in results)
    assert [f": {n}" in str(result) for n, result in enumerate(results)] == [True] * 5
    assert "traceback" in results[0].facts


@pytest.mark.parametrize("tool", ["fail", "one_by_one", "together"])
def test_calls_of_a_chunk_that_fail_are_counted_each(tool: str) -> None:
    """In one sweep, one by one since an argument is wrong, and all in one run of the tool."""
    source = """
        from toolring import tool

        @tool
        def fail(wrong: bool) -> int:
            if wrong:
                raise ValueError("no")
            return 1

        @tool
        async def one_by_one(wrong: bool) -> int:
            return fail(wrong)

        @tool(batch=10)
        def together(wrong: list[bool]) -> list[int | Exception]:
            return [ValueError("no") if one else 1 for one in wrong]
    """
    calls: list[dict[str, Any]] = [{"wrong": True}, {"wrong": False}, {"wrong": "?"}, {"wrong": True}]
    with kit.place() as directory:
        file = directory / "tools.py"
        file.write_text(textwrap.dedent(source))
        with kit.running(file, workers=1) as node, node.client() as client:
            given = list(client.map(tool, calls, chunk=4, errors="return"))
            assert [getattr(one, "code", one) for one in given] == ["TOOL_ERROR", 1, "INVALID_ARGUMENTS", "TOOL_ERROR"]
            told = client.metrics("1m", tool=tool)
            figures = told["tools"][tool]
            assert (figures["jobs"], figures["operations"], figures["failed"]) == (1, 4, 3)
            assert figures["errors"] == {"TOOL_ERROR": 2, "INVALID_ARGUMENTS": 1}
            assert node.status()["tools"][tool]["errors"] == figures["errors"]
            (job,) = client.jobs(tool, slow=True)["jobs"]
            story = [one["text"] for one in client.why(job["job"])["events"]]
            assert "3 of its 4 calls failed: TOOL_ERROR 2, INVALID_ARGUMENTS 1" in story


def test_a_chunk_is_answered_from_the_cache_call_by_call(client: Client, spot: Path) -> None:
    calls = [{"path": str(spot), "mark": str(n % 3)} for n in range(12)]
    list(client.map("tally", calls, chunk=4))
    list(client.map("tally", calls, chunk=6))
    assert len(lines(spot)) <= 6, "each worker runs each of the three once at most"


def test_an_endless_iterator_is_read_no_further_than_the_window(client: Client) -> None:
    for chunk in (1, 8):
        read = itertools.count()
        results = client.map("echo", ({"x": n} for n in read), window=32, chunk=chunk)
        assert list(itertools.islice(results, 100)) == list(range(100))
        assert next(read) <= 100 + 2 * 32 + 1
        results.close()  # type: ignore[attr-defined]


def test_leaving_early_cancels_what_is_under_way(client: Client) -> None:
    results = client.map("nap", ({"seconds": 60 * n, "x": n} for n in range(20)), window=10)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]

    def idle() -> bool:
        jobs = client.status()["jobs"]
        return jobs["running"] == jobs["waiting"] == 0

    eventually(idle, "nothing waits or runs any more")


def test_a_chunk_whose_worker_dies_runs_again_if_it_may(client: Client, spot: Path) -> None:
    """The other jobs don't notice; a chunk of a tool that may not be repeated is told as such."""
    calls = [{"path": str(spot), "seconds": 0.02, "mark": str(n)} for n in range(30)]
    running = Background(lambda: list(client.map("tally", calls, chunk=10, errors="return")))
    eventually(lambda: len(lines(spot)) >= 2, "it runs")
    workers = [worker["pid"] for worker in client.status()["workers"] if worker["state"] == "busy"]
    os.kill(workers[0], signal.SIGKILL)
    results = running.result()
    assert len(results) == 30
    assert not any(isinstance(result, ToolringError) for result in results)


def test_a_chunk_that_may_not_be_repeated_ends_as_unknown(client: Client, spot: Path) -> None:
    calls = [{"path": str(spot), "number": n, "seconds": 0.05} for n in range(20)]
    running = Background(lambda: list(client.map("note", calls, chunk=10, errors="return")))
    eventually(lambda: len(lines(spot)) >= 2, "both run")
    workers = [worker["pid"] for worker in client.status()["workers"] if worker["state"] == "busy"]
    os.kill(workers[0], signal.SIGKILL)
    results = running.result()
    unknown = [n for n, result in enumerate(results) if isinstance(result, OutcomeUnknown)]
    assert unknown in (list(range(10)), list(range(10, 20)))
    assert [result for n, result in enumerate(results) if n not in unknown] == [
        n for n in range(20) if n not in unknown
    ]


def test_a_chunk_ends_at_its_deadline(client: Client) -> None:
    calls = [{"seconds": 0.1, "x": n} for n in range(50)]
    results = list(client.map("nap", calls, chunk=50, timeout=0.3, errors="return"))
    assert {error.code for error in results} == {"EXPIRED"}


def test_a_map_waits_for_a_busy_node(tmp_path: Path) -> None:
    with kit.running(TOOLRING_LIMITS_BACKLOG="6") as small, small.client() as client:
        calls = [{"seconds": 0.002, "x": n} for n in range(60)]
        assert list(client.map("nap", calls, window=30)) == list(range(60))
        assert sorted(client.map("nap", calls, window=30, ordered=False)) == [(n, n) for n in range(60)]
        assert client.status()["jobs"]["refused"]["BUSY"] > 0


@pytest.mark.parametrize("ordered", [True, False])
def test_a_busy_node_is_not_pestered(ordered: bool) -> None:
    """It refuses what is too much at first, and then one in nine; not each call again and again."""
    with kit.running(TOOLRING_LIMITS_BACKLOG="6") as small, small.client() as client:
        calls = [{"seconds": 0.005, "x": n} for n in range(300)]
        assert len(list(client.map("nap", calls, window=30, ordered=ordered))) == 300
        refused = client.status()["jobs"]["refused"]["BUSY"]
        assert 20 <= refused <= 30 + 300 / 4, "each eighth, and as many again where nothing was answered for a while"


def test_one_long_call_does_not_hold_up_those_that_were_refused(tmp_path: Path) -> None:
    gate, first, others = (tmp_path / name for name in ("gate", "first", "others"))
    with ExitStack() as stack:
        small = stack.enter_context(kit.running(kit.HERE / "flow_tools.py", TOOLRING_LIMITS_BACKLOG="2"))
        client, other = (stack.enter_context(small.client()) for _ in range(2))
        held = other.submit("gate", {"path": str(gate)})
        eventually(lambda: lines(gate), "one worker is held")
        calls = [{"path": str(first)}, *({"path": f"{others}{n}"} for n in range(5))]
        running = Background(lambda: list(client.map("gate", calls, errors="return")))
        eventually(lambda: lines(first), "the other one runs the first call")
        for n in range(5):
            Path(f"{others}{n}.open").touch()
        Path(f"{gate}.open").touch()
        held.result()
        eventually(lambda: all(lines(Path(f"{others}{n}")) for n in range(5)), "all others have run")
        assert running.is_alive()
        Path(f"{first}.open").touch()
        assert all(isinstance(pid, int) for pid in running.result())


@pytest.mark.parametrize("ordered", [True, False])
def test_awaited_it_waits_for_a_busy_node_too(ordered: bool) -> None:
    async def main(address: str) -> None:
        async with AsyncClient(address) as client:
            calls = [{"seconds": 0.005, "x": n} for n in range(100)]
            given = [r async for r in client.map("nap", calls, window=30, ordered=ordered)]
            assert sorted(given) == (list(range(100)) if ordered else [(n, n) for n in range(100)])
            refused = (await client.status())["jobs"]["refused"]["BUSY"]
            assert 20 <= refused <= 30 + 100 / 4

    with kit.running(TOOLRING_LIMITS_BACKLOG="6") as small:
        asyncio.run(main(small.address))


def test_awaited_it_is_the_same(node: Node) -> None:
    async def arguments() -> Any:
        for n in range(100):
            yield {"x": n}

    async def main() -> None:
        async with AsyncClient(node.address) as client:
            for chunk in (1, 9):
                assert [r async for r in client.map("echo", arguments(), chunk=chunk)] == list(range(100))
                given = [r async for r in client.map("echo", arguments(), chunk=chunk, ordered=False)]
                assert sorted(given) == [(n, n) for n in range(100)]
            calls = [{"x": 1}, {"y": 1}, {"x": 3}]
            results = [r async for r in client.map("echo", calls, chunk=2, errors="return")]
            assert (results[0], results[2]) == (1, 3)
            assert isinstance(results[1], InvalidArguments)

    asyncio.run(main())


@pytest.mark.parametrize("given", [{"window": 0}, {"chunk": 0}, {"chunk": 65_537}, {"errors": "ignore"}])
def test_what_makes_no_sense_is_refused_by_name(client: Client, given: dict[str, Any]) -> None:
    error = failure(lambda: list(client.map("echo", [{"x": 1}], **given)))
    assert isinstance(error, InvalidArguments)
    assert error.facts["argument"] == next(iter(given))


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with kit.running() as node:
        yield node
