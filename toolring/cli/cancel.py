"""End a job by its id, wherever it is and whoever submitted it. Its caller hears CANCELLED."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="as handles, logs and errors name it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        client.cancel(options.job)
    print(json.dumps({"cancelled": options.job}) if options.json else f"cancelled: {options.job}")
    return 0
