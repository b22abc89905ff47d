"""What the workers of a group may have of the machine, as their tools find it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.process.kit import Node, eventually, failure, place, run_cli, running
from toolring.errors import OutcomeUnknown, WorkerOutOfMemory

TOOLS = """
import os, resource
from toolring import tool

@tool(read_only=True)
def look() -> dict:
    return {
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "nice": os.nice(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "environment": [os.environ.get("ADDED"), os.environ.get("TAKEN")],
        "directory": os.getcwd(),
        "user": [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
        "pid": os.getpid(),
        "threads": sorted({line for task in os.listdir("/proc/self/task")
                           for line in open(f"/proc/self/task/{task}/status") if line.startswith("Cpus_allowed_list")}),
    }

@tool
def grow(size: int) -> int:
    return len(bytearray(size))

@tool
def burn() -> None:
    while True:
        pass

@tool(group="other", read_only=True)
def other() -> list:
    return [os.getcwd(), os.environ.get("ADDED"), os.environ.get("TAKEN")]
"""


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


@contextmanager
def serving(settings: str) -> Iterator[tuple[Node, Path]]:
    with place() as directory:
        (directory / "looking.py").write_text(TOOLS)
        (directory / "toolring.toml").write_text(f"[groups.default]\n{settings}\n")
        with running(directory / "looking.py", workers=1, directory=directory, TAKEN="away") as node:
            yield node, directory


def test_limits_and_surroundings_of_a_group() -> None:
    cpu = min(os.sched_getaffinity(0))
    settings = f"""
open_files = 200
core_bytes = 0
nice = 3
cpus = [{cpu}]
environment = {{ADDED = "1", TAKEN = ""}}
directory = "/"
"""
    with serving(settings) as (node, directory), node.client() as client:
        found = client.call("look")
        assert (found["open_files"], found["core"]) == (200, 0)
        assert found["nice"] == os.nice(0) + 3
        assert found["cpus"] == [cpu]
        assert found["threads"] == [f"Cpus_allowed_list:\t{cpu}\n"], "those of the socket, too"
        assert found["environment"] == ["1", None]
        assert found["directory"] == "/"
        assert client.call("other") == [str(directory), None, "away"], "the other group has nothing of it"


def test_a_tool_that_wants_too_much_memory_has_a_memory_error() -> None:
    with serving(f"address_space = {2 << 30}") as (node, _), node.client() as client:
        assert client.call("grow", {"size": 1 << 20}) == 1 << 20
        assert isinstance(failure(lambda: client.call("grow", {"size": 4 << 30})), WorkerOutOfMemory)
        assert client.call("grow", {"size": 1 << 20}) == 1 << 20


def test_a_worker_that_has_used_its_processor_time_up() -> None:
    with serving("cpu_seconds = 1") as (node, _), node.client() as client:
        error = failure(lambda: client.call("burn", timeout=30))
        assert isinstance(error, OutcomeUnknown)
        assert "processor time is used up" in str(error)
        assert client.breakers()["burn"]["deaths"] == 0, "whoever ran just then is not to blame"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have workers of another user")
def test_workers_of_another_user_that_die_with_their_node() -> None:
    with serving('user = "nobody"') as (node, _), node.client() as client:
        found = client.call("look")
        uid = found["user"][0]
        assert uid != 0
        assert found["user"][1] == uid
        assert 0 not in (found["user"][2], *found["user"][3])
        client.recycle(group="default")
        eventually(lambda: client.call("look")["pid"] != found["pid"], "another one connects, too")
        node.remember()
        pid = client.call("look")["pid"]
        node.process.kill()
        node.process.wait()
        eventually(lambda: not psutil.pid_exists(pid), "it dies with the node")


def test_the_title_of_a_process_tells_what_it_does() -> None:
    with serving("") as (node, _), node.client() as client:
        pid = client.call("look")["pid"]
        slot = next(worker["id"] for worker in node.status()["workers"] if worker["pid"] == pid)
        mine = f"toolring worker {slot} (default) of {node.bind}"
        assert title(pid) == f"{mine}: look"
        client.call("grow", {"size": 1})
        assert title(pid) == f"{mine}: grow"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ('directory = "/nowhere"', "groups.default: directory = '/nowhere'"),
        ('user = "no-such-user"', "no-such-user"),
        ("cpus = [9999]", "cpus = [9999]"),
        ("open_files = 0", "open_files = 0"),
        ('open_files = "many"', "groups.default.open_files"),
    ],
)
def test_what_cannot_be_had_is_said_at_the_start(tmp_path: Path, settings: str, what: str) -> None:
    (tmp_path / "looking.py").write_text(TOOLS)
    (tmp_path / "c.toml").write_text(f"[groups.default]\n{settings}\n")
    told = run_cli(
        "serve", str(tmp_path / "looking.py"), "--config", str(tmp_path / "c.toml"), "--bind", f"ipc://{tmp_path}/n"
    )
    assert told.returncode == 3
    assert what in told.stderr
