"""Show what a node's tools did in the last minutes: how often they were called, how long callers waited and for what,
which errors there were. Times are in milliseconds: response, and its parts: queue, run, overhead. Then, since the
start: how workers ended, what was asked of services, what tools measure themselves, what processes use.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from toolring.cli.options import add_address
from toolring.cli.output import harmless, paint, table

if TYPE_CHECKING:
    from toolring.client.sync import Client

_COUNTS: Final = ("JOBS", "/S", "FAILED", "CACHED")
_RESPONSE: Final = ("MEAN", "P50", "P95", "P99")
_PARTS: Final = ("QUEUE P95", "RUN P95", "OVER P95")
_AGAIN: Final = "\x1b[H\x1b[J"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL", nargs="?", help="only this one")
    parser.add_argument("--window", choices=("1m", "5m", "start"), default="5m", help="how far back (default: 5m)")
    parser.add_argument("--most", type=int, default=100, metavar="N", help="show so many tools, the busiest (100)")
    parser.add_argument("--watch", action="store_true", help="show it anew every two seconds, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --watch one in each line")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        _show(client, options)
        while options.watch:
            time.sleep(2)
            _show(client, options)
    return 0


def _show(client: Client, options: argparse.Namespace) -> None:
    found = client.metrics(options.window, tool=options.tool, most=options.most)
    if options.json:
        print(json.dumps(found), flush=True)
        return
    clear = _AGAIN if options.watch and sys.stdout.isatty() else ""
    print(f"{clear}{_text(found)}", flush=True)


def _text(found: dict[str, Any]) -> str:
    total = found["total"]
    calls = f" of {total['operations']:,} calls" if total["operations"] != total["jobs"] else ""
    lines = [
        f"in {found['seconds']:.0f} s: {total['jobs']:,} jobs{calls}, {total['failed']:,} failed; "
        f"{total['argument_bytes_per_second']:,.0f} bytes/s in, "
        f"{total['result_bytes_per_second']:,.0f} out; times in ms"
    ]
    for head, figures in (("TOOL", found["tools"]), ("GROUP", found["groups"])):
        if figures:
            rows = [(name, *_counts(one), *_response(one), *_parts(one)) for name, one in figures.items()]
            lines.append(table((head, *_COUNTS, *_RESPONSE, *_PARTS), rows))
    if workers := found["workers"]:
        rows = [(name, *_counts(one), *_parts(one)) for name, one in workers.items()]
        lines.append(table(("WORKER", *_COUNTS, *_PARTS), rows))
    if found["left_out"]:
        lines.append(f"and {found['left_out']:,} more tools; --most shows them")
    if total["errors"]:
        rows = [(one["tool"], one["code"], one["count"]) for one in found["errors"]]
        lines.append(table(("TOOL", "ERROR", "COUNT"), rows))
    if lost := [f"{one['lost']:,} of {name}" for name, one in found["tools"].items() if one["lost"]]:
        lines.append(paint(f"runs that ended with their worker: {', '.join(lost)}", "31"))
    if refused := found.get("refused"):
        told = ", ".join(f"{count:,} {code}" for code, count in refused.items())
        lines.append(paint(f"refused at the door, of whatever tool: {told}", "33"))
    return "\n\n".join([*lines, *_since_start(found)])


def _since_start(found: dict[str, Any]) -> list[str]:
    """What isn't of the window."""
    lines = []
    if exits := found.get("exits"):
        rows = [(one["during"], one["cause"], one["count"]) for one in exits]
        lines.append(table(("WORKERS ENDED WHILE", "CAUSE", "COUNT"), rows))
    if services := found.get("services"):
        asked = [_asked(name, *one) for name, its in services.items() for one in its.items()]
        lines.append(table(("SERVICE", "ENDPOINT", "REQUESTS", "FAILED", "REFUSED", "MEAN"), asked))
    if own := found.get("user"):
        lines.append(table(("MEASURED BY TOOLS", "LABELS", "COUNT", *_RESPONSE), _own(own)))
    if processes := found.get("processes"):
        heads = ("PROCESS", "CPU S", "MIB", "THREADS", "FILES", "READ BYTES", "WRITTEN")
        lines.append(table(heads, [_used(name, one) for name, one in sorted(processes.items())]))
    if network := found.get("network"):
        received, sent = network["received_bytes"], network["sent_bytes"]
        lines.append(f"network of the machine or container, since it began: {received:,} bytes received, {sent:,} sent")
    return ["since the start:", *lines] if lines else []


def _counts(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["jobs"], one["jobs_per_second"], one["failed"], one["cached"]


def _response(one: dict[str, Any]) -> tuple[float | None, ...]:
    return tuple(_ms(one["response"][key]) for key in ("mean", "p50", "p95", "p99"))


def _parts(one: dict[str, Any]) -> tuple[float | None, ...]:
    return tuple(_ms(one[part]["p95"]) for part in ("queue", "run", "overhead"))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _own(own: dict[str, list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name, series in own.items():
        for one in series:
            labels = ", ".join(f"{label}={harmless(value)}" for label, value in one["labels"].items()) or "-"
            times = [_ms(one.get(key)) for key in ("mean", "p50", "p95", "p99")]
            rows.append((name, labels, one.get("value", one.get("count")), *times))
    return rows


def _asked(service: str, base: str, one: dict[str, Any]) -> tuple[Any, ...]:
    return service, base, one["requests"], one["failed"], one["refused"], _ms(one["mean"])


def _used(name: str, one: dict[str, Any]) -> tuple[Any, ...]:
    shown = f"worker {name}" if name.isdigit() else name
    mib = one["resident_bytes"] / (1 << 20)
    return shown, one["cpu_seconds"], mib, one["threads"], one["open_fds"], one["read_bytes"], one["written_bytes"]
