"""Show the memory of a node's workers and of its supervisor: what each has, how that went in the last hour, and whether
it grows. The charts go from the least of a process to its most.

With --top: which lines of a worker's code allocate what isn't given back, for as long as --seconds says. With --native
that of C code is seen, too: by memray, if the worker has it (pip install 'toolring[memray]').
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.cli.output import paint, table
from toolring.errors import Expired, InvalidArguments, ToolringError

WIDTH: Final = 40
PATIENCE_SECONDS: Final = 20.0
_BARS: Final = " ▁▂▃▄▅▆▇█"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top", metavar="WORKER", type=int, help="trace this worker's allocations, by number or pid")
    parser.add_argument("--native", action="store_true", help="with --top: allocations of C code, too, by memray")
    parser.add_argument("--seconds", type=float, default=10.0, help="for so long (10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    if options.native and options.top is None:
        raise InvalidArguments("--native does nothing without --top WORKER", argument="native")
    with Client(options.address) as client:
        if options.top is not None:
            return _top(client, options)
        found = client.memory()
    print(json.dumps(found)) if options.json else _show(found)
    return 0


def _show(found: dict[str, Any]) -> None:
    rows = []
    for name, history in found["history"].items():
        sizes = [size for _, size in history]
        told = found["supervisor"] if name == "supervisor" else found["workers"].get(name, {})
        rows.append(
            (
                name if name == "supervisor" else f"worker {name}",
                mib(sizes[-1]),
                mib(min(sizes)),
                mib(max(sizes)),
                *(mib(told[key]) if told.get(key) is not None else None for key in ("uss", "children")),
                _growth(told),
                told.get("renewed"),
                told.get("state"),
                chart(sizes),
            )
        )
    heads = ("PROCESS", "MIB", "LEAST", "MOST", "OWN", "CHILDREN", "GROWS / MIN", "RENEWED", "STATE")
    ago = found["history"]["supervisor"][0][0] if found["history"] else 0.0
    print(table((*heads, f"THE LAST {_span(ago)}"), rows), end="\n\n")
    shared = found["shared"]
    if shared["limit"]:
        share = shared["used"] / shared["limit"]
        print(f"used {mib(shared['used'])} of {mib(shared['limit'])} MiB ({share:.0%})", end="")
    waited = shared["pressure"]
    print("" if waited is None else f"; somebody waited for memory in {waited:.0%} of the last 10 s")


def _top(client: Any, options: argparse.Namespace) -> int:
    """Its tools run on meanwhile. Nobody traces for somebody who has gone: Ctrl-C ends it."""
    chosen = client.trace(options.top, options.seconds, native=options.native)
    try:
        found = _outcome(client, chosen, options.seconds)
    except KeyboardInterrupt:
        with suppress(ToolringError):
            client.untrace(chosen["number"])
        raise
    if options.json:
        print(json.dumps({**chosen, **found}))
        return 0
    print(f"worker {chosen['worker']}, pid {chosen['pid']}: what grew within {found['seconds']:.1f} s")
    rows = [(mib(one["bytes"]), one["blocks"], *_place(one, options.native)) for one in found["top"]]
    print(table(("MIB", "BLOCKS", "LINE", *(("NATIVE",) if options.native else ())), rows))
    return 0


def _outcome(client: Any, chosen: dict[str, Any], seconds: float) -> dict[str, Any]:
    until = time.monotonic() + seconds + PATIENCE_SECONDS
    while (found := client.traced(chosen["number"]))["pending"]:
        if time.monotonic() > until:
            raise Expired(f"worker {chosen['worker']} told nothing in time: it is busy with one job")
        time.sleep(0.1)
    del found["pending"]
    return dict(found)


def _place(grown: dict[str, Any], native: bool) -> tuple[str, ...]:
    line = f"{grown['file']}:{grown['line']}" if grown["file"] else None
    return (line or "-", " > ".join(grown["native"])) if native else (line or "-",)


def chart(sizes: Sequence[float], width: int = WIDTH) -> str:
    """As many bars as there are sizes, or so many; each is the largest of what it stands for."""
    count = min(width, len(sizes))
    parts = [max(sizes[len(sizes) * n // count : len(sizes) * (n + 1) // count]) for n in range(count)]
    least, most = min(parts), max(parts)
    if most == least:
        return _BARS[4] * count
    return "".join(_BARS[1 + round((part - least) / (most - least) * (len(_BARS) - 2))] for part in parts)


def mib(size: float) -> str:
    return f"{size / (1 << 20):.1f}"


def _growth(told: dict[str, Any]) -> str | None:
    """Of a minute, once that is known."""
    if told.get("growth") is None:
        return None
    text = f"{told['growth'] * 60 / (1 << 20):+.2f}"
    return paint(f"{text} leaks", "31") if told.get("leaks") else text


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} MIN" if seconds >= 90 else f"{seconds:.0f} S"
