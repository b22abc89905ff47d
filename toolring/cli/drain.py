"""Have a node finish what it has accepted and end, as SIGTERM does. New calls are refused from now on."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        jobs = client.drain()
    print(json.dumps({"draining": jobs}) if options.json else f"draining: {jobs} jobs in hand")
    return 0
