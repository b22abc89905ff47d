"""Look whether a node can run here, as it is configured, and say what to change. It starts none.

TARGET and options are those of ``toolring serve``. The tools are loaded in a process of their own. The exit status is
3 if something failed, and 0 if there are only warnings.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from typing import TYPE_CHECKING, Final

from toolring.cli.options import add_config, effective
from toolring.cli.output import harmless, paint, table
from toolring.config import Config, Node
from toolring.config_checks import MOST_WORKERS
from toolring.errors import ConfigError

if TYPE_CHECKING:
    from toolring.cli.checks import Finding

_COLOURS: Final = {"ok": "32", "warning": "33", "failure": "31"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", metavar="TARGET", nargs="*", default=[], help="what would be served")
    parser.add_argument("--bind", metavar="ADDRESS", help="where it would listen")
    parser.add_argument("--workers", metavar="N", type=int, help="processes of each group")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config(parser)


def run(options: argparse.Namespace) -> int:
    flags = {"node.bind": options.bind, "node.workers": options.workers, "node.tools": tuple(options.targets) or None}
    temporary = _temporary()  # what is imported next ends without such a place
    from toolring.cli.checks import Status, examine, worst
    from toolring.cli.facts import gather

    problem = ""
    try:
        config = effective(options, **flags).config
    except ConfigError as error:
        problem = str(error)
        workers = options.workers if options.workers in range(1, MOST_WORKERS + 1) else 0
        config = Config(node=Node(bind=options.bind or "", workers=workers, tools=tuple(options.targets)))
    findings = examine(gather(config, problem, temporary))
    status = worst(findings)
    if options.json:
        print(json.dumps({"status": status, "findings": [finding._asdict() for finding in findings]}))
    else:
        _show(findings)
        failed, doubtful = (sum(one.status is kind for one in findings) for kind in (Status.FAILURE, Status.WARNING))
        print(f"\n{len(findings)} checks: {failed} failed, {doubtful} with a warning")
    return ConfigError.exit_status if status is Status.FAILURE else os.EX_OK


def _temporary() -> str:
    """Why there can be no temporary files; the rest is looked at all the same."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        tempfile.tempdir = os.getcwd()
        return str(error.strerror)
    return ""


def _show(findings: list[Finding]) -> None:
    rows = [(one.status.value, one.check, harmless(" ".join(one.found.split()))) for one in findings]
    heading, *lines = table(("STATUS", "CHECK", "FOUND"), rows).split("\n")
    print(heading)
    for finding, line in zip(findings, lines, strict=True):
        print(line.replace(finding.status, paint(finding.status, _COLOURS[finding.status]), 1))
        if finding.advice:
            print(f"         -> {finding.advice}")
