"""Answers what the dashboard's page asks, in the loop's thread.

Each view is made in steps, so that no job waits for it; all who ask for the same meanwhile get the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from toolring import __version__
from toolring.errors import InvalidArguments, ToolringError, UnknownJob
from toolring.plain import plain
from toolring.policy.series import SLICE_SECONDS, Window
from toolring.supervisor.collector import Collector
from toolring.supervisor.core import Core
from toolring.supervisor.dashboard.guard import JSON, refusal
from toolring.supervisor.dashboard.search import MOST_FOUND, STATES, Wanted, search
from toolring.supervisor.dashboard.shares import Shares
from toolring.supervisor.dashboard.timeline import BOUNDS, POINTS, Timeline
from toolring.supervisor.errands import Errands
from toolring.supervisor.fleet import Group
from toolring.supervisor.job_desk import JobDesk
from toolring.supervisor.present import Present
from toolring.supervisor.summary import MOST_TOOLS, in_window, window_of
from toolring.supervisor.web import Asked, Reply

MOST_QUERY: Final = 20
"""Parameters of one question."""
_OF_WORKERS: Final = ("id", "group", "pid", "state", "generation", "jobs", "answered", "renew")
_OF_ALERTS: Final = ("alert", "state", "severity", "tool", "group", "service", "seconds", "text")
MOST_ALERTS: Final = 20
"""That are told of one by one."""
_OF_TOOLS: Final = ("window", "seconds", "total", "tools", "left_out", "errors", "refused", "services")
Query = dict[str, str]
Body = list[bytes]
View = Generator[None, None, Body]


class Views:
    """Of one node."""

    def __init__(
        self,
        core: Core,
        present: Present,
        jobs: JobDesk,
        collector: Collector,
        timeline: Timeline,
        errands: Errands,
    ) -> None:
        self._core = core
        self._present = present
        self._desk = jobs
        self._collector = collector
        self._timeline = timeline
        self._errands = errands
        self._shares = Shares()
        self._making: dict[tuple[str, str], list[Callable[[Reply], None]]] = {}
        self._views: dict[str, Callable[[Query, float], View]] = {
            "/api/node": self._node,
            "/api/timeline": self._points,
            "/api/tools": self._tools,
            "/api/ring": self._rings,
            "/api/jobs": self._jobs,
            "/api/job": self._job,
        }

    def answer(self, asked: Asked, now: float) -> None:
        key = (asked.path, asked.query)
        waiting = self._making.get(key)
        if waiting is not None:
            waiting.append(asked.reply)
            return
        self._making[key] = [asked.reply]
        self._errands.add(self._make(key, now))

    def _make(self, key: tuple[str, str], now: float) -> Iterator[None]:
        path, query = key
        told = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "ERROR", "it could not be made: see the node's log")
        try:
            try:
                body = yield from self._views[path](_parameters(query), now)
                told = Reply(HTTPStatus.OK, JSON, body)
            except UnknownJob as error:
                told = Reply(HTTPStatus.NOT_FOUND, JSON, [_encoded({"error": error.to_wire()})])
            except ToolringError as error:
                told = Reply(HTTPStatus.BAD_REQUEST, JSON, [_encoded({"error": error.to_wire()})])
        finally:
            for reply in self._making.pop(key):
                reply(told)

    # ---- the views

    def _node(self, query: Query, now: float) -> View:
        """What there is at this moment."""
        _only(query)
        used, workers = self._collector.usage.figures(), []
        for slot in self._core.fleet.slots:
            if slot.parked:
                continue
            told = self._present.worker(slot, slot.worker, now)
            mine = used.get(str(slot.index))
            workers.append(
                _encoded(
                    {
                        **{name: told.get(name) for name in _OF_WORKERS},
                        "load": _rounded(slot.load),
                        "memory": mine.resident_bytes if mine is not None else None,
                        "cpu": mine.cpu_seconds if mine is not None else None,
                    }
                )
            )
            yield
        head = {**self._present.overview(now), "version": __version__, "time": round(time.time(), 3)}
        alerts = self._present.alerts
        lit, head["more_alerts"] = ([], 0) if alerts is None else alerts.lit(now, MOST_ALERTS)
        head["alerts"] = [{name: one[name] for name in _OF_ALERTS} for one in lit]
        return _listed(head, "workers", workers)

    def _points(self, query: Query, now: float) -> View:
        """The points of the charts, those after a slice that is known already."""
        _only(query, "after")
        points = self._timeline.after(_number(query, "after", -1, least=-1, most=1 << 53))
        yield
        return _listed({"seconds": SLICE_SECONDS, "keeps": POINTS, "bounds": BOUNDS}, "points", points)

    def _tools(self, query: Query, now: float) -> View:
        """The figures of a window; of the busiest tools, or of those with a word in their name."""
        _only(query, "window", "name")
        window, part = window_of(query.get("window", "5m")), query.get("name", "")
        found = yield from in_window(self._collector, window, MOST_TOOLS, now, part=part)
        tools = self._core.tools
        for label, told in found["tools"].items():
            tool = tools.get(label) or tools.get(label.rpartition(" (")[0])
            told["cache"] = None if tool is None else bool(tool.spec.cache)
            armed = tool is not None and tool.circuit.armed
            told["circuit"] = tool.circuit.breaker.state.name.lower() if tool is not None and armed else None
        yield
        return [_encoded({name: found[name] for name in _OF_TOOLS})]

    def _jobs(self, query: Query, now: float) -> View:
        """The jobs that are looked for."""
        _only(query, *Wanted._fields)
        limit = _number(query, "limit", 100, least=1, most=MOST_FOUND)
        wanted = Wanted(query.get("words", ""), query.get("state", ""), limit)
        if wanted.state not in STATES:
            known = ", ".join(repr(state) for state in STATES)
            raise InvalidArguments(f"state={wanted.state!r:.100}: there is {known}", argument="state")
        return [_encoded((yield from search(self._core, self._desk, wanted, now)))]

    def _job(self, query: Query, now: float) -> View:
        """One job's life."""
        _only(query, "job")
        yield
        return [_encoded({"story": plain(self._desk.why(query.get("job", ""), now))})]  # facts are the tool's own

    def _rings(self, query: Query, now: float) -> View:
        """The groups in which keys have their places, each with its slots' shares of keys and of work."""
        _only(query)
        yield from self._collector.figures.folding()
        groups = self._core.fleet.groups
        placed: dict[str, list[str]] = {}
        for tool in list(self._core.tools.values()):
            balancer = tool.balancer
            if balancer is not None and balancer.ring is not None and not (balancer.broken or tool.spec.internal):
                placed.setdefault(tool.group.name, []).append(tool.name)
        self._shares.forget({group.name for group in groups})
        found = []
        for group in groups:
            if group.name in placed:
                found.append((yield from self._ring(group, sorted(placed[group.name]), now)))
        return _listed({"total": len(groups)}, "groups", found)

    def _ring(self, group: Group, tools: list[str], now: float) -> Generator[None, None, bytes]:
        balancers = (tool.balancer for tool in self._core.tools.values() if tool.group is group)
        ring = next((one.ring for one in balancers if one is not None and one.ring is not None), None)
        if ring is None:  # the code was loaded anew meanwhile
            return _encoded({"group": group.name, "tools": [], "slots": [], "arcs": []})
        known = yield from self._shares.of(group.name, ring)
        slots = []
        for slot in group.slots:
            series = self._collector.figures.workers.get(slot.index)
            parts = series.parts(Window.FIVE_MINUTES, now)[0] if series is not None else ()
            slots.append(
                {
                    "slot": slot.index,
                    "place": slot.place,
                    "state": "parked" if slot.parked else self._present.worker(slot, slot.worker, now)["state"],
                    "share": known["shares"].get(str(slot.place), 0.0),
                    "runs": sum(tally.jobs for tally in parts),
                    "load": _rounded(slot.load),
                }
            )
            yield
        return _encoded({"group": group.name, "tools": tools[:MOST_TOOLS], "slots": slots, "arcs": known["arcs"]})


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _listed(head: dict[str, Any], name: str, items: list[bytes]) -> Body:
    """An object whose last member is a list of what is encoded already."""
    start = _encoded(head)[:-1] + (b"," if head else b"") + _encoded(name) + b":["
    return [start, b",".join(items), b"]}"]


def _parameters(query: str) -> Query:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=MOST_QUERY))
    except ValueError as error:
        raise InvalidArguments(f"the query {query!r:.100} can't be read: {error}", argument="query") from None


def _only(query: Query, *known: str) -> None:
    for name in query:
        if name not in known:
            there = ", ".join(known) or "none"
            raise InvalidArguments(f"unknown parameter {name!r:.100}; there is {there}", argument=name[:100])


def _number(query: Query, name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, str(default))
    try:
        value = int(text) if len(text) < 20 else most + 1
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidArguments(f"{name}={text!r:.100} is not a number from {least} to {most}", argument=name)
    return value
