"""Replace a worker, by its number or its pid as toolring status shows them, or all of them, by fresh ones. Each serves
until its successor is ready, and finishes what it has begun: no call is lost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.errors import Expired, InvalidArguments

LOOK_SECONDS: Final = 0.1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", metavar="WORKER", type=int, nargs="?", help="its number or its pid (default: all)")
    parser.add_argument("--group", metavar="NAME", help="those of this group")
    parser.add_argument("--wait", action="store_true", help="until all are replaced")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="wait no longer (60)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    if options.worker is not None and options.group is not None:
        raise InvalidArguments(
            "a worker and --group don't go together: a worker's number says it all", argument="group"
        )
    with Client(options.address) as client:
        chosen = client.recycle(options.worker, options.group)
        if options.wait:
            _wait(client.status, {one["pid"] for one in chosen}, options.timeout)
    if options.json:
        print(json.dumps({"recycled": chosen}))
        return 0
    if not chosen:
        print("nothing to replace: the group has no workers now")
        return 0
    names = ", ".join(f"{one['worker']} (pid {one['pid']})" for one in chosen)
    print(f"{'replaced' if options.wait else 'being replaced'}: worker {names}")
    return 0


def _wait(status: Callable[[], dict[str, Any]], pids: Collection[int], timeout: float) -> None:
    """Until none of them works in a slot any more. Raises Expired."""
    until = time.monotonic() + timeout
    while left := [worker["id"] for worker in status()["workers"] if worker["pid"] in pids]:
        if time.monotonic() > until:
            named = ", ".join(map(str, left))
            raise Expired(f"worker {named} not replaced within {timeout:g} s; the node's log has renewal_failed if so")
        time.sleep(LOOK_SECONDS)
