"""Show what a worker does at this moment, by its number or its pid as toolring status shows them: the stacks of all its
threads, and what the tasks of an async one wait for. It runs on meanwhile. It answers while a tool hangs, too, even in
code that holds the interpreter.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from toolring.cli.options import add_address
from toolring.cli.output import harmless, paint


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", metavar="WORKER", type=int)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        found = client.dump(options.worker)
    print(json.dumps(found) if options.json else text_of(found))
    return 0


def text_of(found: dict[str, Any]) -> str:
    """For a person: each stack with the innermost frame first."""
    runs = f", which runs {found['tool']}" if found["tool"] else ""
    lines = [f"worker {found['worker']}, pid {found['pid']}{runs}"]
    if found["by"] == "c":
        lines.append("its Python did not answer at once: it is in code in C, or in a system call that goes on")
    for thread in found["threads"]:
        name = thread["name"] or f"thread {thread['thread']:#x}"
        lines += ["", paint(harmless(name), "1"), *_frames(thread["frames"])]
    for task in found["tasks"] or ():
        runs = f": {task['tool']}, job {task['job']}" if task["job"] else ""
        lines += ["", paint(harmless(f"task {task['name']}{runs}"), "1"), *_frames(task["frames"])]
    return "\n".join(lines)


def _frames(frames: list[dict[str, Any]]) -> list[str]:
    return [harmless(f"  {one['function']}  {one['file']}:{one['line']}") for one in frames] or ["  no Python code"]
