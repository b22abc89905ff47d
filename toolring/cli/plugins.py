"""List the plugins that a node would load here, from where, and what they bring."""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_config, effective
from toolring.cli.output import table


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.plugins.registry import load_plugins

    plugins = effective(options).config.plugins
    registry = load_plugins(plugins.load, plugins.allow, plugins.block)
    if options.json:
        found = [{"name": p.name, "source": p.source, "hooks": list(p.hooks)} for p in registry.plugins]
        offers = {
            "cache_strategies": sorted(registry.cache_strategies),
            "cache_stores": sorted(registry.cache_stores),
            "balancers": sorted(registry.balancers),
            "metrics_sinks": sorted(registry.metrics_sinks),
            "span_sinks": sorted(registry.span_sinks),
        }
        print(json.dumps({"plugins": found, **offers}))
        return 0
    print(table(("PLUGIN", "FROM", "HOOKS"), [(p.name, p.source, ", ".join(p.hooks)) for p in registry.plugins]))
    print(f"\ncache strategies: {', '.join(sorted(registry.cache_strategies))}")
    print(f"cache stores:     {', '.join(sorted(registry.cache_stores))}")
    print(f"balancers:        {', '.join(sorted(registry.balancers))}")
    print(f"metrics sinks:    {', '.join(sorted(registry.metrics_sinks))}")
    print(f"span sinks:       {', '.join(sorted(registry.span_sinks))}")
    return 0
