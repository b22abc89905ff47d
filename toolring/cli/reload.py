"""Load the tools' code anew. It takes over as a whole once all workers with it are ready; until then, and if it can't
be loaded, what serves goes on. No call is lost. The configuration is not read again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.errors import Expired, from_wire

LOOK_SECONDS: Final = 0.05
STAGES: Final = {"loading": "loading the tools ...", "starting": "starting workers ..."}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=float, default=150.0, metavar="SECONDS", help="wait no longer (150)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        outcome = _wait(client, client.reload(), options.timeout)
    if outcome["error"] is not None:
        raise from_wire(outcome["error"])
    if options.json:
        print(json.dumps({"seconds": outcome["seconds"], **outcome["changes"]}))
        return 0
    changes = outcome["changes"]
    told = [f"{len(names)} {what} ({_some(names)})" for what, names in changes.items() if names]
    print(f"reloaded in {outcome['seconds']:.2f} s: {', '.join(told) or 'no tool has changed'}")
    return 0


def _wait(client: Any, number: int, timeout: float) -> dict[str, Any]:
    """Until it has come to an end. Raises Expired."""
    until = time.monotonic() + timeout
    stage = ""
    while (report := client.reloads(number))["outcome"] is None:
        if time.monotonic() > until:
            raise Expired(f"the reload has not come to an end within {timeout:g} s; it is {report['stage']}")
        if report["stage"] != stage and sys.stderr.isatty():
            stage = report["stage"]
            print(STAGES.get(stage, stage), file=sys.stderr)
        time.sleep(LOOK_SECONDS)
    return dict(report["outcome"])


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
