"""Look at what a node's caches did, or have results forgotten, in every layer and on every worker at once.

toolring cache stats                                  by tool and layer: hits, joined calls, runs
                                                      HIT RATIO: the share that needed no run, hits and joined
toolring cache clear                                  forget everything
toolring cache invalidate --tool search               forget a tool's results
toolring cache invalidate --tool search --key pattern=x path=src    forget the result of one call
toolring cache invalidate --tag user:7                forget what depends on a tag
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from toolring.cli.call import parse
from toolring.cli.options import add_address
from toolring.cli.output import paint, table
from toolring.errors import InvalidArguments


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("stats", "clear", "invalidate"))
    parser.add_argument("--tool", help="invalidate this tool's results")
    parser.add_argument("--tag", action="append", default=[], help="invalidate what bears this tag; may be repeated")
    parser.add_argument(
        "--key", nargs="*", metavar="key=value", help="with --tool: only the result of the call with these arguments"
    )
    parser.add_argument("--partition", default="", help="with --key: in this partition, or of this caller")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    _check(options)
    with Client(options.address) as client:
        if options.action == "stats":
            cache = client.status()["cache"]
            print(json.dumps(cache)) if options.json else _show(cache)
            return 0
        values = None
        if options.key is not None:
            spec = {tool.name: tool for tool in client.tools()}.get(options.tool)
            values = parse(options.key, spec)
        client.invalidate(options.tool, tags=options.tag, arguments=values, partition=options.partition)
    what = [options.tool or "", *options.tag] if options.action == "invalidate" else ["everything"]
    words = ", ".join(one for one in what if one)
    print(json.dumps({"invalidated": words}) if options.json else f"invalidated: {words}")
    return 0


def _check(options: argparse.Namespace) -> None:
    named = options.tool is not None or options.tag or options.key is not None or options.partition
    if options.action == "invalidate" and not (options.tool or options.tag):
        raise InvalidArguments("say what: --tool TOOL, --tag TAG, or toolring cache clear for everything")
    if options.action != "invalidate" and named:
        raise InvalidArguments(f"{options.action} takes no --tool, --tag, --key or --partition; invalidate does")
    if options.key is not None and options.tool is None:
        raise InvalidArguments("--key needs the --tool whose result is meant")
    if options.partition and options.key is None:
        raise InvalidArguments("--partition needs the --key of the result that is meant")


def _show(cache: dict[str, Any]) -> None:
    tools = cache["tools"]
    if not tools:
        print("no tool here is cached; a tool is with @tool(read_only=True, cache=SECONDS)")
        return
    layers = list(next(iter(tools.values()))["hits"])
    rows = [
        (
            name,
            t["calls"],
            _ratio(t["hit_ratio"]),
            *t["hits"].values(),
            t["joined"],
            t["runs"],
            t["stale"],
            t["renewed"],
        )
        for name, t in tools.items()
    ]
    heads = ("TOOL", "CALLS", "HIT RATIO", *(layer.upper() for layer in layers), "JOINED", "RUNS", "STALE", "RENEWED")
    print(table(heads, rows), end="\n\n")
    sizes: list[tuple[Any, ...]] = [("supervisor", *_size(cache["supervisor"]), "")]
    sizes += [(f"memory ({name})", *_size(figures), "") for name, figures in cache["memory"].items()]
    for name, figures in cache["stores"].items():
        state = str(figures.get("state", ""))
        sizes.append((name, *_size(figures), paint(state, "31") if state == "open" else state))
    print(table(("LAYER", "ENTRIES", "BYTES", "EVICTIONS", "FAILURES", "BREAKER"), sizes))


def _size(figures: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(figures.get(name) for name in ("entries", "bytes", "evictions", "failures"))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
