"""List the jobs that a node has in hand, the oldest first: what waits, what runs and where. One that is joined waits
for the answer of another, which has the same arguments or the same key.
"""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address
from toolring.cli.output import harmless, table


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL", nargs="?", help="only those of this tool")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="show so many at most (default: 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        found = client.jobs(options.tool, options.limit)
    if options.json:
        print(json.dumps(found))
        return 0
    jobs = found["jobs"]
    if not jobs:
        print("nothing is in hand")
        return 0
    rows = [
        (one["job"], one["tool"], harmless(one["caller"]) or "-", one["state"], one["attempt"], one["age"], _pid(one))
        for one in jobs
    ]
    print(table(("JOB", "TOOL", "CALLER", "STATE", "ATTEMPT", "AGE S", "WORKER PID"), rows))
    if found["total"] > len(jobs):
        print(f"and {found['total'] - len(jobs):,} more")
    return 0


def _pid(job: dict[str, object]) -> str:
    return str(job["worker"] or "-")  # as text, since it is a name and no count
