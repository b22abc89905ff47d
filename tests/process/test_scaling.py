"""A group has as many workers as there is work for, down to none, and no call is lost on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.kit import Background, Node, eventually, lines, place, run_cli, running

TOOLS = """
import asyncio, os, time
from pathlib import Path
from toolring import tool

HERE = Path(__file__).parent

@tool
def light() -> int:
    return os.getpid()

@tool(group="heavy")
def heavy(name: str = "", key: str = "") -> int:
    if name:
        with open(HERE / name, "a") as file:
            print(os.getpid(), file=file)
        while not (HERE / f"{name}.go").exists():
            time.sleep(0.005)
    return os.getpid()

@tool(group="heavy", read_only=True, affinity="key")
def near(key: str) -> int:
    return os.getpid()

@tool(group="many")
async def many(name: str) -> int:
    with open(HERE / name, "a") as file:
        print(os.getpid(), file=file)
    while not (HERE / f"{name}.go").exists():
        await asyncio.sleep(0.005)
    return os.getpid()
"""
SETTINGS = """
[groups.heavy]
workers = 4
min_workers = 0
scale_up_wait = 0.02
scale_down_after = 0.4

[groups.many]
workers = 3
min_workers = 1
per_worker = 2
scale_up_wait = 0.02
scale_down_after = 0.4
"""


@contextmanager
def serving(settings: str = SETTINGS) -> Iterator[tuple[Node, Path]]:
    with place() as directory:
        (directory / "scaled.py").write_text(TOOLS)
        (directory / "toolring.toml").write_text(settings)
        with running("scaled", workers=1, directory=directory) as node:
            yield node, directory


def group(node: Node, name: str) -> dict[str, Any]:
    return dict(node.status()["groups"][name])


def pids(node: Node, name: str) -> set[int]:
    return {w["pid"] for w in node.status()["workers"] if w["group"] == name and w["pid"]}


def test_from_none_to_the_most_and_back() -> None:
    with serving() as (node, directory), node.client() as client:
        assert group(node, "heavy") == {"workers": 0, "ready": 0, "failing": False, "least": 0, "most": 4}
        assert group(node, "many")["workers"] == 1
        assert group(node, "default") == {"workers": 1, "ready": 1, "failing": False, "least": 1, "most": 1}
        assert client.call("heavy") > 0, "one starts for it"
        calls = [client.submit("heavy", {"name": "here"}) for _ in range(7)]
        eventually(lambda: len(lines(directory / "here")) == 4, "four run beside each other")
        assert group(node, "heavy")["workers"] == 4
        (directory / "here.go").touch()
        assert all(call.result() for call in calls)
        eventually(lambda: group(node, "heavy")["workers"] == 0, "nobody needs them")
        eventually(lambda: not node.status()["ending"], "they have left")
        assert node.status()["state"] == "healthy"
        recycled = run_cli("recycle", "--group", "heavy", "--wait", address=node.address)
        assert (recycled.returncode, "nothing to replace" in recycled.stdout) == (0, True), recycled
        assert client.call("light") > 0
        assert client.call("heavy") > 0
        assert "SIG" not in node.log
        shown = run_cli("status", address=node.address).stdout
        assert "LEAST" in shown
        eventually(lambda: '"group_scaled"' in node.log)


def test_a_worker_that_is_not_needed_finishes_what_it_runs() -> None:
    with serving() as (node, directory), node.client() as client:
        first = [client.submit("heavy", {"name": "short"}) for _ in range(3)]
        eventually(lambda: len(lines(directory / "short")) == 3)
        long = client.submit("heavy", {"name": "long"})
        eventually(lambda: lines(directory / "long"))
        runner = int(lines(directory / "long")[0])
        (directory / "short.go").touch()
        assert all(call.result() for call in first)
        eventually(lambda: group(node, "heavy")["workers"] < 4, "some leave")
        assert not long.done()
        (directory / "long.go").touch()
        assert long.result() == runner


def test_async_workers_are_counted_by_their_places() -> None:
    with serving() as (node, directory), node.client() as client:
        calls = [client.submit("many", {"name": "here"}) for _ in range(5)]
        eventually(lambda: len(lines(directory / "here")) == 5, "two in each of three")
        assert len(set(lines(directory / "here"))) == 3
        (directory / "here.go").touch()
        assert all(call.result() for call in calls)
        eventually(lambda: group(node, "many")["workers"] == 1)


def test_keys_have_the_same_worker_while_their_number_is_the_same() -> None:
    with serving() as (node, directory), node.client() as client:
        block = [client.submit("heavy", {"name": "here"}) for _ in range(4)]
        eventually(lambda: len(lines(directory / "here")) == 4)
        (directory / "here.go").touch()
        assert all(call.result() for call in block)
        for key in ("a", "b", "c"):
            assert client.call("near", {"key": key}) in pids(node, "heavy") | set(map(int, lines(directory / "here")))
        eventually(lambda: group(node, "heavy")["workers"] == 0)
        assert client.call("near", {"key": "a"}) > 0, "whoever comes first has all keys"


def test_one_that_is_killed_comes_again_if_it_is_needed() -> None:
    with serving() as (node, directory), node.client() as client:
        call = Background(lambda: client.call("many", {"name": "here"}))
        eventually(lambda: lines(directory / "here"))
        before = pids(node, "many")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(Exception, match="lost"):
            call.result()
        eventually(lambda: pids(node, "many") and not pids(node, "many") & before)
        assert group(node, "many")["workers"] == 1


def test_a_drain_starts_workers_for_what_was_accepted() -> None:
    with serving() as (node, directory), node.client() as client:
        blocked = client.submit("light")
        blocked.result()
        waiting = client.submit("heavy", {"name": "here"})
        eventually(lambda: client.status()["jobs"]["accepted"] == 2)
        node.signal(signal.SIGTERM)
        eventually(lambda: lines(directory / "here"), "it runs although the node drains")
        (directory / "here.go").touch()
        assert waiting.result() > 0
        assert node.wait() == 0


def test_a_reload_has_as_many_as_there_were() -> None:
    with serving() as (node, directory), node.client() as client:
        calls = [client.submit("heavy", {"name": "here"}) for _ in range(3)]
        eventually(lambda: len(lines(directory / "here")) == 3)
        (directory / "scaled.py").write_text(TOOLS + "\n# changed\n")
        number = client.reload()
        outcome = eventually(lambda: client.reloads(number)["outcome"])
        assert outcome["error"] is None
        more = client.submit("heavy", {"name": "other"})
        eventually(lambda: lines(directory / "other"))
        (directory / "here.go").touch()
        (directory / "other.go").touch()
        assert all(call.result() for call in [*calls, more])
        eventually(lambda: group(node, "heavy")["workers"] == 0)
        assert client.call("heavy") > 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("[groups.heavy]\nworkers = 2\nmin_workers = 3", "min_workers = 3 is more than its 2 workers"),
        ("[groups.heavy]\nscale_down_after = 3.0", "scale_down_after does nothing without min_workers"),
        ("[groups.heavy]\nmin_workers = -1", "min_workers"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: str, why: str) -> None:
    with place() as directory:
        (directory / "scaled.py").write_text(TOOLS)
        (directory / "toolring.toml").write_text(settings)
        told = run_cli(
            "serve",
            str(directory / "scaled.py"),
            "--config",
            str(directory / "toolring.toml"),
            "--bind",
            f"ipc://{directory}/s",
        )
        assert told.returncode == 3
        assert why in told.stderr
