"""What tools write becomes part of the records of their jobs: with real processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, failure, run_cli
from toolring import AsyncClient, Client
from toolring.errors import OutcomeUnknown, ToolError

TOOLS = kit.HERE / "output_tools.py"


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with kit.running(TOOLS, workers=2, TOOLRING_LOG_FORMAT="json") as node:
        yield node


@pytest.fixture
def node(shared: Node) -> Iterator[Node]:
    yield shared
    shared.until_whole(4)


def written(client: Client, job: str) -> list[tuple[str, str]]:
    return [(line["level"] or line["stream"], line["text"]) for line in client.why(job)["output"]]


def done(client: Client, tool: str, **arguments: Any) -> str:
    """The id of a job that is over."""
    handle = client.submit(tool, arguments)
    handle.exception()
    return handle.id


def logged(node: Node, job: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in node.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == "tool_output" and line.get("job") == job]


def test_all_that_a_tool_writes_is_told_of_its_job(node: Node, client: Client) -> None:
    job = done(client, "says", text="hello")
    found = written(client, job)
    assert found[0] == ("stdout", "out: hello")
    assert found[1] == ("stderr", "err: hello")
    assert found[2][0] == "warning"
    assert found[2][1].endswith("RuntimeWarning: warn: hello")
    assert found[3] == ("warning", "mine: log: hello")
    assert found[4] == ("error", "early: hello")
    assert found[5][0] == "log"
    assert json.loads(found[5][1])["event"] == "own"
    assert found[6:] == [("stdout", "no end")]
    eventually(lambda: len(logged(node, job)) >= 6, "they are in the log")
    lines = logged(node, job)
    assert [line["stream"] for line in lines] == ["stdout", "stderr", "warnings", "logging", "logging", "stdout"]
    assert {line["tool"] for line in lines} == {"says"}
    assert {line["attempt"] for line in lines} == {1}
    assert {line["worker"] for line in lines} == {client.why(job)["worker"]}
    assert node.log.count('"event": "own"') == 1, "what was logged is logged once"


def test_who_writes_nothing_has_none(client: Client) -> None:
    assert written(client, done(client, "quiet")) == []
    assert written(client, done(client, "says", text="again"))[0] == ("stdout", "out: again")


def test_a_flood_is_cut_and_counted(client: Client) -> None:
    found = written(client, done(client, "floods", lines=2000))
    assert found[-1][0] == "dropped"
    kept = len(found) - 1
    assert found[-1][1] == f"{2000 - kept} further lines were dropped"
    assert 300 < kept < 700
    assert [text.split()[1] for _, text in found[:kept]] == [str(n) for n in range(kept)]


def test_what_the_log_leaves_out_is_told_in_it(node: Node, client: Client) -> None:
    jobs = {client.submit("floods", {"lines": 1}).id for _ in range(500)}

    def told() -> int:
        lines = [json.loads(line) for line in node.log.splitlines() if line.startswith("{")]
        left_out = sum(line["count"] for line in lines if line.get("kind") == "tool_output")
        return left_out + sum(line["event"] == "tool_output" and line.get("job") in jobs for line in lines)

    eventually(lambda: told() >= 500, "each is there, or counted")


def test_what_was_written_survives_the_worker(node: Node, client: Client, spot: Path) -> None:
    handle = client.submit("dies", {"path": str(spot)})
    assert isinstance(handle.exception(), OutcomeUnknown)
    assert written(client, handle.id) == [("stdout", "the last words")]


def test_it_is_seen_while_the_tool_runs(client: Client, spot: Path) -> None:
    handle = client.submit("waits", {"path": str(spot)})
    assert eventually(lambda: written(client, handle.id), "it writes") == [("stdout", "it has begun")]
    Path(f"{spot}.open").touch()
    handle.result()


def test_what_was_flushed_is_told_of_a_job_that_is_ended(client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("hangs", {"path": str(spot)}, timeout=0.2))
    assert written(client, error.facts["job"]) == [("stdout", "50% done"), ("stdout", "it has begun")]


def test_a_thread_writes_for_the_job_at_hand(client: Client) -> None:
    assert written(client, done(client, "threads", text="x")) == [("stdout", "from a thread: x")]


def test_what_is_not_pythons_own_goes_to_standard_error_as_it_is(node: Node, client: Client) -> None:
    assert written(client, done(client, "outside", text="raw")) == []
    for line in ("descriptor: raw", "child: raw", "fork: raw"):
        assert line in node.log.splitlines()
    assert "while it is imported" in node.log.splitlines()


def test_a_failure_keeps_what_came_before(client: Client) -> None:
    error = failure(lambda: client.call("fails", {"text": "before"}))
    assert isinstance(error, ToolError)
    assert written(client, error.facts["job"]) == [("stdout", "before")]


def test_odd_characters_and_long_lines(node: Node, client: Client) -> None:
    job = done(client, "odd")
    found = written(client, job)
    assert found[0][1] == "half \\udce9 a character \x1b[2J last\r"
    assert "".join(text for _, text in found[1:]) == "y" * 20_000
    shown = run_cli("why", job, address=node.address).stdout
    assert "\\x1b[2J" in shown
    assert "what it wrote" in shown


def test_many_at_once_are_told_apart(node: Node) -> None:
    async def main() -> None:
        async with AsyncClient(node.address) as own:
            handles = [await own.submit("together", {"name": f"n{n}", "others": 9}) for n in range(10)]
            for n, handle in enumerate(handles):
                await handle
                story = await own.why(handle.id)
                texts = [line["text"] for line in story["output"]]
                assert texts == [*(f"n{n} {number} of 9" for number in range(5)), f"n{n} from a thread"]

    asyncio.run(main())


def test_it_may_be_left_alone_and_forgotten() -> None:
    with kit.running(TOOLS, workers=1, TOOLRING_OUTPUT_CAPTURE="false") as node, node.client() as client:
        assert written(client, done(client, "says", text="as it is")) == []
        assert "out: as it is" in node.log.splitlines()
    small: dict[str, Any] = {"TOOLRING_OUTPUT_MAX_BYTES": "200", "TOOLRING_OUTPUT_KEEP_BYTES": "1000"}
    with kit.running(TOOLS, workers=1, **small) as node, node.client() as client:
        first = done(client, "floods", lines=2)
        assert [level for level, _ in written(client, first)] == ["stdout", "dropped"]
        for _ in range(5):
            last = done(client, "floods", lines=1)
        assert written(client, first) == [("dropped", "2 lines had to leave, since all that is kept has a limit")]
        assert written(client, last)[0][0] == "stdout"
