"""What is kept of jobs that are over, and what isn't."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from tests.model.simulation import Node, SimClient
from toolring import protocol
from toolring.protocol import CALL, KEEP, NIL
from toolring.supervisor import history
from toolring.supervisor.fleet import Worker
from toolring.supervisor.history import (
    ERROR_BYTES,
    FAILURES,
    MOST_EVENTS,
    SLOWEST,
    Held,
    History,
    _shortened,
    note,
    past_of,
)
from toolring.supervisor.ledger import Entry, State


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(2)
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


def ask(client: SimClient, *names: str, key: str = "", mode: int = CALL) -> None:
    client.submit([(name, 1, 0, None, key, mode, b"") for name in names])


def finish(node: Node, kind: str = "ok") -> None:
    for worker in [worker for worker in node.workers.values() if worker.alive]:
        worker.outcome = (kind, 10, 0)
        while worker.step():
            pass
        while worker.sent:
            node.deliver(worker)


def kept(node: Node) -> History:
    assert node.core.history is not None
    return node.core.history


def entries(node: Node, failed: bool = False) -> list[Entry]:
    found = kept(node).latest(failed)
    return [one for one in found if not isinstance(one, Held)]


def test_what_went_well_is_kept_without_its_arguments(node: Node, client: SimClient) -> None:
    ask(client, "read", "read")
    finish(node)
    found = entries(node)
    assert [entry.id for entry in found] == [2, 1]
    for entry in found:
        assert (entry.state, entry.args, entry.run_us, entry.ended) == (State.DONE, NIL, 10, node.now)
        assert isinstance(entry.worker, Worker)


def test_failures_are_not_pushed_out_by_what_goes_well(node: Node, client: SimClient) -> None:
    ask(client, "write")
    finish(node, "error")
    for _ in range(60):
        ask(client, "read")
        finish(node)
    (failed,) = entries(node, failed=True)
    assert (failed.id, failed.state) == (1, State.FAILED)
    assert failed.past is not None
    assert protocol.decode_value(failed.past.error)["code"] == "TOOL_ERROR"
    assert len(entries(node)) == 51


@pytest.fixture
def aside(node: Node, monkeypatch: pytest.MonkeyPatch) -> History:
    """What a node keeps that keeps 100 times as many."""
    monkeypatch.setattr(history, "SHARE", 1)
    node.core.history = History(50, 50)
    return node.core.history


def settled(node: Node, client: SimClient, tool: str, took: float, kind: str = "ok") -> int:
    """The number of a job that took so long, looked at when it was over."""
    ask(client, tool)
    node.now += took
    finish(node, kind)
    kept(node).look(node.now + 1e6)  # at any rate
    kept(node)._next = 0.0
    return max(client.asked)


def test_each_tools_slowest_stay_when_others_push_them_out(node: Node, client: SimClient, aside: History) -> None:
    aside._turn = 1e9  # all in one period
    slow = settled(node, client, "write", 30.0)
    quick = [settled(node, client, "read", 0.001 * n) for n in range(60)]
    assert slow in [one.id for one in entries(node)]
    found = entries(node)
    assert len({id(one) for one in found}) == len(found) == 51
    (left,) = [one for one in found if one.id == slow]
    assert aside.find(left.session.name, slow) is left
    for _ in range(60):
        settled(node, client, "near", 0.0)
    there = {one.id for one in entries(node)}
    assert there & set(quick) == set(quick[-SLOWEST:]), "of a tool's own the slowest stay"
    assert [one.ended for one in entries(node)] == sorted((one.ended for one in entries(node)), reverse=True)


def test_of_jobs_accepted_together_all_may_be_slow(node: Node, client: SimClient, aside: History) -> None:
    ask(client, *["write"] * 20)
    node.now += 5.0
    finish(node)
    ask(client, *["read"] * 60)
    aside.look(node.now)
    finish(node)
    assert len([one for one in entries(node) if one.tool.name == "write"]) == SLOWEST


def test_the_slowest_are_those_of_the_last_two_periods(node: Node, client: SimClient, aside: History) -> None:
    first = settled(node, client, "write", 30.0)
    assert aside._slow.keys() | aside._last.keys() == {node.core.tools["write"]}
    aside._turn = 0.0
    settled(node, client, "read", 1.0)
    for _ in range(60):
        settled(node, client, "near", 0.0)
        aside._turn = node.now + 1e9
    assert first in [one.id for one in entries(node)]
    aside._turn = 0.0
    aside.look(node.now)
    aside._turn = aside._next = 0.0
    aside.look(node.now)
    assert first not in [one.id for one in entries(node)]


def test_each_tools_last_failures_stay_when_another_fails_all_the_time(
    node: Node, client: SimClient, aside: History
) -> None:
    first = [settled(node, client, "read", 0.0, "error") for _ in range(FAILURES + 1)]
    for _ in range(60):
        settled(node, client, "write", 0.0, "error")
    found = entries(node, failed=True)
    assert [one.id for one in found if one.tool.name == "read"] == first[:0:-1]
    assert len({id(one) for one in found}) == len(found) == 50 + FAILURES


def test_who_keeps_few_keeps_none_aside() -> None:
    few = History(99, 99)
    few.look(1.0)
    assert few._next == 0.0


def test_what_ran_for_others_is_freed_with_them(node: Node, client: SimClient) -> None:
    """The garbage collector doesn't see entries, so none may hold another that holds it."""
    ask(client, "read", mode=KEEP)
    runs = next(iter(node.core.house.jobs.values()))
    finish(node)
    (caller,) = entries(node)
    assert caller.carrier is runs
    assert (runs.first, runs.record, caller.record) == (None, None, None)
    assert [one for one in (caller, runs) if one.args is not NIL] == []


