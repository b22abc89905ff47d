"""List the jobs that a node has in hand, the oldest first: what waits, what runs and where. One that is joined waits
for the answer of another, which has the same arguments or the same key.

With --failed those that failed lately, the latest first; with --slow the slowest of all that are kept, or, with both,
of those that failed. The message of a failure tells the exception's type, or whether a job whose deadline passed ran or
waited. toolring why tells more of each.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.cli.output import harmless, table

MOST_MESSAGE: Final = 80
"""Characters in a table."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL", nargs="?", help="only those of this tool")
    parser.add_argument("--failed", action="store_true", help="those that failed")
    parser.add_argument("--slow", action="store_true", help="those that took longest from acceptance to answer")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="show so many at most (default: 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        found = client.jobs(options.tool, options.limit, failed=options.failed, slow=options.slow)
    over = options.failed or options.slow
    jobs = found["jobs"]
    if options.json:
        print(json.dumps(found))
    elif not jobs:
        print("none is kept" if over else "nothing is in hand")
    else:
        print(_over(jobs) if over else _in_hand(jobs))
        if found["total"] > len(jobs):
            print(f"and {found['total'] - len(jobs):,} more")
    return 0


def _in_hand(jobs: list[dict[str, Any]]) -> str:
    rows = [
        (one["job"], one["tool"], harmless(one["caller"]) or "-", one["state"], one["attempt"], one["age"], _pid(one))
        for one in jobs
    ]
    return table(("JOB", "TOOL", "CALLER", "STATE", "ATTEMPT", "AGE S", "WORKER PID"), rows)


def _over(jobs: list[dict[str, Any]]) -> str:
    failed = any(one["message"] for one in jobs)
    rows = [
        (
            one["job"],
            one["tool"],
            harmless(one["caller"]) or "-",
            harmless(one["code"] or one["state"]),
            one["attempt"],
            one["seconds"],
            one["run"],
            one["ago"],
            _pid(one),
            *((_message(one),) if failed else ()),
        )
        for one in jobs
    ]
    heads = ("JOB", "TOOL", "CALLER", "ENDED", "ATTEMPT", "TOTAL S", "RUN S", "AGO S", "WORKER PID")
    return table((*heads, "MESSAGE") if failed else heads, rows)


def _message(job: dict[str, Any]) -> str:
    """Where it begins, without its tool, which stands there already; a tool's own begins with the exception's type."""
    text = harmless(" ".join(job["message"].removeprefix(f"{job['tool']}: ").split()))
    return text if len(text) <= MOST_MESSAGE else f"{text[: MOST_MESSAGE - 1]}…"


def _pid(job: dict[str, object]) -> str:
    return str(job["worker"] or "-")  # as text, since it is a name and no count
