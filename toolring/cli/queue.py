"""Show what waits at a node: for which limit, of which tool and caller, how many and for how long."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address
from toolring.cli.output import harmless, table


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        queue = client.queue()
    if options.json:
        print(json.dumps(queue))
        return 0
    waiting = queue["waiting"]
    if waiting:
        rows = [
            (w["waits_for"], w["tool"], harmless(w["caller"]) or "-", w["count"], w["oldest"], w["work"])
            for w in waiting
        ]
        print(table(("WAITS FOR", "TOOL", "CALLER", "JOBS", "OLDEST S", "WORK S"), rows))
    else:
        print("nothing waits")
    if queue["limits"]:
        limits = [
            (name, *(one[key] for key in ("running", "concurrency", "rate", "used", "memory", "waiting", "backlog")))
            for name, one in queue["limits"].items()
        ]
        heads = ("LIMITS OF", "RUNNING", "CONCURRENCY", "RATE /S", "BYTES", "MEMORY", "WAITING", "BACKLOG")
        print()
        print(table(heads, limits))
    return 0
