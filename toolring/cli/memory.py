"""Show the memory of a node's workers and of its supervisor: what each has, how that went in the last hour, and whether
it grows. The charts go from the least of a process to its most.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.cli.output import paint, table

WIDTH: Final = 40
_BARS: Final = " ▁▂▃▄▅▆▇█"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        found = client.memory()
    print(json.dumps(found)) if options.json else _show(found)
    return 0


def _show(found: dict[str, Any]) -> None:
    rows = []
    for name, history in found["history"].items():
        sizes = [size for _, size in history]
        told = found["workers"].get(name, {})
        rows.append(
            (
                name if name == "supervisor" else f"worker {name}",
                mib(sizes[-1]),
                mib(min(sizes)),
                mib(max(sizes)),
                *(mib(told[key]) if told.get(key) is not None else None for key in ("uss", "children")),
                _growth(told),
                told.get("state"),
                chart(sizes),
            )
        )
    heads = ("PROCESS", "MIB", "LEAST", "MOST", "OWN", "CHILDREN", "GROWS / MIN", "STATE")
    ago = found["history"]["supervisor"][0][0] if found["history"] else 0.0
    print(table((*heads, f"THE LAST {_span(ago)}"), rows))


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
    return paint(f"{text} leaks", "31") if told["leaks"] else text


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} MIN" if seconds >= 90 else f"{seconds:.0f} S"
