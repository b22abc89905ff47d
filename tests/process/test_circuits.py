"""Circuits with real processes: tools that keep failing, hanging or killing their workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, failure, run_cli
from toolring import AsyncClient, Client
from toolring.errors import CircuitOpen, InvalidArguments, OutcomeUnknown, Poisoned, UnknownTool

MODULE = """
import os, time
from pathlib import Path
from toolring import tool

BREAKER = {"window": 4, "minimum": 2, "wait": 0.3, "probes": 1}

@tool
def abort() -> None:
    os.abort()

@tool(read_only=True)
def abort_again() -> None:
    os.abort()

@tool
async def abort_async() -> None:
    os.abort()

@tool(breaker=BREAKER)
def flaky(path: str) -> str:
    if Path(path).exists():
        raise ConnectionError("not there")
    return "there"

@tool(breaker={**BREAKER, "ignore": ["KeyError"], "slow": 30})
def lookup(key: str) -> str:
    return {"a": "b"}[key]

@tool(breaker=BREAKER, timeout=0.1)
def hang() -> None:
    time.sleep(60)

@tool(read_only=True, breaker=BREAKER, batch=4, batch_delay=0.01)
def many(n: list[int]) -> list[int]:
    raise ConnectionError("not there")

@tool(breaker=BREAKER)
async def later(n: int) -> int:
    raise ConnectionError("not there")

@tool
def plain() -> int:
    return os.getpid()
"""
CONFIG = """
[tools.plain]
breaker = { failure_rate = 0.2, wait = 60 }
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("circuits")
    (directory / "brittle.py").write_text(MODULE)
    (directory / "toolring.toml").write_text(CONFIG)
    with kit.running(directory / "brittle.py", workers=2, TOOLRING_CONFIG=str(directory / "toolring.toml")) as node:
        yield node


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    with node.client() as client:
        yield client


@pytest.mark.parametrize("tool", ["abort", "abort_again", "abort_async"])
def test_a_tool_that_keeps_killing_its_workers_is_refused_and_the_others_go_on(
    node: Node, client: Client, tool: str
) -> None:
    while not isinstance(error := failure(lambda: client.call(tool)), CircuitOpen):
        assert isinstance(error, OutcomeUnknown | Poisoned)
    state = client.breakers()[tool]
    assert (state["state"], state["declared"], state["deaths"], state["opened"]) == ("open", False, 10, 1)
    assert 0 < error.facts["retry_after"] <= 10
    assert "killing workers" in str(error)
    assert client.call("plain") > 0
    node.until_whole(4)
    assert client.status()["state"] == "healthy"
    eventually(lambda: "circuit_changed" in node.log)


