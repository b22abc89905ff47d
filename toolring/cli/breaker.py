"""Look at the circuits of a node's tools and of its services' endpoints, or tell one what to do.

toolring breaker list           state, and what was counted of the last runs
toolring breaker open TOOL      refuse its calls, whatever its runs do
toolring breaker close TOOL     run it, whatever its runs do
toolring breaker watch TOOL     run it, and count
toolring breaker auto TOOL      let it decide by itself again

An endpoint is named SERVICE@URL, as the list shows it.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.cli.output import paint, table
from toolring.errors import InvalidArguments

_COLOURS: Final = {"open": "31", "forced_open": "31", "half_open": "33"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "open", "close", "watch", "auto"))
    parser.add_argument("tool", metavar="TOOL", nargs="?")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    if (options.tool is None) != (options.action == "list"):
        wants = "takes no tool: it shows all" if options.tool else "needs the tool that is meant"
        raise InvalidArguments(f"toolring breaker {options.action} {wants}", argument="tool")
    with Client(options.address) as client:
        if options.action == "list":
            found = client.breakers()
            print(json.dumps(found)) if options.json else _show(found)
            return 0
        state = client.breaker(options.tool, options.action)
    print(json.dumps(state) if options.json else f"{options.tool}: its circuit is {state['state'].replace('_', ' ')}")
    return 0


def _show(found: dict[str, dict[str, Any]]) -> None:
    rows = [
        (
            name,
            paint(one["state"].replace("_", " "), _COLOURS.get(one["state"], "")),
            "runs" if one["declared"] else "deaths",
            *(one[key] for key in ("calls", "failed", "slow", "deaths", "opened", "refused")),
            "-" if one["retry_after"] is None else f"{one['retry_after']:.1f} s",
        )
        for name, one in sorted(found.items(), key=lambda item: (item[1]["state"] == "closed", item[0]))
    ]
    heads = ("TOOL", "STATE", "COUNTS", "CALLS", "FAILED", "SLOW", "DEATHS", "OPENED", "REFUSED", "AGAIN IN")
    print(table(heads, rows))
