"""Options that several commands share, and how they become a configuration."""

from __future__ import annotations

import argparse
from typing import Any

from toolring.config import Loaded, load


def add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", help="where the node listens (default: TOOLRING_ADDRESS, or this user's socket)")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="a TOML file (default: toolring.toml, or pyproject.toml)")
    parser.add_argument("--plugin", metavar="MODULE", action="append", help="load this plugin too; may be repeated")


def effective(options: argparse.Namespace, **flags: Any) -> Loaded:
    """The configuration with the flags of this command on top."""
    first = load(options.config)
    if options.plugin:
        flags["plugins.load"] = (*first.config.plugins.load, *options.plugin)
    return load(options.config, flags=flags)