def test_a_tool_that_keeps_failing_is_refused_and_tried_again_later(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    for _ in range(2):
        assert failure(lambda: client.call("flaky", {"path": str(broken)})).code == "TOOL_ERROR"
    refused = failure(lambda: client.call("flaky", {"path": str(broken)}))
    assert (refused.code, refused.facts["tool"], refused.facts["limit"]) == ("CIRCUIT_OPEN", "flaky", "circuit")
    broken.unlink()
    eventually(lambda: client.breakers()["flaky"]["retry_after"] is None, "it may be tried")
    assert client.call("flaky", {"path": str(broken)}) == "there"
    assert client.breakers()["flaky"]["state"] == "closed"


def test_errors_may_be_answers_and_a_time_limit_is_a_failure(client: Client) -> None:
    for _ in range(4):
        assert failure(lambda: client.call("lookup", {"key": "z"})).facts["type"] == "KeyError"
    assert client.breakers()["lookup"]["failed"] == 0
    for _ in range(2):
        assert failure(lambda: client.call("hang")).code == "EXPIRED"
    assert failure(lambda: client.call("hang")).code == "CIRCUIT_OPEN"


@pytest.mark.parametrize("tool", ["many", "later"])
def test_runs_of_many_calls_fail_if_all_of_them_do(client: Client, tool: str) -> None:
    chunk = 1 if tool == "many" else 4
    errors = [e.code for e in client.map(tool, [{"n": n} for n in range(8)], errors="return", chunk=chunk, window=4)]
    assert errors[:8] == ["TOOL_ERROR"] * 8
    assert failure(lambda: client.call(tool, {"n": 1})).code == "CIRCUIT_OPEN"
    assert client.breakers()[tool]["failed"] == 2


def test_many_calls_with_wrong_arguments_are_no_failure_of_the_tool(client: Client) -> None:
    """Or one caller could have the tool refused to all."""
    calls = [{"key": 3} for _ in range(16)]
    for chunk in (1, 4):
        errors = list(client.map("lookup", calls, errors="return", chunk=chunk))
        assert {error.code for error in errors} == {"INVALID_ARGUMENTS"}
    ignored = list(client.map("lookup", [{"key": "z"}] * 16, errors="return", chunk=4))
    assert {error.facts["type"] for error in ignored} == {"KeyError"}
    state = client.breakers()["lookup"]
    assert (state["state"], state["failed"]) == ("closed", 0)


def test_the_command_line_shows_and_orders(node: Node, client: Client) -> None:
    def breaker(*words: str, status: int = 0) -> str:
        done = run_cli("breaker", *words, address=node.address)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    assert breaker("open", "plain") == "plain: its circuit is forced open\n"
    assert failure(lambda: client.call("plain")).code == "CIRCUIT_OPEN"
    assert run_cli("call", "plain", address=node.address).returncode == 5
    shown = breaker("list").splitlines()
    assert " ".join(shown[0].split()) == "TOOL STATE COUNTS CALLS FAILED SLOW DEATHS OPENED REFUSED AGAIN IN"
    row = next(line for line in shown if line.startswith("plain"))
    assert "forced open" in row
    assert row.endswith("-"), "nobody knows when"
    assert json.loads(breaker("close", "plain", "--json"))["state"] == "forced_closed"
    assert client.call("plain") > 0
    assert breaker("watch", "plain") == "plain: its circuit is metrics only\n"
    assert client.call("plain") > 0
    assert json.loads(breaker("list", "--json"))["plain"]["calls"] == 1
    assert breaker("auto", "plain") == "plain: its circuit is closed\n"
    assert "needs the tool" in breaker("open", status=2)
    assert "takes no tool" in breaker("list", "plain", status=2)
    assert "no tool 'plane' here; did you mean 'plain'?" in breaker("open", "plane", status=2)


def test_orders_that_are_none_are_refused_by_name(client: Client) -> None:
    assert isinstance(failure(lambda: client.breaker("plain", "ajar")), InvalidArguments)
    assert isinstance(failure(lambda: client.breaker("nobody", "open")), UnknownTool)


def test_the_async_client_does_the_same(node: Node) -> None:
    async def orders() -> list[str]:
        async with AsyncClient(node.address) as client:
            return [
                (await client.breaker("plain", "watch"))["state"],
                (await client.breakers())["plain"]["state"],
                (await client.breaker("plain", "auto"))["state"],
            ]

    assert asyncio.run(orders()) == ["metrics_only", "metrics_only", "closed"]


def test_the_policy_says_where_it_came_from(client: Client) -> None:
    policy = client.policy("plain")["breaker"]
    assert "toolring.toml" in policy["source"]
    assert (policy["value"]["failure_rate"], policy["value"]["wait"]) == (0.2, 60.0)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[tools.plain]\nbreaker = 3", "breaker"),
        ("[tools.plain]\nbreaker = { failure_rate = 2.0 }", "failure_rate=2.0 is not a share"),
        ("[tools.plain.breaker]\nfailures = 3", "breaker has no 'failures'; there is failure_rate, slow_rate, slow"),
        ("[tools.plain.breaker]\nwindow = 5", "minimum=20 is more than the window's 5 calls"),
    ],
)
def test_what_makes_no_sense_ends_the_start(tmp_path: Path, config: str, says: str) -> None:
    (tmp_path / "brittle.py").write_text(MODULE)
    (tmp_path / "wrong.toml").write_text(config)
    words = ("serve", str(tmp_path / "brittle.py"), "--bind", f"ipc://{tmp_path}/n.sock", "--config")
    done = run_cli(*words, str(tmp_path / "wrong.toml"), XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 3
    assert says in done.stderr
