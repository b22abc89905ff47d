"""What is noticed without being told, by a clock that moves when told to."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from msgspec import Raw

from tests.model.simulation import GROUPS, Node, SimClient, grouped_tools
from tests.unit.supervisor.steps import ask, codes, finish, start, workers
from toolring.lane import DONE
from toolring.protocol import KEEP, Job
from toolring.supervisor.fleet import Life
from toolring.supervisor.watch import describe


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    for served in node.core.tools.values():
        served.observe(10)
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


def wait(node: Node, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        node.now += 0.01
        node.tick()


def test_a_caller_hears_within_a_moment_of_its_deadline(node: Node, client: SimClient) -> None:
    ask(client, "write", timeout=1.0)
    worker = start(node)
    wait(node, 0.99)
    assert codes(client) == []
    wait(node, 0.05)
    assert codes(client) == ["EXPIRED"]
    assert worker.asked_to_end


def test_a_tools_own_limit_counts_from_its_start(node: Node, client: SimClient) -> None:
    ask(client, "brief")
    wait(node, 0.4)
    start(node)
    wait(node, 0.45)
    assert codes(client) == []
    wait(node, 0.1)
    assert codes(client) == ["EXPIRED"]


def test_the_default_deadline_is_the_nodes(node: Node, client: SimClient) -> None:
    ask(client, "write")
    start(node)
    node.now += node.core.limits.default_timeout + 0.03
    node.tick()
    assert codes(client) == ["EXPIRED"]


def test_who_does_not_listen_is_pressed_ever_harder(node: Node, client: SimClient) -> None:
    """Interrupts, then TERM, then KILL: here a worker that holds the GIL in C, and then one that is stopped too."""
    ask(client, "write")
    worker = start(node)
    worker.deaf = True
    client.cancel(1)
    wait(node, 0.15)
    assert worker.alive
    wait(node, 0.3)
    assert worker.status == -signal.SIGTERM


def test_kill_is_the_last_word(node: Node, client: SimClient) -> None:
    ask(client, "write")
    worker = start(node)
    worker.stopped = True
    client.cancel(1)
    wait(node, 1.0)
    assert worker.status == -signal.SIGKILL


def test_a_stopped_worker_is_lost_within_a_second(node: Node, client: SimClient) -> None:
    ask(client, "read")
    worker = start(node)
    worker.stopped = True
    wait(node, 0.5)
    assert worker.status == -signal.SIGKILL
    node.hear_exit()
    finish(node)
    assert codes(client) == [""]


def test_a_busy_worker_is_not_a_stopped_one(node: Node, client: SimClient) -> None:
    ask(client, "read")
    worker = start(node)
    wait(node, 5.0)
    assert worker.alive
    assert not worker.asked_to_end


def test_jobs_behind_a_long_one_run_elsewhere(node: Node, client: SimClient) -> None:
    ask(client, *["read"] * 9)
    worker = start(node)
    behind = len(worker.record.line) - 1
    assert behind > 0
    wait(node, 0.05)
    assert list(worker.record.line) == [worker.record.head]
    worker.stopped = True  # not the others' affair
    finish(node)
    assert len(codes(client)) == 8


def test_answers_that_are_late_are_read_from_shared_memory(node: Node, client: SimClient) -> None:
    ask(client, *["read"] * 9)
    worker = start(node)
    worker.outcome = ("ok", 10, 0)
    for _ in range(8):
        worker.step()
    assert codes(client) == []
    wait(node, 0.03)
    assert set(codes(client)) == {""}


def test_a_worker_that_does_not_begin_is_lost(node: Node, client: SimClient) -> None:
    ask(client, "write")
    worker = next(worker for worker in workers(node) if worker.inbox)
    wait(node, 2.1)
    assert worker.status == -signal.SIGKILL
    node.hear_exit()
    finish(node)
    assert codes(client) == [""]


def test_a_worker_that_never_gets_ready_is_replaced(node: Node) -> None:
    first = workers(node)[0]
    first.die(-9)
    node.hear_exit()
    node.tick()
    young = next(worker for worker in workers(node) if worker.record.life is Life.STARTING)
    wait(node, 5.1)
    assert young.status == -signal.SIGKILL
    node.hear_exit()
    node.tick()
    assert len(workers(node)) == 3


def test_a_worker_that_leaves_makes_room_before_it_is_gone(node: Node, client: SimClient) -> None:
    worker = workers(node)[0]
    node.watch.leaving(worker.record, node.now)
    assert worker.record.life is Life.RETIRING
    node.tick()
    assert len(node.core.fleet.workers) == 4
    wait(node, 2.0)
    assert worker.asked_to_end, "it said that it would go, and did not"


def crash_on_start(node: Node, times: int) -> None:
    for _ in range(times):
        young = [worker for worker in workers(node) if worker.record.life is Life.STARTING]
        if not young:
            node.now += 0.5
            node.tick()
            continue
        young[0].die(1)
        node.hear_exit()
        node.tick()


def test_workers_that_die_young_end_in_an_unhealthy_node_that_recovers(client: SimClient) -> None:
    node = Node()
    client = node.clients[0]
    ask(client, "read")
    crash_on_start(node, 12)
    assert not node.core.healthy
    assert codes(client) == ["UNHEALTHY"], "who waits is told"
    ask(client, "read")
    assert codes(client) == ["UNHEALTHY"] * 2
    for _ in range(30):
        node.now += 0.5
        node.tick()
        for worker in workers(node):
            worker.step()
    assert node.core.healthy
    ask(client, "read")
    finish(node)
    assert codes(client)[-1] == ""
    node.close()


def test_what_fails_in_one_group_is_nothing_to_the_others() -> None:
    node = Node(served=grouped_tools(), groups=GROUPS)
    client = node.clients[0]
    for worker in workers(node):
        if worker.record.slot.group.name != "heavy":
            worker.step()
    ask(client, "large")
    for _ in range(40):
        node.now += 0.5
        node.tick()
        for worker in [one for one in workers(node) if one.record.slot.group.name == "heavy"]:
            worker.die(1)
        while node.exits:
            node.hear_exit()
    assert (node.core.state, node.core.healthy) == ("degraded", True)
    assert codes(client) == ["UNHEALTHY"]
    ask(client, "large", "read", "wait")
    finish(node)
    assert sorted(codes(client)) == ["", "", "UNHEALTHY", "UNHEALTHY"]
    names = [name for name, _ in node.notes]
    assert names.count("group_failing") == 1
    assert "node_unhealthy" not in names
    node.close()


def test_who_came_before_proves_nothing_of_those_that_die(node: Node, client: SimClient) -> None:
    """One of three serves all the time; the others' starts come later and later all the same."""
    serving = workers(node)[0]
    starts = []
    for other in workers(node)[1:]:
        other.die(-9)
    for _ in range(400):
        node.now += 0.1
        while node.exits:
            node.hear_exit()
        node.tick()
        for worker in workers(node):
            if worker is not serving:
                starts.append(node.now)
                worker.die(1)
    assert node.core.state == "degraded"
    ask(client, "read")
    finish(node)
    assert codes(client) == [""], "one is there"
    assert len([one for one in starts if one > starts[0] + 20]) <= 6, "40 s later it is every ten seconds"
    notes = [name for name, _ in node.notes]
    assert notes.count("group_failing") == 1
    assert "group_recovered" not in notes
    for _ in range(300):
        node.now += 0.1
        node.tick()
        for worker in workers(node):
            worker.step()
    assert node.core.state == "healthy"
    assert [name for name, _ in node.notes].count("group_recovered") == 1


