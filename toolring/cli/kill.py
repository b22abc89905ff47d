"""Kill a worker, by its number or its pid as toolring status shows them. Another takes its place; what it ran is
repeated if it may be, and ends as OUTCOME_UNKNOWN otherwise.
"""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", metavar="WORKER", type=int)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        client.kill(options.worker)
    print(json.dumps({"killed": options.worker}) if options.json else f"killed: worker {options.worker}")
    return 0
