"""What single decisions are shown with: jobs are asked for, and all workers go on until they have nothing to do."""

from __future__ import annotations

from typing import Any

from tests.model.sim_workers import SimWorker
from tests.model.simulation import Node, SimClient
from toolring.policy.memory import MemoryPolicy, Snapshot
from toolring.protocol import CALL
from toolring.supervisor.memory import Memory
from toolring.supervisor.usage import Usage


def ask(client: SimClient, *tools: str, key: str = "", mode: int = CALL, n: int = 1, **more: Any) -> None:
    size, timeout, route = more.get("size", 0), more.get("timeout"), more.get("route", b"")
    client.submit([(tool, n, size, timeout, key, mode, route) for tool in tools])


def workers(node: Node) -> list[SimWorker]:
    return [worker for worker in node.workers.values() if worker.alive]


def finish(node: Node, kind: str = "ok") -> None:
    for _ in range(3):
        for worker in workers(node):
            worker.outcome = (kind, 10, 0)
            while worker.step():
                pass
            while worker.sent:
                node.deliver(worker)


def start(node: Node) -> SimWorker:
    """Let whoever has a job begin it, and stay in it."""
    for worker in workers(node):
        worker.outcome = ("hang", 10, 0)
        while worker.step():
            pass
        if worker.run is not None and not worker.run.ended:
            return worker
    raise AssertionError("nobody has a job")


def codes(client: SimClient) -> list[str]:
    client.read()
    return [asked.code for asked in client.asked.values() if asked.answer is not None]


def memory_of(node: Node) -> Memory:
    """Every process has 7 bytes, and nobody listens."""
    own = Snapshot(0.0, 7)
    return Memory(MemoryPolicy(), node.core, node.watch, lambda _: 7, lambda _: 0, lambda _: own, lambda _: None)


def look_round(usage: Usage, pids: dict[str, int], now: float) -> None:
    """Look at each of these processes once."""
    for _ in usage.due(lambda: pids, now) or ():
        pass
