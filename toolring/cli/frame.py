"""What `toolring top` shows of a node at one moment, made of what the node told at that moment and before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Row = dict[str, Any]
"""Figures by their names; seconds and bytes. None: there is none."""

SECTIONS: Final = ("workers", "tools", "queue", "caches")
STALE_SECONDS: Final = 8.0
"""A node looks at each process every two seconds, and may be asked every four. A count that hasn't changed for longer
stands still."""


@dataclass(frozen=True, slots=True)
class Told:
    """The answers of a node at one moment."""

    at: float
    status: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Of the last minute; empty of a node that counts nothing."""
    queue: Mapping[str, Any] = field(default_factory=dict)


class Meter:
    """The rate of a count that its owner looks at less often than we ask: from one change to the next."""

    __slots__ = ("_at", "_seen", "rate")

    def __init__(self) -> None:
        self._seen: float | None = None
        self._at = 0.0
        self.rate: float | None = None
        """By second; None: not known yet."""

    def saw(self, value: float, now: float) -> float | None:
        if self._seen is None or value < self._seen:
            self._seen, self._at, self.rate = value, now, None
        elif value > self._seen:
            if now > self._at:
                self.rate = (value - self._seen) / (now - self._at)
            self._seen, self._at = value, now
        elif now - self._at > STALE_SECONDS:
            self.rate = 0.0
        return self.rate


class Camera:
    """Makes frames of one node. It keeps what rates are made of: the last answers, and the processor time before."""

    def __init__(self, address: str, least: float = 0.0) -> None:
        """Rates are over ``least`` seconds or more: what is asked for out of turn tells of the interval before, too."""
        self.address = address
        self._least = least
        self._last: Told | None = None
        self._base: Told | None = None
        """What rates are measured from."""
        self._cpu: dict[str, Meter] = {}

    def frame(self, told: Told) -> dict[str, Any]:
        """The node's own row in ``node``, then a list of rows for each section. Rates are those since the last frame,
        those of the first of the last minute."""
        last = self._last
        if last is not None and (last.status["node"] != told.status["node"] or told.at < last.at):
            last, self._base, self._cpu = None, None, {}
        if last is None or (told.at > last.at and told.at - last.at >= self._least):
            self._base, self._last = last, told
        last = self._base
        cpu = self._processors(told)
        tools = _tools(told, last)
        return {
            "node": self._node(told, last, cpu, tools),
            "workers": _workers(told, last, cpu),
            "tools": tools,
            "queue": _queue(told),
            "caches": _caches(told, last),
        }

    def _processors(self, told: Told) -> dict[str, float | None]:
        """How much of a processor each process uses, by its name."""
        processes = told.metrics.get("processes", {})
        self._cpu = {name: self._cpu.get(name) or Meter() for name in processes}
        return {name: self._cpu[name].saw(one["cpu_seconds"], told.at) for name, one in processes.items()}

    def _node(self, told: Told, last: Told | None, cpu: Mapping[str, float | None], tools: Iterable[Row]) -> Row:
        status, total = told.status, told.metrics.get("total", {})
        jobs, known = status["jobs"], [one for one in cpu.values() if one is not None]
        response = total.get("response", {})
        return {
            "address": self.address,
            "node": status["node"],
            "pid": status["pid"],
            "state": status["state"],
            "uptime": status["uptime"],
            "code": status["reload"]["code"],
            "ready": sum(worker["state"] in ("ready", "busy") for worker in status["workers"]),
            "workers": len(status["workers"]),
            "exits": status["exits"],
            "clients": status["clients"],
            "rate": sum(one["rate"] or 0.0 for one in tools) if last or total else None,
            "errors": sum(one["errors"] or 0.0 for one in tools) if last or total else None,
            "refused": _refused(told, last),
            "p50": response.get("p50"),
            "p95": response.get("p95"),
            "p99": response.get("p99"),
            "waiting": jobs["waiting"],
            "running": jobs["running"],
            "memory": _memory(told),
            "cpu": sum(known) if known else None,
            "firing": status["alerts"].get("firing", 0),
            "over": told.at - last.at if last is not None else told.metrics.get("seconds"),
        }


def _memory(told: Told) -> int | None:
    """Resident bytes of all its processes."""
    processes = told.metrics.get("processes")
    if processes:
        return sum(int(one["resident_bytes"]) for one in processes.values())
    return sum(int(worker.get("memory", {}).get("rss", 0)) for worker in told.status["workers"]) or None


def _rate(now: float, before: float | None, told: Told, last: Told | None) -> float | None:
    """By second, since the last answers. A count that began anew has none."""
    if last is None or before is None or now < before:
        return None
    return (now - before) / (told.at - last.at)


def _refused(told: Told, last: Told | None) -> float | None:
    """By second: at the door."""
    if last is not None:
        now, before = (sum(one.status["jobs"]["refused"].values()) for one in (told, last))
        return _rate(now, before, told, last)
    minute, seconds = told.metrics.get("refused"), told.metrics.get("seconds")
    return None if minute is None or not seconds else sum(minute.values()) / seconds


