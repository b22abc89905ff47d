"""Run a tool and print its result. Arguments are key=value: the tool's schema says what type a value is read as,
and key:=JSON passes any JSON. What a generator yields is printed as it comes. With --json the answer is one JSON
object: result, or error; before it, one for each part that a generator yields.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from toolring.cli.options import add_address
from toolring.cli.output import as_line, show
from toolring.errors import InvalidArguments
from toolring.spec import ToolSpec


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL")
    parser.add_argument("arguments", metavar="key=value", nargs="*", default=[], help="an argument, or key:=JSON")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="end the work after so long (default: the node's)"
    )
    parser.add_argument("--key", help="an idempotency key: the same key and arguments run once")
    parser.add_argument("--partition", default="", help="who shares a cached result, for tools with that scope")
    parser.add_argument("--priority", default="normal", choices=("low", "normal", "high"), help="among your own jobs")
    parser.add_argument("--queue-timeout", type=float, metavar="SECONDS", help="give up if it hasn't started by then")
    parser.add_argument("--idle-timeout", type=float, metavar="SECONDS", help="give up if it says nothing for so long")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.progress import Gauge
    from toolring.client.sync import Client

    gauge = Gauge()
    more: dict[str, Any] = {
        "timeout": options.timeout,
        "priority": options.priority,
        "queue_timeout": options.queue_timeout,
        "idle_timeout": options.idle_timeout,
        "on_progress": gauge.show if gauge.shown else None,
    }
    with Client(options.address) as client, gauge:
        spec = {tool.name: tool for tool in client.tools()}.get(options.tool)
        values = parse(options.arguments, spec)
        if spec is not None and spec.streams and options.key is None and not options.partition:
            stream = client.stream(options.tool, values, **more)
            for part in stream:
                gauge.clear()
                _print("part", part, options.json, compact=True)
            result = stream.value
            if options.json:
                _print("result", result, True)
            return 0
        result = client.call(options.tool, values, key=options.key, partition=options.partition, **more)
    _print("result", result, options.json)
    return 0


def _print(what: str, value: Any, as_json: bool, compact: bool = False) -> None:
    if as_json:
        print(as_line({what: value}), flush=True)
    elif compact and not isinstance(value, str | bytes):
        print(as_line(value), flush=True)
    else:
        show(value, sys.stdout)
        sys.stdout.flush()


def parse(words: list[str], spec: ToolSpec | None) -> dict[str, Any]:
    """``key=value`` words as arguments, each read as its schema says. Raises InvalidArguments."""
    values: dict[str, Any] = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key.rstrip(":"):
            raise InvalidArguments(f"{word!r} is not key=value", argument=word)
        if key.rstrip(":") in values:
            raise InvalidArguments(f"{key.rstrip(':')} is given twice", argument=key.rstrip(":"))
        if key.endswith(":"):
            values[key[:-1]] = _json(key[:-1], text)
        else:
            schema = (spec.parameters.get("properties", {}) if spec else {}).get(key, {})
            values[key] = _read(key, text, schema, spec.parameters.get("$defs", {}) if spec else {})
    return values


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArguments(f"{key}:={text!r} is not JSON: {error}", argument=key) from None


def _read(key: str, text: str, schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    kinds = _kinds(schema, definitions)
    if "string" in kinds or not kinds:
        return text
    if "null" in kinds and text in ("", "null"):
        return None
    if "boolean" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = json.loads(text)
        return float(value) if isinstance(value, int) and not isinstance(value, bool) and kinds == {"number"} else value
    except (ValueError, RecursionError, OverflowError):
        return text  # the node's refusal names the argument and the type that it wants


def _kinds(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """The JSON types that a schema allows."""
    if "$ref" in schema:
        return _kinds(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    if "anyOf" in schema:
        return {kind for one in schema["anyOf"] for kind in _kinds(one, definitions)}
    if "enum" in schema:
        return {"string" if isinstance(value, str) else "integer" for value in schema["enum"]}
    kind = schema.get("type")
    return {kind} if isinstance(kind, str) else set(kind or ())
