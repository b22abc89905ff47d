"""What a node tells about itself: the answers to administrative questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from heapq import nlargest, nsmallest
from typing import Any, Final

from toolring.config import Loaded
from toolring.errors import ConfigError, InvalidArguments, ProtocolError, ToolringError, UnknownJob
from toolring.plugins.specs import MetricFamily
from toolring.policy.breaker import ORDERS
from toolring.policy.series import Window
from toolring.protocol import OK
from toolring.supervisor.alerts import Alerts
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.collector import Collector
from toolring.supervisor.core import Core
from toolring.supervisor.explain import explained
from toolring.supervisor.exposition import as_data
from toolring.supervisor.fleet import Life, Slot, Worker
from toolring.supervisor.history import Held
from toolring.supervisor.ledger import Entry
from toolring.supervisor.looks import Looks
from toolring.supervisor.memory import Memory
from toolring.supervisor.metrics import Exporter
from toolring.supervisor.refusals import unknown_tool
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services
from toolring.supervisor.story import joined, row, seconds, state_of, story
from toolring.supervisor.summary import MOST_TOOLS, WINDOWS, counts, in_window
from toolring.supervisor.waiting import place, summary
from toolring.supervisor.watch import Watch
from toolring.workers.pools.figures import COUNTS

QUESTIONS: Final = (
    "status",
    "tools",
    "policy",
    "job",
    "queue",
    "jobs",
    "cancel",
    "kill",
    "recycle",
    "drain",
    "reload",
    "reloads",
    "memory",
    "metrics",
    "alerts",
    "result",
    "collect",
    "trace",
    "untrace",
    "breakers",
    "breaker",
    "why",
    "dump",
    "profile",
    "look",
)
_COUNTED: Final = (*COUNTS, "wait_seconds", "longest_wait")
"""Of a pool: what has come together since it began."""
MOST_JOBS: Final = 10_000
"""The most that are listed for one question: the node does nothing else meanwhile."""


class Admin:
    """Answers ``ask`` messages from a core's present state."""

    def __init__(
        self,
        core: Core,
        watch: Watch,
        node: str,
        about: dict[str, Any],
        loaded: Loaded,
        services: Services,
        memory: Memory,
        looks: Looks,
        results: Results,
    ) -> None:
        self._core = core
        self._services = services
        self.memory = memory
        self._looks = looks
        self.results = results
        self._watch = watch
        self._node = node
        self._about = about
        self._loaded = loaded
        self._began = time.monotonic()
        self.loads: dict[bytes, dict[str, Any]] = {}
        """The latest figures of each worker, by identity."""
        self._past_resources: dict[str, dict[str, float]] = {}
        """What the pools of those counted that have ended."""
        self.exporters: list[Exporter] = []
        self.drain: Callable[[], None] = lambda: None
        """What SIGTERM does; at most once."""
        self.collector: Collector | None = None
        """None: metrics.figures is off."""
        self.alerts: Alerts | None = None
        """None: there is no rule."""

    def forget(self, identity: bytes) -> None:
        """A worker has ended; what its pools have counted stays counted."""
        told = self.loads.pop(identity, {}).get("resources", {})
        counted = {name: {key: one[key] for key in _COUNTED if key in one} for name, one in told.items()}
        self._past_resources = _pooled([self._past_resources, counted])

    def lengthy(self, what: str, params: dict[str, Any], now: float) -> Generator[None, None, dict[str, Any]] | None:
        """The steps to an answer that takes longer than a turn of the loop may; None: ``answer`` gives it at once."""
        return self._metrics(params, now) if what == "metrics" else None

    def answer(self, what: str, params: dict[str, Any], now: float) -> dict[str, Any]:
        """Plain data, or an error's map."""
        try:
            if what == "status":
                return self.status(now)
            if what == "tools":
                return {"tools": [tool.spec for tool in self._served()]}
            if what == "policy":
                return self._policy(str(params.get("tool", "")))
            if what == "job":
                return self._job(str(params.get("job", "")), now)
            if what == "queue":
                return {"waiting": summary(self._core, now), "limits": self._limits()}
            if what == "jobs":
                if params.get("failed") or params.get("slow"):
                    return self._kept(params, now)
                return self._jobs(params.get("tool"), params.get("limit", 100), now)
            if what == "why":
                return {"story": self._why(str(params.get("job", "")), now)}
            if what == "cancel":
                return self._cancel(str(params.get("job", "")), now)
            if what == "kill":
                return self._kill(params.get("worker"), now)
            if what == "reload":
                return {"number": self._watch.reloads.ask("asked for by an operator", now)}
            if what == "reloads":
                return self._watch.reloads.report(params.get("number"))
            if what == "recycle":
                return self._recycle(params.get("worker"), params.get("group"))
            if what == "drain":
                self.drain()
                return {"jobs": self._core.in_hand()}
            if what == "memory":
                memory = self.memory
                return {
                    "history": memory.history(now),
                    "workers": self._memories(),
                    "supervisor": memory.own(),
                    "shared": memory.shared(),
                }
            if what == "alerts":
                return {"alerts": [] if self.alerts is None else self.alerts.report(now)}
            if what == "result":
                return self.results.read(params.get("handle"), params.get("offset", 0), params.get("length", 0))
            if what == "trace":
                worker, native = params.get("worker"), params.get("native", False)
                return self.memory.trace(worker, params.get("seconds"), params.get("most"), now, native)
            if what == "untrace":
                return self.memory.untrace(params.get("number"))
            if what == "collect":
                return {"workers": self.memory.collect(params.get("worker"), now)}
            if what == "breakers":
                of_tools = {tool.name: tool.circuit.figures(now) for tool in self._served()}
                return {"breakers": {**of_tools, **self._services.breakers(self.loads.values())}}
            if what == "breaker":
                return self._order(str(params.get("tool", "")), str(params.get("order", "")), now)
            if what == "dump":
                return dict(self._looks.dump(params.get("worker"), now))
            if what == "profile":
                return dict(self._looks.profile(params.get("worker"), params.get("seconds"), params.get("rate"), now))
            if what == "look":
                return self._looks.report(params.get("number"), now)
            raise ProtocolError(f"unknown question {what!r}; there is {', '.join(QUESTIONS)}")
        except ToolringError as error:
            return {"error": error.to_wire()}

    def status(self, now: float) -> dict[str, Any]:
        return {
            **self.overview(now),
            "workers": [self.worker(slot, slot.worker, now) for slot in self._core.fleet.slots if not slot.parked],
            "tools": {tool.name: {**tool.figures(), "circuit": tool.circuit.state} for tool in self._served()},
            "cache": self._cache(),
            "results": self.results.figures(),
            "services": self._services.figures(self.loads.values()),
            "resources": self._resources(),
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
            "restarts": self._watch.exits,
            "renewed": self._watch.renewals.count,
            "reload": self._watch.reloads.report(),
            "clients": len(core.sessions),
            "jobs": {
                "accepted": core.accepted,
                "answered": sum(tool.answered for tool in self._served()),
                "waiting": core.backlog.count,
                "running": sum(len(worker.line) for worker in core.fleet.workers.values()),
                "kept": len(core.joining.keyring),
                "refused": dict(core.refused),
            },
        }

    def _resources(self) -> dict[str, dict[str, float]]:
        """As long as anybody has such a pool."""
        found = _pooled(load.get("resources", {}) for load in self.loads.values())
        past = {name: one for name, one in self._past_resources.items() if name in found}
        return _pooled([found, past])

    def figures(self, now: float) -> Generator[None, None, dict[str, Any]]:
        """What sinks get: the status, the last minute, and counts by tool since the start."""
        found = self.status(now)
        yield
        if self.collector is not None:
            found["metrics"] = yield from in_window(self.collector, Window.MINUTE, MOST_TOOLS, now)
            found["counts"] = yield from counts(self.collector.figures)
        return found

    def families(self, now: float) -> Generator[None, None, list[MetricFamily]]:
        """What sinks get that want all metrics."""
        collector = self.collector
        if collector is None:
            return []
        yield from collector.figures.folding()
        return (yield from as_data(collector.families(now)))

    def _served(self) -> list[ServedTool]:
        return [tool for tool in self._core.tools.values() if not tool.spec.internal]

    def _cache(self) -> dict[str, Any]:
        """Exact counts by tool and layer since the start; sizes and failures of the workers that live."""
        sharing = self._core.joining.sharing
        layers = ("supervisor", "memory", *self._loaded.config.cache.layers)
        loads = self.loads.values()
        return {
            "tools": {tool.name: tool.caching(layers) for tool in self._served() if tool.spec.cache},
            "supervisor": {"entries": len(sharing), "bytes": sharing.bytes, "evictions": sharing.evictions},
            "memory": _added(load.get("cache", {}) for load in loads),
            "stores": _added(load.get("stores", {}) for load in loads),
        }

    def _policy(self, name: str) -> dict[str, Any]:
        """A tool's policy, and who decided each part of it."""
        return {"policy": explained(self._tool(name).spec, self._loaded)}

    def _order(self, name: str, order: str, now: float) -> dict[str, Any]:
        """Force the circuit of a tool, or of a service's endpoint, open or closed, have it only watched, or let it
        decide by itself."""
        if "@" in name:
            return self._services.order(name, order)
        tool = self._tool(name)
        if order not in ORDERS:
            known = ", ".join(ORDERS)
            raise InvalidArguments(f"a circuit can't be told to {order!r}; there is {known}", argument="order")
        self._core.circuits.order(tool, ORDERS[order], now)
        return {"tool": name, **tool.circuit.figures(now)}

    def _tool(self, name: str) -> ServedTool:
        served = self._core.tools.get(name)
        if served is None or served.spec.internal:
            raise unknown_tool(self._core.tools, name)
        return served

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
            **self.loads.get(worker.identity, {}),
        }

    def _limits(self) -> dict[str, dict[str, Any]]:
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

    def _cancel(self, name: str, now: float) -> dict[str, Any]:
        """End a job by its name, whoever submitted it, and wherever it is."""
        entry = self._find(name)
        if entry is None:
            raise UnknownJob(f"no job {name!r} is in hand here", job=name)
        state = state_of(entry.run)
        self._watch.endings.cancel(entry, now, "cancelled by an operator")
        return {"job": name, "was": state}

    def _kill(self, which: Any, now: float) -> dict[str, Any]:
        """Kill a worker, by its slot's number or its pid; another takes its place."""
        number = which if type(which) is int else -1  # True is not worker 1
        for worker in self._core.fleet.workers.values():
            if (number > 0 and number == worker.pid) or (worker.slot.worker is worker and number == worker.slot.index):
                self._watch.give_up(worker, now, "killed by an operator")
                return {"worker": worker.slot.index, "pid": worker.pid}
        known = ", ".join(f"{w.slot.index} (pid {w.pid})" for w in self._core.fleet.workers.values())
        raise InvalidArguments(f"no worker {which!r}; there is {known or 'none now'}", argument="worker")

    def _recycle(self, which: Any, group: Any) -> dict[str, Any]:
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

    def _metrics(self, params: dict[str, Any], now: float) -> Generator[None, None, dict[str, Any]]:
        try:
            return (yield from self._window(params, now))
        except ToolringError as error:
            return {"error": error.to_wire()}

    def _window(self, params: dict[str, Any], now: float) -> Generator[None, None, dict[str, Any]]:
        """The figures of a window, of all tools or of one."""
        name, most, tool = params.get("window", "5m"), params.get("most", MOST_TOOLS), params.get("tool")
        if self.collector is None:
            raise ConfigError("this node counts nothing: its metrics.figures is false", key="metrics.figures")
        if name not in WINDOWS:
            raise InvalidArguments(f"window={name!r:.100}: there is {', '.join(WINDOWS)}", argument="window")
        if type(most) is not int or most < 1:
            raise InvalidArguments(f"most={most!r:.100} is not a number of tools, from 1 on", argument="most")
        if tool is not None and not any(key.tool == tool for key in self.collector.figures.tools):
            self._tool(str(tool))
        only, buckets = None if tool is None else str(tool), bool(params.get("buckets"))
        return (yield from in_window(self.collector, WINDOWS[name], most, now, only, buckets))

    def _memories(self) -> dict[str, Any]:
        """What each worker last told of its memory, by its slot's number; of its children, what was seen last."""
        found: dict[str, Any] = {}
        for slot in self._core.fleet.slots:
            worker = slot.worker
            if worker is None:
                continue
            told = self.loads.get(worker.identity, {}).get("memory", {})
            children = self.memory.children(worker)
            if told or children:
                seen = {} if children is None else {"children": children}
                found[str(slot.index)] = {"pid": worker.pid, **told, **seen}
        return found

    def _find(self, name: str) -> Entry | None:
        """A job in hand, by its name."""
        core = self._core
        session = name.rpartition("-")[0]
        for one in core.sessions.values():
            for entry in one.jobs.values() if one.name == session else ():
                if entry.name == name:
                    return entry
        record = core.joining.keyring.find(name)
        return None if record is None else record.entry

    def _job(self, name: str, now: float) -> dict[str, Any]:
        core = self._core
        record = core.joining.keyring.find(name)
        if record is not None and record.answer is not None:
            answer = record.answer
            return {
                "job": name,
                "state": "done" if answer.status == OK else "failed",
                "ok": answer.status == OK,
                "value": answer.value,
            }
        entry = self._find(name)
        if entry is not None:
            runs = entry.run
            return {"job": name, "state": state_of(runs), "attempt": runs.attempt, **place(core, runs, now)}
        raise UnknownJob(f"no job {name!r} is in hand or kept here", job=name)

    def _jobs(self, tool: str | None, limit: Any, now: float) -> dict[str, Any]:
        """The jobs in hand, the oldest first."""
        _check_limit(limit)
        only = None if tool is None else self._tool(str(tool))
        found = [entry for entry in self._in_hand() if only is None or entry.tool is only]
        oldest = nsmallest(limit, found, key=lambda entry: entry.accepted)
        return {"jobs": [self.listed(entry, now) for entry in oldest], "total": len(found)}

    def _kept(self, params: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Jobs that are over: those that failed, the latest first, or the slowest of them, or of all."""
        limit, tool = params.get("limit", 100), params.get("tool")
        _check_limit(limit)
        only = None if tool is None else self._tool(str(tool))
        history = self._core.history
        found = [
            one
            for one in (() if history is None else history.latest(failed=bool(params.get("failed"))))
            if not one.tool.spec.internal and (only is None or one.tool is only)
        ]
        first = nlargest(limit, found, key=seconds) if params.get("slow") else found[:limit]
        return {"jobs": [row(one, now) for one in first], "total": len(found)}

    def _why(self, name: str, now: float) -> dict[str, Any]:
        core = self._core
        core.outputs.drain_all()
        entry: Entry | Held | None = self._find(name)
        session, _, number = name.rpartition("-")
        if entry is None and core.history is not None and number.isdecimal():
            entry = core.history.find(session, int(number))
        if entry is None:
            text = f"no job {name!r:.100} is in hand, or among those that are kept ([jobs] keep and failures)"
            raise UnknownJob(text, job=name)
        layers = ("supervisor", "memory", *self._loaded.config.cache.layers)
        return story(core, entry, now, time.time() - now, layers)

    def _in_hand(self) -> Iterator[Entry]:
        """What callers have submitted and wait for, and what runs on although its caller has left. What else the house
        has runs for one of those."""
        core = self._core
        for session in core.sessions.values():
            yield from (entry for entry in session.jobs.values() if not entry.tool.spec.internal)
        for entry in core.house.jobs.values():
            if entry.first is not None and entry.record is not None and not entry.record.waiting:
                yield entry

    def listed(self, entry: Entry, now: float) -> dict[str, Any]:
        """Of those who wait for one run, the first stands for it."""
        runs, waits = entry.run, joined(entry)
        runner = None if waits else runs.worker
        return {
            "job": entry.name,
            "tool": entry.tool.name,
            "caller": entry.account.name,
            "state": "joined" if waits else state_of(runs),
            "attempt": runs.attempt,
            "age": round(now - entry.accepted, 3),
            "worker": None if runner is None else runner.pid or None,
        }


def _at_work(worker: Worker, now: float) -> dict[str, Any]:
    """What it runs and for how long; of one that runs many at once, the oldest of them. Nothing if it is idle."""
    if not worker.line:
        return {}
    seq, entry = next(iter(worker.line.items()))
    since = max(entry.sent, worker.at_since) if worker.at >> 2 == seq and not worker.many else entry.sent
    return {"runs": entry.tool.name, "for": round(max(0.0, now - since), 3)}


def _check_limit(limit: Any) -> None:
    if type(limit) is not int or not 1 <= limit <= MOST_JOBS:
        why = f"limit={limit!r:.100} is not a number of jobs, 1 to {MOST_JOBS}"
        raise InvalidArguments(why, argument="limit")


def _pooled(figures: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Counts of the pools of one name added up over the workers; of the longest wait the longest."""
    total: dict[str, dict[str, float]] = {}
    for one in figures:
        for name, values in one.items():
            into = total.setdefault(name, dict.fromkeys(values, 0))
            for key, value in values.items():
                before = into.get(key, 0)
                into[key] = max(before, value) if key == "longest_wait" else before + value
    return total


def _added(figures: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Numbers of the same name added up over the workers; of words, the last that is not "closed".

    A store's sizes are told by each worker that uses it, and are one file's: the largest counts.
    """
    total: dict[str, dict[str, Any]] = {}
    for one in figures:
        for name, values in one.items():
            into = total.setdefault(name, {})
            for key, value in values.items():
                if key in ("entries", "bytes") and "state" in values:
                    into[key] = max(into.get(key, 0), value)
                elif isinstance(value, int | float):
                    into[key] = into.get(key, 0) + value
                elif into.get(key) in (None, "closed"):
                    into[key] = value
    return total
