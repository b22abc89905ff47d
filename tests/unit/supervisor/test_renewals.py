"""Workers are replaced while they serve, and no call waits for it or is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.simulation import Node, SimClient
from tests.unit.supervisor.steps import ask, codes, finish, start
from toolring.policy.groups import Group
from toolring.policy.renewal import Renewal
from toolring.supervisor.fleet import Life, Slot, Worker
from toolring.supervisor.renewals import most_at_once

NONE = Renewal()


def made(renewal: Renewal = NONE, slots: int = 3) -> Node:
    node = Node(groups=[Group("default", slots, renewal=renewal)])
    for served in node.core.tools.values():
        served.observe(10)
    boot(node)
    return node


@pytest.fixture
def node() -> Iterator[Node]:
    node = made()
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


def boot(node: Node) -> None:
    """Whoever starts is ready, whoever was told to leave leaves."""
    for worker in list(node.workers.values()):
        if worker.record.life is Life.STARTING:
            worker.step()


def leave(node: Node) -> None:
    for worker in list(node.workers.values()):
        if worker.record.life is Life.RETIRING and worker.alive:
            worker.step()
    while node.exits:
        node.hear_exit()


def wait(node: Node, seconds: float) -> None:
    for _ in range(max(1, round(seconds / 0.05))):
        node.now += seconds / max(1, round(seconds / 0.05))
        node.tick()


def eventually(node: Node, slot: Slot) -> None:
    """Until it has a successor, for as long as it may take at most."""
    end = node.now + 61.0
    while slot.successor is None and node.now < end:
        wait(node, 0.3)


def serving(node: Node) -> list[Worker]:
    return [slot.worker for slot in node.core.fleet.slots if slot.worker is not None]


def test_the_old_one_serves_until_its_successor_is_ready(node: Node) -> None:
    old = node.core.fleet.slots[0].worker
    assert old is not None
    node.watch.renewals.ask(old, "wanted")
    wait(node, 0.3)
    slot = node.core.fleet.slots[0]
    assert slot.worker is old
    assert old.life is Life.READY
    assert slot.successor is not None
    assert slot.successor.life is Life.STARTING
    boot(node)
    assert slot.worker is not old
    assert [one.life for one in serving(node)] == [Life.READY] * 3
    assert slot.successor is None
    assert old.life is Life.RETIRING
    wait(node, 0.05)
    leave(node)
    assert old.identity not in node.core.fleet.workers
    assert node.watch.renewals.count == 1
    assert slot.outgrown == 0, "that was not for its memory"
    assert len(node.core.fleet.ready) == 3


def test_what_it_has_begun_it_finishes_and_what_not_goes_elsewhere(node: Node, client: SimClient) -> None:
    ask(client, "write")
    worker = start(node)
    old = worker.record
    node.watch.renewals.ask(old, "wanted")
    wait(node, 0.3)
    boot(node)
    assert old.life is Life.RETIRING
    wait(node, 30.0)
    assert old.life is Life.RETIRING, "it has all the time that its job has"
    assert worker.alive
    finish(node)
    assert codes(client) == [""]
    wait(node, 0.1)
    leave(node)
    assert old.identity not in node.core.fleet.workers


def test_a_deadline_ends_what_runs_in_one_that_is_to_leave(node: Node, client: SimClient) -> None:
    ask(client, "write", timeout=5.0)
    worker = start(node)
    node.watch.renewals.ask(worker.record, "wanted")
    wait(node, 0.3)
    boot(node)
    wait(node, 5.1)
    assert codes(client) == ["EXPIRED"]
    assert worker.asked_to_end


def test_a_tools_own_limit_holds_there_too(node: Node, client: SimClient) -> None:
    ask(client, "brief")
    worker = start(node)
    node.watch.renewals.ask(worker.record, "wanted")
    wait(node, 0.3)
    boot(node)
    wait(node, 0.4)
    assert codes(client) == ["EXPIRED"]


def test_not_all_at_once(node: Node) -> None:
    for worker in serving(node):
        node.watch.renewals.ask(worker, "wanted")
    wait(node, 0.3)
    assert sum(slot.successor is not None for slot in node.core.fleet.slots) == 1
    for _ in range(8):
        boot(node)
        wait(node, 0.3)
        leave(node)
        assert sum(slot.successor is not None for slot in node.core.fleet.slots) <= 1
    assert node.watch.renewals.count == 3


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (100, 25)])
def test_how_many_at_once(workers: int, most: int) -> None:
    node = Node(groups=[Group("default", workers)])
    try:
        assert most_at_once(node.core.fleet.groups[0]) == most
    finally:
        node.close()


def test_a_successor_that_dies_costs_nothing_but_another_try(node: Node) -> None:
    slot = node.core.fleet.slots[0]
    old = slot.worker
    assert old is not None
    node.watch.renewals.ask(old, "wanted")
    for attempt in range(1, 20):
        eventually(node, slot)
        assert slot.successor is not None
        node.workers[slot.successor.identity].die(-11)
        while node.exits:
            node.hear_exit()
        assert slot.worker is old
        assert old.life is Life.READY
        assert slot.renew_failures == attempt
        assert slot.renew_at - node.now <= 60.0
        node.tick()
        assert slot.successor is None, "not at once"
    assert node.core.healthy, "it says nothing of the node"
    eventually(node, slot)
    boot(node)
    assert slot.worker is not old
    assert slot.renew_failures == 0


def test_a_successor_that_never_gets_ready_is_given_up(node: Node) -> None:
    slot = node.core.fleet.slots[0]
    assert slot.worker is not None
    node.watch.renewals.ask(slot.worker, "wanted")
    wait(node, 0.3)
    first = slot.successor
    assert first is not None
    wait(node, 5.5)
    assert first.life is Life.ENDING
    assert slot.renew_failures == 1
    assert slot.successor is not first


def test_a_successor_takes_the_place_of_one_that_dies_meanwhile(node: Node) -> None:
    slot = node.core.fleet.slots[0]
    old = slot.worker
    assert old is not None
    node.watch.renewals.ask(old, "wanted")
    wait(node, 0.3)
    successor = slot.successor
    node.workers[old.identity].die(-9)
    while node.exits:
        node.hear_exit()
    assert slot.worker is successor
    assert slot.successor is None
    boot(node)
    assert [one.life for one in serving(node)] == [Life.READY] * 3
    assert len(node.core.fleet.workers) == 3


def test_limits_of_a_group() -> None:
    node = made(Renewal(jobs=5, memory=1000))
    try:
        worker = serving(node)[0]
        worker.answered = 1
        node.memory[worker.pid] = 1000
        wait(node, 2.0)
        assert not any(one.renew for one in serving(node))
        node.memory[worker.pid] = 1001
        wait(node, 1.1)
        assert "max_memory" in worker.renew
        boot(node)
        wait(node, 0.1)
        leave(node)
        ask(node.clients[0], "write")
        used = start(node).record
        used.answered = 4
        finish(node)
        wait(node, 0.3)
        assert "max_jobs" in used.renew
    finally:
        node.close()


def test_idle_ones_are_renewed_once() -> None:
    node = made(Renewal(idle=10.0), 1)
    try:
        wait(node, 60.0)
        assert not serving(node)[0].renew
        ask(node.clients[0], "write")
        start(node)
        finish(node)
        wait(node, 9.0)
        assert not serving(node)[0].renew
        wait(node, 2.0)
        boot(node)
        wait(node, 100.0)
        assert node.watch.renewals.count == 1
    finally:
        node.close()


def test_a_node_that_drains_renews_nobody(node: Node) -> None:
    node.watch.renewals.ask(serving(node)[0], "wanted")
    node.core.draining = True
    wait(node, 2.0)
    assert not any(slot.successor for slot in node.core.fleet.slots)


def test_no_more_run_at_once_because_of_renewals() -> None:
    """Each job passes the limit, and lasts: the next worker's is renewed only once the first has left."""
    node = made(Renewal(memory=1000), 1)
    try:
        for _ in range(5):
            ask(node.clients[0], "write")
            start(node)
            worker = serving(node)[0]
            worker.answered = 1
            node.memory[worker.pid] = 2000
            wait(node, 1.0)
            boot(node)
        retiring = [one for one in node.core.fleet.workers.values() if one.life is Life.RETIRING]
        assert len(retiring) == 1
        finish(node)
        wait(node, 0.1)
        leave(node)
        wait(node, 1.0)
        boot(node)
        assert node.watch.renewals.count == 2
        assert node.core.fleet.slots[0].outgrown == 2
    finally:
        node.close()


def test_a_limit_that_a_fresh_worker_has_passed_renews_nobody() -> None:
    node = made(Renewal(memory=1000), 1)
    try:
        worker = serving(node)[0]
        node.memory[worker.pid] = 2000
        node.watch.renewals.began(worker)
        assert node.core.notes[-1][0] == "memory_too_small"
        worker.answered = 1
        wait(node, 60.0)
        assert node.watch.renewals.count == 0
    finally:
        node.close()
