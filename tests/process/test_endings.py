"""Deadlines and cancellations end work, whatever the tool does; cleanup runs; nobody else notices."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.process.kit import Background, Node, alive, eventually, failure, kill_one, lines
from toolring import Client
from toolring.errors import Cancelled, Expired

INTERRUPTIBLE = ("sleep", "loop", "regex", "child")
STUBBORN = ("sum", "pbkdf2", "swallow", "ignore")


def pid_of(spot: Path) -> int:
    return int(eventually(lambda: lines(spot), "the tool runs")[0].split()[0])


# ---- deadlines


@pytest.mark.parametrize("how", INTERRUPTIBLE + STUBBORN)
def test_a_hanging_tool_expires_and_its_worker_goes(node: Node, client: Client, spot: Path, how: str) -> None:
    began = time.monotonic()
    error = failure(lambda: client.call("hang", {"how": how, "path": str(spot)}, timeout=0.2))
    assert isinstance(error, Expired)
    assert time.monotonic() - began < 2.0  # 0.35 is promised; the rest is for a machine that is busy
    pid = pid_of(spot)
    eventually(lambda: not alive(pid), "the worker is gone")
    assert len(lines(spot)) == 1, "an expired job ran again"
    cleaned = Path(f"{spot}.cleaned").exists()
    assert cleaned == (how in INTERRUPTIBLE)


def test_others_go_on_while_one_hangs(node: Node, client: Client, spot: Path) -> None:
    hanging = Background(lambda: client.call("hang", {"how": "sum", "path": str(spot)}, timeout=0.5))
    pid_of(spot)
    with node.client() as other:
        answers = [other.call("echo", {"x": n}) for n in range(200)]
    assert answers == list(range(200))
    with pytest.raises(Expired):
        hanging.result()


def test_everybody_hanging_at_once(node: Node, client: Client, tmp_path: Path) -> None:
    """More hanging jobs than workers: each is answered, then the node is whole again."""
    handles = [
        client.submit("hang", {"how": how, "path": str(tmp_path / f"{how}{n}")}, timeout=0.3)
        for n in range(2)
        for how in ("loop", "sum", "swallow")
    ]
    for handle in handles:
        assert isinstance(handle.exception(), Expired)
    assert client.call("echo", {"x": 1}) == 1


def test_the_tools_own_child_is_ended_too(node: Node, client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("with_child", {"path": str(spot)}, timeout=0.3))
    assert isinstance(error, Expired)
    worker, child = (int(word) for word in lines(spot)[0].split())
    eventually(lambda: not alive(worker) and not alive(child), "worker and child are gone")


def test_cleanup_is_not_broken_by_further_interrupts(node: Node, client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("slow_cleanup", {"path": str(spot)}, timeout=0.2))
    assert isinstance(error, Expired)
    pid = pid_of(spot)
    eventually(lambda: not alive(pid), "the worker is gone")
    assert len(lines(Path(f"{spot}.steps"))) == 30


def test_a_tools_own_timeout_limits_one_run(node: Node, client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("gate_short", {"path": str(spot)}, timeout=30))
    assert isinstance(error, Expired)
    assert error.facts["timeout"] == 0.3
    eventually(lambda: lines(Path(f"{spot}.cleaned")), "cleanup")


def test_the_callers_timeout_wins_if_it_is_shorter(node: Node, client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("gate_short", {"path": str(spot)}, timeout=0.1))
    assert isinstance(error, Expired)
    assert "timeout" not in error.facts


def test_a_deadline_passes_while_the_job_waits(node: Node, client: Client, tmp_path: Path) -> None:
    gates = [client.submit("gate", {"path": str(tmp_path / str(n))}) for n in range(2)]
    pids = [pid_of(tmp_path / str(n)) for n in range(2)]
    error = failure(lambda: client.call("note", {"path": str(tmp_path / "ledger"), "number": 1}, timeout=0.15))
    assert isinstance(error, Expired)
    for n in range(2):
        (tmp_path / f"{n}.open").touch()
    assert [gate.result()["pid"] for gate in gates] == pids, "those that ran were disturbed"
    assert client.call("echo", {"x": 1}) == 1
    assert not (tmp_path / "ledger").exists(), "an expired job ran"


# ---- cancelling


def test_cancel_a_running_job(node: Node, client: Client, spot: Path) -> None:
    handle = client.submit("gate", {"path": str(spot)})
    pid = pid_of(spot)
    handle.cancel()
    assert isinstance(handle.exception(), Cancelled)
    eventually(lambda: not alive(pid), "the worker is retired")
    assert lines(Path(f"{spot}.cleaned")) == [str(pid)]
    assert len(lines(spot)) == 1


def test_cancel_a_waiting_job(node: Node, client: Client, tmp_path: Path) -> None:
    gates = [client.submit("gate", {"path": str(tmp_path / str(n))}) for n in range(2)]
    pids = [pid_of(tmp_path / str(n)) for n in range(2)]
    waiting = client.submit("note", {"path": str(tmp_path / "ledger"), "number": 1})
    eventually(lambda: waiting.status() in ("queued", "dispatched", "joined"), "it waits")
    waiting.cancel()
    assert isinstance(waiting.exception(), Cancelled)
    for n in range(2):
        (tmp_path / f"{n}.open").touch()
    assert [gate.result()["pid"] for gate in gates] == pids
    assert not (tmp_path / "ledger").exists()


def test_cancel_a_finished_job_changes_nothing(node: Node, client: Client) -> None:
    handle = client.submit("echo", {"x": 5})
    assert handle.result() == 5
    handle.cancel()
    assert handle.result() == 5
    assert client.job(handle.id)["value"] == 5


def test_a_cancelled_call_in_another_thread_spares_its_neighbour(node: Node, client: Client, tmp_path: Path) -> None:
    one, two = (client.submit("gate", {"path": str(tmp_path / name)}) for name in ("one", "two"))
    pid_of(tmp_path / "one")
    pid = pid_of(tmp_path / "two")
    one.cancel()
    assert isinstance(one.exception(), Cancelled)
    (tmp_path / "two.open").touch()
    assert two.result() == {"pid": pid, "attempt": 1}


# ---- storms


def test_signals_without_a_cancel_do_nothing(node: Node, client: Client) -> None:
    """The worker is hit all the time, in the tool and in toolring's own loop: no job ends, no worker falls."""
    before = sorted(node.workers())
    stop = threading.Event()

    def storm() -> int:
        count = 0
        while not stop.is_set():
            for pid in before:
                kill_one(pid, signal.SIGUSR1)
            count += 1
        return count

    storms = [Background(storm) for _ in range(2)]
    handles = [client.submit("note", {"path": os.devnull, "number": n}) for n in range(4000)]
    assert [handle.result() for handle in handles] == list(range(4000))
    assert client.call("nap", {"seconds": 0.2, "x": 7}) == 7
    stop.set()
    assert min(one.result() for one in storms) > 100
    assert sorted(node.workers()) == before


