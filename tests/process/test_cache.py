"""Cached results on a real node: joined, held, kept, renewed, invalidated; and never a wrong one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, failure, lines
from toolring import Client
from toolring.errors import Cancelled, Conflict, OutcomeUnknown, ToolError


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with kit.running(workers=4) as node:
        yield node


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    with node.client(caller="tester") as client:
        yield client


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger")


def caching(client: Client, tool: str) -> dict[str, object]:
    return dict(client.status()["cache"]["tools"][tool])


# ---- one run for all


@pytest.mark.parametrize("api", ["call", "submit"])
def test_a_thousand_equal_calls_at_once_are_one_run(client: Client, ledger: str, api: str) -> None:
    arguments = {"path": ledger, "seconds": 0.2}
    if api == "submit":
        results = [handle.result() for handle in [client.submit("tally", arguments) for _ in range(1000)]]
    else:
        results = list(client.map("tally", [arguments] * 1000, window=1000))
    assert results == [1] * 1000
    assert lines(Path(ledger)) == ["run"]


def test_the_leader_killed_is_one_more_run(client: Client, ledger: str) -> None:
    arguments = {"path": ledger, "seconds": 1.0}
    handles = [client.submit("tally", arguments) for _ in range(200)]
    eventually(lambda: lines(Path(ledger)), "it runs")
    busy = [worker["pid"] for worker in client.status()["workers"] if worker["state"] == "busy"]
    assert len(busy) == 1
    os.kill(busy[0], signal.SIGKILL)
    assert [handle.result() for handle in handles] == [2] * 200
    assert lines(Path(ledger)) == ["run", "run"]


def test_a_failing_run_fails_all_who_wait_and_nothing_sticks(client: Client, ledger: str) -> None:
    def attempt() -> list[str]:
        handles = [client.submit("aging", {"path": "/nowhere/at/all"}) for _ in range(50)]
        return [handle.exception().code for handle in handles]  # type: ignore[union-attr]

    before = caching(client, "aging")["runs"]
    assert attempt() == ["TOOL_ERROR"] * 50
    assert attempt() == ["TOOL_ERROR"] * 50
    assert caching(client, "aging")["runs"] >= before + 2  # type: ignore[operator]


def test_a_caller_that_gives_up_does_not_end_the_run_of_the_others(client: Client, ledger: str) -> None:
    arguments = {"path": ledger, "seconds": 0.5}
    first, second = client.submit("tally", arguments), client.submit("tally", arguments)
    eventually(lambda: lines(Path(ledger)), "it runs")
    first.cancel()
    assert isinstance(first.exception(), Cancelled)
    assert second.result() == 1
    assert lines(Path(ledger)) == ["run"]


# ---- who answers


def test_the_supervisor_gives_what_it_holds(client: Client, ledger: str) -> None:
    before = caching(client, "tally")["hits"]
    assert [client.call("tally", {"path": ledger}) for _ in range(5)] == [1] * 5
    after = caching(client, "tally")["hits"]
    assert after["supervisor"] == before["supervisor"] + 4  # type: ignore[index]


def test_a_kept_job_that_was_answered_from_what_is_held_can_be_asked_for(client: Client, ledger: str) -> None:
    client.call("tally", {"path": ledger})
    handle = client.submit("tally", {"path": ledger})
    assert handle.result() == 1
    assert handle.cached
    assert client.job(handle.id)["value"] == 1


def test_results_survive_the_node(tmp_path: Path, ledger: str) -> None:
    with kit.running(workers=2, directory=tmp_path) as node, node.client() as client:
        assert client.call("tally", {"path": ledger}) == 1
    with kit.running(workers=2, directory=tmp_path) as node, node.client() as client:
        assert client.call("tally", {"path": ledger}) == 1
        assert caching(client, "tally")["hits"]["sqlite"] == 1  # type: ignore[index]
        assert client.call("tally", {"path": ledger}) == 1
    assert lines(Path(ledger)) == ["run"]


def test_two_nodes_with_one_directory_do_not_mislead_each_other(tmp_path: Path, ledger: str) -> None:
    """Same namespace, same place for files: what one invalidates, the other's memory would not hear of."""
    same: dict[str, Any] = {"TOOLRING_CACHE_DIRECTORY": str(tmp_path / "cache"), "TOOLRING_CACHE_NAMESPACE": "one"}
    with kit.running(**same) as one, kit.running(**same) as two, one.client() as a, two.client() as b:
        assert b.call("tally", {"path": ledger}) == 1
        assert a.call("tally", {"path": ledger}) == 2
        a.call("change", {"path": ledger})
        assert a.call("tally", {"path": ledger}) == 3
        assert b.call("tally", {"path": ledger}) == 1, "they share no results, and so no mistakes"
    assert len(list((tmp_path / "cache").glob("*/results.sqlite3"))) == 2