def test_one_is_found_by_its_name_the_latest_first(node: Node, client: SimClient) -> None:
    ask(client, "read")
    finish(node)
    (entry,) = entries(node)
    session = entry.session.name
    assert kept(node).find(session, 1) is entry
    assert kept(node).find(session, 2) is None
    assert kept(node).find("other", 1) is None
    again = Held(entry.session, 1, entry.tool, node.now)
    kept(node).remember(again)
    assert kept(node).find(session, 1) is again
    assert again.name == entry.name


def test_a_job_to_which_things_happen_without_end_does_not_grow(node: Node, client: SimClient) -> None:
    ask(client, "read")
    finish(node)
    (entry,) = entries(node)
    for n in range(MOST_EVENTS + 7):
        note(entry, "moved", n=n)
    assert len(past_of(entry).events) == MOST_EVENTS
    assert past_of(entry).more == 7


def test_a_long_error_loses_its_traceback() -> None:
    error = {"code": "TOOL_ERROR", "message": "m" * 2000, "type": "T", "traceback": "t" * ERROR_BYTES}
    found = protocol.decode_value(_shortened(protocol.encode(error)))
    assert found == {"code": "TOOL_ERROR", "message": "m" * 500, "type": "T"}
    short = protocol.encode({"code": "X", "message": "y"})
    assert _shortened(short) == short
    assert protocol.decode_value(_shortened(b"\xff" * 5000))["code"] == "ERROR"


def test_nothing_else_is_held_by_what_is_kept() -> None:
    class Worn(bytearray):
        pass

    node = Node(1)
    try:
        for worker in node.workers.values():
            worker.step()
        ask(node.clients[0], "read")
        (entry,) = node.clients[0].session.jobs.values()  # type: ignore[union-attr]
        entry.args = Worn(bytes(entry.args))
        seen = weakref.ref(entry.args)
        finish(node)
        del entry
        gc.collect()
        assert seen() is None
        assert len(entries(node)) == 1
    finally:
        node.close()
