"""What a worker does, asked while it works, waits or hangs: with real processes and signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, failure, lines, run_cli
from toolring import AsyncClient, Client
from toolring.errors import InvalidArguments, WorkerSilent


def hanging(client: Client, how: str, spot: Path) -> tuple[Any, int]:
    """A job that hangs, and the pid of its worker."""
    handle = client.submit("hang", {"how": how, "path": str(spot)})
    return handle, int(eventually(lambda: lines(spot), "it runs")[0])


def functions(stack: dict[str, Any]) -> list[str]:
    return [frame["function"] for frame in stack["frames"]]


@pytest.mark.parametrize(
    ("how", "by"), [("loop", "python"), ("sleep", "python"), ("regex", "python"), ("sum", "c"), ("child", "")]
)
def test_what_hangs_is_shown_and_hangs_on(client: Client, spot: Path, how: str, by: str) -> None:
    handle, pid = hanging(client, how, spot)
    for _ in range(2):
        found = client.dump(pid)
        assert by in ("", found["by"])
        main = found["threads"][0]
        assert main["name"] == "MainThread"
        assert functions(main)[-1] in ("Runner._run", "_run")
        where = next(frame for frame in main["frames"] if frame["function"] == "_hang")
        assert where["file"].endswith("faults.py")
        assert where["line"] > 0
        assert found["tool"] == "hang"
        assert handle.status() == "running"
    client.cancel(handle.id)
    handle.exception()


def test_one_that_waits_for_work_is_shown_and_goes_on(node: Node, client: Client) -> None:
    before = sorted(node.workers())
    for _ in range(20):
        found = client.dump(0)
        assert (found["by"], found["tool"], found["tasks"]) == ("python", "", None)
        assert functions(found["threads"][0])[-1] == "serve"
    assert client.call("echo", {"x": 1}) == 1
    assert sorted(node.workers()) == before


def test_questions_disturb_nobody(client: Client, tmp_path: Path) -> None:
    """They come in the midst of anything: sleeps go on, nothing is run twice, nothing fails, nobody ends."""
    exits = client.status()["exits"]
    calls = [client.submit("nap", {"seconds": 0.01, "x": n}) for n in range(60)]
    for n in range(40):
        client.dump(n % 2)
    assert [call.result() for call in calls] == list(range(60))
    assert client.status()["exits"] == exits


def test_one_that_is_stopped_is_told(node: Node, client: Client) -> None:
    pid = node.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: isinstance(failure(lambda: client.dump(pid)), WorkerSilent), "it is stopped")
        error = failure(lambda: client.dump(pid))
        assert error.facts["cause"] == "stopped"
        assert f"kill -CONT {pid}" in error.message
    finally:
        os.kill(pid, signal.SIGCONT)
    assert client.dump(pid)["pid"] == pid


@pytest.mark.parametrize("worker", [99, -1, True, "0", None])
def test_one_that_is_not_there_is_refused_by_name(client: Client, worker: Any) -> None:
    for ask in (client.dump, client.profile):
        error = failure(lambda ask=ask: ask(worker))  # type: ignore[misc]
        assert isinstance(error, InvalidArguments)
        assert error.facts["argument"] == "worker"


@pytest.mark.parametrize(
    ("seconds", "rate", "named"), [(0, 100, "seconds"), (3601, 100, "seconds"), (1, 0, "rate"), (1, 1001, "rate")]
)
def test_so_are_numbers_that_make_no_sense(client: Client, seconds: Any, rate: Any, named: str) -> None:
    assert failure(lambda: client.profile(0, seconds, rate)).facts["argument"] == named


def test_the_time_of_a_busy_worker_is_where_it_was_spent(node: Node, client: Client, spot: Path) -> None:
    handle, pid = hanging(client, "loop", spot)
    found = client.profile(pid, 0.5)
    assert found["samples"] > 5
    assert 0.5 <= found["seconds"] < 5
    spent = sum(seconds for names, seconds in found["stacks"] if names[-1].startswith("_hang ("))
    whole = sum(seconds for names, seconds in found["stacks"] if names[0] == "main thread")
    assert spent > 0.9 * whole
    names = next(names for names, _ in found["stacks"] if names[-1].startswith("_hang ("))
    assert names[:2] == ["main thread", "hang"]
    assert handle.status() == "running"
    client.cancel(handle.id)
    handle.exception()
    node.until_whole()


def test_of_one_that_waits_it_is_seen_that_it_waits(client: Client) -> None:
    found = client.profile(1, 0.2, 50)
    assert {names[-1].split(" ")[0] for names, _ in found["stacks"]} <= {
        "receive",
        "serve",
        "Socket.recv",
        "Poller.poll",
        "Messages.next",
    }


def test_ctrl_c_ends_a_profile(node: Node, client: Client) -> None:
    worker = psutil.Process(client.dump(0)["pid"])
    threads = worker.num_threads()
    words = [*kit.COMMAND, "profile", "0", "--seconds", "3600", "--output", "/dev/null"]
    command = subprocess.Popen(words, env=kit.environment(TOOLRING_ADDRESS=node.address))
    try:
        eventually(lambda: worker.num_threads() > threads, "it is being made")
        busy = failure(lambda: client.profile(0, 0.1))
        assert (busy.code, busy.exit_status) == ("BUSY", 5)
        command.send_signal(signal.SIGINT)
        assert command.wait(kit.PATIENCE) == 130
    finally:
        command.kill()
    eventually(lambda: worker.num_threads() == threads, "nobody looks any more")
    assert client.profile(0, 0.1)["samples"] > 0


def test_a_profile_that_can_not_be_written_is_not_made(node: Node, tmp_path: Path) -> None:
    where = str(tmp_path / "none" / "x.svg")
    done = run_cli("profile", "0", "--seconds", "3600", "--output", where, address=node.address)
    assert done.returncode == 2
    assert f"INVALID_ARGUMENTS: --output {where} can't be written: No such file" in done.stderr


def test_code_that_holds_the_interpreter_gives_no_profile_but_a_dump(client: Client, spot: Path) -> None:
    handle, pid = hanging(client, "sum", spot)
    error = failure(lambda: client.profile(pid, 0.1))
    assert isinstance(error, WorkerSilent)
    assert "toolring dump" in error.message
    assert client.dump(pid)["by"] == "c"
    client.cancel(handle.id)
    handle.exception()


def test_the_commands_show_it(node: Node, client: Client, spot: Path, tmp_path: Path) -> None:
    handle, pid = hanging(client, "loop", spot)
    shown = run_cli("dump", str(pid), address=node.address)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("worker ")
    assert "  _hang  " in shown.stdout
    told = json.loads(run_cli("dump", str(pid), "--json", address=node.address).stdout)
    assert (told["pid"], told["by"]) == (pid, "python")
    for name in ("flame.svg", "scope.json", "folded.txt"):
        file = tmp_path / name
        done = run_cli("profile", str(pid), "--seconds", "0.2", "--output", str(file), address=node.address)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f"written: {file}\n")
        assert "_hang" in file.read_text()
    ElementTree.parse(tmp_path / "flame.svg")
    assert json.loads((tmp_path / "scope.json").read_text())["profiles"][0]["type"] == "sampled"
    told = json.loads(run_cli("profile", str(pid), "--seconds", "0.1", "--json", address=node.address).stdout)
    assert told["stacks"]
    client.cancel(handle.id)
    handle.exception()
    wrong = run_cli("dump", "99", address=node.address)
    assert wrong.returncode == 2
    assert "INVALID_ARGUMENTS: no worker 99 is ready; there is " in wrong.stderr


def test_tasks_of_an_event_loop_are_shown_and_so_is_what_blocks_it(spot: Path) -> None:
    with kit.running(kit.HERE / "live_tools.py", workers=1) as node, node.client() as client:
        many = next(one["id"] for one in client.status()["workers"] if one["group"] == "async")

        async def main() -> dict[str, Any]:
            async with AsyncClient(node.address) as own:
                handle = await own.submit("gate", {"path": str(spot)})
                while not lines(spot):
                    await asyncio.sleep(0.01)
                found = await own.dump(many)
                profile = await own.profile(many, 0.2)
                assert profile["samples"] > 2
                Path(f"{spot}.open").touch()
                await handle
                return found

        found = asyncio.run(main())
        (task,) = [one for one in found["tasks"] if one["tool"] == "gate"]
        assert [name for name in functions(task) if name in ("gate", "_until")] == ["_until", "gate"]
        blocker = client.submit("block", {"path": f"{spot}.block"})
        eventually(lambda: lines(Path(f"{spot}.block")), "it blocks the loop")
        found = client.dump(many)
        assert functions(found["threads"][0])[0] == "block"
        assert [one["job"] for one in found["tasks"] if one["tool"] == "block"] == [blocker.id]
        client.cancel(blocker.id)
        blocker.exception()
