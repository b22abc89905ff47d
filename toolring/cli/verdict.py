"""What came of a `toolring bench`: its report, as data and as text, and how it compares with an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any, Final

from toolring.cli.drive import Plan, Record
from toolring.cli.output import table
from toolring.cli.units import written
from toolring.cli.views import Column, listed
from toolring.errors import InvalidArguments
from toolring.policy.histogram import Histogram

PARTS: Final = ("response", "queue", "run", "overhead")
_SHARES: Final = (0.5, 0.95, 0.99)
_TIMES: Final = (
    Column("MS", "part"),
    *(Column(key.upper(), key, "ms") for key in ("mean", "p50", "p95", "p99", "max")),
)
_COMPARED: Final = ("throughput", "mean", "p50", "p95", "p99")


def times(found: Histogram, longest: int | None = None) -> dict[str, Any]:
    """In seconds; None of nothing. A quantile is within 1 % of the truth, and above no time that there was."""
    most = float("inf") if longest is None else longest
    p50, p95, p99 = (None if one is None else min(one, most) / 1e6 for one in found.quantiles(_SHARES))
    mean = None if found.mean is None else found.mean / 1e6
    known = {"count": found.n, "mean": mean, "p50": p50, "p95": p95, "p99": p99}
    return known if longest is None else {**known, "max": longest / 1e6 if found.n else None}


def of_node(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What the node counted of the tool in between: by ``Client.metrics(buckets=True)``."""
    found: dict[str, Any] = {}
    for part in PARTS:
        counts = dict(after["buckets"][part])
        for bucket, count in before["buckets"][part]:
            counts[bucket] -= count
        total = after["microseconds"][part] - before["microseconds"][part]
        found[part] = times(Histogram({bucket: count for bucket, count in counts.items() if count}, total))
    for key in ("jobs", "cached", "retried", "argument_bytes", "result_bytes"):
        found[key] = after[key] - before[key]
    return found


def report(
    plan: Plan, record: Record, seconds: float, node: Mapping[str, Any], cpu: Mapping[str, Any]
) -> dict[str, Any]:
    """``seconds`` that were measured: fewer than planned, if somebody has stopped it."""
    slices = [
        {
            "throughput": count / (record.ends - record.began) * len(record.answers),
            **{key: value for key, value in times(one).items() if key != "count"},
        }
        for count, one in zip(record.answers, record.slices, strict=True)
    ]
    whole = slices[: max(1, int(seconds / (record.ends - record.began) * len(slices) + 1e-9))]
    return {
        "tool": plan.tool,
        "concurrency": plan.concurrency if plan.rate is None else None,
        "rate": plan.rate,
        "seconds": seconds,
        "calls": record.times.n + sum(record.errors.values()),
        "failed": sum(record.errors.values()),
        "errors": dict(record.errors),
        "throughput": sum(record.answers) / seconds if seconds > 0 else 0.0,
        "latency": times(record.times, record.longest),
        "spread": {key: spread([one[key] for one in whole if one[key] is not None]) for key in _COMPARED},
        "slices": whole,
        "node": dict(node),
        "cpu": dict(cpu),
    }


def spread(values: Sequence[float]) -> float | None:
    """How far the middle half of some values lies apart, by their median."""
    if len(values) < 4 or not median(values):
        return None
    first, _, third = quantiles(values, n=4, method="inclusive")
    return (third - first) / median(values)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Of each figure ``ratio`` (new by old), ``spread`` (of both runs, added) and whether it ``differs`` by more."""
    found: dict[str, Any] = {}
    for key in _COMPARED:
        before, after = (run["throughput"] if key == "throughput" else run["latency"][key] for run in (old, new))
        spreads = [run["spread"][key] for run in (old, new)]
        ratio = after / before if before and after is not None else None
        noise = None if None in spreads else sum(spreads)
        differs = None if ratio is None or noise is None else abs(ratio - 1) > noise
        found[key] = {"old": before, "new": after, "ratio": ratio, "spread": noise, "differs": differs}
    return found


def check_comparable(old: Any, plan: Plan) -> None:
    """Raises InvalidArguments unless it is a report of the same tool, called in the same way."""
    wanted = {"tool", "concurrency", "rate", "throughput", "latency", "spread"}
    if not (isinstance(old, dict) and wanted <= set(old)):
        raise InvalidArguments("--compare wants what `toolring bench --json` has printed", argument="compare")
    now = {"tool": plan.tool, "concurrency": plan.concurrency if plan.rate is None else None, "rate": plan.rate}
    if any(old[key] != value for key, value in now.items()):
        why = f"the earlier run was of {_kind(old)}, this is of {_kind(now)}: they can't be compared"
        raise InvalidArguments(why, argument="compare")


def told(found: Mapping[str, Any]) -> str:
    """For people."""
    lines = [
        f"{_kind(found)}, {found['seconds']:.1f} s: {found['calls']:,} calls, {found['failed']:,} failed, "
        f"{written(found['throughput'], 'rate')} answers/s{_around(found['spread']['throughput'])}"
    ]
    rows = [{"part": "latency", **found["latency"]}]
    rows += [{"part": f"  {part}", **found["node"][part]} for part in PARTS if part in found["node"]]
    lines.append(listed(_TIMES, rows))
    if found["errors"]:
        lines.append(table(("ERROR", "COUNT"), sorted(found["errors"].items(), key=lambda one: -one[1])))
    if found["node"]:
        lines.append(_carried(found["node"]))
    used = ", ".join(f"{name} {written(one, 'share')}" for name, one in found["cpu"].items() if one is not None)
    if used:
        lines.append(f"processors: {used}")
    if (found["cpu"].get("client") or 0) > 0.9:
        lines.append("the client had no processor left: the tool may do more than this shows")
    if "compared" in found:
        lines.append(_compared(found["compared"]))
    return "\n\n".join(lines)


def _kind(run: Mapping[str, Any]) -> str:
    """Of what, and how it is called."""
    rate, at_once = run["rate"], run["concurrency"]
    how = f"{rate:g} calls/s" if isinstance(rate, int | float) else f"{at_once!r:.20} at once"
    return f"{run['tool']!s:.128}, {how}"


def _carried(node: Mapping[str, Any]) -> str:
    jobs = max(1, node["jobs"])
    into, out = node["argument_bytes"] / jobs, node["result_bytes"] / jobs
    text = f"a call: {into:,.0f} bytes of arguments, {out:,.0f} of result"
    if node["cached"]:
        text += f"; {node['cached']:,} of {node['jobs']:,} answers came from a cache"
    if node["retried"]:
        text += f"; {node['retried']:,} runs were tried again"
    return text


def _compared(found: Mapping[str, Mapping[str, Any]]) -> str:
    said = {True: "differs", False: "no difference", None: "-"}
    rows = []
    for key, one in found.items():
        name, kind = ("answers/s", "rate") if key == "throughput" else (f"latency {key}", "ms")
        ratio = "-" if one["ratio"] is None else f"{one['ratio']:.2f}"
        shown = [written(one[when], kind) for when in ("old", "new")]
        rows.append((name, *shown, ratio, written(one["spread"], "share"), said[one["differs"]]))
    return table(("COMPARED", "OLD", "NEW", "RATIO", "SPREAD", "SO"), rows)


def _around(value: float | None) -> str:
    return "" if value is None else f" (spread {value * 100:.0f} %)"
