"""A worker that dies, at each moment of a job: only what the promise allows may be seen by a caller."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.process.kit import Background, Node, alive, eventually, failure, kill_one, lines
from toolring import Client
from toolring.errors import OutcomeUnknown, Poisoned, ToolError, WorkerOutOfMemory

HOWS = {
    "kill": "killed by SIGKILL",
    "segfault": "killed by SIGSEGV",
    "abort": "killed by SIGABRT",
    "exit": "exited with status 3",
}


@pytest.fixture(scope="module", autouse=True)
def circuits(shared: Node) -> None:
    """These tools kill more workers here than any node would let them: see test_circuits.py."""
    with shared.client() as client:
        for tool in ("die", "die_first", "die_always", "with_child", "gate"):
            client.breaker(tool, "close")


def runner_of(spot: Path, attempt: int = 1) -> int:
    """The pid of the worker that runs a gate, once it runs."""
    return int(eventually(lambda: lines(spot)[attempt - 1 :], f"attempt {attempt} runs")[0].split()[0])


def release(spot: Path) -> None:
    Path(f"{spot}.open").touch()


# ---- before the job starts


def test_an_idle_worker_that_is_killed_is_replaced(node: Node, client: Client) -> None:
    for _ in range(3):
        before = node.workers()
        kill_one(before[0])
        assert client.call("echo", {"x": 1}) == 1
        eventually(lambda: before[0] not in (now := node.workers()) and len(now) == 2, "a replacement")  # noqa: B023


def test_idle_workers_killed_at_once_cost_no_call(node: Node, client: Client) -> None:
    for round_ in range(5):
        for pid in node.workers():
            kill_one(pid)
        assert client.call("note", {"path": "/dev/null", "number": round_}) == round_


def test_jobs_behind_a_running_one_move_to_the_other_worker(
    node: Node, client: Client, spot: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    for _ in range(300):  # both tools are known to be quick, so that jobs queue behind each other
        client.call("note", {"path": "/dev/null", "number": 0})
    gate = client.submit("gate_once", {"path": str(spot)})
    pid = runner_of(spot)
    notes = [client.submit("note", {"path": str(ledger), "number": n}) for n in range(200)]
    kill_one(pid)
    assert sorted(note.result() for note in notes) == list(range(200))
    assert isinstance(gate.exception(), OutcomeUnknown)
    assert sorted(int(line) for line in lines(ledger)) == list(range(200))


# ---- while it runs


def test_a_repeatable_job_runs_again(node: Node, client: Client, spot: Path) -> None:
    call = Background(lambda: client.call("gate", {"path": str(spot)}))
    first = runner_of(spot)
    kill_one(first)
    second = runner_of(spot, attempt=2)
    release(spot)
    assert call.result() == {"pid": second, "attempt": 2}
    assert second != first
    assert [line.split()[1] for line in lines(spot)] == ["1", "2"]


def test_a_job_that_may_not_be_repeated_is_told_as_unknown(node: Node, client: Client, spot: Path) -> None:
    call = Background(lambda: client.call("gate_once", {"path": str(spot)}))
    pid = runner_of(spot)
    kill_one(pid)
    with pytest.raises(OutcomeUnknown) as caught:
        call.result()
    facts = caught.value.facts
    assert (facts["tool"], facts["attempt"], facts["worker"], facts["cause"]) == ("gate_once", 1, pid, HOWS["kill"])
    assert facts["job"]
    assert len(lines(spot)) == 1


@pytest.mark.parametrize("how", HOWS)
def test_the_cause_of_a_death_is_named(node: Node, client: Client, how: str) -> None:
    error = failure(lambda: client.call("die", {"how": how}))
    assert isinstance(error, OutcomeUnknown)
    assert error.facts["cause"] == HOWS[how]
    assert client.call("die_first", {"how": how}) == 2


@pytest.mark.parametrize(("how", "kind"), [("sys.exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
def test_leaving_exceptions_are_the_tools_own_failure(node: Node, client: Client, how: str, kind: str) -> None:
    before = sorted(node.workers())
    error = failure(lambda: client.call("die", {"how": how}))
    assert type(error) is ToolError
    assert error.facts["type"] == kind
    assert sorted(node.workers()) == before


def test_a_memory_error_is_told_and_its_worker_replaced(node: Node, client: Client) -> None:
    before = set(node.workers())
    error = failure(lambda: client.call("die", {"how": "memory"}))
    assert isinstance(error, WorkerOutOfMemory)
    eventually(lambda: error.facts["worker"] not in node.workers(), "the worker is replaced")
    assert error.facts["worker"] in before


def test_a_job_that_always_kills_is_poisoned_and_hurts_nobody_else(node: Node, client: Client, spot: Path) -> None:
    stop = threading.Event()
    wrong: list[Any] = []

    def others() -> int:
        count = 0
        with node.client() as mine:
            while not stop.is_set():
                if mine.call("echo", {"x": count}) != count:
                    wrong.append(count)
                count += 1
        return count

    neighbours = Background(others)
    error = failure(lambda: client.call("die_always", {"how": "abort", "path": str(spot)}))
    stop.set()
    assert neighbours.result() > 0
    assert wrong == []
    assert isinstance(error, Poisoned)
    assert error.facts["deaths"] == 3
    assert error.facts["cause"] == HOWS["abort"]
    assert len(set(lines(spot))) == 3
    assert node.status()["state"] == "healthy"


def test_death_while_arguments_are_validated_ends_too(node: Node, client: Client) -> None:
    """The tool has not started, so the job is dispatched again; but not for ever, and not at everybody's cost."""
    error = failure(lambda: client.call("takes_deadly", {"what": {"how": "abort"}}, timeout=10))
    assert isinstance(error, Poisoned)
    assert node.status()["state"] == "healthy"
    assert client.call("echo", {"x": 1}) == 1


