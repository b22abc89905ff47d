"""What the supervisor does about its workers' memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.simulation import Node
from tests.unit.supervisor.steps import ask, start
from toolring.errors import InvalidArguments, WorkerSilent
from toolring.plugins.specs import MemoryEvent
from toolring.policy.memory import MemoryPolicy, Snapshot
from toolring.protocol import Collect, Report, Trace
from toolring.supervisor.fleet import Life, Worker
from toolring.supervisor.memory import SAMPLES, Memory


class World:
    def __init__(self, **policy: Any) -> None:
        self.node = Node()
        for worker in self.node.workers.values():
            worker.step()
        self.sizes: dict[int, int] = {}
        self.events: list[MemoryEvent] = []
        self.children: dict[int, int] = {}
        self.own = Snapshot(0.0, 1000, limit=1_000_000, used=1000)
        measure, children = (lambda pid: self.sizes.get(pid, 1000)), (lambda pid: self.children.get(pid, 0))
        own, tell = (lambda thorough: self.own._replace(when=self.node.now)), self.events.append
        self.memory = Memory(MemoryPolicy(**policy), self.node.core, self.node.watch, measure, children, own, tell)

    @property
    def worker(self) -> Worker:
        worker = self.node.core.fleet.slots[0].worker
        assert worker is not None
        return worker

    def look(self, seconds: float) -> None:
        self.node.now += seconds
        self.memory.look(self.node.now)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.node.close()


def test_what_a_worker_wants(world: World) -> None:
    alert = {"kind": "rss", "value": 5.0, "threshold": 4.0, "advice": "less", "when": 0.0}
    world.memory.heard(world.worker, {"rss": 5, "alerts": [alert], "wants": "recycle"}, world.node.now)
    assert world.events == [MemoryEvent(0, world.worker.pid, "rss", 5.0, 4.0, "less")]
    assert world.node.core.notes[-1][0] == "memory_alert"
    assert "5 bytes" in world.worker.renew
    with pytest.raises(KeyError):
        world.memory.heard(world.worker, {"alerts": [{"kind": "rss"}]}, world.node.now)


def test_one_that_is_far_too_large_gets_nothing_more_and_may_end_its_job() -> None:
    world = World(rss=10_000, kill_rss=20_000, grace=5.0)
    try:
        ask(world.node.clients[0], "write")
        first = start(world.node).record
        world.sizes[first.pid] = 20_000
        world.look(1.0)
        assert first.life is Life.RETIRING
        assert first.slot.worker is not first
        (event,) = world.events
        assert (event.kind, event.value, event.threshold) == ("kill_rss", 20_000.0, 20_000.0)
        world.sizes = dict.fromkeys(range(100), 20_000)
        world.look(1.0)
        assert sum(one.life is Life.RETIRING for one in world.node.core.fleet.workers.values()) == 1, (
            "one after the other"
        )
        world.look(2.9)
        assert first.life is Life.RETIRING
        world.look(1.2)
        assert first in [one for one in world.node.core.fleet.workers.values() if one.life is Life.ENDING]
        assert "did not end in time" in str(first.reason)
    finally:
        world.node.close()


def test_what_it_began_with_does_not_count() -> None:
    world = World(rss=10_000, kill_rss=20_000)
    try:
        for worker in world.node.core.fleet.ready:
            worker.began_with = 15_000
        world.sizes = dict.fromkeys(range(100), 30_000)
        world.look(1.0)
        assert all(worker.life is Life.READY for worker in world.node.core.fleet.workers.values())
        world.sizes[world.worker.pid] = 35_000
        world.look(1.0)
        assert sum(worker.life is Life.RETIRING for worker in world.node.core.fleet.workers.values()) == 1
    finally:
        world.node.close()


def test_a_worker_that_cannot_go_on_is_let_go(world: World) -> None:
    worker = world.worker
    world.memory.heard(worker, {"rss": 5, "wants": "kill"}, world.node.now)
    assert worker.life is Life.RETIRING
    world.memory.heard(worker, {"rss": 5, "wants": "kill"}, world.node.now)
    world.memory.heard(worker, {"rss": 5, "wants": "recycle"}, world.node.now)
    world.memory.heard(worker, {}, world.node.now)
    assert worker.life is Life.RETIRING


def test_who_is_asked_to_look_has_time_for_it(world: World) -> None:
    worker = world.worker
    told = world.memory.trace(0, 10.0, 5, world.node.now)
    assert told == {"worker": 0, "pid": worker.pid, "number": 1}
    assert worker.patience >= world.node.now + 40
    world.memory.heard(worker, {"allocations": {"number": 1}}, world.node.now)
    world.memory.trace(0, 10.0, 5, world.node.now, True)
    assert [message.native for _, message in world.node.core.says] == [False, True]
    with pytest.raises(InvalidArguments, match="neither true nor false"):
        world.memory.trace(0, 10.0, 5, world.node.now, "yes")
    for which, seconds, most in ((0, 0, 5), (0, True, 5), (0, 1e9, 5), (0, 1.0, 0), (99, 1.0, 5)):
        with pytest.raises(InvalidArguments):
            world.memory.trace(which, seconds, most, world.node.now)


def asked(world: World) -> list[int]:
    """Slots of those that were asked to look, and are not any more."""
    says = world.node.core.says
    found = [worker.slot.index for worker, message in says if isinstance(message, Report)]
    says.clear()
    return found


def test_one_that_has_nothing_to_do_is_asked_to_look_if_it_has_too_much() -> None:
    world = World(rss=10_000)
    try:
        for _ in range(4):
            world.look(0.5)
        assert asked(world) == []
        world.sizes[world.worker.pid] = 10_000
        for _ in range(4):
            world.look(0.5)
        assert asked(world) == [0], "each has its turn every two seconds"
        ask(world.node.clients[0], *["write"] * 3)
        for _ in world.node.workers:
            start(world.node)
        for _ in range(4):
            world.look(0.5)
        assert asked(world) == [], "it runs a job, and looks afterwards"
    finally:
        world.node.close()


def test_who_has_his_part_is_asked_if_all_together_have_too_much() -> None:
    world = World(rss=0, share=0.5)
    try:
        world.own = Snapshot(0.0, 1000, limit=90_000, used=60_000)
        world.sizes[world.worker.pid] = 20_000
        for _ in range(8):
            world.look(0.75)
        assert set(asked(world)) == {0}
    finally:
        world.node.close()


def test_children_are_seen_while_a_job_runs() -> None:
    world = World(children=5000, cooldown=10.0)
    try:
        ask(world.node.clients[0], "write")
        busy = start(world.node).record
        world.children[busy.pid] = 6000
        for _ in range(8):
            world.look(0.5)
        (event,) = world.events
        assert (event.kind, event.pid, event.value, event.threshold) == ("children", busy.pid, 6000, 5000)
        assert world.memory.children(busy) == 6000
        alert = {"kind": "children", "value": 6000.0, "threshold": 5000.0, "advice": "less", "when": 0.0}
        world.memory.heard(busy, {"alerts": [alert]}, world.node.now)
        assert len(world.events) == 1, "both have seen the same"
        world.look(10.0)
        for _ in range(4):
            world.look(0.5)
        assert len(world.events) == 2
    finally:
        world.node.close()


def test_the_supervisor_looks_at_itself() -> None:
    world = World(rss=10_000)
    try:
        world.own = Snapshot(0.0, 12_000, uss=700, limit=1_000_000, used=5, pressure=0.5, collections=3)
        world.look(6.0)
        (event,) = world.events
        assert (event.slot, event.pid, event.kind) == (-1, os.getpid(), "rss")
        assert "limits.backlog_bytes" in event.advice
        assert world.node.core.notes[-1][1]["supervisor"] == os.getpid()
        own = world.memory.own()
        assert (own["uss"], own["collections"], own["growth"]) == (700, 3, None)
        assert world.memory.shared() == {"limit": 1_000_000, "used": 5, "pressure": 0.5}
    finally:
        world.node.close()


def test_one_trace_of_a_worker_at_a_time(world: World) -> None:
    first = world.memory.trace(0, 10.0, 5, world.node.now)
    with pytest.raises(InvalidArguments, match="traced already, for 10 s more"):
        world.memory.trace(0, 10.0, 5, world.node.now)
    world.node.core.says.clear()
    world.memory.untrace(first["number"])
    (_, message) = world.node.core.says[-1]
    assert (message.number, message.seconds) == (first["number"], 0.0)
    assert isinstance(message, Trace)
    world.memory.heard(world.worker, {"allocations": {"number": first["number"]}}, world.node.now)
    assert world.memory.trace(0, 10.0, 5, world.node.now)["number"] == first["number"] + 1
    with pytest.raises(InvalidArguments, match="no trace 99"):
        world.memory.untrace(99)


def test_what_came_of_a_trace_outlives_its_worker(world: World) -> None:
    node, memory = world.node, world.memory
    first = memory.trace(0, 10.0, 5, node.now)["number"]
    assert memory.traced(first) == {"pending": True}
    memory.heard(world.worker, {"allocations": {"number": first, "seconds": 1.0, "top": []}}, node.now)
    second = memory.trace(0, 10.0, 5, node.now)["number"]
    node.watch.exited(world.worker, -9, node.now)
    assert memory.traced(first) == {"pending": False, "number": first, "seconds": 1.0, "top": []}
    with pytest.raises(WorkerSilent, match="told nothing"):
        memory.traced(second)
    for never in (0, 3, "1", None):
        with pytest.raises(InvalidArguments, match="there was no trace"):
            memory.traced(never)


def test_a_history_of_all(world: World) -> None:
    world.look(0.0)
    for _ in range(2 * SAMPLES):
        world.look(5.0)
    for _ in range(100):
        found = world.memory.history(world.node.now)
    assert set(found) == {"supervisor", "0", "1", "2"}
    assert len(found["0"]) == SAMPLES + 1, "to ask takes nothing away"
    assert found["0"][0][0] > found["0"][-1][0] == 0.0
    assert found["0"][-1][1] == 1000


def test_who_is_to_collect(world: World) -> None:
    assert [one["worker"] for one in world.memory.collect(None, 0.0)] == [0, 1, 2]
    assert [type(message) for _, message in world.node.core.says] == [Collect] * 3
    assert world.memory.collect(world.worker.pid, 0.0)[0]["worker"] == 0
    assert world.memory.collect(2, 0.0)[0]["rss"] == 1000
    for nobody in (99, True, "0"):
        with pytest.raises(InvalidArguments, match="0 \\(pid"):
            world.memory.collect(nobody, 0.0)
