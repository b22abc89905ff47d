"""The figures of a window as plain data, for people and sinks: rates, quantiles, errors. Made in steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from heapq import nlargest
from typing import Any, Final

from toolring.errors import InvalidArguments
from toolring.policy.histogram import Histogram
from toolring.policy.series import Tally, Window
from toolring.supervisor.collector import Collector
from toolring.supervisor.figures import Figures, Of
from toolring.supervisor.measured import PREFIX

WINDOWS: Final = {"1m": Window.MINUTE, "5m": Window.FIVE_MINUTES, "start": Window.START}
MOST_TOOLS: Final = 100
"""So many are told of by default, the busiest."""
TIMES: Final = ("response", "queue", "run", "overhead")
COUNTS: Final = {
    "jobs": "jobs",
    "operations": "operations",
    "failed": "failed",
    "cached": "cached",
    "retried": "retried",
    "argument_bytes": "bytes_in",
    "result_bytes": "bytes_out",
}
"""By the names that sinks know them by."""
_SHARES: Final = (0.5, 0.95, 0.99)


def window_of(name: Any) -> Window:
    """The window of that name. Raises InvalidArguments."""
    found = WINDOWS.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidArguments(f"window={name!r:.100}: there is {', '.join(WINDOWS)}", argument="window")
    return found


def in_window(
    collector: Collector,
    window: Window,
    most: int,
    now: float,
    tool: str | None = None,
    buckets: bool = False,
    part: str = "",
) -> Generator[None, None, dict[str, Any]]:
    """What a window holds: in all, by tool (the ``most`` busiest), by group and by worker; the most frequent errors by
    tool and code. ``tool``: of this one only. ``buckets``: in ``total``, the times' buckets too. ``part``: of the tools
    only those with this in their name, whatever its case; the rest is of all."""
    figures = collector.figures
    yield from figures.folding()
    part = part.lower()
    whole, span = Tally(), 0.0
    groups: dict[str, Tally] = {}
    tools: list[tuple[Of, Tally, float]] = []
    for key, series in list(figures.tools.items()):
        if tool is not None and key.tool != tool:
            continue
        tally, seconds = series.window(window, now)
        span = max(span, seconds)
        whole.add(tally)
        groups.setdefault(key.group, Tally()).add(tally)
        if (tally.jobs or tally.run.n) and part in key.tool.lower():
            tools.append((key, tally, seconds))
        yield
    workers = {}
    for slot, series in list(figures.workers.items()) if tool is None else ():
        tally, seconds = series.window(window, now)
        workers[str(slot)] = of_tally(tally, seconds, response=False)
        yield
    busiest: list[tuple[Of, dict[str, Any]]] = []
    for key, tally, seconds in nlargest(most, tools, key=lambda one: one[1].jobs):
        busiest.append((key, of_tally(tally, seconds)))
        yield
    found: dict[str, Any] = {
        "window": next(name for name, one in WINDOWS.items() if one is window),
        "seconds": round(span, 3),
        "total": {**of_tally(whole, span), **(of_buckets(whole) if buckets else {})},
        "tools": _named(busiest),
        "left_out": len(tools) - len(busiest),
        "errors": _errors(tools, most),
        "groups": {name: of_tally(tally, span) for name, tally in groups.items()},
        "workers": workers,
    }
    if tool is None:
        found.update(_of_node(figures, collector, window, now))
    return found


def counts(figures: Figures) -> Generator[None, None, dict[str, dict[str, Any]]]:
    """Of each tool since the start, over all groups that it was in; what has once been counted is never less."""
    found: dict[str, dict[str, Any]] = {}
    for key, series in list(figures.tools.items()):
        one = found.setdefault(key.tool, {**dict.fromkeys(COUNTS, 0), "errors": {}})
        for tally in series.since_start:
            for name, attribute in COUNTS.items():
                one[name] += getattr(tally, attribute)
            for code, count in tally.errors.items():
                one["errors"][code] = one["errors"].get(code, 0) + count
        yield
    return found


def of_tally(tally: Tally, seconds: float, response: bool = True) -> dict[str, Any]:
    """Counts, rates by second, and times in seconds."""
    return {
        "jobs": tally.jobs,
        "operations": tally.operations,
        "failed": tally.failed,
        "errors": dict(tally.errors),
        "retried": tally.retried,
        "lost": tally.lost,
        "cached": tally.cached,
        "jobs_per_second": _rate(tally.jobs, seconds),
        "operations_per_second": _rate(tally.operations, seconds),
        "argument_bytes_per_second": _rate(tally.bytes_in, seconds),
        "result_bytes_per_second": _rate(tally.bytes_out, seconds),
        **{name: of_times(getattr(tally, name)) for name in TIMES if response or name != "response"},
    }


def of_times(times: Histogram) -> dict[str, Any]:
    """In seconds; None of nothing."""
    mean = times.mean
    p50, p95, p99 = (None if one is None else one / 1e6 for one in times.quantiles(_SHARES))
    return {
        "count": times.n,
        "mean": None if mean is None else round(mean / 1e6, 9),
        "p50": p50,
        "p95": p95,
        "p99": p99,
    }


def of_buckets(tally: Tally) -> dict[str, Any]:
    """The times as they are kept: of each the bucket's number and its count, so that two moments can be subtracted; and
    the bytes."""
    times: dict[str, Histogram] = {name: getattr(tally, name) for name in TIMES}
    return {
        "argument_bytes": tally.bytes_in,
        "result_bytes": tally.bytes_out,
        "buckets": {name: [[*pair] for pair in one.counts.items()] for name, one in times.items()},
        "microseconds": {name: one.total for name, one in times.items()},
    }


def _of_node(figures: Figures, collector: Collector, window: Window, now: float) -> dict[str, Any]:
    return {
        "refused": dict(figures.door.window(window, now)[0].errors),
        "exits": [{"during": during, "cause": cause, "count": n} for (during, cause), n in figures.exits.items()],
        "processes": {name: one._asdict() for name, one in collector.usage.figures().items()},
        "network": collector.usage.network._asdict(),
        "services": _of_services(collector.services()),
        "user": _of_tools_own(figures),
    }


def _of_services(services: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Since the start of each endpoint, by service: what was asked of it, and how it stands."""
    return {
        name: {
            base: {
                **{key: one[key] for key in ("requests", "failed", "refused", "health", "circuit")},
                "mean": round(one["seconds"] / one["requests"], 9) if one["requests"] else None,
            }
            for base, one in service["endpoints"].items()
        }
        for name, service in services.items()
    }


def _of_tools_own(figures: Figures) -> dict[str, list[dict[str, Any]]]:
    """What tools' own code counted and timed since the start, by name: each with its labels."""
    return {
        family.name.removeprefix(PREFIX).removesuffix("_seconds"): [
            {
                "labels": dict(zip(family.labels, key, strict=True)),
                **(of_times(one) if isinstance(one, Histogram) else {"value": one}),
            }
            for key, one in values.items()
        ]
        for family, values in figures.measured.families()
    }


def _errors(tools: list[tuple[Of, Tally, float]], most: int) -> list[dict[str, Any]]:
    """The most frequent ones of all tools, also of those that are seldom called."""
    counts = ((count, key, code) for key, tally, _ in tools for code, count in tally.errors.items())
    return [
        {"tool": key.tool, "group": key.group, "code": code, "count": count}
        for count, key, code in nlargest(most, counts, key=lambda one: one[0])
    ]


def _named(busiest: list[tuple[Of, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By the tool's name; one that is counted in several groups, since it has moved, by the group as well."""
    names = Counter(key.tool for key, _ in busiest)
    return {
        key.tool if names[key.tool] == 1 else f"{key.tool} ({key.group})": {"group": key.group, **told}
        for key, told in busiest
    }


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0
