"""``toolring``: the command line. Each command's code is imported when it is used, so that all start fast."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from toolring.cli.output import report
from toolring.errors import ToolringError

COMMANDS = {
    "serve": "start a node: a supervisor and its workers",
    "call": "run a tool and print its result",
    "map": "run a tool for each line of a file, or of standard input",
    "result": "print a result that a node has stored, or a part of it",
    "list": "list the tools that a node serves",
    "inspect": "show a tool's description, arguments and policy",
    "queue": "show what waits, for which limit, and for how long",
    "jobs": "list the jobs in hand, or those that failed or were slow",
    "why": "tell the life of a job: where it waited, ran and failed, and why",
    "cancel": "end a job, wherever it is",
    "kill": "kill a worker; another takes its place",
    "dump": "show what a worker does: the stacks of its threads and tasks",
    "profile": "show where a worker's time goes, as a flame graph",
    "memory": "show the memory of workers and supervisor as a chart",
    "collect": "have workers collect garbage and give memory back",
    "metrics": "show the figures of the last minutes: times, rates, errors",
    "alerts": "show which alerts fire, and what the others are at",
    "bench": "measure a tool: how often it can be called, how long callers wait",
    "recycle": "replace workers by fresh ones, without losing a call",
    "drain": "have a node finish what it has, and end",
    "reload": "load the tools' code anew, without losing a call",
    "breaker": "show the circuits of tools and services' endpoints; open or close one",
    "top": "watch a node live: workers, tools, queue, caches",
    "status": "show a node's workers, jobs and tools",
    "cache": "show what the caches did; clear or invalidate results",
    "plugins": "list the plugins that would be loaded, and from where",
    "config": "print the effective configuration and where each value came from",
    "doctor": "look whether a node can run here, and say what to change",
    "demo": "start a node, run jobs, kill workers, show what happens",
}

_LAST = {
    "call": "arguments",
    "map": "file",
    "serve": "targets",
    "doctor": "targets",
    "jobs": "tool",
    "metrics": "tool",
}
"""The argument that takes what is left over."""

EPILOG = """\
a first minute:
  toolring serve                                       serve the bundled code tools on this user's socket
  toolring call search pattern='class JSON\\w+' path=json   in another terminal
  toolring serve mytools.py --workers 4                serve your own: functions with @tool
  toolring status                                      see the workers
  toolring doctor                                      look for what may go wrong on this machine

exit status: 0 success, 1 the tool failed, 2 bad usage, arguments, tool or job, 3 configuration, plugin, address or
  tool module, 4 no node answers, 5 busy: try again, 6 deadline passed, 7 outcome unknown, 8 cancelled
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a result that was paid for is shown in any locale
    try:
        status = _run(words)
        sys.stdout.flush()
        return status
    except ToolringError as error:
        return report(error, as_json="--json" in words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains at its end
        return 0  # who reads no more has read enough
    except OSError as error:
        print(f"toolring: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _open_streams() -> None:
    """Who has closed one of the standard streams wants nothing of it, and nothing else may get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


def _run(words: list[str]) -> int:
    top = argparse.ArgumentParser(
        prog="toolring",
        description="Run the tools that agents call in a ring of supervised worker processes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"toolring {import_module('toolring').__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        one = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in words:
            module = import_module(f"toolring.cli.{name}")
            one.description = module.__doc__
            module.arguments(one)
    options, rest = top.parse_known_args(words)
    stray = [word for word in rest if word.startswith("-") and word != "-"]
    if stray or not _room_for(rest, options):
        top.error(f"unrecognized arguments: {' '.join(stray or rest)}")
    if options.command is None:
        top.print_help()
        return 2
    return int(import_module(f"toolring.cli.{options.command}").run(options))


def _room_for(rest: list[str], options: argparse.Namespace) -> bool:
    """Words on both sides of an option: argparse leaves the later ones over. False if the command takes no more."""
    name = _LAST.get(options.command or "", "")
    given = getattr(options, name, None)
    if isinstance(given, list):
        given.extend(rest)
        return True
    if name and given is None and len(rest) == 1:
        setattr(options, name, rest[0])
        return True
    return not rest


if __name__ == "__main__":
    sys.exit(main())
