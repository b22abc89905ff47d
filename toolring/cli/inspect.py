"""Show a tool's description, arguments and policy, as the node knows them."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address
from toolring.cli.output import paint, table
from toolring.errors import UnknownTool


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL")
    parser.add_argument("--json", action="store_true", help="print the specification as JSON")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    import msgspec

    from toolring.client.sync import Client

    with Client(options.address) as client:
        tools = {tool.name: tool for tool in client.tools()}
    if options.tool not in tools:
        raise UnknownTool(f"no tool {options.tool!r} here; there is {', '.join(tools)}", tool=options.tool)
    tool = tools[options.tool]
    if options.json:
        print(json.dumps(msgspec.to_builtins(tool)))
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
    policy = [(field, getattr(tool, field)) for field in tool.__struct_fields__ if field not in _SHOWN]
    print(table(("POLICY", "VALUE"), [(field, str(value)) for field, value in policy]))
    return 0


_SHOWN = ("name", "description", "parameters")
