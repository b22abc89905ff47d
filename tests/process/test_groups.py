"""Groups of workers with real processes: their own size, tools and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, failure, lines, run_cli
from toolring import Client
from toolring.errors import Busy

MODULE = """
import os, time
from pathlib import Path
from toolring import tool

def _begin(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not Path(path + ".open").exists():
        time.sleep(0.002)

@tool(group="heavy", memory=600)
def large(path: str) -> int:
    _begin(path)
    return os.getpid()

@tool(group="heavy", memory=300)
def small(path: str) -> int:
    _begin(path)
    return os.getpid()

@tool
def light() -> int:
    return os.getpid()

@tool
def moved() -> int:
    return os.getpid()

@tool
async def other() -> int:
    return os.getpid()
"""
CONFIG = """
[groups.heavy]
workers = 3
memory = 1000
backlog = 4

[groups.aside]
workers = 1
tools = ["moved"]
concurrency = 1
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("groups")
    (directory / "grouped.py").write_text(MODULE)
    (directory / "toolring.toml").write_text(CONFIG)
    with kit.running(directory / "grouped.py", workers=2, TOOLRING_CONFIG=str(directory / "toolring.toml")) as node:
        yield node


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    with node.client() as client:
        yield client


def test_each_has_its_own_workers(client: Client) -> None:
    workers = client.status()["workers"]
    pids = {
        group: {w["pid"] for w in workers if w["group"] == group} for group in ("default", "heavy", "aside", "async")
    }
    assert {group: len(found) for group, found in pids.items()} == {"default": 2, "heavy": 3, "aside": 1, "async": 2}
    assert {client.call("light") for _ in range(10)} <= pids["default"]
    assert {client.call("moved") for _ in range(3)} == pids["aside"]
    assert client.call("other") in pids["async"]
    policy = client.policy("moved")["group"]
    assert policy["value"] == "aside"
    assert "toolring.toml" in policy["source"]


def test_memory_is_a_budget_and_a_slow_group_holds_up_no_other(client: Client, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    first = client.submit("large", {"path": str(one)})
    eventually(lambda: lines(one), "it runs")
    second = client.submit("small", {"path": str(two)})
    eventually(lambda: lines(two), "it fits beside it")
    third = client.submit("large", {"path": str(three)})
    waiting = eventually(lambda: client.queue()["waiting"], "it waits")
    assert [(w["waits_for"], w["tool"]) for w in waiting] == [("memory of group heavy", "large")]
    limits = client.queue()["limits"]["group heavy"]
    assert (limits["running"], limits["used"], limits["memory"]) == (2, 900, 1000)
    assert client.call("light") > 0
    behind = [client.submit("small", {"path": str(tmp_path / "more")}) for _ in range(3)]
    refused = failure(lambda: client.call("small", {"path": str(tmp_path / "more")}))
    assert isinstance(refused, Busy)
    assert refused.facts["limit"] == "group_backlog"
    assert refused.facts["retry_after"] > 0
    assert not lines(three)
    for spot in (one, two, three, tmp_path / "more"):
        Path(f"{spot}.open").touch()
    assert all(handle.result() for handle in (first, second, third, *behind))


def test_the_command_line_shows_them(node: Node) -> None:
    shown = run_cli("status", address=node.address).stdout
    assert "GROUP" in shown
    assert re.search(r"^\s*\d+ .* heavy$", shown, re.M)
    assert "group heavy" in run_cli("queue", address=node.address).stdout


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[groups.none]\nworkers = 1", "no tool is in that group; there is async, default, heavy"),
        ("[groups.async]\ntools = ['light']", "async tools (other) and others (light)"),
        ("[groups.heavy]\nmemory = 500", "'large' declares 600 bytes; its group 'heavy' has 500"),
        ("[groups.heavy]\nper_worker = 5", "groups.heavy.per_worker does nothing"),
        ("[groups.default]\nmemory = 5", "none of its tools declares memory="),
        ("[groups.heavy]\nworkers = 2000", "must be at most 1024"),
        ("[groups.heavy]\nworker = 2", "did you mean"),
        ("[groups.heavy]\nbalancer = 'nosuch'", "groups.heavy.balancer = 'nosuch': no such balancer; there is"),
        ("[groups.a]\ntools = ['light']\n[groups.b]\ntools = ['light']", "is in the group 'a' and in groups.b.tools"),
        ("[groups.a]\ntools = ['nope']", "no such tool is served"),
        ("[tools.light]\ngroup = 'not a name'", "a group's name"),
    ],
)
def test_what_makes_no_sense_ends_the_start(tmp_path: Path, config: str, says: str) -> None:
    (tmp_path / "grouped.py").write_text(MODULE)
    (tmp_path / "wrong.toml").write_text(config)
    words = ("serve", str(tmp_path / "grouped.py"), "--bind", f"ipc://{tmp_path}/n.sock", "--config")
    done = run_cli(*words, str(tmp_path / "wrong.toml"), XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 3, done.stderr
    assert says in done.stderr