def test_cancels_and_signals_at_random(node: Node, client: Client, tmp_path: Path) -> None:
    """Short jobs, cancelled at random moments under signals: each is answered once, as done or as cancelled; what
    was answered as done has run exactly once, nothing has run twice, and no worker falls by itself."""
    ledger = tmp_path / "ledger"
    rng = random.Random(7)
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            for worker in node.status()["workers"]:
                if worker["pid"]:
                    for _ in range(20):
                        kill_one(worker["pid"], signal.SIGUSR1)

    storms = Background(storm)
    done, cancelled = set(), set()
    for first in range(0, 1500, 50):
        batch = {
            n: client.submit("note", {"path": str(ledger), "number": n, "seconds": rng.choice([0, 0, 0.001])})
            for n in range(first, first + 50)
        }
        for n in rng.sample(sorted(batch), 4):
            batch[n].cancel()
        for n, handle in batch.items():
            error = handle.exception()
            if error is None:
                done.add(n)
                assert handle.result() == n
            else:
                assert isinstance(error, Cancelled), error
                cancelled.add(n)
    stop.set()
    storms.result()
    written = [int(line) for line in lines(ledger)]
    assert len(written) == len(set(written)), "a job ran twice"
    assert done | cancelled == set(range(1500))
    assert done <= set(written)
    assert len(cancelled) <= 30 * 4
    causes = {line for line in node.log.splitlines() if "worker_exited" in line and '"reason": null' in line}
    assert not causes, f"workers fell by themselves: {causes}"
