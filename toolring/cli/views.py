"""The tables of `toolring top`: their columns, what is sorted and filtered, what stands out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from toolring.cli.frame import Row
from toolring.cli.output import harmless
from toolring.cli.units import LONGEST_NAME, with_unit, written


@dataclass(frozen=True, slots=True)
class Column:
    head: str
    key: str
    kind: str = "text"
    """How it is written: text, whole, rate, ms, span, bytes or share."""
    spare: bool = False
    """It is left out while it says the same of all rows."""

    @property
    def right(self) -> bool:
        return self.kind != "text"


@dataclass(frozen=True, slots=True)
class View:
    """``named``: the columns that say which row it is, and that the filter looks at; ``fixed``: so many stay where they
    are when one looks further to the right."""

    title: str
    columns: tuple[Column, ...]
    named: tuple[str, ...]
    sort: str
    down: bool
    empty: str
    fixed: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What a table is sorted by."""

    key: str
    down: bool


_ms, _rate, _whole, _span, _share, _bytes = "ms", "rate", "whole", "span", "share", "bytes"

NODES: Final = (
    Column("NODE", "address"),
    Column("STATE", "state"),
    Column("ALERTS", "firing", _whole),
    Column("READY", "ready", _whole),
    Column("OF", "workers", _whole),
    Column("/S", "rate", _rate),
    Column("ERR/S", "errors", _rate),
    Column("P95", "p95", _ms),
    Column("WAIT", "waiting", _whole),
    Column("P50", "p50", _ms),
    Column("P99", "p99", _ms),
    Column("MEMORY", "memory", _bytes),
    Column("UP", "uptime", _span),
)

VIEWS: Final = {
    "workers": View(
        "Workers",
        (
            Column("#", "id", _whole),
            Column("GROUP", "group", spare=True),
            Column("PID", "pid", _whole),
            Column("STATE", "state"),
            Column("RUNS", "runs"),
            Column("FOR", "for", _span),
            Column("LINE", "line", _whole),
            Column("/S", "rate", _rate),
            Column("BUSY", "busy", _share),
            Column("CPU", "cpu", _share),
            Column("MEMORY", "memory", _bytes),
            Column("AGE", "age", _span),
            Column("RESTARTS", "restarts", _whole),
            Column("RUN P95", "p95", _ms),
            Column("FAILED", "failed", _whole),
            Column("RENEWAL", "renew", spare=True),
        ),
        ("id", "group", "pid", "runs"),
        "id",
        False,
        "no worker",
    ),
    "tools": View(
        "Tools",
        (
            Column("TOOL", "tool"),
            Column("/S", "rate", _rate),
            Column("ERR/S", "errors", _rate),
            Column("P50", "p50", _ms),
            Column("P95", "p95", _ms),
            Column("P99", "p99", _ms),
            Column("HITS", "hits", _share),
            Column("CIRCUIT", "circuit"),
            Column("RUN P50", "run_p50", _ms),
            Column("RUN P95", "run_p95", _ms),
            Column("RUN P99", "run_p99", _ms),
            Column("QUEUE P50", "queue_p50", _ms),
            Column("QUEUE P95", "queue_p95", _ms),
            Column("QUEUE P99", "queue_p99", _ms),
            Column("ANSWERED", "answered", _whole),
            Column("FAILED", "failed", _whole),
            Column("RETRIED", "retried", _whole),
        ),
        ("tool",),
        "rate",
        True,
        "no tool",
    ),
    "queue": View(
        "Queue",
        (
            Column("WAITS FOR", "waits_for"),
            Column("TOOL", "tool"),
            Column("CALLER", "caller", spare=True),
            Column("JOBS", "count", _whole),
            Column("OLDEST", "oldest", _span),
            Column("WORK", "work", _span),
        ),
        ("waits_for", "tool", "caller"),
        "count",
        True,
        "nothing waits",
        2,
    ),
    "caches": View(
        "Caches",
        (
            Column("WHAT", "what"),
            Column("NAME", "name"),
            Column("/S", "rate", _rate),
            Column("RATIO", "ratio", _share),
            Column("HITS", "hits", _whole),
            Column("MISSES", "misses", _whole),
            Column("JOINED", "joined", _whole),
            Column("ENTRIES", "entries", _whole),
            Column("SIZE", "bytes", _bytes),
            Column("EVICTED", "evictions", _whole),
            Column("STATE", "state"),
        ),
        ("what", "name"),
        "what",
        True,
        "no tool is cached",
        2,
    ),
}

