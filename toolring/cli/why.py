"""Tell the life of a job, by its id: when it was accepted, what it waited for, where it ran and why there, what failed
or was lost, and how it was answered. Of jobs in hand, and of the last ones that are over.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from toolring.cli.options import add_address
from toolring.cli.output import harmless, paint


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        found = client.why(options.job)
    print(json.dumps(found) if options.json else text_of(found))
    return 0


def text_of(found: dict[str, Any]) -> str:
    """For a person: a line for each event, with the seconds since the job was accepted."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["accepted"]))
    caller = f", of caller {found['caller']}" if found["caller"] else ""
    lines = [paint(harmless(f"{found['job']}: {found['tool']}{caller}, {when}, {found['state']}"), "1")]
    for event in found["events"]:
        at = "" if event["at"] is None else f"{event['at']:.6f}"
        lines.append(f"{at:>14} s  {harmless(event['text'])}" if at else f"{'':>14}    {harmless(event['text'])}")
    if found["output"]:
        lines += ["", paint("what it wrote", "1")]
    for line in found["output"]:
        at = "" if line["at"] is None else f"{line['at']:.6f} s"
        lines.append(f"{at:>16}  {line['level'] or line['stream']:8}  {harmless(line['text'])}")
    error = found["error"] or {}
    if isinstance(trace := error.get("traceback"), str):
        lines += ["", *(harmless(line) for line in trace.rstrip().split("\n"))]
    return "\n".join(lines)