def test_files_of_an_address_that_nobody_will_have_again_are_removed(tmp_path: Path, ledger: str) -> None:
    files = tmp_path / "cache"
    with kit.running(bind="tcp://127.0.0.1:*", TOOLRING_CACHE_DIRECTORY=str(files)) as node, node.client() as client:
        client.call("tally", {"path": ledger})
        assert list(files.glob("*/results.sqlite3"))
    assert not list(files.iterdir())


def test_workers_share_what_one_of_them_made(ledger: str) -> None:
    with kit.running(workers=3, TOOLRING_CACHE_HOT_BYTES="0") as node, node.client() as client:
        assert client.call("tally", {"path": ledger}) == 1
        for worker in client.status()["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        assert client.call("tally", {"path": ledger}) == 1
        assert caching(client, "tally")["hits"]["sqlite"] == 1  # type: ignore[index]


# ---- what makes it untrue


@pytest.mark.parametrize("how", ["return", "raise", "die"])
def test_a_write_tool_invalidates_however_it_ends(client: Client, ledger: str, how: str) -> None:
    assert [client.call("tally", {"path": ledger}) for _ in range(2)] == [1, 1]
    if how == "return":
        client.call("change", {"path": ledger})
    else:
        error = failure(lambda: client.call("change", {"path": ledger, "how": how}))
        assert isinstance(error, ToolError if how == "raise" else OutcomeUnknown)
    assert [client.call("tally", {"path": ledger}) for _ in range(2)] == [2, 2]


def test_a_write_tool_that_is_interrupted_invalidates(client: Client, ledger: str) -> None:
    assert client.call("tally", {"path": ledger}) == 1
    handle = client.submit("change", {"path": ledger, "how": "hang"})
    eventually(lambda: lines(Path(ledger + ".hangs")), "it hangs")
    handle.cancel()
    eventually(lambda: client.call("tally", {"path": ledger}) > 1, "the old result is gone")


def test_other_files_results_stay(client: Client, ledger: str) -> None:
    other = ledger + ".other"
    for path in (ledger, other):
        client.call("tally", {"path": path})
    client.call("change", {"path": ledger})
    assert client.call("tally", {"path": other}) == 1
    assert client.call("tally", {"path": ledger}) == 2


def test_a_call_after_an_invalidation_does_not_join_a_run_from_before_it(client: Client, ledger: str) -> None:
    arguments = {"path": ledger, "seconds": 1.0}
    old = client.submit("tally", arguments)
    eventually(lambda: lines(Path(ledger)), "it runs")
    client.call("change", {"path": ledger})
    new = client.submit("tally", arguments)
    assert (old.result(), new.result()) == (2, 2) or (old.result(), new.result()) == (1, 2)
    assert len(lines(Path(ledger))) == 2
    assert client.call("tally", arguments) == 2
    assert len(lines(Path(ledger))) == 2


@pytest.mark.parametrize("what", ["tool", "tag", "arguments", "everything"])
def test_the_client_invalidates(client: Client, ledger: str, what: str) -> None:
    assert [client.call("tally", {"path": ledger}) for _ in range(2)] == [1, 1]
    if what == "tool":
        client.invalidate("tally")
    elif what == "tag":
        client.invalidate(tags=[f"file:{ledger}"])
    elif what == "arguments":
        client.invalidate("tally", arguments={"path": ledger})
    else:
        client.invalidate()
    assert [client.call("tally", {"path": ledger}) for _ in range(2)] == [2, 2]


# ---- who shares


def test_partitions_do_not_share_and_the_nameless_is_not_cached(client: Client, ledger: str) -> None:
    assert [client.call("whose", {"path": ledger}, partition="a") for _ in range(2)] == [1, 1]
    assert [client.call("whose", {"path": ledger}, partition="b") for _ in range(2)] == [2, 2]
    assert [client.call("whose", {"path": ledger}) for _ in range(2)] == [3, 4]
    assert client.call("whose", {"path": ledger}, partition="a") == 1


def test_callers_do_not_share(node: Node, client: Client, ledger: str) -> None:
    assert client.call("mine", {"path": ledger}) == 1
    with node.client(caller="other") as other, node.client() as nobody:
        assert other.call("mine", {"path": ledger}) == 2
        assert [nobody.call("mine", {"path": ledger}) for _ in range(2)] == [3, 4]
    assert client.call("mine", {"path": ledger}) == 1


# ---- time


def test_an_outdated_result_is_given_while_it_is_renewed(client: Client, ledger: str) -> None:
    assert client.call("aging", {"path": ledger}) == 1
    eventually(lambda: client.call("aging", {"path": ledger}) > 1, "a new one takes its place")
    assert caching(client, "aging")["stale"] > 0  # type: ignore[operator]


def test_errors_are_kept_when_the_tool_says_so(client: Client, ledger: str) -> None:
    for _ in range(3):
        error = failure(lambda: client.call("fails_once", {"path": ledger}))
        assert isinstance(error, ToolError)
        assert "the first time" in str(error)
    assert lines(Path(ledger)) == ["run"]
    client.invalidate("fails_once")
    assert client.call("fails_once", {"path": ledger}) == 2


# ---- the command line


def test_the_command_line_shows_and_invalidates(node: Node, client: Client, ledger: str) -> None:
    client.call("tally", {"path": ledger})
    shown = kit.run_cli("cache", "stats", address=node.address)
    assert "tally" in shown.stdout
    done = kit.run_cli("cache", "invalidate", "--tool", "tally", "--key", f"path={ledger}", address=node.address)
    assert done.returncode == 0, done.stderr
    assert client.call("tally", {"path": ledger}) == 2
    assert kit.run_cli("cache", "clear", address=node.address).returncode == 0
    assert client.call("tally", {"path": ledger}) == 3
    wrong = kit.run_cli("cache", "invalidate", address=node.address)
    assert wrong.returncode == 2
    assert "say what" in wrong.stderr


def test_inspect_tells_who_decided(tmp_path: Path) -> None:
    (tmp_path / "toolring.toml").write_text("[tools.square]\ncache = 7\n[cache]\nlayers = []\n")
    with kit.running(directory=tmp_path) as node:
        text = kit.run_cli("inspect", "square", address=node.address).stdout
        policy = {line.split()[0]: line for line in text.splitlines() if line.split()}
        assert "7" in policy["cache"]
        assert "file toolring.toml" in policy["cache"]
        assert "default" in policy["cache_scope"]
        assert "the tool" in policy["read_only"]


def test_a_configured_policy_is_checked_at_the_door(tmp_path: Path) -> None:
    (tmp_path / "toolring.toml").write_text("[tools.note]\ncache = 7\n")
    with kit.running(directory=tmp_path, wait=False) as node:
        assert node.process.wait(20) == 3
        eventually(lambda: "tool 'note': cache= needs read_only=True" in node.log)


# ---- what clients may send


@pytest.mark.parametrize("value", [{1: 1}, {None: 1}, [{b"x": 1}], float("inf"), {"a": {2: "b"}}])
def test_no_argument_harms_a_worker_or_loses_an_invalidation(node: Node, client: Client, value: Any) -> None:
    before = node.status()["restarts"]
    assert client.call("odd_look", {"value": value}) == 1
    assert client.call("odd_change", {"value": value}) == 2
    runs = caching(client, "odd_look")["runs"]
    assert client.call("odd_look", {"value": value}) == 1
    assert caching(client, "odd_look")["runs"] == runs + 1  # type: ignore[operator]
    assert node.status()["restarts"] == before


def test_one_key_does_not_carry_a_result_into_another_partition(client: Client, ledger: str) -> None:
    assert client.call("whose", {"path": ledger}, key="k", partition="a") == 1
    error = failure(lambda: client.call("whose", {"path": ledger}, key="k", partition="b"))
    assert isinstance(error, Conflict)
