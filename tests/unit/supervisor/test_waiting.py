"""What is told of those who wait, against what then happens."""

from __future__ import annotations

import pytest

from tests.model.simulation import Node, SimClient
from toolring.protocol import CALL
from toolring.supervisor.ledger import Entry, State
from toolring.supervisor.waiting import place, summary

COST = 0.1


def busy() -> Node:
    """Every worker holds a job of 100 ms, and so do all tools last."""
    node = Node(callers=("one", "two", "three"))
    for served in node.core.tools.values():
        served.observe(int(COST * 1e6))
    for worker in node.workers.values():
        worker.step()
    ask(node.clients[2], 3)
    return node


def ask(client: SimClient, count: int) -> list[Entry]:
    before = set(client.session.jobs) if client.session else set()
    client.submit([("write", n, 0, None, "", CALL, b"") for n in range(count)])
    assert client.session is not None
    return [entry for number, entry in client.session.jobs.items() if number not in before]


def starts(node: Node, entries: list[Entry]) -> dict[int, float]:
    """Seconds until each is given to a worker, when each run takes what was expected, and all end together."""
    found: dict[int, float] = {}
    begun = node.now
    while len(found) < len(entries):
        node.now += COST
        for worker in list(node.workers.values()):
            worker.outcome = ("ok", int(COST * 1e6), 0)
            while worker.step():
                pass
            while worker.sent:
                node.deliver(worker)
        node.tick()
        for entry in entries:
            if entry.state is not State.QUEUED and id(entry) not in found:
                found[id(entry)] = node.now - begun
    return found


def test_the_estimate_is_what_then_happens() -> None:
    node = busy()
    one, two, _ = node.clients
    entries = [*ask(one, 9), *ask(two, 4)]
    told = {id(entry): place(node.core, entry, node.now) for entry in entries}
    seen = starts(node, entries)
    for entry in entries:
        assert told[id(entry)]["wait"] == pytest.approx(seen[id(entry)], abs=1.5 * COST)
        assert told[id(entry)]["waits_for"] == "workers"
    node.close()


def test_a_small_caller_is_told_of_its_own_turn() -> None:
    node = busy()
    one, two, _ = node.clients
    many, few = ask(one, 9), ask(two, 1)
    assert place(node.core, few[0], node.now)["position"] <= 1
    assert place(node.core, many[-1], node.now)["position"] >= 8
    node.close()


def test_the_summary_counts_each_once() -> None:
    node = busy()
    one, two, _ = node.clients
    ask(one, 9)
    ask(two, 4)
    found = {row["caller"]: row for row in summary(node.core, node.now)}
    assert {caller: row["count"] for caller, row in found.items()} == {one.caller: 9, two.caller: 4}
    assert found[one.caller]["work"] == pytest.approx(9 * COST)
    node.close()