WARN: Final = "warn"
BAD: Final = "bad"
_TONES: Final = {
    "state": {
        "starting": WARN,
        "standby": WARN,
        "retiring": WARN,
        "ending": WARN,
        "draining": WARN,
        "degraded": WARN,
        "vacant": BAD,
        "unhealthy": BAD,
        "open": BAD,
        "half_open": WARN,
        "lost": BAD,
    },
    "circuit": {"open": BAD, "forced_open": BAD, "half_open": WARN, "forced_closed": WARN, "metrics_only": WARN},
}


def tone(key: str, value: Any) -> str:
    """``bad`` or ``warn`` of what somebody should look at; the figure says the same without colour."""
    if key in _TONES:
        return _TONES[key].get(value, "")
    if key in ("errors", "refused", "firing"):
        return BAD if value else ""
    return ""


def ordered(rows: Iterable[Row], order: Order) -> list[Row]:
    """Sorted; what has no figure comes last either way."""
    there: list[Row] = []
    missing: list[Row] = []
    for row in rows:
        (missing if row.get(order.key) is None else there).append(row)
    there.sort(key=lambda row: _sortable(row[order.key]), reverse=order.down)
    return there + missing


def _sortable(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def chosen(rows: Iterable[Row], view: View, words: str) -> list[Row]:
    """Those whose names have all these words in them."""
    wanted = words.lower().split()
    if not wanted:
        return list(rows)
    found = []
    for row in rows:
        text = " ".join(str(row[key]).lower() for key in view.named if row[key] is not None)
        if all(word in text for word in wanted):
            found.append(row)
    return found


def cells(columns: Sequence[Column], row: Mapping[str, Any], width: int | None = None) -> list[str]:
    """As text; on a screen of that width no name takes more than its part: the first half of it, others a quarter."""
    parts = (None, None) if width is None else (max(LONGEST_NAME, width // 2), max(LONGEST_NAME, width // 4))
    return [written(row.get(column.key), column.kind, parts[place > 0]) for place, column in enumerate(columns)]


def columns_of(view: View, rows: Sequence[Row]) -> tuple[Column, ...]:
    """Those that say something."""
    return tuple(one for one in view.columns if not one.spare or len({row.get(one.key) for row in rows}) > 1)


def default_order(view: View) -> Order:
    return Order(view.sort, view.down)


def headline(node: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    """The lines about one node: pieces of text, each with its tone."""

    def piece(label: str, key: str, kind: str) -> tuple[str, str]:
        return f"{label} {written(node.get(key), kind)}", tone(key, node.get(key))

    state = (str(node["state"]), tone("state", node["state"]))
    up, pid = f"up {written(node['uptime'], _span)}", f"pid {node['pid']}"
    where = f"{harmless(node['address'])}"
    workers = f"workers {node['ready']}/{node['workers']} ready"
    short = node["ready"] < node["workers"]
    lines = [
        [(where, ""), state, (up, ""), (pid, ""), (f"code {node['code']}", ""), piece("clients", "clients", _whole)],
        [
            (f"jobs {written(node['rate'], _rate)}/s", ""),
            (f"errors {written(node['errors'], _rate)}/s", tone("errors", node["errors"])),
            *((f"{share} {with_unit(node.get(share))}", "") for share in ("p50", "p95", "p99")),
        ],
        [
            (workers, WARN if short else ""),
            piece("waiting", "waiting", _whole),
            piece("running", "running", _whole),
            piece("memory", "memory", _bytes),
            piece("cpu", "cpu", _share),
            piece("exits", "exits", _whole),
        ],
    ]
    if node.get("refused"):
        lines[1].append((f"refused {written(node['refused'], _rate)}/s", BAD))
    if firing := node.get("firing"):
        lines[0].insert(0, (f"{firing} alert{' fires' if firing == 1 else 's fire'}", BAD))
    return lines


def shown(frame: Mapping[str, Any]) -> str:
    """A whole frame as plain text, for pipes."""
    parts = ["\n".join("  ".join(text for text, _ in line) for line in headline(frame["node"]))]
    for name, view in VIEWS.items():
        rows = ordered(frame[name], default_order(view))
        parts.append(listed(columns_of(view, rows), rows) if rows else f"{view.title.lower()}: {view.empty}")
    return "\n\n".join(parts)


def listed(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table as plain text; columns that are empty are left out."""
    used = [column for column in columns if any(row.get(column.key) not in (None, "") for row in rows)]
    lines = [[column.head for column in used], *(cells(used, row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(used))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, used, strict=True)
        ).rstrip()
        for line in lines
    )
