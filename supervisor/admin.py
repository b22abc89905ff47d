"""The answers to administrative questions, by their names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from toolring.config import Loaded
from toolring.errors import ConfigError, InvalidArguments, NodeError, ProtocolError, ToolringError
from toolring.supervisor.collector import Collector
from toolring.supervisor.core import Core
from toolring.supervisor.explain import explained
from toolring.supervisor.job_desk import JobDesk
from toolring.supervisor.looks import Looks
from toolring.supervisor.memory import Memory
from toolring.supervisor.orders import Orders
from toolring.supervisor.present import Present
from toolring.supervisor.refusals import known_tool
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services
from toolring.supervisor.summary import MOST_TOOLS, in_window, window_of
from toolring.supervisor.waiting import summary
from toolring.supervisor.watch import Watch

Params = Mapping[str, Any]
Told = dict[str, Any]


class Admin:
    """Answers ``ask`` messages from a core's present state."""

    def __init__(
        self,
        core: Core,
        watch: Watch,
        node: str,
        about: Mapping[str, Any],
        loaded: Loaded,
        services: Services,
        memory: Memory,
        looks: Looks,
        results: Results,
    ) -> None:
        layers = ("supervisor", "memory", *loaded.config.cache.layers)
        self._core = core
        self._loaded = loaded
        self.services = services
        self.memory = memory
        self.results = results
        self.present = present = Present(core, watch, node, about, layers, services, results)
        self.jobs = jobs = JobDesk(core, watch.endings, layers)
        orders = Orders(core, watch, services)
        self.drain: Callable[[], None] = lambda: None
        """What SIGTERM does; at most once."""
        self.collector: Collector | None = None
        """None: metrics.figures is off."""
        self._answers: dict[str, Callable[[Params, float], Told]] = {
            "status": lambda _, now: present.status(now),
            "tools": lambda _, now: {"tools": [tool.spec for tool in present.served()]},
            "policy": lambda params, now: self._policy(_text(params, "tool")),
            "job": lambda params, now: jobs.job(_text(params, "job"), now),
            "jobs": jobs.jobs,
            "why": lambda params, now: {"story": jobs.why(_text(params, "job"), now)},
            "cancel": lambda params, now: jobs.cancel(_text(params, "job"), now),
            "queue": lambda _, now: {"waiting": summary(core, now), "limits": present.limits()},
            "kill": lambda params, now: orders.kill(params.get("worker"), now),
            "recycle": lambda params, now: orders.recycle(params.get("worker"), params.get("group")),
            "drain": lambda _, now: self._drain(),
            "reload": lambda _, now: {"number": watch.reloads.ask("asked for by an operator", now)},
            "reloads": lambda params, now: watch.reloads.report(params.get("number")),
            "breakers": lambda _, now: self._breakers(now),
            "breaker": lambda params, now: orders.circuit(_text(params, "tool"), _text(params, "order"), now),
            "alerts": lambda _, now: {"alerts": [] if present.alerts is None else present.alerts.report(now)},
            "memory": lambda _, now: self._memory(now),
            "collect": lambda params, now: {"workers": memory.collect(params.get("worker"), now)},
            "trace": lambda params, now: memory.trace(
                params.get("worker"), params.get("seconds"), params.get("most"), now, params.get("native", False)
            ),
            "untrace": lambda params, now: memory.untrace(params.get("number")),
            "traced": lambda params, now: memory.traced(params.get("number")),
            "result": lambda params, now: results.read(
                params.get("handle"), params.get("offset", 0), params.get("length", 0)
            ),
            "dump": lambda params, now: dict(looks.dump(params.get("worker"), now)),
            "profile": lambda params, now: dict(
                looks.profile(
                    params.get("worker"), params.get("seconds"), params.get("rate"), now, params.get("key", "")
                )
            ),
            "unprofile": lambda params, now: dict(looks.unprofile(params.get("number"), params.get("key", ""))),
            "look": lambda params, now: looks.report(params.get("number"), now),
        }

    def answer(self, what: str, params: Params, now: float) -> Told:
        """Plain data, or an error's map."""
        try:
            answers = self._answers.get(what)
            if answers is None:
                raise ProtocolError(f"unknown question {what!r}; there is {', '.join(['metrics', *self._answers])}")
            return answers(params, now)
        except Exception as error:
            return self._refused(what, error)

    def lengthy(self, what: str, params: Params, now: float) -> Generator[None, None, Told] | None:
        """The steps to an answer that takes longer than a turn of the loop may; None: ``answer`` gives it at once."""
        return self._metrics(params, now) if what == "metrics" else None

    def _metrics(self, params: Params, now: float) -> Generator[None, None, Told]:
        try:
            return (yield from self._window(params, now))
        except Exception as error:
            return self._refused("metrics", error)

    def _refused(self, what: str, error: Exception) -> Told:
        """Why there is no answer. No question is a reason to serve nobody any more."""
        if not isinstance(error, ToolringError):
            reason = f"{type(error).__name__}: {error}"
            self._core.notes.append(("question_failed", {"question": what, "reason": reason}))
            error = NodeError(f"the node could not answer this question ({what}): {reason}", question=what)
        return {"error": error.to_wire()}

    def _window(self, params: Params, now: float) -> Generator[None, None, Told]:
        """The figures of a window, of all tools or of one."""
        name, most, tool = params.get("window", "5m"), params.get("most", MOST_TOOLS), params.get("tool")
        if self.collector is None:
            raise ConfigError("this node counts nothing: its metrics.figures is false", key="metrics.figures")
        window = window_of(name)
        if type(most) is not int or most < 1:
            raise InvalidArguments(f"most={most!r:.100} is not a number of tools, from 1 on", argument="most")
        if tool is not None and not any(key.tool == tool for key in self.collector.figures.tools):
            known_tool(self._core.tools, str(tool))
        only, buckets = None if tool is None else str(tool), bool(params.get("buckets"))
        return (yield from in_window(self.collector, window, most, now, only, buckets))

    def _policy(self, name: str) -> Told:
        """A tool's policy, and who decided each part of it."""
        return {"policy": explained(known_tool(self._core.tools, name).spec, self._loaded)}

    def _drain(self) -> Told:
        self.drain()
        return {"jobs": self._core.in_hand()}

    def _breakers(self, now: float) -> Told:
        of_tools = {tool.name: tool.circuit.figures(now) for tool in self.present.served()}
        return {"breakers": {**of_tools, **self.services.breakers(self.present.reports)}}

    def _memory(self, now: float) -> Told:
        memory = self.memory
        return {
            "history": memory.history(now),
            "workers": self._memories(),
            "supervisor": memory.own(),
            "shared": memory.shared(),
        }

    def _memories(self) -> Told:
        """What each worker last told of its memory, by its slot's number; of its children, what was seen last; and how
        many before it were renewed for theirs."""
        found: dict[str, Any] = {}
        for slot in self._core.fleet.slots:
            worker = slot.worker
            if worker is None:
                continue
            told = self.present.reports.last.get(worker.identity, {}).get("memory", {})
            children = self.memory.children(worker)
            if told or children or slot.outgrown:
                seen = {} if children is None else {"children": children}
                found[str(slot.index)] = {"pid": worker.pid, "renewed": slot.outgrown, **told, **seen}
        return found


def _text(params: Params, name: str) -> str:
    return str(params.get(name, ""))
