"""List the tools that a node serves."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address
from toolring.cli.output import table


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the full specifications as JSON")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    import msgspec

    from toolring.client.sync import Client

    with Client(options.address) as client:
        tools = client.tools()
    if options.json:
        print(json.dumps({"tools": msgspec.to_builtins(tools)}))
        return 0
    rows = []
    for tool in tools:
        properties = tool.parameters.get("properties", {})
        required = tool.parameters.get("required", [])
        words = " ".join(name if name in required else f"[{name}]" for name in properties)
        marks = [mark for mark in ("read_only", "idempotent") if getattr(tool, mark)]
        rows.append((tool.name, words, ",".join(marks) or "-", tool.description.partition("\n")[0][:70]))
    print(table(("TOOL", "ARGUMENTS", "SAFE TO REPEAT", "WHAT IT DOES"), rows))
    return 0