# ---- just after it has finished


@pytest.mark.parametrize("how", ["kill", "segfault", "exit"])
def test_answers_before_a_crash_in_the_same_batch_arrive(node: Node, client: Client, tmp_path: Path, how: str) -> None:
    """They were never sent when the process died: the journal has them."""
    ledger = tmp_path / "ledger"
    number = 0
    for _ in range(40):
        batch = []
        for _ in range(20):
            batch.append(client.submit("note", {"path": str(ledger), "number": number}))
            number += 1
        last = client.submit("die", {"how": how})
        for handle in batch:
            handle.result()
        assert isinstance(last.exception(), OutcomeUnknown)
    assert sorted(int(line) for line in lines(ledger)) == list(range(number))


def test_large_answers_before_a_crash(node: Node, client: Client) -> None:
    """Too large for the journal: the next job waits for the receipt instead."""
    for _ in range(10):
        handles = [client.submit("big", {"size": size}) for size in (70_000, 20_000, 200_000)]
        last = client.submit("die", {"how": "kill"})
        assert [len(handle.result()) for handle in handles] == [70_000, 20_000, 200_000]
        assert isinstance(last.exception(), OutcomeUnknown)


# ---- stopped, not dead


def test_a_stopped_worker_counts_as_lost(node: Node, client: Client, spot: Path) -> None:
    call = Background(lambda: client.call("gate", {"path": str(spot)}))
    first = runner_of(spot)
    kill_one(first, signal.SIGSTOP)
    second = runner_of(spot, attempt=2)
    release(spot)
    kill_one(first, signal.SIGCONT)
    assert call.result() == {"pid": second, "attempt": 2}
    eventually(lambda: not alive(first), "the stopped worker is gone")
    assert client.call("echo", {"x": 1}) == 1


def test_a_stopped_worker_and_a_job_that_may_not_be_repeated(node: Node, client: Client, spot: Path) -> None:
    call = Background(lambda: client.call("gate_once", {"path": str(spot)}))
    first = runner_of(spot)
    kill_one(first, signal.SIGSTOP)
    with pytest.raises(OutcomeUnknown) as caught:
        call.result()
    assert "SIGSTOP" in caught.value.facts["cause"]
    assert len(lines(spot)) == 1
    assert not Path(f"{spot}.cleaned").exists()


def test_an_idle_stopped_worker_loses_no_job(node: Node, client: Client) -> None:
    for pid in node.workers():
        kill_one(pid, signal.SIGSTOP)
    handles = [client.submit("note", {"path": "/dev/null", "number": n}) for n in range(50)]
    assert [handle.result() for handle in handles] == list(range(50))


# ---- what a worker leaves behind


@pytest.mark.parametrize("how", ["subprocess", "fork"])
def test_a_killed_workers_own_children_go_with_it(node: Node, client: Client, spot: Path, how: str) -> None:
    """And they don't hide its death: a forked child holds all descriptors of its parent open."""
    call = Background(lambda: client.call("with_child", {"path": str(spot), "how": how}))
    line = eventually(lambda: lines(spot), "the tool runs")[0]
    worker, child = (int(word) for word in line.split())
    kill_one(worker)
    eventually(lambda: len(lines(spot)) == 2, "it runs again")
    release(spot)
    call.result()
    eventually(lambda: not alive(child), "the killed worker's child is gone")
    second = int(lines(spot)[1].split()[1])
    kill_one(second)


# ---- the zygote


def test_a_stopped_zygote_is_replaced_once_it_is_needed(node: Node, client: Client) -> None:
    zygote, workers = node.zygote(), node.workers()
    kill_one(zygote, signal.SIGSTOP)
    for pid in workers:
        kill_one(pid)
    assert client.call("echo", {"x": 1}, timeout=40) == 1
    assert not alive(zygote)
    assert not set(node.workers()) & set(workers)
    eventually(lambda: "zygote_given_up" in node.log)
    node.until_whole()


def test_a_stopped_zygote_that_nobody_needs_disturbs_nobody(node: Node, client: Client) -> None:
    zygote, workers = node.zygote(), node.workers()
    kill_one(zygote, signal.SIGSTOP)
    for n in range(20):
        assert client.call("echo", {"x": n}) == n
    assert node.workers() == workers
    kill_one(zygote, signal.SIGCONT)


def test_the_zygote_killed_loses_no_job(node: Node, client: Client, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    number = 0
    unknown = 0
    for _ in range(3):
        zygote = node.zygote()
        handles = []
        for _ in range(300):
            handles.append(client.submit("note", {"path": str(ledger), "number": number}))
            handles.append(client.submit("echo", {"x": number}))
            number += 1
        os.kill(zygote, signal.SIGKILL)
        for handle in handles:
            error = handle.exception()
            if error is not None:
                assert isinstance(error, OutcomeUnknown), error
                assert error.facts["tool"] == "note"
                unknown += 1
        node.until_whole()
        assert not psutil.pid_exists(zygote) or not alive(zygote)
    written = [int(line) for line in lines(ledger)]
    assert len(written) == len(set(written)), "a job that may not be repeated ran twice"
    assert len(written) >= number - unknown


def test_the_zygote_takes_the_tools_children_along(node: Node, client: Client, spot: Path) -> None:
    call = Background(lambda: client.call("with_child", {"path": str(spot)}))
    child = int(eventually(lambda: lines(spot), "the tool runs")[0].split()[1])
    os.kill(node.zygote(), signal.SIGKILL)
    eventually(lambda: len(lines(spot)) == 2, "it runs again")
    release(spot)
    call.result()
    eventually(lambda: not alive(child), "the child is gone")
    kill_one(int(lines(spot)[1].split()[1]))
