"""Idempotency keys, kept results, and limits: one execution, and BUSY rather than a queue without end."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import Background, Node, eventually, failure, lines
from toolring import Client
from toolring.errors import Busy, Cancelled, Conflict, OutcomeUnknown


def test_a_hundred_copies_run_once(node: Node, client: Client, spot: Path) -> None:
    with node.client() as other:
        arguments = {"path": str(spot), "number": 5, "seconds": 0.05}
        copies = [
            Background(partial((client, other)[n % 2].call, "note", arguments, key="hundred")) for n in range(100)
        ]
        assert [copy.result() for copy in copies] == [5] * 100
        assert client.call("note", arguments, key="hundred") == 5
    assert lines(spot) == ["5"]


def test_an_answer_is_replayed_for_its_key(client: Client, spot: Path) -> None:
    arguments = {"path": str(spot), "number": 1}
    first = client.submit("note", arguments, key="replay")
    assert (first.result(), first.replayed) == (1, False)
    second = client.submit("note", arguments, key="replay")
    assert (second.result(), second.replayed) == (1, True)
    assert client.job(second.id)["value"] == 1
    assert lines(spot) == ["1"]


def test_an_error_is_replayed_too(client: Client) -> None:
    errors = [failure(lambda: client.call("fail", {"message": "once"}, key="error")) for _ in range(2)]
    assert [error.code for error in errors] == ["TOOL_ERROR"] * 2
    assert errors[0].facts["job"] == errors[1].facts["job"]


def test_another_job_under_the_same_key_is_a_conflict(client: Client, spot: Path) -> None:
    client.call("note", {"path": str(spot), "number": 1}, key="clash")
    for tool, arguments in (("note", {"path": str(spot), "number": 2}), ("echo", {"x": 1})):
        error = failure(partial(client.call, tool, arguments, key="clash"))
        assert isinstance(error, Conflict)
    assert lines(spot) == ["1"]


def test_callers_keys_are_their_own(node: Node, spot: Path) -> None:
    for number, name in enumerate(("ann", "bob")):
        with node.client(caller=name) as client:
            assert client.call("note", {"path": str(spot), "number": number}, key="same") == number
    assert lines(spot) == ["0", "1"]


def test_a_keyed_job_survives_one_of_its_callers(node: Node, client: Client, spot: Path) -> None:
    """One copy is cancelled, the other still gets the answer; the run is not disturbed."""
    with node.client() as other:
        one = client.submit("gate_once", {"path": str(spot)}, key="shared")
        eventually(lambda: lines(spot), "it runs")
        two = other.submit("gate_once", {"path": str(spot)}, key="shared")
        eventually(lambda: two.status() in ("joined", "running"), "it joined")
        one.cancel()
        assert isinstance(one.exception(), Cancelled)
        Path(f"{spot}.open").touch()
        assert two.result()["attempt"] == 1
    assert len(lines(spot)) == 1


def test_an_unknown_outcome_is_remembered_for_its_key(node: Node, client: Client) -> None:
    """A retry under the same key must not become a second run."""
    first, second = (failure(lambda: client.call("die", {"how": "kill"}, key="dead")) for _ in range(2))
    assert isinstance(first, OutcomeUnknown)
    assert isinstance(second, OutcomeUnknown)
    assert first.facts["worker"] == second.facts["worker"]


def test_a_cached_answer(client: Client) -> None:
    handles = [client.submit("square", {"x": 12345}) for _ in range(2)]
    assert [handle.result() for handle in handles] == [12345**2] * 2
    later = client.submit("square", {"x": 12345})
    assert later.result() == 12345**2
    assert later.cached


# ---- limits


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Node]:
    with kit.running(workers=1, TOOLRING_LIMITS_BACKLOG="20", TOOLRING_LIMITS_PER_CLIENT="15") as node:
        yield node


def test_a_full_backlog_is_busy_and_nothing_is_lost(small: Node, spot: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with small.client() as one, small.client() as two:
        gate = one.submit("gate", {"path": str(spot)})
        eventually(lambda: lines(spot), "it runs")
        handles = [two.submit("note", {"path": str(ledger), "number": n}) for n in range(14)]
        refused = eventually(lambda: [h for h in handles if h.done()], "some are refused")
        for handle in refused:
            error = handle.exception()
            assert isinstance(error, Busy)
            assert error.facts["limit"] == "backlog_share"
            assert 0 < error.facts["retry_after"] <= 30
        assert len(refused) == 4
        assert small.status()["jobs"]["refused"]["BUSY"] == 4
        Path(f"{spot}.open").touch()
        gate.result()
        assert [h.result() for h in handles if h not in refused] == list(range(10))
        assert one.call("echo", {"x": 1}) == 1
    assert [int(line) for line in lines(ledger)] == list(range(10))


def test_what_was_cancelled_makes_room(small: Node, spot: Path) -> None:
    with small.client() as client:
        gate = client.submit("gate", {"path": str(spot)})
        eventually(lambda: lines(spot), "it runs")
        waiting = [client.submit("echo", {"x": n}) for n in range(10)]
        eventually(lambda: small.status()["jobs"]["waiting"] == 10, "the backlog is full")
        for handle in waiting:
            handle.cancel()
        for handle in waiting:
            assert isinstance(handle.exception(), Cancelled)
        one_more = client.submit("echo", {"x": 7})
        Path(f"{spot}.open").touch()
        assert gate.result()["attempt"] == 1
        assert one_more.result() == 7


def test_one_clients_share(small: Node, spot: Path) -> None:
    with small.client() as greedy, small.client() as modest:
        gate = modest.submit("gate", {"path": str(spot)})
        eventually(lambda: lines(spot), "it runs")
        keyed = [greedy.submit("echo", {"x": 1}, key="one") for _ in range(20)]  # all wait for one run
        refused = eventually(lambda: [h for h in keyed if h.done()], "some are refused")
        assert {h.exception().facts["limit"] for h in refused} == {"per_client"}  # type: ignore[union-attr]
        assert len(refused) == 5
        waiting = modest.submit("echo", {"x": 2})
        Path(f"{spot}.open").touch()
        assert gate.result()["attempt"] == 1
        assert waiting.result() == 2
        assert [h.result() for h in keyed if h not in refused] == [1] * 15


def test_arguments_that_are_too_large(tmp_path: Path) -> None:
    with kit.running(workers=1, TOOLRING_LIMITS_MAX_BODY="100000") as node, node.client() as client:
        assert failure(lambda: client.call("echo", {"x": "a" * 100_001})).code == "TOO_LARGE"
        assert failure(lambda: client.call("big", {"size": 100_001})).code == "TOO_LARGE"
        assert len(client.call("big", {"size": 90_000})) == 90_000
        assert client.call("echo", {"x": 1}) == 1
