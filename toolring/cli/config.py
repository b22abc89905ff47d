"""Print the effective configuration: every value, and where it came from."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_config, effective
from toolring.cli.output import table
from toolring.config import SECRET, flat


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config(parser)


def run(options: argparse.Namespace) -> int:
    loaded = effective(options)
    values = {name: "(set)" if value and name in SECRET else value for name, value in flat(loaded.config).items()}
    sources = {name: loaded.sources.get(name, "default") for name in values}
    if options.json:
        print(json.dumps({name: {"value": value, "source": sources[name]} for name, value in values.items()}))
        return 0
    print(table(("SETTING", "VALUE", "FROM"), [(name, json.dumps(v), sources[name]) for name, v in values.items()]))
    return 0
