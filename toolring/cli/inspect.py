"""Show a tool's description, its arguments, and its policy: each part of it, and who decided that."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address
from toolring.cli.output import paint, table


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL")
    parser.add_argument("--json", action="store_true", help="print the specification as JSON")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    import msgspec

    from toolring.client.sync import Client

    with Client(options.address) as client:
        policy = client.policy(options.tool)
        tool = {tool.name: tool for tool in client.tools()}[options.tool]
    if options.json:
        print(json.dumps({**msgspec.to_builtins(tool), "policy": policy}))
        return 0
    print(paint(tool.name, "1"))
    print(tool.description, end="\n\n")
    rows = []
    for name, schema in tool.parameters.get("properties", {}).items():
        required = name in tool.parameters.get("required", [])
        kind = schema.get("type") or " | ".join(str(one.get("type", "?")) for one in schema.get("anyOf", [])) or "any"
        default = "required" if required else json.dumps(schema.get("default"))
        rows.append((name, kind, default, schema.get("description", "")))
    print(table(("ARGUMENT", "TYPE", "DEFAULT", "MEANING"), rows), end="\n\n")
    print(
        table(("POLICY", "VALUE", "FROM"), [(name, show(one["value"]), one["source"]) for name, one in policy.items()])
    )
    return 0


def show(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value).replace("\0", " ")
