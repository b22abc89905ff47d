"""The life of a job, told from what is known of it. With real processes in tests/process/test_why.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.simulation import Node, SimClient, sharing_tools
from toolring.protocol import CALL, KEEP
from toolring.supervisor.history import Held, note
from toolring.supervisor.ledger import Entry
from toolring.supervisor.story import joined, row, seconds, story

LAYERS = ("supervisor", "memory", "sqlite")


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(2, sharing_tools())
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
    for _ in range(3):
        for worker in [worker for worker in node.workers.values() if worker.alive]:
            worker.outcome = (kind, 10, 0)
            while worker.step():
                pass
            while worker.sent:
                node.deliver(worker)


def over(node: Node, number: int) -> Entry | Held:
    assert node.core.history is not None
    return next(one for one in node.core.history.latest() if one.id == number)


def told(node: Node, one: Entry | Held) -> dict[str, Any]:
    return story(node.core, one, node.now, 0.0, LAYERS)


def texts(node: Node, one: Entry | Held) -> list[str]:
    return [event["text"] for event in told(node, one)["events"]]


def test_a_key_belongs_somewhere_and_may_go_elsewhere(node: Node, client: SimClient) -> None:
    ask(client, "cached")
    finish(node)
    entry = over(node, 1)
    assert isinstance(entry, Entry)
    assert entry.carrier is not None
    assert entry.carrier.worker is not None
    if node.core.tools["cached"].balancer is None:
        assert "the least work in hand" in texts(node, entry)[1]
        return
    assert "its key belongs there, by the balancer" in texts(node, entry)[1]
    slots = entry.carrier.worker.slot.group.slots
    entry.carrier.worker.slot = next(slot for slot in slots if slot is not entry.carrier.worker.slot)
    assert "which had too much to do, or was not there" in texts(node, entry)[1]


def test_each_layer_of_the_cache_has_its_name(node: Node, client: SimClient) -> None:
    ask(client, "cached")
    finish(node)
    ask(client, "cached")
    assert "the result was in no cache" in texts(node, over(node, 1))
    held = over(node, 2)
    assert isinstance(held, Held)
    assert "a result that the supervisor held" in texts(node, held)[0]
    assert (row(held, node.now + 1)["ago"], seconds(held)) == (1.0, 0.0)
    node.now += 1.0
    ask(client, "cached")
    finish(node, "hit")
    assert "the result was found in the cache: memory" in texts(node, over(node, 3))
    node.change()
    ask(client, "cached")
    finish(node, "stale")
    assert "the result was found in the cache: memory, past its time: it is renewed" in texts(node, over(node, 4))


def test_who_joined_and_whose_run_it_is(node: Node, client: SimClient) -> None:
    ask(client, "read", "read", key="one", mode=KEEP)
    first, second = client.session.jobs.values()  # type: ignore[union-attr]
    assert (joined(first), joined(second)) == (False, True)
    assert told(node, second)["state"] == "joined"
    assert told(node, first)["state"] == "dispatched"
    assert f"waits for the answer of job {first.name}" in texts(node, second)[1]
    finish(node)
    assert told(node, second)["state"] == "done"
    assert f"waited for the answer of job {first.name}" in texts(node, second)[1]
    assert len(texts(node, first)) == 3
    ask(client, "read", key="one")
    assert "the answer was that of an earlier submission under its key" in texts(node, over(node, 3))


def test_what_is_taken_back_is_told_with_where_it_had_been(node: Node, client: SimClient) -> None:
    ask(client, "read")
    (entry,) = client.session.jobs.values()  # type: ignore[union-attr]
    assert entry.worker is not None
    node.watch.endings.take_back(entry.worker)
    found = told(node, entry)["events"]
    assert [event["what"] for event in found] == ["accepted", "sent", "taken_back", "waits"]
    assert found[1]["at"] == 0.0
    assert "before it had begun" in found[2]["text"]


def test_events_without_room_are_counted(node: Node, client: SimClient) -> None:
    ask(client, "read")
    finish(node)
    entry = over(node, 1)
    assert isinstance(entry, Entry)
    for _ in range(60):
        note(entry, "moved")
    assert "and 10 further events, for which there was no room" in texts(node, entry)


def test_an_attempt_that_was_lost_is_told_once_and_in_its_place(node: Node, client: SimClient) -> None:
    ask(client, "write")
    for worker in list(node.workers.values()):
        worker.outcome = ("hang", 10, 0)
        while worker.step():
            pass
        if worker.run is not None:
            node.now += 0.5
            worker.die(-9)
    node.hear_exit()
    events = told(node, over(node, 1))["events"]
    assert [event["what"] for event in events].count("sent") == 1
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    assert "was lost" in events[-2]["text"]
    assert "OUTCOME_UNKNOWN" in events[-1]["text"]


def waits(node: Node, tool: str) -> list[list[dict[str, Any]]]:
    """What each of a tool's jobs had waited for, in the order in which they were submitted."""
    assert node.core.history is not None
    jobs = sorted((one for one in node.core.history.latest() if one.tool.name == tool), key=lambda one: one.id)
    return [[event for event in told(node, one)["events"] if event["what"] == "waited"] for one in jobs]


