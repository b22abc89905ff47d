"""Async tools with real processes: many at once, and what each way to end one does to the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import Node, alive, eventually, failure, lines
from toolring import Client, Handle
from toolring.errors import Cancelled, Expired, OutcomeUnknown, Poisoned, WorkerOutOfMemory

TOOLS = kit.HERE / "live_tools.py"
CONFIG = """
[groups.async]
workers = 2
per_worker = 50

[timeouts]
neighbours = 1.0
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    file = tmp_path_factory.mktemp("async") / "toolring.toml"
    file.write_text(CONFIG)
    with kit.running(TOOLS, TOOLRING_CONFIG=str(file)) as node:
        yield node


@pytest.fixture
def node(shared: Node) -> Iterator[Node]:
    yield shared
    shared.until_whole(4)


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    with node.client() as client:
        yield client


@pytest.fixture
def spot(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def opened(spot: Path) -> None:
    Path(f"{spot}.open").touch()


def async_pids(node: Node) -> set[int]:
    return {w["pid"] for w in node.status()["workers"] if w["group"] == "async" and w["state"] in ("ready", "busy")}


def company(client: Client, spot: Path, tool: str, count: int) -> list[Handle]:
    """So many that have begun and wait."""
    handles = [client.submit(tool, {"path": str(spot), "name": f"{tool}{n}"}) for n in range(count)]
    eventually(lambda: sum(f"begin {tool}" in line for line in lines(spot)) >= count, "all have begun")
    return handles


def test_many_are_under_way_in_one_process(client: Client, node: Node, spot: Path) -> None:
    handles = company(client, spot, "gate", 80)
    assert len(async_pids(node)) == 2
    waiting = [client.submit("gate", {"path": str(spot), "name": f"more{n}"}) for n in range(40)]
    eventually(lambda: sum("begin" in line for line in lines(spot)) == 100, "each place is taken")
    opened(spot)
    assert [handle.result() for handle in handles] == [f"gate{n}" for n in range(80)]
    assert [handle.result() for handle in waiting] == [f"more{n}" for n in range(40)]


def test_a_cancelled_one_cleans_up_and_its_worker_stays(client: Client, node: Node, spot: Path) -> None:
    before = async_pids(node)
    one, other = company(client, spot, "gate", 2)
    one.cancel()
    assert isinstance(one.exception(), Cancelled)
    eventually(lambda: {"cancelled gate0", "end gate0"} <= set(lines(spot)), "its cleanup ran")
    opened(spot)
    assert other.result() == "gate1"
    assert "cancelled gate1" not in lines(spot)
    assert async_pids(node) == before


def test_a_deadline_ends_the_work_and_not_the_worker(client: Client, node: Node, spot: Path) -> None:
    before = async_pids(node)
    error = failure(lambda: client.call("gate", {"path": str(spot)}, timeout=0.2))
    assert isinstance(error, Expired)
    eventually(lambda: "end " in lines(spot), "it ended")
    assert async_pids(node) == before


def test_a_client_that_vanishes_cancels_its_calls(node: Node, client: Client, spot: Path) -> None:
    with node.client() as other, ThreadPoolExecutor(1) as pool:
        called = pool.submit(other.call, "gate", {"path": str(spot)})
        eventually(lambda: "begin " in lines(spot), "it runs")
        other.close()
        assert called.exception() is not None
    eventually(lambda: "cancelled " in lines(spot), "it was cancelled")


def test_a_shield_puts_it_off(client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("careful", {"path": str(spot)}, timeout=0.2))
    assert isinstance(error, Expired)
    eventually(lambda: "complete" in lines(spot), "its section was completed")


def test_beside_one_that_does_not_end(client: Client, node: Node, spot: Path) -> None:
    """What may be repeated runs elsewhere, what may not has its time, and is lost after that."""
    stuck = client.submit("stubborn", {"path": str(spot) + ".pid"}, timeout=0.3)
    (pid,) = eventually(lambda: lines(Path(f"{spot}.pid")), "it runs")
    quick, lost = Path(f"{spot}.quick"), Path(f"{spot}.lost")
    looks = company(client, spot, "look", 6)
    soon = company(client, quick, "gate", 6)
    late = company(client, lost, "gate", 6)
    assert isinstance(stuck.exception(), Expired)
    eventually(lambda: any(" 2" in line for line in lines(spot)), "those that may be repeated begin elsewhere")
    opened(spot)
    opened(quick)
    assert [handle.result() for handle in soon] == [f"gate{n}" for n in range(6)]
    assert {handle.result() for handle in looks} == {1, 2}
    eventually(lambda: not alive(int(pid)), "the worker is gone")
    lost_ones = [handle for handle in late if handle.done()]
    assert lost_ones
    for handle in lost_ones:
        error = handle.exception()
        assert isinstance(error, OutcomeUnknown)
        assert "stubborn does not end" in str(error)
    opened(lost)
    assert all(handle.result() for handle in late if handle not in lost_ones)


def test_beside_one_that_blocks_the_event_loop(client: Client, node: Node, spot: Path) -> None:
    looks = company(client, spot, "look", 6)
    gates = company(client, spot, "gate", 6)
    blocked = client.submit("block", {"path": str(spot) + ".pid"}, timeout=0.3)
    (pid,) = eventually(lambda: lines(Path(f"{spot}.pid")), "it runs")
    answers = [client.call("who") for _ in range(20)]
    assert int(pid) not in answers, "nothing waits behind it"
    assert isinstance(blocked.exception(), Expired)
    eventually(lambda: not alive(int(pid)), "the worker is gone")
    opened(spot)
    assert {handle.result() for handle in looks} == {1, 2}
    errors = [handle.exception() for handle in gates]
    assert all(error is None or isinstance(error, OutcomeUnknown) for error in errors)
    assert any(errors)


def test_a_killed_worker_loses_only_what_may_not_be_repeated(client: Client, node: Node, spot: Path) -> None:
    looks = company(client, spot, "look", 10)
    gates = company(client, spot, "gate", 10)
    victim = sorted(async_pids(node))[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: any(" 2" in line for line in lines(spot)), "some begin again")
    opened(spot)
    assert {handle.result() for handle in looks} == {1, 2}
    errors = [handle.exception() for handle in gates]
    lost = [error for error in errors if error is not None]
    assert all(isinstance(error, OutcomeUnknown) and "SIGKILL" in str(error) for error in lost)
    assert 0 < len(lost) < 10


def test_one_that_kills_its_workers_takes_no_others_along(client: Client, node: Node, spot: Path) -> None:
    looks = company(client, spot, "look", 12)
    killer = client.submit("crash", {"path": str(spot) + ".pid"})
    error = killer.exception()
    assert isinstance(error, Poisoned)
    assert len(lines(Path(f"{spot}.pid"))) == 3
    opened(spot)
    assert all(handle.result() in (1, 2) for handle in looks)


def test_a_stopped_worker_counts_as_lost(client: Client, node: Node, spot: Path) -> None:
    looks = company(client, spot, "look", 10)
    victim = sorted(async_pids(node))[0]
    os.kill(victim, signal.SIGSTOP)
    eventually(lambda: any(" 2" in line for line in lines(spot)), "its jobs run elsewhere")
    opened(spot)
    assert {handle.result() for handle in looks} == {1, 2}
    assert not alive(victim)


def test_memory_that_runs_out_ends_one_and_its_worker_leaves(client: Client, node: Node, spot: Path) -> None:
    gates = company(client, spot, "gate", 8)
    error = failure(lambda: client.call("hungry", {"path": str(spot) + ".pid"}))
    assert isinstance(error, WorkerOutOfMemory)
    (pid,) = lines(Path(f"{spot}.pid"))
    opened(spot)
    assert [handle.result() for handle in gates] == [f"gate{n}" for n in range(8)]
    eventually(lambda: not alive(int(pid)), "the worker has left")


def test_equal_calls_of_a_cached_one_are_one_run(client: Client, spot: Path) -> None:
    handles = [client.submit("cached", {"path": str(spot), "key": "k"}) for _ in range(200)]
    assert {handle.result() for handle in handles} == {"K"}
    assert client.call("cached", {"path": str(spot), "key": "k"}) == "K"
    assert lines(spot) == ["k"]


@pytest.mark.parametrize("tool", ["nested", "nested_sync"])
def test_the_deadline_reaches_what_a_tool_calls(client: Client, node: Node, spot: Path, tool: str) -> None:
    error = failure(lambda: client.call(tool, {"address": node.address, "path": str(spot)}, timeout=1.0))
    assert isinstance(error, Expired)
    assert float(lines(spot)[0].split()[1]) < 1.0
    eventually(lambda: lines(spot)[-1] == "slow ended", "the inner tool was ended, too")


def test_a_draining_node_finishes_them(spot: Path) -> None:
    with kit.running(TOOLS, workers=1) as node, node.client() as client:
        handles = company(client, spot, "gate", 20)
        node.signal(signal.SIGTERM)
        eventually(lambda: "node_draining" in node.log, "it drains")
        opened(spot)
        assert [handle.result() for handle in handles] == [f"gate{n}" for n in range(20)]
        assert node.wait() == 0


def test_a_node_that_stops_lets_them_clean_up(spot: Path) -> None:
    with kit.running(TOOLS, workers=1) as node, node.client() as client:
        handles = company(client, spot, "gate", 5)
        node.signal(signal.SIGTERM)
        eventually(lambda: "node_draining" in node.log, "it drains")
        node.signal(signal.SIGTERM)
        assert {type(handle.exception()) for handle in handles} == {OutcomeUnknown}
        assert node.wait() == 0
    assert sum("cancelled" in line for line in lines(spot)) == 5


def test_workers_from_a_fresh_interpreter_do_it_too(spot: Path) -> None:
    with kit.running(TOOLS, workers=1, TOOLRING_NODE_START_METHOD="spawn") as node, node.client() as client:
        handles = company(client, spot, "gate", 5)
        opened(spot)
        assert [handle.result() for handle in handles] == [f"gate{n}" for n in range(5)]
        assert list(client.stream("async_steps", {"n": 3})) == ["0", "1", "2"]


def test_its_threads_may_tell_of_its_progress(client: Client, node: Node) -> None:
    told: list[float] = []
    result = client.call("hop", {"words": 4}, on_progress=lambda word: told.append(word.done))
    assert result == "context.shield() belongs where the job awaits, not in a thread of it"
    assert told == [1, 2, 3, 4]
    runs = node.status()["tools"]["who"]["answered"]
    answered = [client.submit("who") for _ in range(50)]
    assert {handle.result() for handle in answered} <= async_pids(node)
    assert all(worker["state"] in ("ready", "busy") for worker in node.status()["workers"])
    assert node.status()["tools"]["who"]["answered"] == runs + 50


def test_a_task_that_was_left_behind_and_blocks_costs_the_worker_alone(client: Client, node: Node, spot: Path) -> None:
    client.call("leave_behind", {"path": str(spot)})
    blocked = int(eventually(lambda: lines(spot), "its task blocks")[0])
    handles = [client.submit("who") for _ in range(20)]
    assert blocked not in {handle.result() for handle in handles}
    eventually(lambda: not alive(blocked), "it is replaced")
    eventually(lambda: "holds its event loop up" in node.log)


def test_a_long_one_is_in_nobodys_way(client: Client, spot: Path) -> None:
    """However many come and go beside it, in the same process."""
    (long,) = company(client, spot, "gate", 1)
    assert len(set(client.map("who", [{}] * 3000))) == 2
    assert not long.done()
    opened(spot)
    assert long.result() == "gate0"
