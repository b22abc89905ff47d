"""What a node is asked for a frame, and when it is asked anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.cli.told import minute, status, tool
from toolring.cli import asker
from toolring.cli.asker import MINUTE_SECONDS, Asker
from toolring.errors import ConfigError, Unreachable


class Node:
    """Counts what it is asked; every client that is made in its life is one of its own."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = 0.0
        self.away = False
        self.counts = True
        self.waiting = 0
        self.tools = 1
        self.clients: list[Client] = []

    def clock(self) -> float:
        return self.now


class Client:
    def __init__(self, node: Node, address: str | None) -> None:
        self.node = node
        self.address = address or "ipc:///default"
        self.closed = False
        node.clients.append(self)

    def _ask(self, what: str) -> None:
        self.node.asked.append(what)
        if self.node.away:
            raise Unreachable("nobody")

    async def status(self) -> dict[str, Any]:
        self._ask("status")
        jobs = {"waiting": self.node.waiting, "running": 0, "refused": {}}
        return status({f"t{n}": tool(len(self.node.asked)) for n in range(self.node.tools)}, jobs=jobs)

    async def metrics(self, window: str, *, most: int) -> dict[str, Any]:
        self._ask("metrics")
        if not self.node.counts:
            raise ConfigError("it counts nothing")
        return minute({"a": 0.5})

    async def queue(self) -> dict[str, Any]:
        self._ask("queue")
        return {"waiting": []}

    async def recycle(self, worker: int) -> list[dict[str, int]]:
        return [{"worker": 3, "pid": worker}]

    async def drain(self) -> int:
        return 4

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node()
    monkeypatch.setattr(asker, "AsyncClient", lambda address, **_: Client(node, address))
    return node


@pytest.fixture
def one(node: Node) -> Asker:
    return Asker(None, node.clock)


def look(node: Node, one: Asker, queue: bool = False) -> list[str]:
    """What is asked for one more frame."""
    node.asked.clear()
    asyncio.run(one.frame(queue))
    return list(node.asked)


def test_the_minute_is_asked_for_every_two_seconds(node: Node, one: Asker) -> None:
    assert look(node, one) == ["status", "metrics"]
    node.now += MINUTE_SECONDS[0] / 2
    assert look(node, one) == ["status"]
    node.now += MINUTE_SECONDS[0] / 2
    assert look(node, one) == ["status", "metrics"]


def test_of_many_tools_it_is_asked_for_less_often(node: Node, one: Asker) -> None:
    node.tools = 1000
    assert look(node, one) == ["status", "metrics"]
    node.now += MINUTE_SECONDS[0]
    assert look(node, one) == ["status"]
    node.now += MINUTE_SECONDS[1]
    assert look(node, one) == ["status", "metrics"]


def test_the_queue_is_asked_for_if_it_is_wanted_and_something_waits(node: Node, one: Asker) -> None:
    look(node, one)
    assert look(node, one, queue=True) == ["status"]
    node.waiting = 2
    assert look(node, one, queue=True) == ["status", "queue"]
    assert look(node, one, queue=False) == ["status"]


def test_a_node_that_counts_nothing_is_asked_for_figures_once(node: Node, one: Asker) -> None:
    node.counts = False
    assert look(node, one) == ["status", "metrics"]
    node.now += 10
    assert look(node, one) == ["status"]


def test_after_a_node_was_away_it_connects_and_asks_anew(node: Node, one: Asker) -> None:
    look(node, one)
    node.away = True
    with pytest.raises(Unreachable):
        asyncio.run(one.frame())
    node.away = False
    assert [client.closed for client in node.clients] == [True, False]
    assert node.clients[1].address == "ipc:///default"
    assert look(node, one) == ["status", "metrics"]


def test_orders_tell_what_came_of_them(one: Asker) -> None:
    assert asyncio.run(one.recycle(77)) == "worker 3 is being replaced"
    assert asyncio.run(one.drain()) == "the node drains: 4 jobs in hand"
