"""Tools that take many calls at once, with real processes: who goes together, and that each has its own end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, failure, lines
from toolring import Client, Handle
from toolring.errors import Cancelled, Expired, InvalidArguments, InvalidResult, Poisoned, Retry, ToolError


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with kit.running(kit.HERE / "live_tools.py", workers=2) as node:
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


def ask(client: Client, spot: Path, name: str, how: str = "ok", **more: float) -> Handle:
    return client.submit("together", {"name": name, "path": str(spot), "how": how}, **more)  # type: ignore[arg-type]


def hold(client: Client, spot: Path) -> list[Handle]:
    """Both workers kept, so that whoever comes has to wait."""
    gates = [Path(f"{spot}.gate{n}") for n in range(2)]
    held = [
        client.submit("together", {"name": "g", "path": str(gate), "how": "gate"}) for gate in gates for _ in "1234"
    ]
    eventually(lambda: all(lines(gate) for gate in gates), "both are kept")
    return held


def release(spot: Path) -> None:
    for n in range(2):
        Path(f"{spot}.gate{n}.open").touch()


def test_those_who_wait_go_together_and_each_has_its_answer(client: Client, spot: Path) -> None:
    held = hold(client, spot)
    handles = [ask(client, spot, f"n{k}") for k in range(8)]
    release(spot)
    assert [handle.result() for handle in handles] == [f"n{k} of 4" for k in range(8)]
    assert len(held) == 8


def test_one_by_itself_waits_no_longer_than_it_says(client: Client, spot: Path) -> None:
    assert ask(client, spot, "alone").result() == "alone of 1"


def test_enough_do_not_wait_at_all(client: Client) -> None:
    """For their company they would wait for half a minute."""
    handles = [client.submit("company", {"name": f"n{k}"}) for k in range(8)]
    assert [handle.result(20) for handle in handles] == [f"n{k} of 8" for k in range(8)]


def test_errors_concern_one(client: Client, spot: Path) -> None:
    handles = [ask(client, spot, f"n{k}", how) for k, how in enumerate(["ok", "raise", "ok", "later"])]
    error = handles[1].exception()
    assert isinstance(error, ToolError)
    assert error.facts["type"] == "ValueError"
    assert error.facts["job"] == handles[1].id
    late = handles[3].exception()
    assert isinstance(late, Retry)
    assert sum(line.startswith("n3 ") for line in lines(spot)) == 3, "tried again twice"
    assert {handles[k].result().split()[0] for k in (0, 2)} == {"n0", "n2"}
    assert sum(line.startswith("n0 ") for line in lines(spot)) == 1


def test_wrong_arguments_concern_one(client: Client, spot: Path) -> None:
    wrong = client.submit("together", {"name": "n", "paht": str(spot)})
    right = ask(client, spot, "right")
    error = wrong.exception()
    assert isinstance(error, InvalidArguments)
    assert "paht" in str(error)
    assert right.result().startswith("right")


def test_a_wrong_number_of_results_is_everybodys_error(client: Client) -> None:
    handles = [client.submit("miscounts", {"n": n}) for n in range(3)]
    for handle in handles:
        error = handle.exception()
        assert isinstance(error, InvalidResult)
        assert "returned 1 results" in str(error)


def test_one_is_cancelled_while_it_waits_for_company(client: Client) -> None:
    one, *others = [client.submit("company", {"name": f"n{k}"}) for k in range(7)]
    eventually(lambda: one.status() == "queued", "it waits")
    assert client.queue()["waiting"][0]["waits_for"] == "company"
    one.cancel()
    assert isinstance(one.exception(), Cancelled)
    more = [client.submit("company", {"name": f"m{k}"}) for k in range(2)]
    assert [handle.result(20) for handle in (*others, *more)] == [
        *(f"n{k} of 8" for k in range(1, 7)),
        *(f"m{k} of 8" for k in range(2)),
    ]


def test_a_deadline_while_it_waits_for_company(client: Client) -> None:
    assert isinstance(failure(lambda: client.call("company", {"name": "n"}, timeout=0.2)), Expired)


def test_one_is_cancelled_while_they_run(client: Client, spot: Path) -> None:
    handles = [ask(client, spot, f"n{k}", "gate") for k in range(4)]
    eventually(lambda: len(lines(spot)) == 4, "they run")
    assert handles[0].status() == "running"
    handles[0].cancel()
    assert isinstance(handles[0].exception(), Cancelled)
    Path(f"{spot}.open").touch()
    assert [handle.result() for handle in handles[1:]] == ["n1 of 4", "n2 of 4", "n3 of 4"]


def test_when_all_are_cancelled_the_run_ends(client: Client, node: Node, spot: Path) -> None:
    handles = [ask(client, spot, f"n{k}", "gate") for k in range(4)]
    pid = int(eventually(lambda: lines(spot), "they run")[0].split()[2])
    for handle in handles:
        handle.cancel()
    eventually(lambda: not kit.alive(pid), "its worker was ended")


def test_a_deadline_while_they_run_concerns_one(client: Client, spot: Path) -> None:
    brief = ask(client, spot, "brief", "gate", timeout=0.5)
    others = [ask(client, spot, f"n{k}", "gate") for k in range(3)]
    assert isinstance(brief.exception(), Expired)
    Path(f"{spot}.open").touch()
    assert all(handle.result() for handle in others)


def test_one_that_kills_its_worker_takes_no_others_along(client: Client, spot: Path) -> None:
    handles = [ask(client, spot, f"n{k}", "kill" if k == 2 else "ok") for k in range(4)]
    error = handles[2].exception()
    assert isinstance(error, Poisoned)
    assert [handles[k].result() for k in (0, 1, 3)] == ["n0 of 1", "n1 of 1", "n3 of 1"]


def test_a_killed_worker_costs_them_nothing(client: Client, spot: Path) -> None:
    handles = [ask(client, spot, f"n{k}", "gate") for k in range(4)]
    pid = int(eventually(lambda: lines(spot), "they run")[0].split()[2])
    os.kill(pid, signal.SIGKILL)
    Path(f"{spot}.open").touch()
    assert [handle.result() for handle in handles] == [f"n{k} of 1" for k in range(4)]


def test_a_chunk_is_runs_of_its_own(client: Client, spot: Path) -> None:
    calls = [{"name": f"n{k}", "path": str(spot)} for k in range(6)]
    assert list(client.map("together", calls, chunk=6)) == [f"n{k} of {4 if k < 4 else 2}" for k in range(6)]


def test_callers_share_a_run(node: Node, client: Client, spot: Path) -> None:
    held = hold(client, spot)
    with node.client() as other:
        many = [ask(client, spot, f"many{k}") for k in range(1000)]
        few = ask(other, spot, "few")
        eventually(lambda: few.status() == "queued", "it waits")
        release(spot)
        few.result()
        order = [line.split()[0] for line in lines(spot)]
        assert order.index("few") < 600, "it waits only for those of the others that its workers were given before"
        assert all(handle.result() for handle in many)
    assert all(handle.result() for handle in held)


def test_keys_join(client: Client, spot: Path) -> None:
    handles = [client.submit("together", {"name": "k", "path": str(spot)}, key="the key") for _ in range(5)]
    assert {handle.result() for handle in handles} == {"k of 1"}
    assert len(lines(spot)) == 1
