"""Show the alerts of a node: each rule, what it is at, and what its figure is. What fires comes first.

Exit status 1 if --check is given and one fires.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.cli.output import paint, table

_ORDER: Final = ("firing", "easing", "pending", "resolved", "ok")
_UNITS: Final = {"share": "", "bool": ""}
"""What goes without saying."""
_COLOURS: Final = {"firing": "31", "easing": "31", "pending": "33"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="exit with status 1 if one fires")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        found = client.alerts()
    print(json.dumps({"alerts": found}) if options.json else _text(found))
    return int(options.check and any(one["state"] in ("firing", "easing") for one in found))


def _text(found: list[dict[str, Any]]) -> str:
    if not found:
        return "no alert is watched"
    rows = [
        (
            one["alert"],
            paint(one["state"], _COLOURS.get(one["state"], "")),
            _since(one["seconds"]),
            one["severity"],
            _figure(one),
            _of(one) or "node",
            one["value"],
            f"{one['sense']} {one['threshold']:g} {_UNITS.get(one['unit'], one['unit'])}".rstrip(),
            f"{one['for']:g} s",
        )
        for one in sorted(found, key=lambda one: (_ORDER.index(one["state"]), one["alert"], _of(one)))
    ]
    return table(("ALERT", "STATE", "SINCE", "SEVERITY", "FIGURE", "OF", "VALUE", "FIRES IF", "FOR"), rows)


def _of(one: dict[str, Any]) -> str:
    return str(one["tool"] or one["group"] or one["service"])


def _figure(one: dict[str, Any]) -> str:
    return f"{one['figure']} ({one['window']})" if one["window"] else str(one["figure"])


def _since(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f} s"
