"""Calls that run together: who is in one run, who pays, who leaves. Whole histories are in tests/model/test_core.py."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import msgspec
import pytest
from msgspec import Raw

from tests.model.sim_workers import SimWorker
from tests.model.simulation import GROUPS, Node, SimClient, grouped_tools
from toolring.protocol import CALL, KEEP, Answer, decode_value
from toolring.supervisor.ledger import Entry, State


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(served=grouped_tools(), groups=GROUPS, callers=("one", "two", "three"))
    for served in node.core.tools.values():
        served.observe(10_000)
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


def ask(client: SimClient, tool: str, *numbers: int, timeout: float | None = None) -> None:
    client.submit([(tool, n, 0, timeout, "", CALL, b"") for n in numbers])


def carriers(node: Node) -> list[Entry]:
    return [entry for entry in node.core.house.jobs.values() if entry.members is not None]


def wait(node: Node, seconds: float) -> None:
    node.now += seconds
    node.tick()


def run(node: Node, worker: SimWorker, outcome: str = "ok") -> None:
    worker.outcome = (outcome, 10, 0)
    while worker.step():
        pass
    while worker.sent:
        node.deliver(worker)


def holder(node: Node, entry: Entry) -> SimWorker:
    assert entry.worker is not None
    worker = node.workers[entry.worker.identity]
    assert isinstance(worker, SimWorker)
    return worker


def test_enough_go_at_once_and_the_rest_waits_for_its_time(node: Node, client: SimClient) -> None:
    ask(client, "bulk", 1, 2, 3, 4)
    (carrier,) = carriers(node)
    assert (carrier.chunk, carrier.state) == (3, State.DISPATCHED)
    assert node.core.gathering.due(node.now) == pytest.approx(node.now + 0.01)
    wait(node, 0.011)
    assert sorted(one.chunk for one in carriers(node)) == [1, 3]
    assert node.core.gathering.due(node.now) == inf


def test_those_who_were_answered_are_not_enough(node: Node, client: SimClient) -> None:
    ask(client, "bulk", 1, 2)
    client.cancel(1)
    ask(client, "bulk", 3)
    assert not carriers(node), "two wait, and one that was cancelled"
    ask(client, "bulk", 4)
    (carrier,) = carriers(node)
    assert [member.id for member in carrier.members or ()] == [2, 3, 4]


def test_no_more_are_formed_than_workers_are_free(node: Node, client: SimClient) -> None:
    """The longer they wait the more go together."""
    ask(client, "write", *range(10, 19))
    ask(client, "bulk_write", 1)
    wait(node, 0.01)
    ask(client, "bulk_write", 2, 3)
    wait(node, 0.01)
    assert [one.chunk for one in carriers(node)] == [1], "one is formed ahead, the others may still be joined"


def test_each_pays_for_its_part(node: Node) -> None:
    one, two, three = node.clients
    ask(one, "bulk", 1)
    ask(two, "bulk", 2)
    ask(three, "bulk", 3)
    (carrier,) = carriers(node)
    assert carrier.chunk == 3
    cost = carrier.tool.cost
    accounts = {member.account.name: member.account.finish for member in carrier.members or ()}
    assert accounts == {name: pytest.approx(cost) for name in ("one", "two", "three")}
    run(node, holder(node, carrier))
    assert all(account.finish == pytest.approx(cost) for account in {e.account for e in node.entries()} or [])


def test_a_glutton_waits_for_its_turn(node: Node) -> None:
    one, two, _ = node.clients
    ask(one, "bulk", *range(1, 10))
    first = carriers(node)
    ask(two, "bulk", 77)
    for carrier in first:
        run(node, holder(node, carrier))
    wait(node, 0.011)
    names = [member.session.caller for carrier in carriers(node) for member in carrier.members or ()]
    assert "two" in names or not two.unanswered(), "the next run has it in it"


def test_one_that_leaves_before_the_run_is_not_run(node: Node, client: SimClient) -> None:
    ask(node.clients[1], "write", *range(10, 19))
    ask(client, "bulk_write", 1, 2, 3, 4)
    (carrier,) = carriers(node)
    assert carrier.state is State.QUEUED
    cancelled = client.numbers - 3
    client.cancel(cancelled)
    for worker in list(node.workers.values()) * 5:
        if isinstance(worker, SimWorker):
            run(node, worker)
    client.read()
    assert [len(run.jobs) for run in node.runs if run.tool == "bulk_write"] == [3]
    assert client.asked[cancelled].code == "CANCELLED"


def test_when_the_last_leaves_the_carrier_goes(node: Node, client: SimClient) -> None:
    ask(client, "write", *range(10, 19))
    ask(client, "bulk_write", 1, 2)
    wait(node, 0.01)
    assert len(carriers(node)) == 1
    for number in (client.numbers - 1, client.numbers):
        client.cancel(number)
    assert not carriers(node)
    assert node.core.bytes == sum(len(entry.args) for entry in node.entries())


def test_a_result_that_cannot_be_read_is_everybodys_error(node: Node, client: SimClient) -> None:
    ask(client, "bulk", 1, 2, 3)
    (carrier,) = carriers(node)
    worker = holder(node, carrier)
    worker.value = lambda work, version, until=0: Raw(b"\x90")  # type: ignore[method-assign]
    run(node, worker)
    answers = [answer for answer in client.unread if isinstance(answer, Answer)]
    assert [decode_value(answer.value)["code"] for answer in answers] == ["INVALID_RESULT"] * 3
    assert carrier.tool.errors == {"INVALID_RESULT": 3}


def test_each_is_counted(node: Node, client: SimClient) -> None:
    ask(client, "bulk", 1, 2, 3)
    (carrier,) = carriers(node)
    run(node, holder(node, carrier), "partly")
    client.read()
    assert carrier.tool.answered == 3
    assert carrier.tool.errors == {"TOOL_ERROR": 1}


def test_a_key_whose_batch_ran_too_long_is_not_run_again(node: Node, client: SimClient) -> None:
    """It had begun, and it may not be repeated: whoever comes later under the key hears the same."""
    served = node.core.tools["bulk_write"]
    served.spec = msgspec.structs.replace(served.spec, timeout=0.5)
    for _ in range(2):
        client.submit([("bulk_write", 1, 0, None, "key", CALL, b"")])
        wait(node, 0.01)
        for carrier in carriers(node):
            worker = holder(node, carrier)
            worker.outcome = ("hang", 10, 0)
            while worker.step():
                pass
        wait(node, 0.01)
        wait(node, 0.6)
    client.read()
    assert [asked.code for asked in client.asked.values()] == ["EXPIRED"] * 2
    assert len([run for run in node.runs if run.tool == "bulk_write"]) == 1


def test_a_node_that_stops_does_not_call_what_runs_together_cancelled(node: Node, client: SimClient) -> None:
    client.submit([("bulk_write", 1, 0, None, "", KEEP, b"")])
    wait(node, 0.01)
    (carrier,) = carriers(node)
    worker = holder(node, carrier)
    worker.outcome = ("hang", 10, 0)
    while worker.step():
        pass
    node.shut = True
    node.watch.endings.shut_down(node.now)
    node.tell(node.clients[0].session)  # type: ignore[arg-type]
    client.read()
    assert [asked.code for asked in client.asked.values()] == ["OUTCOME_UNKNOWN"]


def test_those_who_try_again_tell_the_tool_so_and_are_counted_once(node: Node, client: SimClient) -> None:
    ask(client, "bulk", 3)
    wait(node, 0.01)
    (carrier,) = carriers(node)
    assert carrier.attempt == 1
    run(node, holder(node, carrier), "later")
    wait(node, 1.0)
    wait(node, 0.01)
    (carrier,) = carriers(node)
    assert carrier.attempt == 2
    run(node, holder(node, carrier))
    client.read()
    served = node.core.tools["bulk"]
    assert [asked.code for asked in client.asked.values()] == [""]
    assert (served.answered, served.retried, served.runs, served.errors) == (1, 1, 2, {})


def test_a_company_has_no_more_bytes_than_a_body_may_have(node: Node, client: SimClient) -> None:
    node.core.limits = node.core.limits._replace(max_body=100)
    client.submit([("bulk", n, 60, None, "", CALL, b"") for n in range(3)])
    wait(node, 0.011)
    assert [one.chunk for one in carriers(node)] == [1, 1]


def test_one_that_may_have_killed_its_worker_waits_apart_and_holds_up_nobody(node: Node, client: SimClient) -> None:
    """Both async workers have something to do; the suspect takes the first that is done, the other goes on."""
    both = [node.workers[name] for name in (b"5.1", b"6.1")]
    ask(client, "wait", 1, 2)
    for worker in both:
        worker.outcome = ("hang", 10, 0)
        while worker.step():
            pass
    ask(client, "look", 3)
    entry = next(entry for entry in node.entries() if entry.tool.name == "look")
    assert entry.worker is not None
    entry.alone = True
    node.watch.endings.take_back(entry.worker)
    ask(client, "wait", 4, 5)
    group = entry.tool.group
    assert group.apart.size == 1
    assert not group.line.size, "the others are not held up"
    for worker in both:
        worker.outcome = ("ok", 10, 0)
        while worker.step():
            pass
        while worker.sent:
            node.deliver(worker)
    assert entry.worker is not None
    assert list(entry.worker.line.values()) == [entry]
