"""What the supervisor does about its workers' memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.simulation import Node
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
    world.memory.heard(world.worker, {"rss": 5, "wants": "kill"}, world.node.now)
    gone = [worker for worker in world.node.core.fleet.workers.values() if worker.life is Life.ENDING]
    assert len(gone) == 1
    world.memory.heard(gone[0], {"rss": 5, "wants": "recycle"}, world.node.now)
    world.memory.heard(gone[0], {"rss": 5, "wants": "kill"}, world.node.now)
    world.memory.heard(gone[0], {}, world.node.now)


def test_one_that_has_far_too_much_has_some_time() -> None:
    world = World(rss=10_000, kill_rss=20_000, grace=5.0)
    try:
        first = world.worker
        world.sizes[first.pid] = 20_000
        world.look(1.0)
        assert first.renew
        world.sizes[first.pid] = 19_000
        world.look(4.0)
        world.sizes[first.pid] = 20_000
        world.look(1.0)
        assert first.life is Life.READY, "its time begins anew"
        world.look(4.9)
        assert first.life is Life.READY
        world.look(0.6)
        assert first in [one for one in world.node.core.fleet.workers.values() if one.life is Life.ENDING]
        assert "kill_rss is 20000" in str(first.reason)
    finally:
        world.node.close()


def test_a_history_of_all(world: World) -> None:
    world.look(0.0)
    for _ in range(2 * SAMPLES):
        world.look(5.0)
    found = world.memory.history(world.node.now)
    assert set(found) == {"supervisor", "0", "1", "2"}
    assert len(found["0"]) == SAMPLES
    assert found["0"][0][0] > found["0"][-1][0] == 0.0
    assert found["0"][-1][1] == 1000


def test_who_is_to_collect(world: World) -> None:
    assert [one["worker"] for one in world.memory.collect(None)] == [0, 1, 2]
    assert [type(message) for _, message in world.node.core.says] == [Collect] * 3
    assert world.memory.collect(world.worker.pid)[0]["worker"] == 0
    assert world.memory.collect(2)[0]["rss"] == 1000
    for nobody in (99, True, "0"):
        with pytest.raises(InvalidArguments, match="0 \\(pid"):
            world.memory.collect(nobody)