def test_what_held_a_job_is_told_when_it_is_over(node: Node, client: SimClient) -> None:
    ask(client, "few", "few", "few", "read")
    node.now += 0.5
    finish(node)
    assert (waits(node, "read"), waits(node, "few")[:2]) == ([[]], [[], []])
    (event,) = waits(node, "few")[2]
    assert event["at"] == pytest.approx(0.5)
    assert event["text"] == "waited for concurrency, by the limits of tool few, until then"
    third = (
        sorted(one.id for one in node.core.history.latest() if one.tool.name == "few")[2] if node.core.history else 0
    )
    assert [event["what"] for event in told(node, over(node, third))["events"]] == [
        *("accepted", "waited", "sent", "answered")
    ]


def test_so_is_a_rate_also_of_one_whose_time_is_over_before(node: Node, client: SimClient) -> None:
    ask(client, *["slow"] * 10)
    for _ in range(3):
        finish(node)
        node.now += 0.2
        node.tick()
    finish(node)
    node.now += 1.0
    node.tick()
    assert waits(node, "slow")[0] == []
    found = [event for events in waits(node, "slow") for event in events]
    assert {event["text"] for event in found if event["at"]} == {
        "waited for rate, by the limits of tool slow, until then"
    }
    assert {event["text"] for event in found if event["at"] is None} == {"waited for rate, by the limits of tool slow"}


def test_a_rate_is_not_blamed_for_workers_that_are_busy(node: Node, client: SimClient) -> None:
    node.core.tools["write"].observe(1_000_000)
    ask(client, *["write"] * len(node.workers))
    ask(client, "slow", "slow")
    node.now += 0.5
    finish(node)
    texts = {event["text"] for events in waits(node, "slow") for event in events}
    assert texts == {"waited for workers, by the limits of tool slow, until then"}


def test_what_workers_ran_while_a_job_waited_for_one_is_told(node: Node, client: SimClient) -> None:
    ask(client, *["write"] * 2)
    for worker in node.workers.values():
        worker.outcome = ("hang", 10, 0)
        while worker.step():
            pass
    node.now += 0.4
    ask(client, "read")
    node.now += 0.6
    waits = texts(node, client.session.jobs[3]) if client.session is not None else []
    assert not any("meanwhile" in text for text in waits), "while it waits its place is told"
    for worker in node.workers.values():
        worker.die(-9)
    while node.exits:
        node.hear_exit()
    node.tick()
    node.turn()
    for worker in [worker for worker in node.workers.values() if worker.alive]:
        worker.step()
    finish(node)
    (queued,) = [event for event in told(node, over(node, 3))["events"] if event["what"] == "queued"]
    assert queued["text"].startswith("waited for a worker of group default for 0.6")
    assert sorted(queued) == ["at", "group", "ran", "text", "what"]


def test_what_workers_ran_that_are_there_is_told_with_its_time(node: Node, client: SimClient) -> None:
    for served in node.core.tools.values():
        served.observe(600_000)  # a worker gets one at a time
    ask(client, *["write"] * 3)
    for worker in node.workers.values():
        worker.outcome = ("ok", 600_000, 0)
        while worker.step():
            pass
    ask(client, *["read"])
    node.now += 0.5
    for worker in node.workers.values():
        while worker.sent:
            node.deliver(worker)
    finish(node)
    (queued,) = [event for event in told(node, over(node, 4))["events"] if event["what"] == "queued"]
    assert queued["text"] == "waited for a worker of group default for 0.500 s; meanwhile they ran write 1.500 s"