def test_kills_from_outside_do_not_make_a_node_unhealthy(node: Node) -> None:
    for _ in range(30):
        workers(node)[0].die(-9)
        node.hear_exit()
        node.tick()
        for worker in workers(node):
            worker.step()
    assert node.core.healthy
    assert node.watch.exits == 30


def test_the_wait_is_short_while_something_may_happen(node: Node, client: SimClient) -> None:
    idle = node.watch.tick(node.now)
    ask(client, "read")
    assert node.watch.tick(node.now) < idle


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exited with status 0"),
        (71, "exited with status 71"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-250, "killed by signal 250"),
    ],
)
def test_an_end_is_told_in_words(status: int, text: str) -> None:
    assert describe(status) == text


def test_what_has_started_once_is_not_measured_by_how_long_it_may_wait(node: Node, client: SimClient) -> None:
    """Its worker died, and no other can take it yet; the tool may wait for a second, its caller for a minute."""
    ask(client, "slow")
    start(node)
    for worker in workers(node):
        worker.die(-signal.SIGKILL)
    node.tick()
    wait(node, 3)
    assert codes(client) == []


def test_what_outwaits_its_patience_never_runs_even_if_its_answer_is_kept(node: Node, client: SimClient) -> None:
    ask(client, *["write"] * 3)
    for worker in workers(node):
        worker.outcome = ("hang", 10, 0)
        while worker.step():
            pass
    assert client.session is not None
    late = Job(100, "write", Raw(b"\x80"), queue_timeout=0.3, mode=KEEP)
    node.core.door.submit(client.session, [late], node.now)
    wait(node, 0.35)
    assert not node.core.backlog.count
    assert [entry.tool.name for entry in node.core.house.jobs.values()] == []


def test_an_answer_behind_a_stream_that_was_lost_is_not_lost_with_it() -> None:
    node = Node(2, grouped_tools(), groups=GROUPS)
    try:
        client = node.clients[0]
        for served in node.core.tools.values():
            served.observe(10)
        (worker,) = [worker for worker in node.workers.values() if worker.record.name == "0.1"]
        for one in node.workers.values():
            if one.record.many or one is worker:
                one.step()
        ask(client, "flow", "write", n=5)
        while worker.record.lane.at() < (2, DONE):
            if not worker.step():
                node.deliver(worker)
                client.read()
        assert worker.sent, "the last of it hasn't arrived"
        worker.sent.clear()
        worker.die(-signal.SIGKILL)
        node.hear_exit()
        assert codes(client) == ["OUTCOME_UNKNOWN", ""]
    finally:
        node.close()


def test_an_event_loop_that_begins_nothing_is_replaced() -> None:
    """Something blocks it that is no job: a task that a tool left behind."""
    node = Node(2, grouped_tools(), groups=GROUPS)
    try:
        client = node.clients[0]
        for worker in node.workers.values():
            worker.step()
        held = [worker for worker in node.workers.values() if worker.record.many]
        for worker in held:
            worker.deaf = True
        ask(client, "wait", timeout=30.0)
        for _ in range(400):
            wait(node, 0.01)
        gone = [worker for worker in held if not worker.alive]
        assert len(gone) >= 1
        assert any(entry.tool.name == "wait" for entry in node.entries()), "its job goes on elsewhere"
    finally:
        node.close()
