"""The jobs in hand, as an operator finds them: with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.process.kit import Background, Node, eventually, failure, lines, run_cli
from toolring import AsyncClient, Client
from toolring.errors import Cancelled, InvalidArguments, UnknownTool


def opened(*spots: Path) -> None:
    for spot in spots:
        Path(f"{spot}.open").touch()


def states(client: Client) -> dict[str, str]:
    return {one["job"]: one["state"] for one in client.jobs()["jobs"]}


def running(client: Client, spot: Path) -> int:
    """The pid of the worker that runs a gate."""
    return int(eventually(lambda: lines(spot), "it runs")[-1].split()[0])


@pytest.fixture
def gates(tmp_path: Path) -> list[Path]:
    return [tmp_path / f"gate{n}" for n in range(2)]


def test_what_runs_and_what_waits_is_listed_the_oldest_first(node: Node, client: Client, gates: list[Path]) -> None:
    with node.client(caller="other") as other:
        handles = [client.submit("gate", {"path": str(gates[0])})]
        pids = [running(client, gates[0])]
        handles.append(other.submit("gate", {"path": str(gates[1])}))
        pids.append(running(client, gates[1]))
        handles.append(other.submit("echo", {"x": 1}))
        eventually(lambda: client.jobs()["total"] == 3, "it is there before the next, which another client sends")
        handles.append(client.submit("where"))
        eventually(lambda: client.jobs()["total"] == 4, "all are in hand")
        found = client.jobs()
        assert [one["job"] for one in found["jobs"]] == [handle.id for handle in handles]
        assert [one["tool"] for one in found["jobs"]] == ["gate", "gate", "echo", "where"]
        assert [one["caller"] for one in found["jobs"]] == ["", "other", "other", ""]
        assert [one["state"] for one in found["jobs"]] == ["running", "running", "queued", "queued"]
        assert [one["worker"] for one in found["jobs"]] == [*pids, None, None]
        assert [one["attempt"] for one in found["jobs"]] == [1, 1, 1, 1]
        ages = [one["age"] for one in found["jobs"]]
        assert ages == sorted(ages, reverse=True)
        assert states(client) == {handle.id: handle.status() for handle in handles}
        for job in (handles[0].id, handles[3].id):
            client.cancel(job)
        assert set(states(client)) == {handles[1].id, handles[2].id}
        opened(*gates)
        for handle in handles[1:3]:
            handle.result()
        assert isinstance(handles[0].exception(), Cancelled)
    assert client.jobs() == {"jobs": [], "total": 0}


def test_a_tool_and_a_number_may_be_asked_for(client: Client, gates: list[Path]) -> None:
    held = [client.submit("gate", {"path": str(gate)}) for gate in gates]
    for gate in gates:
        running(client, gate)
    waiting = [client.submit("echo", {"x": n}) for n in range(5)]
    eventually(lambda: client.jobs()["total"] == 7, "all are in hand")
    first = client.jobs("echo", limit=2)
    assert [one["job"] for one in first["jobs"]] == [handle.id for handle in waiting[:2]]
    assert first["total"] == 5
    assert len(client.jobs(limit=3)["jobs"]) == 3
    assert client.jobs("where") == {"jobs": [], "total": 0}
    opened(*gates)
    assert [handle.result() for handle in waiting] == list(range(5))
    for handle in held:
        handle.result()


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, 2.0, "5", None])
def test_a_number_that_makes_no_sense_is_refused_by_name(client: Client, limit: Any) -> None:
    error = failure(lambda: client.jobs(limit=limit))
    assert isinstance(error, InvalidArguments)
    assert error.facts["argument"] == "limit"


@pytest.mark.parametrize("tool", ["ecko", "toolring.invalidate", ""])
def test_so_is_a_tool_that_there_is_not(client: Client, tool: str) -> None:
    assert isinstance(failure(lambda: client.jobs(tool)), UnknownTool)


def test_those_who_wait_for_one_run_are_listed_each(node: Node, client: Client, spot: Path) -> None:
    arguments = {"path": str(spot)}
    with node.client() as second, node.client() as third:
        first = node.client()
        call = Background(lambda: failure(lambda: first.call("gate", arguments, key="one-gate")))
        pid = running(client, spot)
        handles = [each.submit("gate", arguments, key="one-gate") for each in (second, third)]
        eventually(lambda: client.jobs()["total"] == 3, "all are in hand")
        jobs = client.jobs()["jobs"]
        assert [one["state"] for one in jobs] == ["running", "joined", "joined"]
        assert [one["worker"] for one in jobs] == [pid, None, None]
        assert [one["job"] for one in jobs[1:]] == [handle.id for handle in handles]
        first.close()
        call.result()
        wanted = {handles[0].id: "running", handles[1].id: "joined"}
        eventually(lambda: states(client) == wanted, "the next stands for the run")
        opened(spot)
        assert [handle.result()["pid"] for handle in handles] == [pid, pid]
    assert len(lines(spot)) == 1


@pytest.mark.parametrize("key", [None, "kept-gate"])
def test_what_runs_on_without_its_client_is_listed_and_can_be_ended(
    node: Node, client: Client, spot: Path, key: str | None
) -> None:
    others = client.status()["clients"]
    with node.client(caller="gone") as other:
        job = other.submit("gate", {"path": str(spot)}, key=key).id
        pid = running(client, spot)
    eventually(lambda: client.status()["clients"] == others, "it has left")
    (one,) = client.jobs()["jobs"]
    assert (one["job"], one["caller"], one["state"], one["worker"]) == (job, "gone", "running", pid)
    client.cancel(job)
    assert client.jobs()["total"] == 0


def test_another_attempt_is_told(client: Client, spot: Path) -> None:
    handle = client.submit("gate", {"path": str(spot)})
    os.kill(running(client, spot), signal.SIGKILL)
    eventually(lambda: len(lines(spot)) == 2, "it runs again")
    (one,) = client.jobs()["jobs"]
    assert (one["attempt"], one["worker"]) == (2, running(client, spot))
    opened(spot)
    assert handle.result()["attempt"] == 2


def test_awaited_it_is_the_same(node: Node, client: Client, spot: Path) -> None:
    async def main() -> None:
        async with AsyncClient(node.address) as own:
            handle = await own.submit("gate", {"path": str(spot)})
            await asyncio.to_thread(running, client, spot)
            assert [one["job"] for one in (await own.jobs())["jobs"]] == [handle.id]
            assert (await own.jobs("echo", limit=1))["total"] == 0
            opened(spot)
            await handle

    asyncio.run(main())


def test_the_command_shows_them(node: Node, client: Client, spot: Path) -> None:
    empty = run_cli("jobs", address=node.address)
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "nothing is in hand\n", "")
    handle = client.submit("gate", {"path": str(spot)})
    pid = running(client, spot)
    shown = run_cli("jobs", "gate", address=node.address)
    assert shown.returncode == 0, shown.stderr
    words = shown.stdout.splitlines()[1].split()
    assert (words[:5], words[-1]) == ([handle.id, "gate", "-", "running", "1"], str(pid))
    told = json.loads(run_cli("jobs", "--limit", "1", "--json", address=node.address).stdout)
    assert (told["total"], told["jobs"][0]["job"]) == (1, handle.id)
    wrong = run_cli("jobs", "gaet", address=node.address)
    assert wrong.returncode == 2
    assert wrong.stderr == "toolring: UNKNOWN_TOOL: no tool 'gaet' here; did you mean 'gate'?\n"
    assert run_cli("jobs", "--limit", "0", address=node.address).returncode == 2
    done = run_cli("cancel", words[0], address=node.address)
    assert done.returncode == 0
    assert isinstance(handle.exception(), Cancelled)
