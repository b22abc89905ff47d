"""What the supervisor does about its workers' memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.simulation import Node
from tests.unit.supervisor.steps import ask, start
from toolring.errors import InvalidArguments
from toolring.plugins.specs import MemoryEvent
from toolring.policy.memory import MemoryPolicy
from toolring.protocol import Collect
from toolring.supervisor.fleet import Life, Worker
from toolring.supervisor.memory import SAMPLES, Memory


class World:
    def __init__(self, **policy: Any) -> None:
        self.node = Node()
        for worker in self.node.workers.values():
            worker.step()
        self.sizes: dict[int, int] = {}
        self.events: list[MemoryEvent] = []
        measure, tell = (lambda pid: self.sizes.get(pid, 1000)), self.events.append
        self.memory = Memory(MemoryPolicy(**policy), self.node.core, self.node.watch, measure, tell)

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
    world.memory.trace(0, 10.0, 5, world.node.now, True)
    assert [message.native for _, message in world.node.core.says] == [False, True]
    with pytest.raises(InvalidArguments, match="neither true nor false"):
        world.memory.trace(0, 10.0, 5, world.node.now, "yes")
    for which, seconds, most in ((0, 0, 5), (0, True, 5), (0, 1e9, 5), (0, 1.0, 0), (99, 1.0, 5)):
        with pytest.raises(InvalidArguments):
            world.memory.trace(which, seconds, most, world.node.now)


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