def _workers(told: Told, last: Told | None, cpu: Mapping[str, float | None]) -> list[Row]:
    before = {} if last is None else {one["id"]: one for one in last.status["workers"]}
    figures = told.metrics.get("workers", {})
    rows = []
    ending = {id(one) for one in told.status["ending"]}
    for one in [*told.status["workers"], *told.status["ending"]]:
        name = str(one["id"])
        old, minute = before.get(one["id"], {}), figures.get(name, {})
        same = old.get("pid") == one["pid"] and id(one) not in ending
        rate = _rate(one.get("answered", 0), old.get("answered"), told, last) if same else None
        run, leaves = minute.get("run", {}), id(one) in ending
        rows.append(
            {
                "id": one["id"],
                "group": one["group"],
                "pid": one["pid"],
                "state": f"{one['state']}, old" if leaves and one["state"] in ("ready", "busy") else one["state"],
                "runs": one.get("runs"),
                "for": one.get("for"),
                "line": one.get("jobs"),
                "rate": minute.get("jobs_per_second") if rate is None and last is None and not leaves else rate,
                "busy": None if leaves else _busy(run, one.get("for", 0.0), told.metrics.get("seconds")),
                "cpu": None if leaves else cpu.get(name),
                "memory": one.get("memory", {}).get("rss"),
                "age": one.get("age"),
                "restarts": max(0, one["generation"] - 1) if "generation" in one else None,
                "p95": run.get("p95"),
                "failed": minute.get("failed"),
                "renew": one.get("renew"),
            }
        )
    return rows


def _busy(run: Mapping[str, Any], present: float, seconds: float | None) -> float | None:
    """The share of the minute that it spent in tools, in the run that goes on, too; more than 1 where one runs many at
    once, or a run that is over was longer."""
    if not seconds:
        return None
    over = run["count"] * run["mean"] if run.get("count") else 0.0
    return (over + min(present, seconds)) / seconds


def _tools(told: Told, last: Told | None) -> list[Row]:
    figures = _by_tool(told.metrics.get("tools", {}))
    cached = told.status["cache"]["tools"]
    rows = []
    for name, one in told.status["tools"].items():
        minute = figures.get(name, {})
        old = None if last is None else last.status["tools"].get(name)
        errors = sum(one["errors"].values())
        rate = _rate(one["answered"], old and old["answered"], told, last)
        failing = _rate(errors, old and sum(old["errors"].values()), told, last)
        if last is None:
            rate = minute.get("jobs_per_second", 0.0) if told.metrics else None
            failing = minute.get("failed", 0) / told.metrics["seconds"] if told.metrics.get("seconds") else None
        times = {
            f"{part}_{share}": minute.get(part, {}).get(share)
            for part in ("run", "queue")
            for share in ("p50", "p95", "p99")
        }
        rows.append(
            {
                "tool": name,
                "rate": rate,
                **{share: minute.get("response", {}).get(share) for share in ("p50", "p95", "p99")},
                "errors": failing,
                "hits": cached.get(name, {}).get("hit_ratio"),
                "circuit": one["circuit"],
                **times,
                "answered": one["answered"],
                "failed": errors,
                "retried": one["retried"],
            }
        )
    return rows


def _by_tool(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """A tool that has moved is told of by group as well: the busiest of them stands for it."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, one in figures.items():
        found.setdefault(name.partition(" (")[0], one)
    return found


def _queue(told: Told) -> list[Row]:
    return [
        {
            "waits_for": one["waits_for"],
            "tool": one["tool"],
            "caller": one["caller"] or None,
            "count": one["count"],
            "oldest": one["oldest"],
            "work": one["work"],
        }
        for one in told.queue.get("waiting", ())
    ]


def _caches(told: Told, last: Told | None) -> list[Row]:
    """Each cached tool, then each place that holds results."""
    cache = told.status["cache"]
    rows = []
    for name, one in cache["tools"].items():
        old = None if last is None else last.status["cache"]["tools"].get(name)
        hits = sum(one["hits"].values())
        rows.append(
            {
                "what": "tool",
                "name": name,
                "rate": _rate(one["calls"], old and old["calls"], told, last),
                "ratio": one["hit_ratio"],
                "hits": hits,
                "misses": one["runs"],
                "joined": one["joined"],
                "entries": None,
                "bytes": None,
                "evictions": None,
                "state": None,
            }
        )
    for kind, places in (("memory", cache["memory"]), ("store", cache["stores"])):
        rows += [_place(kind, name, one) for name, one in places.items()]
    if any(cache["supervisor"].values()):
        rows.append(_place("node", "supervisor", cache["supervisor"]))
    return rows


def _place(kind: str, name: str, one: Mapping[str, Any]) -> Row:
    hits, misses = one.get("hits"), one.get("misses")
    asked = (hits or 0) + (misses or 0)
    return {
        "what": kind,
        "name": name,
        "rate": None,
        "ratio": hits / asked if hits is not None and asked else None,
        "hits": hits,
        "misses": misses,
        "joined": None,
        "entries": one.get("entries"),
        "bytes": one.get("bytes"),
        "evictions": one.get("evictions"),
        "state": one.get("state"),
    }
