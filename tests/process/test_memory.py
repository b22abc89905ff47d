"""A node whose tools leak: it is seen, told, and kept within bounds, and no call is lost."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.process.kit import (
    COMMAND,
    PATIENCE,
    Background,
    Node,
    environment,
    eventually,
    lines,
    place,
    run_cli,
    running,
)
from toolring.errors import OutcomeUnknown

TOOLS = """
import gc, os, subprocess, sys, threading, time, tracemalloc
from toolring import tool

KEPT = []

@tool
def leak(size: int) -> int:
    KEPT.append(bytearray(os.urandom(4096) * (size // 4096)))
    return os.getpid()

@tool
def litter(size: int) -> int:
    '''Garbage that only a collection finds.'''
    gc.disable()
    loop = [bytearray(os.urandom(4096) * (size // 4096))]
    loop.append(loop)
    return os.getpid()

@tool(read_only=True, cache=600)
def page(n: int) -> bytes:
    return os.urandom(4096) * 256

@tool
def swell(size: int, seconds: float) -> int:
    time.sleep(0.01)
    block = bytearray(os.urandom(4096) * (size // 4096))
    time.sleep(seconds)
    return len(block)

@tool
async def leak_async(size: int) -> int:
    return leak(size)

@tool
def leave_a_thread(path: str, size: int) -> int:
    def take() -> None:
        while not os.path.exists(path):
            time.sleep(0.01)
        leak(size)
    threading.Thread(target=take, daemon=True).start()
    return os.getpid()

@tool
def start(path: str, size: int) -> None:
    code = f"import os, time; kept = os.urandom({size})\\nwhile not os.path.exists({path!r}): time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", code], check=True)

@tool
def is_traced() -> bool:
    return tracemalloc.is_tracing()

@tool
async def look() -> int:
    return os.getpid()

@tool
async def is_traced_async() -> bool:
    return tracemalloc.is_tracing()
"""

PLUGIN = """
from pathlib import Path
from toolring import hookimpl

@hookimpl
def toolring_memory_alert(event):
    with open(Path(__file__).parent / "alerts", "a") as file:
        file.write(f"{event.kind} {event.slot} {event.pid}\\\\n")
"""


@contextmanager
def serving(settings: str, workers: int = 1) -> Iterator[tuple[Node, Path]]:
    with place() as directory:
        (directory / "leaky.py").write_text(TOOLS)
        (directory / "alerted.py").write_text(PLUGIN)
        (directory / "toolring.toml").write_text(f'[plugins]\nload = ["alerted"]\n[memory]\n{settings}\n')
        with running(directory / "leaky.py", workers=workers, directory=directory) as node:
            yield node, directory


def alerts(directory: Path) -> list[str]:
    return lines(directory / "alerts")


def test_a_worker_that_grows_beyond_its_threshold_is_told_of_and_renewed() -> None:
    with serving(f"rss = {120 << 20}\nsettle = 0.2\ncooldown = 1.0") as (node, directory), node.client() as client:
        first = client.call("leak", {"size": 4096})

        def renewed() -> bool:
            return client.call("leak", {"size": 2 << 20}) != first

        eventually(renewed, "another worker has its place", timeout=40)
        eventually(lambda: "memory_alert" in node.log)
        eventually(lambda: "lower cache.max_bytes" in node.log)
        assert any(line.startswith("rss ") for line in (directory / "alerts").read_text().splitlines())


def test_what_is_only_garbage_is_collected_and_the_worker_stays() -> None:
    with serving(f"rss = {160 << 20}\nsettle = 0.2\ncooldown = 1.0") as (node, _), node.client() as client:
        first = client.call("litter", {"size": 4096})

        def collected() -> bool:
            assert client.call("litter", {"size": 1 << 20}) == first
            told = client.memory()["workers"]
            return any(one["collects"] for one in told.values())

        eventually(collected, "it has collected", timeout=40)
        assert client.call("litter", {"size": 4096}) == first
        assert node.status()["renewed"] == 0


def test_caches_are_made_smaller_first() -> None:
    settings = (
        f"rss = {140 << 20}\nsettle = 0.2\ncooldown = 1.0\n[cache]\nmax_bytes = {1 << 30}\nhot_bytes = 0\nlayers = []"
    )
    with serving(settings) as (node, _), node.client() as client:
        calls = iter(range(100_000))

        def trimmed() -> bool:
            client.call("page", {"n": next(calls)})
            return any(one["trims"] for one in client.memory()["workers"].values())

        eventually(trimmed, "it has let go of a half", timeout=40)


def test_one_that_is_far_too_large_is_ended_though_its_job_goes_on() -> None:
    settings = f"rss = {100 << 20}\nkill_rss = {300 << 20}\ngrace = 0.3"
    with serving(settings) as (node, directory), node.client() as client:
        call = Background(lambda: client.call("swell", {"size": 500 << 20, "seconds": 60.0}, timeout=50))
        with pytest.raises(OutcomeUnknown, match="memory"):
            call.result(40)
        eventually(lambda: "worker_evicted" in node.log)
        assert any(line.startswith("kill_rss ") for line in alerts(directory))
        assert client.call("leak", {"size": 4096})


@pytest.mark.parametrize("name", ["leak", "leak_async"])
def test_one_that_has_nothing_to_do_any_more_is_renewed_too(name: str) -> None:
    with serving(f"rss = {100 << 20}\nsettle = 0.2\ncooldown = 1.0") as (node, _), node.client() as client:
        first = client.call(name, {"size": 200 << 20})
        eventually(lambda: first not in node.workers(), "it was renewed, though no call came", timeout=40)
        assert client.call(name, {"size": 4096}) != first
        assert sum(one["renewed"] for one in client.memory()["workers"].values()) == 1


def test_a_thread_that_takes_memory_while_no_job_runs_is_told_of() -> None:
    with serving(f"rss = {100 << 20}\nsettle = 0.2\ncooldown = 1.0") as (node, directory), node.client() as client:
        first = client.call("leave_a_thread", {"path": str(directory / "go"), "size": 200 << 20})
        eventually(lambda: client.memory()["workers"].get("0"), "it has told that it has nothing to do")
        (directory / "go").touch()
        eventually(lambda: first not in node.workers(), "it was renewed", timeout=40)
        eventually(lambda: "memory_alert" in node.log)


def test_what_a_job_has_started_is_seen_while_it_runs() -> None:
    with serving(f"children = {40 << 20}") as (node, directory), node.client() as client:
        call = Background(lambda: client.call("start", {"size": 60 << 20, "path": str(directory / "go")}))
        eventually(lambda: any(line.startswith("children ") for line in alerts(directory)), "an alert", timeout=40)
        told = client.memory()["workers"]
        assert any(one["children"] > 40 << 20 for one in told.values())
        (directory / "go").touch()
        call.result()


def test_all_that_there_is_to_know_is_shown_before_the_first_job() -> None:
    with serving("") as (node, _), node.client() as client:
        eventually(lambda: set(client.memory()["workers"]) == {"0", "1"})
        found = client.memory()
        assert all(one["uss"] > 0 for one in found["workers"].values())
        assert found["supervisor"]["uss"] > 0
        assert found["supervisor"]["collections"] >= 0
        assert found["shared"]["limit"] >= found["shared"]["used"] > 0
        assert "MiB (" in run_cli("memory", address=node.address).stdout


def test_ctrl_c_ends_a_trace() -> None:
    with serving("") as (node, _), node.client() as client:
        pid = str(client.call("leak", {"size": 4096}))
        process = subprocess.Popen(
            [*COMMAND, "memory", "--top", pid, "--seconds", "600"],
            env=environment(TOOLRING_ADDRESS=node.address),
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: client.call("is_traced"))
            again = run_cli("memory", "--top", pid, address=node.address)
            assert again.returncode == 2
            assert "traced already" in again.stderr
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        eventually(lambda: not client.call("is_traced"))


@pytest.mark.parametrize(
    ("tool", "given", "traced"), [("leak", {"size": 1}, "is_traced"), ("look", {}, "is_traced_async")]
)
def test_who_is_renewed_tells_what_it_has_found(tool: str, given: dict[str, int], traced: str) -> None:
    with serving("", workers=1) as (node, _), node.client() as client:
        pid = client.call(tool, given)
        with _traced(node, pid) as process:
            eventually(lambda: client.call(traced))
            client.recycle(pid)
            told, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert json.loads(told)["seconds"] < 600


def test_of_one_that_was_killed_there_is_nothing_to_wait_for() -> None:
    with serving("", workers=1) as (node, _), node.client() as client:
        pid = client.call("leak", {"size": 4096})
        with _traced(node, pid) as process:
            eventually(lambda: client.call("is_traced"))
            client.kill(pid)
            _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 4
        assert "the worker has ended" in errors


def _traced(node: Node, pid: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "memory", "--top", str(pid), "--seconds", "600", "--json"],
        env=environment(TOOLRING_ADDRESS=node.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_line_shows_and_collects() -> None:
    with serving("", workers=2) as (node, _), node.client() as client:
        for _ in range(40):
            client.call("litter", {"size": 1 << 20})
            client.call("look")
        told = run_cli("collect", "--json", address=node.address)
        assert told.returncode == 0, told.stderr
        collected = json.loads(told.stdout)["collected"]
        assert len(collected) == 4
        assert sum(one["rss"] - one["after"] for one in collected) > 20 << 20, "most of the 40 MB came back"
        shown = run_cli("memory", address=node.address).stdout
        assert "supervisor" in shown
        assert "worker 0" in shown
        found = json.loads(run_cli("memory", "--json", address=node.address).stdout)
        assert set(found["history"]) == {"supervisor", "0", "1", "2", "3"}
        assert run_cli("collect", "99", address=node.address).returncode == 2


def test_what_grows_is_found(tmp_path: Path) -> None:
    with serving("", workers=1) as (node, directory), node.client() as client:
        pid = client.call("leak", {"size": 4096})
        slot = next(worker["id"] for worker in node.status()["workers"] if worker["pid"] == pid)
        asked = client.trace(slot, 60.0, 3)
        assert asked["pid"] == pid
        for _ in range(10):
            client.call("leak", {"size": 1 << 20})
        client.untrace(asked["number"])
        told = eventually(lambda: client.memory()["workers"][str(slot)]["allocations"], "it is told, though it is idle")
        assert told["number"] == asked["number"]
        first = told["top"][0]
        assert first["file"] == str(directory / "leaky.py")
        assert first["bytes"] >= 10 << 20
        again = run_cli("memory", "--top", str(slot), "--seconds", "0.2", address=node.address)
        assert again.returncode == 0, again.stderr
        for words in (("--top", "99"), ("--top", str(slot), "--seconds", "0")):
            assert run_cli("memory", *words, address=node.address).returncode == 2


def test_what_is_kept_for_the_next_large_body_is_given_back_in_the_end() -> None:
    size = 16 << 20
    with running(workers=1) as node, node.client() as client:
        client.call("echo", {"x": 1})
        processes = [psutil.Process(pid) for pid in (node.pid, *node.workers())]
        before = [process.memory_info().rss for process in processes]
        for _ in range(3):
            assert len(client.call("echo", {"x": b"x" * size})) == size

        def small() -> bool:
            grown = [one.memory_info().rss - old for one, old in zip(processes, before, strict=True)]
            return grown[0] < size and max(grown) < 2 * size  # a worker's socket may keep one that it received

        eventually(small, "it is given back once there is nothing to do")


def test_what_grows_in_c_code_is_found_too(tmp_path: Path) -> None:
    with serving("", workers=1) as (node, directory), node.client() as client:
        pid = client.call("leak", {"size": 4096})
        slot = next(worker["id"] for worker in node.status()["workers"] if worker["pid"] == pid)
        asked = client.trace(slot, 1.0, 3, native=True)
        for _ in range(10):
            client.call("leak", {"size": 1 << 20})
        told = eventually(lambda: client.memory()["workers"][str(slot)]["allocations"], "it is told, though it is idle")
        assert told["number"] == asked["number"]
        first = told["top"][0]
        assert first["file"] == str(directory / "leaky.py")
        assert first["bytes"] >= 10 << 20
        assert first["native"]
        assert client.call("leak", {"size": 1}) == pid, "it goes on"
        shown = run_cli("memory", "--top", str(slot), "--native", "--seconds", "0.2", address=node.address)
        assert shown.returncode == 0, shown.stderr
        assert "NATIVE" in shown.stdout
        assert run_cli("memory", "--native", address=node.address).returncode == 2


def test_an_async_worker_traces_too() -> None:
    with serving("", workers=1) as (node, _), node.client() as client:
        pid = client.call("look")
        slot = next(worker["id"] for worker in node.status()["workers"] if worker["pid"] == pid)
        asked = client.trace(slot, 0.2)
        told = eventually(lambda: client.memory()["workers"].get(str(slot), {}).get("allocations"))
        assert told["number"] == asked["number"]
        again = client.trace(slot, 0.2, native=True)
        told = eventually(
            lambda: (one := client.memory()["workers"][str(slot)]["allocations"])["number"] == again["number"] and one
        )
        assert told["top"]
        assert client.call("look") == pid


def test_thresholds_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[memory]\nrss = 10\nkill_rss = 5\n")
    told = run_cli("serve", "--config", str(tmp_path / "c.toml"), "--bind", f"ipc://{tmp_path}/n")
    assert told.returncode == 3
    assert "kill_rss=5 must be more than rss=10" in told.stderr
