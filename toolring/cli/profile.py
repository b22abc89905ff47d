"""Show where a worker's time goes, by its number or its pid: look at its stacks a hundred times a second, for as long
as --seconds says, and write a flame graph. Its tools run on meanwhile. The time is that of the clock: what waits is
seen, too. Ctrl-C ends it.

The form of the file is told by its name: .svg for a browser, .json for speedscope, anything else has a line for each
stack, with microseconds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from toolring.cli.options import add_address
from toolring.cli.output import harmless, table
from toolring.errors import InvalidArguments

TOP: Final = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", metavar="WORKER", type=int)
    parser.add_argument("--seconds", type=float, default=10.0, help="look for so long (10)")
    parser.add_argument("--rate", type=int, default=100, metavar="N", help="so many times a second (100)")
    parser.add_argument("--output", metavar="FILE", help="write to FILE (default: profile-PID.svg)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and write no file unless told to")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    if options.output:
        _writable(Path(options.output))
    with Client(options.address) as client:
        found = client.profile(options.worker, options.seconds, options.rate)
    where = options.output or ("" if options.json else f"profile-{found['pid']}.svg")
    if where:
        Path(where).write_text(_written(found, where), "utf-8")
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"worker {found['worker']}, pid {found['pid']}: {found['samples']} looks in {found['seconds']:.1f} s")
    print(table(("% OF THE TIME", "ITSELF"), _top(found)))
    print(f"written: {where}")
    return 0


def _writable(file: Path) -> None:
    """Better known before it has taken its time. Raises InvalidArguments."""
    there = file.exists()
    try:
        with file.open("a"):
            pass
        if not there:
            file.unlink()
    except OSError as error:
        why = f"--output {harmless(str(file))} can't be written: {error.strerror}"
        raise InvalidArguments(why, argument="output") from None


def _written(found: dict[str, Any], where: str) -> str:
    from toolring.cli import flame

    stacks = [(tuple(names), seconds) for names, seconds in found["stacks"]]
    title = f"worker {found['worker']}, pid {found['pid']}, {found['seconds']:.1f} s"
    if where.endswith(".svg"):
        return flame.svg(stacks, title)
    return flame.speedscope(stacks, title) if where.endswith(".json") else flame.folded(stacks)


def _top(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The functions in which most time was spent, without those that they called."""
    own: dict[str, float] = {}
    for names, seconds in found["stacks"]:
        own[names[-1]] = own.get(names[-1], 0.0) + seconds
    first = sorted(own.items(), key=lambda one: -one[1])[:TOP]
    return [(f"{100 * seconds / found['seconds']:.1f}", harmless(name)) for name, seconds in first]
