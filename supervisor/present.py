"""What a node is like at this moment: its state, its workers, its tools, what its workers tell."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from toolring.supervisor.alerts import Alerts
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.core import Core
from toolring.supervisor.fleet import Life, Slot, Worker
from toolring.supervisor.metrics import Exporter
from toolring.supervisor.reports import Reports
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services
from toolring.supervisor.watch import Watch


class Present:
    """Of one node. ``about`` is what doesn't change of it, ``layers`` are those of the cache."""

    def __init__(
        self,
        core: Core,
        watch: Watch,
        node: str,
        about: Mapping[str, Any],
        layers: Sequence[str],
        services: Services,
        results: Results,
    ) -> None:
        self._core = core
        self._watch = watch
        self._node = node
        self._about = about
        self._layers = layers
        self._services = services
        self._results = results
        self._began = time.monotonic()
        self.reports = Reports()
        self.exporters: Sequence[Exporter] = ()
        self.alerts: Alerts | None = None
        """None: there is no rule."""

    def status(self, now: float) -> dict[str, Any]:
        return {
            **self.overview(now),
            "workers": [self.worker(slot, slot.worker, now) for slot in self._core.fleet.slots if not slot.parked],
            "tools": {tool.name: {**tool.figures(), "circuit": tool.circuit.state} for tool in self.served()},
            "cache": self._cache(),
            "results": self._results.figures(),
            "services": self._services.figures(self.reports),
            "resources": self.reports.resources(),
            "sinks": {
                one.name: {"sent": one.sent, "dropped": one.dropped, "failed": one.failed, "state": one.state}
                for one in self.exporters
            },
            "alerts": {} if self.alerts is None else self.alerts.counts(),
            "tracing": {} if self._core.spans is None else self._core.spans.report(),
        }

    def overview(self, now: float) -> dict[str, Any]:
        """Of a status, what takes the same time however many workers there are."""
        core = self._core
        return {
            "node": self._node,
            **self._about,
            "state": core.state,
            "uptime": round(now - self._began, 3),
            "groups": {
                group.name: {
                    "workers": len(group.open),
                    "ready": len(group.ready),
                    "failing": group.failing,
                    "least": group.plan.scaling.least if group.plan.scaling else len(group.slots),
                    "most": len(group.slots),
                }
                for group in core.fleet.groups
            },
            "ending": [
                self.worker(w.slot, w, now)
                for w in core.fleet.workers.values()
                if w.slot.worker is not w and w.slot.successor is not w
            ],
            "exits": self._watch.exits,
            "restarts": self._watch.deaths,
            "renewed": self._watch.renewals.count,
            "reload": self._watch.reloads.report(),
            "clients": len(core.sessions),
            "jobs": {
                "accepted": core.accepted,
                "answered": core.accepted - self._in_hand(),
                "waiting": core.backlog.count,
                "running": sum(len(worker.line) for worker in core.fleet.workers.values()),
                "kept": len(core.joining.keyring),
                "refused": dict(core.refused),
            },
        }

    def _in_hand(self) -> int:
        """Jobs without an answer: what callers wait for, and what runs on although they have left."""
        core = self._core
        return len(core.left_behind()) + sum(len(session.jobs) for session in core.sessions.values())

    def worker(self, slot: Slot, worker: Worker | None, now: float) -> dict[str, Any]:
        if worker is None:
            return {"id": slot.index, "group": slot.group.name, "pid": None, "state": "vacant"}
        state = worker.life.name.lower()
        if worker.life is Life.READY and not worker.idle:
            state = "busy"
        return {
            "id": slot.index,
            "group": slot.group.name,
            "pid": worker.pid or None,
            "state": state,
            "generation": worker.generation,
            "jobs": len(worker.line),
            "answered": worker.answered,
            "age": round(now - worker.started, 3),
            **_at_work(worker, now),
            **({"renew": worker.renew} if worker.renew else {}),
            **self.reports.last.get(worker.identity, {}),
        }

    def served(self) -> list[ServedTool]:
        """Without what is toolring's own."""
        return [tool for tool in self._core.tools.values() if not tool.spec.internal]

    def limits(self) -> dict[str, dict[str, Any]]:
        """Of each tool and group that has limits: how many run, how many may, how many wait."""
        return {
            valve.of: {
                "running": valve.running,
                "concurrency": None if valve.limit is None else valve.limit.limit,
                "rate": None if valve.rate is None else round(1 / valve.rate.step, 6),
                "used": valve.used,
                "memory": valve.memory or None,
                "waiting": valve.waiting,
                "backlog": valve.backlog,
            }
            for valve in self._core.valves
        }

    def _cache(self) -> dict[str, Any]:
        """Exact counts by tool and layer since the start; sizes and failures of the workers that live."""
        sharing = self._core.joining.sharing
        return {
            "tools": {tool.name: tool.caching(self._layers) for tool in self.served() if tool.spec.cache},
            "supervisor": {"entries": len(sharing), "bytes": sharing.bytes, "evictions": sharing.evictions},
            "memory": self.reports.caches(),
            "stores": self.reports.stores(),
        }


def _at_work(worker: Worker, now: float) -> dict[str, Any]:
    """What it runs and for how long; of one that runs many at once, the oldest of them. Nothing if it is idle."""
    if not worker.line:
        return {}
    seq, entry = next(iter(worker.line.items()))
    since = max(entry.sent, worker.at_since) if worker.at >> 2 == seq and not worker.many else entry.sent
    return {"runs": entry.tool.name, "for": round(max(0.0, now - since), 3)}
