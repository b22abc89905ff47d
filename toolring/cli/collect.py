"""Have a worker, by its number or its pid, or all of them, collect their garbage between two jobs and give what is free
back to the system. Shows what came of it.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Final

from toolring.cli.memory import mib
from toolring.cli.options import add_address
from toolring.cli.output import table

PATIENCE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.05


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", metavar="WORKER", type=int, nargs="?", help="its number or its pid (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        before = {pid: one.get("collects", 0) for pid, one in _told(client).items()}
        asked = client.collect(options.worker)
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            told = _told(client)
            waits = [one for one in asked if told.get(one["pid"], {}).get("collects", 0) <= before.get(one["pid"], 0)]
            if not waits or time.monotonic() > until:
                break
            time.sleep(LOOK_SECONDS)
    late = {one["pid"] for one in waits}
    done: list[dict[str, Any]] = [
        {**one, "after": None if one["pid"] in late else told[one["pid"]]["rss"]} for one in asked
    ]
    if options.json:
        print(json.dumps({"collected": done}))
        return 0
    rows = [
        (
            one["worker"],
            str(one["pid"]),
            mib(one["rss"]),
            "busy: after its job" if one["after"] is None else mib(one["after"]),
        )
        for one in done
    ]
    print(table(("WORKER", "PID", "MIB BEFORE", "MIB AFTER"), rows))
    return 0


def _told(client: Any) -> dict[int, dict[str, Any]]:
    return {one["pid"]: one.get("memory", {}) for one in client.status()["workers"]}
