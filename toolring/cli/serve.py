"""Start a node and serve until SIGTERM or Ctrl-C, which let it finish what it has accepted; a second one stops it.

TARGET is a module (package.tools), a file (tools.py), or either with :name for one tool or a list of tools.
Without one, the bundled tools for source code are served.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from toolring import logs
from toolring.address import host_and_port
from toolring.cli.options import add_config, effective
from toolring.config import forget_secrets
from toolring.errors import AddressError

DASHBOARD: Final = "127.0.0.1:9465"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", metavar="TARGET", nargs="*", default=[], help="module, file.py, or either with :name"
    )
    parser.add_argument("--bind", metavar="ADDRESS", help="ipc:///path.sock or tcp://127.0.0.1:PORT")
    parser.add_argument("--workers", metavar="N", type=int, help="processes of each group (default: one for each core)")
    parser.add_argument("--watch", action="store_true", help="load the tools anew when one of their files changes")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="serve /metrics, /healthz and /readyz there")
    parser.add_argument(
        "--dashboard",
        metavar="HOST:PORT",
        nargs="?",
        const=DASHBOARD,
        type=_dashboard,
        help=f"serve pages about the node for a browser there (default: {DASHBOARD})",
    )
    parser.add_argument("--log-level", choices=logs.LEVELS)
    parser.add_argument("--log-format", choices=logs.FORMATS)
    add_config(parser)


def _dashboard(text: str) -> str:
    try:
        host_and_port(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(f"{error}; name the targets before --dashboard") from None
    return text


def run(options: argparse.Namespace) -> int:
    loaded = effective(
        options,
        **{
            "node.bind": options.bind,
            "node.workers": options.workers,
            "node.tools": tuple(options.targets) or None,
            "node.watch": options.watch or None,
            "metrics.listen": options.metrics,
            "dashboard.listen": options.dashboard,
            "log.level": options.log_level,
            "log.format": options.log_format,
        },
    )
    forget_secrets(os.environ)
    from toolring.supervisor.ground import Ground

    ground = Ground(loaded)
    try:
        from toolring.supervisor.node import Node  # while the zygote loads the tools
    except BaseException:
        ground.close()
        raise
    Node(ground).run(_ready)
    return 0


def _ready(address: str, workers: int, tools: list[str], failing: list[str], dashboard: str) -> None:
    shown = ", ".join(tools[:8]) + (f" and {len(tools) - 8} more" if len(tools) > 8 else "")
    if failing:
        print(f"the workers of {', '.join(failing)} die before they can do anything; see the log", flush=True)
    up = "up, but can't work yet," if failing and not workers else "ready"
    print(f"toolring is {up} at {address} with {workers} workers: {shown}", flush=True)
    if dashboard:
        print(f"dashboard: {dashboard}/", flush=True)
    if sys.stdout.isatty():
        print(f"try: toolring list --address {address}   (Ctrl-C drains and stops)", flush=True)
