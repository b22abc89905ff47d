"""The code of a node's tools is loaded anew under load, and no call is lost; what doesn't load changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.process.kit import (
    COMMAND,
    FAULTS,
    PATIENCE,
    Background,
    Node,
    alive,
    environment,
    eventually,
    failure,
    lines,
    place,
    run_cli,
    running,
)
from toolring import AsyncClient, Client
from toolring.errors import Cancelled, ConfigError, LoadError, UnknownTool, from_wire

TOOLS = """
import asyncio, os, time
from pathlib import Path
from toolring import tool
from helper import HELP

HERE = Path(__file__).parent
VERSION = 1

@tool
def which(n: int = 0) -> list:
    return [n, VERSION, HELP, os.getpid()]

@tool(concurrency=1)
def slow(name: str) -> int:
    with open(HERE / name, "a") as file:
        print(VERSION, file=file)
    while not (HERE / f"{name}.go").exists():
        time.sleep(0.01)
    return VERSION

@tool
async def slow_async(name: str) -> int:
    (HERE / name).touch()
    while not (HERE / f"{name}.go").exists():
        await asyncio.sleep(0.01)
    return VERSION

@tool(read_only=True, cache=60)
def cached() -> list:
    return [VERSION, HELP]
"""


OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Place:
    """A directory with the tools' code, and a node that serves it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "changing.py"
        self.file.write_text(TOOLS)
        (directory / "helper.py").write_text("HELP = 'one'\n")
        self.node: Node

    def change(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def reload(self, client: Client) -> dict[str, Any]:
        """Ask, and wait for what comes of it."""
        number = client.reload()
        outcome = eventually(lambda: client.reloads(number)["outcome"], "it has come to an end")
        return dict(outcome)

    def lines(self, name: str) -> list[str]:
        return lines(self.directory / name)

    def go(self, name: str) -> None:
        (self.directory / f"{name}.go").touch()


@contextmanager
def serving(settings: str = "", workers: int = 2) -> Iterator[Place]:
    with place() as directory:
        made = Place(directory)
        (directory / "toolring.toml").write_text(settings)
        with running("changing", workers=workers, directory=directory) as node:
            made.node = node
            yield made


@pytest.fixture
def here() -> Iterator[Place]:
    with serving() as made:
        yield made


@pytest.fixture
def client(here: Place) -> Iterator[Client]:
    with here.node.client() as client:
        yield client


class Load:
    """Callers of what may not be repeated, without a pause."""

    def __init__(self, node: Node, callers: int = 4) -> None:
        self._over = threading.Event()
        self.versions: list[list[int]] = []
        self._calls = [Background(lambda: self._call(node)) for _ in range(callers)]

    def _call(self, node: Node) -> int:
        n = 0
        seen: list[int] = []
        self.versions.append(seen)
        with node.client() as client:
            while not self._over.is_set():
                n += 1
                back, version, _, _ = client.call("which", {"n": n})
                assert back == n
                seen.append(version)
        return n

    def end(self) -> int:
        self._over.set()
        return sum(one.result() for one in self._calls)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_under_load_no_call_is_lost_and_nobody_goes_back(start: str) -> None:
    with serving(f'[node]\nstart_method = "{start}"') as here, here.node.client() as client:
        zygote, before = here.node.zygote(), set(here.node.workers())
        load = Load(here.node)
        eventually(lambda: len(load.versions) == 4 and all(load.versions), "they call")
        for version in (2, 3, 4):
            here.change(f"VERSION = {version - 1}", f"VERSION = {version}")
            assert client.call("cached") == [version - 1, "one"]
            outcome = here.reload(client)
            assert outcome["error"] is None
            assert client.call("cached") == [version, "one"], "what is held is of the code that it was made by"
            assert outcome["changes"] == {
                "added": [],
                "changed": ["cached", "slow", "slow_async", "which"],
                "removed": [],
            }
            eventually(lambda: all(seen[-1] == version for seen in load.versions), "new code answers")  # noqa: B023
        assert load.end() > 0
        for seen in load.versions:
            assert seen == sorted(seen), "a caller heard of new code, and then of the old again"
        eventually(lambda: not alive(zygote) and not any(map(alive, before)), "nothing of the first code is left")
        status = here.node.until_whole(4)
        assert status["reload"]["code"] == 4
        assert status["reload"]["stage"] == "idle"


@pytest.mark.parametrize("tool", ["slow", "slow_async"])
def test_what_runs_comes_to_its_end_with_the_code_that_it_began_with(here: Place, client: Client, tool: str) -> None:
    call = Background(lambda: client.call(tool, {"name": "here"}))
    eventually((here.directory / "here").exists)
    zygote = here.node.zygote()
    here.change("VERSION = 1", "VERSION = 2")
    assert here.reload(client)["error"] is None
    assert client.call("which")[1] == 2
    assert call.is_alive()
    assert alive(zygote)
    here.go("here")
    assert call.result() == 1
    eventually(lambda: not alive(zygote), "it is not needed any more")


def test_limits_hold_across_it_and_what_waits_runs_with_new_code(here: Place, client: Client) -> None:
    handles = [client.submit("slow", {"name": "one"}) for _ in range(3)]
    eventually(lambda: here.lines("one") == ["1"], "one runs, two wait")
    here.change("VERSION = 1", "VERSION = 2")
    assert here.reload(client)["error"] is None
    assert client.call("which")[1] == 2
    assert here.lines("one") == ["1"], "concurrency=1 counts the one that runs on"
    here.go("one")
    assert [handle.result() for handle in handles] == [1, 2, 2]


def test_tools_that_come_and_go_and_move(here: Place, client: Client) -> None:
    blocked = client.submit("slow", {"name": "here"})
    eventually(lambda: here.lines("here"), "it runs")
    waits = [client.submit("slow", {"name": "here"}) for _ in range(2)]
    new = "\n@tool(group='heavy')\ndef fresh() -> str:\n    return f'fresh {VERSION}'\n"
    here.file.write_text(TOOLS.replace("def slow(", "def gone(") + new)
    outcome = here.reload(client)
    assert outcome["changes"]["added"] == ["fresh", "gone"]
    assert outcome["changes"]["removed"] == ["slow"]
    assert client.call("fresh") == "fresh 1"
    assert sum(worker["group"] == "heavy" for worker in client.status()["workers"]) == 2
    eventually(lambda: {"fresh", "gone"} <= {spec.name for spec in client.tools()}, "this client has heard of it")
    assert "slow" not in {spec.name for spec in client.tools()}
    assert isinstance(failure(lambda: client.call("slow", {"name": "x"})), UnknownTool)
    eventually(lambda: "removed_tool_called" in here.node.log, "who calls what is gone is told of")
    assert " UNKNOWN_TOOL)" in run_cli("status", address=here.node.address).stdout
    for handle in waits:
        assert isinstance(failure(handle.result), UnknownTool), "what its code is no more a worker says"
    here.go("here")
    assert blocked.result() == 1
    here.file.write_text(TOOLS)
    assert here.reload(client)["changes"]["removed"] == ["fresh", "gone"]
    assert {worker["group"] for worker in here.node.until_whole(4)["workers"]} == {
        spec.group for spec in client.tools()
    }


BROKEN = {
    "syntax": ("VERSION = 1", "VERSION = = 1", LoadError, "SyntaxError"),
    "import": ("import asyncio", "import asyncio, nosuchmodule", LoadError, "nosuchmodule"),
    "exit": ("VERSION = 1", "os._exit(3)", LoadError, "exited with status 3"),
    "killed": ("VERSION = 1", "os.kill(os.getpid(), 9)", LoadError, "killed by SIGKILL"),
    "no tool": (TOOLS, "X = 1", LoadError, "holds no tool"),
    "configured": ("def which", "def other", ConfigError, "tools.which"),
    "workers die": (
        "VERSION = 1",
        "os.register_at_fork(after_in_child=lambda: os._exit(9))",
        LoadError,
        "lost before it could serve: exited with status 9",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_serve_leaves_the_old_code_at_work(case: str) -> None:
    old, new, kind, why = BROKEN[case]
    with serving('[tools.which]\ntimeout = 30.0\n[log]\nlevel = "warning"') as here, here.node.client() as client:
        before = here.node.workers()
        assert "reload" not in run_cli("status", address=here.node.address).stdout
        load = Load(here.node, 2)
        here.change(old, new)
        told = run_cli("reload", address=here.node.address)
        assert told.returncode == 3, told
        assert why in told.stderr
        error = from_wire(client.reloads()["outcome"]["error"])
        assert type(error) is kind
        assert client.call("which")[1] == 1
        assert load.end() > 0
        assert here.node.until_whole(4)["state"] == "healthy"
        assert here.node.workers() == before
        eventually(lambda: "reload_failed" in here.node.log)
        assert f"failed: {error.code}: " in run_cli("status", address=here.node.address).stdout
        here.file.write_text(TOOLS.replace("VERSION = 1", "VERSION = 7"))
        told = run_cli("reload", "--json", address=here.node.address)
        assert told.returncode == 0, told
        assert json.loads(told.stdout)["changed"] == ["cached", "slow", "slow_async", "which"]
        assert client.call("which")[1] == 7


def test_a_hangup_reloads(here: Place, client: Client) -> None:
    (here.directory / "helper.py").write_text("HELP = 'two'\n")
    here.node.signal(signal.SIGHUP)
    eventually(lambda: client.call("which")[2] == "two", "what the module imports is new, too")
    assert client.reloads()["outcome"]["why"] == "SIGHUP"
    told = run_cli("reload", address=here.node.address)
    assert told.returncode == 0
    assert "no tool has changed" in told.stdout


def test_a_terminal_that_closes_ends_the_node() -> None:
    with place() as directory:
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *COMMAND, "serve", str(FAULTS), "--bind", f"ipc://{directory}/n"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=environment(XDG_RUNTIME_DIR=str(directory)),
        )
        os.close(theirs)
        try:
            shown = b""
            while b"Ctrl-C" not in shown:
                shown += os.read(ours, 4096)
            os.kill(process.pid, signal.SIGHUP)
            with Client(f"ipc://{directory}/n") as client:
                eventually(lambda: client.reloads()["outcome"], "the terminal is there: it reloads")
        finally:
            os.close(ours)
        assert process.wait(PATIENCE) == 0


def test_the_next_one_takes_the_place_of_one_that_is_under_way(here: Place, client: Client) -> None:
    here.change("VERSION = 1", "time.sleep(3600)")
    first = client.reload()
    eventually(lambda: client.reloads()["stage"] == "loading")
    here.file.write_text(TOOLS.replace("VERSION = 1", "VERSION = 2"))
    assert here.reload(client)["error"] is None
    assert type(from_wire(client.reloads(first)["outcome"]["error"])) is Cancelled
    assert client.call("which")[1] == 2
    eventually(lambda: len(psutil.Process(here.node.pid).children()) <= 2, "the one that hangs is gone")


def test_the_zygote_is_killed_while_the_next_loads(here: Place, client: Client) -> None:
    gate = here.directory / "gate"
    here.change("VERSION = 1", f"VERSION = 2\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)")
    number = client.reload()
    eventually(lambda: client.reloads()["stage"] == "loading")
    os.kill(here.node.zygote(), signal.SIGKILL)
    eventually(lambda: "zygote_lost" in here.node.log)
    call = Background(lambda: client.call("which"))
    gate.touch()
    assert call.result()[1] == 2
    assert client.reloads(number)["outcome"]["error"] is None
    here.node.until_whole(4)


def test_a_node_that_drains_reloads_no_more(here: Place, client: Client) -> None:
    call = Background(lambda: client.call("slow", {"name": "here"}))
    eventually((here.directory / "here").exists)
    here.node.signal(signal.SIGTERM)
    eventually(lambda: "node_draining" in here.node.log)
    assert failure(client.reload).code == "DRAINING"
    here.go("here")
    assert call.result() == 1


def test_equal_calls_of_old_and_new_code_do_not_share_a_run(here: Place, client: Client) -> None:
    here.change("def cached() -> list:", "def cached() -> list:\n    slow.function(f'one-{VERSION}')")
    assert here.reload(client)["error"] is None
    old = Background(lambda: client.call("cached"))
    eventually((here.directory / "one-1").exists)
    here.change("VERSION = 1", "VERSION = 2")
    assert here.reload(client)["error"] is None
    new = Background(lambda: client.call("cached"))
    eventually((here.directory / "one-2").exists, "it has a run of its own")
    here.go("one-2")
    assert new.result() == [2, "one"]
    here.go("one-1")
    assert old.result() == [1, "one"]
    assert client.call("cached") == [2, "one"]


def test_a_node_that_watches_drains_whatever_happens_to_the_files() -> None:
    with serving("[node]\nwatch = true") as here, here.node.client() as client:
        call = Background(lambda: client.call("slow", {"name": "here"}))
        eventually((here.directory / "here").exists)
        here.node.signal(signal.SIGTERM)
        eventually(lambda: "node_draining" in here.node.log)
        here.change("VERSION = 1", "VERSION = 2")
        os.utime(here.directory / "helper.py")
        began = client.status()["uptime"]
        eventually(lambda: client.status()["uptime"] > began + 1.5, "it has looked at them more than once")
        here.go("here")
        assert call.result() == 1
        assert here.node.wait() == 0


def test_files_are_watched() -> None:
    with serving("[node]\nwatch = true") as here, here.node.client() as client:
        for version in (2, 3, 4):  # of the same size, and perhaps within one second
            here.change(f"VERSION = {version - 1}", f"VERSION = {version}")
            eventually(lambda: client.call("which")[1] == version, "the change is served")  # noqa: B023
        assert client.call("cached")[1] == "one"
        (here.directory / "helper.py").write_text("HELP = 'two'\n")
        eventually(lambda: client.call("which")[2] == "two", "what it imports is watched, too")
        assert client.call("cached")[1] == "two", "all results were forgotten"
        here.change("VERSION = 4", "VERSION = (")
        eventually(lambda: "reload_failed" in here.node.log)
        assert client.call("which")[1] == 4
        here.change("VERSION = (", "VERSION = 5\nimport other")
        eventually(lambda: here.node.log.count("reload_failed") == 2)
        (here.directory / "other.py").write_text("")
        here.change("VERSION = 5", "VERSION = 6")
        eventually(lambda: client.call("which")[1] == 6)
        assert here.node.log.count('"reload_failed"') == 2


def test_what_a_tool_imports_when_it_is_called_is_watched_too() -> None:
    with serving("[node]\nwatch = true") as here, here.node.client() as client:
        later = here.directory / "later.py"
        later.write_text("VALUE = 'one'\n")
        lazy = "\n@tool\ndef lazily() -> str:\n    from later import VALUE\n    return VALUE\n"
        here.file.write_text(TOOLS + lazy)
        eventually(lambda: "lazily" in client.status()["tools"], "the tool is served")
        assert client.call("lazily") == "one"
        client.collect()
        told = client.memory
        eventually(lambda: all(one["collects"] for one in told()["workers"].values()) and len(told()["workers"]) == 4)
        later.write_text("VALUE = 'three'\n")
        eventually(lambda: client.call("lazily") == "three", "the change is served")


def test_over_asyncio(here: Place) -> None:
    here.change("VERSION = 1", "VERSION = 2")

    async def use() -> Any:
        async with AsyncClient(here.node.address) as client:
            number = await client.reload()
            while (outcome := (await client.reloads(number))["outcome"]) is None:
                await asyncio.sleep(0.01)
            assert outcome["error"] is None
            return await client.call("which")

    assert asyncio.run(use())[1] == 2


def test_bad_words(here: Place) -> None:
    told = run_cli("reload", "--timeout", "x", address=here.node.address)
    assert told.returncode == 2
    nowhere = run_cli("reload", address=f"ipc://{here.directory}/nowhere", timeout=30)
    assert nowhere.returncode == 4
