"""Workers of a real node are replaced under load, and nobody notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.kit import Background, Node, eventually, place, run_cli, running
from toolring import Client
from toolring.supervisor.spawner import resident

TOOLS = """
import asyncio, os, time
from pathlib import Path
from toolring import tool

HERE = Path(__file__).parent
if (HERE / "broken").exists():
    os._exit(7)
KEPT = []

@tool
def write(n: int) -> list:
    return [n, os.getpid()]

@tool
def leak(size: int) -> int:
    KEPT.append(bytearray(os.urandom(4096) * (size // 4096)))
    return os.getpid()

@tool
def slow(name: str) -> int:
    (HERE / name).touch()
    while not (HERE / f"{name}.go").exists():
        time.sleep(0.01)
    return os.getpid()

@tool
async def slow_async(name: str) -> int:
    (HERE / name).touch()
    while not (HERE / f"{name}.go").exists():
        await asyncio.sleep(0.01)
    return os.getpid()
"""


@contextmanager
def serving(workers: int = 2, settings: str = "") -> Iterator[tuple[Node, Path]]:
    with place() as directory:
        (directory / "renewed.py").write_text(TOOLS)
        (directory / "toolring.toml").write_text(settings)
        with running(directory / "renewed.py", workers=workers, directory=directory) as node:
            yield node, directory


def slots(node: Node) -> dict[int, int]:
    return {worker["id"]: worker["pid"] for worker in node.status()["workers"]}


class Load:
    """Callers of what may not be repeated, without a pause; every number must come back once."""

    def __init__(self, node: Node, callers: int = 4) -> None:
        self._over = threading.Event()
        self.pids: set[int] = set()
        self._calls = [Background(lambda: self._call(node)) for _ in range(callers)]

    def _call(self, node: Node) -> int:
        n = 0
        with node.client() as client:
            while not self._over.is_set():
                n += 1
                back, pid = client.call("write", {"n": n})
                assert back == n
                self.pids.add(pid)
        return n

    def end(self) -> int:
        """How many calls were answered; raises what any of them ended in."""
        self._over.set()
        return sum(one.result() for one in self._calls)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_all_workers_are_replaced_under_load_and_no_call_is_lost(start: str) -> None:
    with serving(2, f'[node]\nstart_method = "{start}"') as (node, _):
        before = slots(node)
        load = Load(node)
        told = run_cli("recycle", "--wait", address=node.address)
        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith("replaced: worker ")
        after = slots(node)
        assert set(after) == set(before)
        assert not set(after.values()) & set(before.values())
        eventually(lambda: load.pids & set(after.values()), "the new ones work")
        assert load.end() > 0
        status = eventually(lambda: node.status() if not node.status()["ending"] else None, "the old ones are gone")
        assert status["renewed"] == len(before)
        assert status["state"] == "healthy"
        assert "SIG" not in node.log, "they left by themselves"


@pytest.mark.parametrize("tool", ["slow", "slow_async"])
def test_what_runs_in_one_that_leaves_comes_to_its_end(tool: str) -> None:
    with serving() as (node, directory), node.client() as client:
        call = Background(lambda: client.call(tool, {"name": "here"}))
        eventually((directory / "here").exists)
        busy = next(worker for worker in node.status()["workers"] if worker["state"] == "busy")
        assert client.recycle(busy["id"]) == [{"worker": busy["id"], "pid": busy["pid"]}]
        eventually(lambda: slots(node)[busy["id"]] != busy["pid"], "its successor is there")
        assert call.is_alive()
        leaving = [worker["pid"] for worker in node.status()["ending"]]
        assert leaving == [busy["pid"]]
        (directory / "here.go").touch()
        assert call.result() == busy["pid"]
        eventually(lambda: not node.status()["ending"], "it has left")


def test_a_tool_that_leaks_is_served_on_with_bounded_memory() -> None:
    limit = 150 << 20
    with serving(2, f"[groups.default]\nmax_memory = {limit}\n[groups.async]\nworkers = 1") as (node, _):
        node.remember()
        with node.client() as client:
            pids = set()
            worst = 0
            for count, pid in enumerate(client.map("leak", [{"size": 1 << 20}] * 3000)):
                pids.add(pid)
                if count % 50 == 0:
                    worst = max(worst, *(resident(process.pid) for process in node.tree()))
        assert len(pids) > 2
        assert worst < 1 << 30, "3 GB were leaked; each is looked at four times a second"


def test_after_so_many_jobs() -> None:
    with serving(1, "[groups.default]\nmax_jobs = 50\n[groups.async]\nworkers = 1") as (node, _):
        with node.client() as client:
            first = client.call("write", {"n": 1})[1]

            def replaced() -> Any:
                return client.call("write", {"n": 1})[1] != first

            eventually(replaced, "another worker")
        eventually(lambda: "max_jobs is 50" in node.log)


def test_a_successor_that_cannot_start_leaves_the_old_one_at_work() -> None:
    with serving(1, '[node]\nstart_method = "spawn"\n[groups.async]\nworkers = 1') as (node, directory):
        before = slots(node)
        (directory / "broken").touch()
        with node.client() as client:
            client.recycle(group="default")
            eventually(lambda: "renewal_failed" in node.log, "it is said")
            assert client.call("write", {"n": 7})[1] in before.values()
            assert node.status()["state"] == "healthy"
            assert slots(node) == before
            (directory / "broken").unlink()
            eventually(lambda: client.call("write", {"n": 7})[1] not in before.values(), "and tried again")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["99"], "no worker 99 is ready"),
        (["--group", "nosuch"], "no group 'nosuch' is ready"),
        (["1", "--group", "default"], "don't go together"),
    ],
)
def test_who_is_not_there_cannot_be_replaced(words: list[str], what: str) -> None:
    with serving(1) as (node, _):
        told = run_cli("recycle", *words, address=node.address)
        assert told.returncode == 2
        assert what in told.stderr
        assert slots(node)


def test_a_signal_to_a_worker_that_leaves_hurts_nobody() -> None:
    """Its caller leaves while the worker is on its way out."""
    with serving(1) as (node, directory):
        client = Client(node.address)
        handle = client.submit("slow", {"name": "gone"})
        eventually((directory / "gone").exists)
        with node.client() as other:
            busy = next(worker for worker in node.status()["workers"] if worker["state"] == "busy")
            other.recycle(busy["id"])
            eventually(lambda: slots(node)[busy["id"]] != busy["pid"])
            other.cancel(handle.id)
            eventually(lambda: not node.status()["ending"], "it was ended")
            assert other.call("write", {"n": 1})[1] != busy["pid"]
        client.close()
