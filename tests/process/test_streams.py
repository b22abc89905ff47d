"""Results as they come, with real processes: parts, back-pressure, endings, progress, silence."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Background, Node, alive, eventually, failure, lines
from toolring import AsyncClient, AsyncStream, Client, Progress, Stream
from toolring.errors import Cancelled, Expired, InvalidArguments, OutcomeUnknown, ToolError

TOOLS = kit.HERE / "live_tools.py"
KINDS = ["steps", "async_steps"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with kit.running(TOOLS, workers=2) as node:
        yield node


@pytest.fixture
def node(shared: Node) -> Iterator[Node]:
    yield shared
    shared.until_whole(4)


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    with node.client() as client:
        yield client


@pytest.fixture
def spot(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def step(spot: Path, k: int) -> None:
    Path(f"{spot}.{k}").touch()


def pid_of(spot: Path) -> int:
    return int(eventually(lambda: lines(spot))[0].split()[1])


@pytest.mark.parametrize("tool", KINDS)
def test_parts_come_before_the_next_is_made(client: Client, spot: Path, tool: str) -> None:
    stream = client.stream(tool, {"n": 3, "step": str(spot)})
    for k in range(3):
        step(spot, k)
        assert next(stream) == str(k)
    assert list(stream) == []
    assert stream.value == ("all" if tool == "steps" else None)


@pytest.mark.parametrize("tool", KINDS)
def test_called_as_usual_it_is_a_list(client: Client, tool: str) -> None:
    assert client.call(tool, {"n": 4}) == ["0", "1", "2", "3"]
    assert client.submit(tool, {"n": 2}, key=f"{tool}-key").result() == ["0", "1"]
    assert list(client.map(tool, [{"n": n} for n in range(3)], chunk=3)) == [[], ["0"], ["0", "1"]]


@pytest.mark.parametrize("tool", KINDS)
def test_it_waits_for_its_reader(client: Client, spot: Path, tool: str) -> None:
    stream = client.stream(tool, {"n": 200, "path": str(spot), "size": 1000}, window=10_000)
    assert next(stream)[0] == "0"
    eventually(lambda: len(lines(spot)) >= 9, "it runs ahead")
    for _ in range(20):
        client.status()
    assert len(lines(spot)) <= 12, "it goes on without its reader"
    rest = list(stream)
    assert [int(part.split("x")[0]) for part in rest] == list(range(1, 200))
    assert lines(spot)[-1] == "closed"


@pytest.mark.parametrize("tool", KINDS)
def test_many_parts_and_large_ones_come_whole_and_in_order(client: Client, tool: str) -> None:
    assert [int(part) for part in client.stream(tool, {"n": 5000})] == list(range(5000))
    sizes = [len(part) for part in client.stream(tool, {"n": 8, "size": 700_000}, window=1)]
    assert sizes == [700_001] * 8


@pytest.mark.parametrize("tool", KINDS)
@pytest.mark.parametrize("how", ["break", "close", "with", "cancel"])
def test_leaving_early_ends_it_and_its_cleanup_runs(client: Client, spot: Path, tool: str, how: str) -> None:
    arguments = {"n": 1000, "path": str(spot), "step": str(spot)}
    step(spot, 0)
    if how == "break":
        for _ in client.stream(tool, arguments):
            break
    elif how == "with":
        with client.stream(tool, arguments) as stream:
            next(stream)
    else:
        stream = client.stream(tool, arguments)
        next(stream)
        if how == "close":
            stream.close()
        else:
            client.cancel(stream.id)
        assert isinstance(failure(lambda: next(stream)), Cancelled)
    eventually(lambda: lines(spot)[-1] == "closed", "its cleanup ran")


@pytest.mark.parametrize("how", ["break", "error"])
def test_a_loop_that_is_left_ends_it_although_the_stream_is_still_held(client: Client, spot: Path, how: str) -> None:
    step(spot, 0)
    step(spot, 1)
    stream = client.stream("steps", {"n": 1000, "path": str(spot), "step": str(spot)})
    assert next(stream) == "0"  # which ends nothing
    try:
        for part in stream:
            assert part == "1"
            if how == "break":
                break
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    eventually(lambda: lines(spot)[-1] == "closed", "its cleanup ran")
    assert isinstance(failure(lambda: next(stream)), Cancelled)
    assert isinstance(failure(lambda: list(stream)), Cancelled)


def test_a_loop_to_the_end_leaves_its_value(client: Client) -> None:
    stream = client.stream("steps", {"n": 3})
    assert list(stream) == ["0", "1", "2"]
    assert list(stream) == []
    assert stream.value == "all"


def test_options_that_are_wrong_are_refused_by_name(client: Client) -> None:
    given: list[dict[str, Any]] = [{"window": 10**30}, {"timeout": "5"}, {"priority": "urgent"}, {"idle_timeout": 0}]
    for options in given:
        error = failure(partial(client.stream, "steps", {"n": 1}, **options))
        assert isinstance(error, InvalidArguments)
        assert error.facts["argument"] == next(iter(options))
    assert list(client.stream("steps", {"n": 2}, window=1 << 62)) == ["0", "1"]


def test_an_async_one_that_was_left_keeps_its_worker(client: Client, spot: Path) -> None:
    step(spot, 0)
    for _ in client.stream("async_steps", {"n": 9, "path": str(spot), "step": str(spot)}):
        break
    eventually(lambda: lines(spot)[-1] == "closed", "its cleanup ran")
    assert alive(pid_of(spot))


@pytest.mark.parametrize("tool", KINDS)
def test_a_deadline_counts_for_the_whole(client: Client, spot: Path, tool: str) -> None:
    step(spot, 0)
    stream = client.stream(tool, {"n": 9, "path": str(spot), "step": str(spot)}, timeout=0.5)
    assert next(stream) == "0"
    assert isinstance(failure(lambda: next(stream)), Expired)
    eventually(lambda: lines(spot)[-1] == "closed", "its cleanup ran")


@pytest.mark.parametrize("tool", KINDS)
def test_an_error_comes_after_the_parts_before_it(client: Client, tool: str) -> None:
    stream = client.stream(tool, {"n": 5, "fail": 3})
    assert [next(stream) for _ in range(3)] == ["0", "1", "2"]
    error = failure(lambda: next(stream))
    assert isinstance(error, ToolError)
    assert error.facts["type"] == "ValueError"
    assert "toolring/workers" not in error.facts["traceback"]


@pytest.mark.parametrize("tool", KINDS)
def test_once_a_part_was_given_it_is_not_run_again(client: Client, spot: Path, tool: str) -> None:
    step(spot, 0)
    stream = client.stream(tool, {"n": 5, "path": str(spot), "step": str(spot)})
    assert next(stream) == "0"
    os.kill(pid_of(spot), signal.SIGKILL)
    error = failure(lambda: next(stream))
    assert isinstance(error, OutcomeUnknown)
    assert len([line for line in lines(spot) if line.startswith("0 ")]) == 1


def test_before_the_first_part_it_is_run_again(client: Client, node: Node, spot: Path) -> None:
    stream = client.stream("steps", {"n": 2, "path": str(spot), "step": str(spot)})
    busy = eventually(lambda: [w["pid"] for w in node.status()["workers"] if w["state"] == "busy"], "it runs")
    os.kill(busy[0], signal.SIGKILL)
    step(spot, 0)
    step(spot, 1)
    assert list(stream) == ["0", "1"]


def test_a_client_that_vanishes_in_the_middle_ends_it(node: Node, spot: Path) -> None:
    step(spot, 0)
    other = node.client()
    stream: Stream | None = other.stream("steps", {"n": 9, "path": str(spot), "step": str(spot)})
    assert stream is not None
    next(stream)
    other.close()
    eventually(lambda: lines(spot)[-1] == "closed", "it was ended")
    stream = None


def test_a_reader_that_does_not_read_holds_up_nobody_else(client: Client, node: Node, spot: Path) -> None:
    with node.client() as other:
        idle = [other.stream("async_steps", {"n": 10_000, "size": 1000}, window=50_000) for _ in range(20)]
        assert all(next(stream)[0] == "0" for stream in idle)
        assert [int(part) for part in client.stream("async_steps", {"n": 500})] == list(range(500))
        assert client.call("who") > 0
        for stream in idle:
            stream.close()


def test_what_has_nothing_to_stream_says_so(client: Client) -> None:
    error = failure(lambda: next(client.stream("who")))
    assert isinstance(error, InvalidArguments)
    assert "no generator" in str(error)


# ---- progress and silence


def test_progress_is_heard_while_it_runs(client: Client) -> None:
    seen: list[Progress] = []
    assert client.call("report", {"n": 5, "seconds": 0.06}, on_progress=seen.append) == 5
    assert seen[-1] == (5, 5, "over")
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert len(seen) >= 4


def test_a_handle_tells_the_last(client: Client) -> None:
    handle = client.submit("report", {"n": 3, "seconds": 0.06}, progress=True)
    assert handle.result() == 3
    assert handle.progress == (3, 3, "over")


def test_nobody_who_did_not_ask_is_told(client: Client) -> None:
    handle = client.submit("report", {"n": 3, "seconds": 0.01})
    assert handle.result() == 3
    assert handle.progress is None


def test_silence_ends_a_run_that_declares_so(client: Client) -> None:
    error = failure(lambda: client.call("silent", {"seconds": 60}))
    assert isinstance(error, Expired)
    assert error.facts["limit"] == "idle_timeout"
    assert client.call("silent", {"seconds": 0.05}) == "spoke"


@pytest.mark.parametrize(
    ("tool", "arguments"), [("async_silent", {"seconds": 60}), ("steps", {"n": 1, "step": "/nowhere"})]
)
def test_a_caller_may_bring_its_own_limit(client: Client, tool: str, arguments: dict[str, Any]) -> None:
    error = failure(lambda: client.call(tool, arguments, idle_timeout=0.2))
    assert isinstance(error, Expired)
    assert error.facts["limit"] == "idle_timeout"


def test_who_tells_of_progress_may_take_longer(client: Client) -> None:
    assert client.call("report", {"n": 8, "seconds": 0.1}, idle_timeout=0.5) == 8


def test_who_yields_may_take_longer(client: Client, spot: Path) -> None:
    call = Background(lambda: client.call("steps", {"n": 6, "step": str(spot)}, idle_timeout=1.0))
    for k in range(6):
        step(spot, k)
        eventually(lambda: True)
    assert len(call.result()) == 6


# ---- asyncio


def test_the_asyncio_client_does_it_too(node: Node, spot: Path) -> None:
    async def main() -> None:
        async with AsyncClient(node.address) as client:
            streams = [client.stream(KINDS[n % 2], {"n": 200 + n}) for n in range(10)]
            found = await asyncio.gather(*[collected(stream) for stream in streams])
            assert [len(each) for each in found] == [200 + n for n in range(10)]
            assert streams[0].value == "all"
            seen: list[Progress] = []
            assert await client.call("report", {"n": 2, "seconds": 0.06}, on_progress=seen.append) == 2
            assert seen[-1].message == "over"
            handle = await client.submit("report", {"n": 1, "seconds": 0.0}, progress=True)
            assert await handle == 1
            assert handle.progress == (1, 1, "over")
            step(spot, 0)
            async with client.stream("async_steps", {"n": 9, "path": str(spot), "step": str(spot)}) as stream:
                async for part in stream:
                    assert part == "0"
                    break
            with pytest.raises(Expired):
                await client.call("async_silent", {"seconds": 60}, idle_timeout=0.2)

    async def collected(stream: Any) -> list[Any]:
        return [part async for part in stream]

    asyncio.run(main())
    eventually(lambda: lines(spot)[-1] == "closed", "it was ended")


async def until(condition: Callable[[], Any]) -> None:
    """``eventually``, while the event loop turns."""
    await asyncio.to_thread(eventually, condition)


@pytest.mark.parametrize("how", ["break", "error", "cancel"])
def test_an_async_loop_that_is_left_ends_it_although_the_stream_is_still_held(node: Node, spot: Path, how: str) -> None:
    arguments = {"n": 9, "path": str(spot), "step": str(spot)}
    step(spot, 0)
    step(spot, 1)

    async def read(stream: AsyncStream) -> None:
        async for part in stream:
            assert part == "1"
            if how == "break":
                break
            if how == "error":
                raise ZeroDivisionError

    async def main() -> None:
        async with AsyncClient(node.address) as client:
            stream = client.stream("async_steps", arguments)
            assert await anext(stream) == "0"
            task = asyncio.create_task(read(stream))
            await until(lambda: len(lines(spot)) >= 2)
            if how == "cancel":
                task.cancel()
            await asyncio.wait([task])
            await until(lambda: lines(spot)[-1] == "closed")
            with pytest.raises(Cancelled):
                await anext(stream)

    asyncio.run(main())


def test_an_async_one_that_is_closed_first_never_begins(node: Node, spot: Path) -> None:
    async def main() -> None:
        async with AsyncClient(node.address) as client:
            before = (await client.status())["jobs"]["accepted"]
            stream = client.stream("steps", {"n": 3, "path": str(spot)})
            stream.close()
            for _ in range(2):
                with pytest.raises(Cancelled):
                    await anext(stream)
            with pytest.raises(Cancelled):
                _ = [part async for part in stream]
            with pytest.raises(Cancelled):
                async with stream:
                    pass
            with pytest.raises(Cancelled):
                _ = stream.value
            assert stream.id is None
            assert (await client.status())["jobs"]["accepted"] == before

    asyncio.run(main())
    assert lines(spot) == []


def test_an_async_one_that_is_closed_while_it_waits_for_the_node_never_begins(node: Node, spot: Path) -> None:
    async def main() -> None:
        client = AsyncClient(node.address)
        stream = client.stream("steps", {"n": 3, "path": str(spot)})
        first = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)  # it has begun to connect
        stream.close()
        with pytest.raises(Cancelled):
            await first
        await client.close()

    asyncio.run(main())
    assert lines(spot) == []


def test_an_error_of_who_hears_of_progress_ends_the_job(node: Node, client: Client) -> None:
    def hear(progress: Progress) -> None:
        raise ZeroDivisionError(progress.message)

    def in_hand() -> int:
        return int(client.jobs("report")["total"])

    async def main() -> None:
        async with AsyncClient(node.address) as own:
            with pytest.raises(ZeroDivisionError):
                await own.call("report", {"n": 3, "seconds": 60.0}, on_progress=hear)
            await until(lambda: in_hand() == 0)

    asyncio.run(main())
    with pytest.raises(ZeroDivisionError):
        client.call("report", {"n": 3, "seconds": 60.0}, on_progress=hear)
    eventually(lambda: in_hand() == 0, "it was ended")


def test_a_tools_threads_may_tell_of_its_progress(node: Node, client: Client, tmp_path: Path) -> None:
    told: list[str] = []
    assert (
        client.call("pooled", {"threads": 8, "words": 200}, on_progress=lambda word: told.append(word.message)) == 1600
    )
    assert told
    over = tmp_path / "over"
    client.call("outlive", {"path": str(over)}, on_progress=print)
    assert list(client.map("report", [{"n": n, "seconds": 0} for n in range(200)])) == list(range(200))
    over.touch()
    words: list[float] = []
    stream = client.stream("streamed", {"parts": 300}, window=100, on_progress=lambda word: words.append(word.done))
    assert list(stream) == list(range(300))
    assert words
    assert "worker_given_up" not in node.log
