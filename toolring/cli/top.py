"""Watch a node live: its workers, tools, queue and caches. Keys sort, filter, recycle a worker and drain; ? tells them.

Figures are those of the last interval, times those of the last minute. With several addresses, a row for each node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from toolring.cli.views import shown
from toolring.errors import ConfigError, InvalidArguments, ToolringError, Unreachable

if TYPE_CHECKING:
    from toolring.cli.asker import Asker


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="ask so often (1)")
    parser.add_argument("--once", action="store_true", help="print one frame as plain text, and end")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each frame, until Ctrl-C")
    parser.add_argument(
        "--address",
        action="append",
        help="where the node listens (default: TOOLRING_ADDRESS, or this user's socket); repeat it for several nodes",
    )


def run(options: argparse.Namespace) -> int:
    if not 0.1 <= options.interval <= 3600:
        raise InvalidArguments("--interval is 0.1 to 3600 seconds", argument="interval")
    addresses: list[str | None] = list(options.address or [None])
    from toolring.cli.asker import Asker

    if options.once or options.json:
        return asyncio.run(_printed([Asker(address, interval=options.interval) for address in addresses], options))
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise InvalidArguments("there is no terminal: use --once or --json", argument="once")
    try:
        from toolring.cli.screen import Screen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        raise ConfigError("toolring top needs textual: pip install 'toolring[top]'; --once and --json don't") from error
    return Screen([Asker(address, interval=options.interval) for address in addresses], options.interval).run() or 0


async def _printed(askers: list[Asker], options: argparse.Namespace) -> int:
    try:
        while True:
            frames = await asyncio.gather(*(_frame(asker) for asker in askers))
            _print(frames, options)
            if options.once:
                return Unreachable.exit_status if any("error" in frame for frame in frames) else 0
            await asyncio.sleep(options.interval)
    finally:
        for asker in askers:
            await asker.close()


async def _frame(asker: Asker) -> dict[str, Any]:
    """A frame, or why there is none: a node that is away now may be back for the next."""
    try:
        return await asker.frame()
    except ToolringError as error:
        return {"node": {"address": asker.address}, "error": error.to_wire()}


def _print(frames: list[dict[str, Any]], options: argparse.Namespace) -> None:
    if options.json:
        for frame in frames:
            print(json.dumps(frame), flush=True)
        return
    texts = [
        f"{frame['node']['address']}  {frame['error']['message']}" if "error" in frame else shown(frame)
        for frame in frames
    ]
    print("\n\n".join(texts), flush=True)
