"""What an operator has a node do: kill or recycle workers, and tell a tool's circuit what to be."""

from __future__ import annotations

from typing import Any

from toolring.errors import InvalidArguments
from toolring.policy.breaker import ORDERS
from toolring.supervisor.core import Core
from toolring.supervisor.refusals import known_tool
from toolring.supervisor.services import Services
from toolring.supervisor.watch import Watch


class Orders:
    """For one node."""

    def __init__(self, core: Core, watch: Watch, services: Services) -> None:
        self._core = core
        self._watch = watch
        self._services = services

    def kill(self, which: Any, now: float) -> dict[str, Any]:
        """Kill a worker, by its slot's number or its pid; another takes its place."""
        number = which if type(which) is int else -1  # True is not worker 1
        for worker in self._core.fleet.workers.values():
            if (number > 0 and number == worker.pid) or (worker.slot.worker is worker and number == worker.slot.index):
                self._watch.give_up(worker, now, "killed by an operator")
                return {"worker": worker.slot.index, "pid": worker.pid}
        known = ", ".join(f"{w.slot.index} (pid {w.pid})" for w in self._core.fleet.workers.values())
        raise InvalidArguments(f"no worker {which!r}; there is {known or 'none now'}", argument="worker")

    def recycle(self, which: Any, group: Any) -> dict[str, Any]:
        """Replace a worker, by its slot's number or its pid, those of a group, or all; none of their jobs is lost."""
        ready = self._core.fleet.ready
        number = which if type(which) is int else -1
        if which is None:
            chosen = [worker for worker in ready if group is None or worker.slot.group.name == group]
        else:
            chosen = [worker for worker in ready if number in (worker.slot.index, worker.pid)]
        scaled = [one for one in self._core.fleet.groups if one.name == group and not one.open]
        if not chosen and not scaled:
            what = f"worker {which!r}" if which is not None else f"group {group!r}" if group is not None else "worker"
            known = ", ".join(f"{w.slot.index} (pid {w.pid}, group {w.slot.group.name})" for w in ready)
            argument = "group" if which is None and group is not None else "worker"
            raise InvalidArguments(f"no {what} is ready; there is {known or 'none now'}", argument=argument)
        for worker in chosen:
            self._watch.renewals.ask(worker, "asked for by an operator")
        return {"workers": [{"worker": worker.slot.index, "pid": worker.pid} for worker in chosen]}

    def circuit(self, name: str, order: str, now: float) -> dict[str, Any]:
        """Force the circuit of a tool, or of a service's endpoint, open or closed, have it only watched, or let it
        decide by itself."""
        if "@" in name:
            return self._services.order(name, order)
        tool = known_tool(self._core.tools, name)
        if order not in ORDERS:
            known = ", ".join(ORDERS)
            raise InvalidArguments(f"a circuit can't be told to {order!r}; there is {known}", argument="order")
        self._core.circuits.order(tool, ORDERS[order], now)
        return {"tool": name, **tool.circuit.figures(now)}
