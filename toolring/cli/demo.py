"""Start a node with the bundled tools, give it real work, then kill one of its workers and hang another, and show
what happens. Everything shown is observed. It ends by itself; the last line is a JSON summary.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolring.cli.output import paint, table
from toolring.cli.started import started
from toolring.errors import ToolringError

TARGETS = ("toolring.plugins.tools.code", "toolring.plugins.tools.demo")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (default: 2)")
    parser.add_argument("--jobs", type=int, default=20_000, metavar="N", help="jobs of the speed run (default: 20000)")


def run(options: argparse.Namespace) -> int:
    directory = tempfile.mkdtemp(prefix="toolring-demo-")
    try:
        return _run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(options: argparse.Namespace, directory: str) -> int:
    from toolring.client.sync import Client

    address = f"ipc://{directory}/node.sock"
    summary: dict[str, Any] = {"errors": {}}
    with _node(address, options.workers, directory) as node, Client(address) as client:
        pids = [worker["pid"] for worker in _workers(client)]
        summary.update(address=address, supervisor=node.pid, pids_before=pids)
        _say(f"A node with {options.workers} workers, and as many for async tools, listens at {address}; pids {pids}")
        _code(client)
        _command_line(address)
        _cache(client, summary)
        _live(client, summary)
        _errors(client, summary)
        _killed(client, summary)
        _hung(client, summary)
        _speed(client, options.jobs, summary)
        _figures(client, summary)
        tree = _tree(node.pid)
    summary["exit_status"] = node.returncode
    summary["left_over"] = [pid for pid in tree if os.path.exists(f"/proc/{pid}")]
    summary["left_over"] += [str(path) for path in Path(directory).iterdir() if path.name != "cache"]
    _say(f"SIGTERM: the node drained and ended with status {node.returncode}; left over: {summary['left_over']}")
    problems = _problems(summary)
    for problem in problems:
        print(paint(f"not as it should be: {problem}", "31"))
    print(json.dumps(summary))
    return 1 if problems else 0


@contextmanager
def _node(address: str, workers: int, directory: str) -> Iterator[subprocess.Popen[str]]:
    """A node started from the command line, ended by SIGTERM."""
    words = ["serve", *TARGETS, "--bind", address, "--workers", str(workers), "--log-level", "error"]
    print(paint("$ toolring " + " ".join(words), "2"), flush=True)
    with started(words[1:], {"TOOLRING_CACHE_DIRECTORY": f"{directory}/cache"}) as node:  # nothing from an earlier demo
        yield node


def _say(text: str) -> None:
    print(paint("\n" + text, "1"), flush=True)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def _code(client: Any) -> None:
    _say("Tools over the standard library's source:")
    outline, spent = _timed(lambda: client.call("outline", {"path": "json/decoder.py"}))
    names = [symbol["name"] for symbol in outline["symbols"] if symbol["kind"] == "class"]
    print(f"  outline     json/decoder.py: {outline['lines']} lines, classes {names} ({spent * 1e3:.0f} ms)")
    found, spent = _timed(lambda: client.call("search", {"pattern": r"class JSON\w+", "path": "json"}))
    where = ", ".join(f"{match['path']}:{match['line']}" for match in found["matches"])
    print(f"  search      'class JSON\\w+' under json: {where} ({spent * 1e3:.0f} ms)")
    found, spent = _timed(lambda: client.call("definition", {"name": "JSONDecoder.decode", "path": "json"}))
    first = found["definitions"][0]
    print(
        f"  definition  JSONDecoder.decode: {first['path']}:{first['line']} {first['signature']} ({spent * 1e3:.0f} ms)"
    )
    top, spent = _timed(lambda: client.call("complexity", {"path": "json", "top": 1}))
    most = top["functions"][0]
    print(f"  complexity  json: {top['totals']['functions']} functions, the most complex is {most['name']} ", end="")
    print(f"with {most['complexity']} ({spent * 1e3:.0f} ms)", flush=True)


def _command_line(address: str) -> None:
    words = ["call", "read_lines", "path=this.py", "start=1", "count=2", "--address", address]
    print(paint("\n$ toolring " + " ".join(words), "2"), flush=True)
    done = subprocess.run([sys.executable, "-P", "-m", "toolring", *words], capture_output=True, text=True, check=True)
    print("  " + done.stdout.strip().replace("\n", "\n  "), flush=True)


def _cache(client: Any, summary: dict[str, Any]) -> None:
    arguments = {"pattern": r"def \w+_lock\(", "path": "."}
    _, first = _timed(lambda: client.call("search", arguments))
    handles, again = _timed(lambda: [_answered(client, "search", arguments) for _ in range(5)])
    hits = sum(handle.cached for handle in handles)
    summary["cache_hits"] = hits
    _say("The same search over the whole library, again:")
    print(f"  first {first * 1e3:.0f} ms, then {again / 5 * 1e3:.1f} ms each; ", end="")
    print(f"{hits} of 5 answers came from the cache")


def _answered(client: Any, name: str, arguments: dict[str, Any]) -> Any:
    handle = client.submit(name, arguments)
    handle.result()
    return handle


def _workers(client: Any) -> list[dict[str, Any]]:
    """Those for plain tools; async ones have others."""
    return [worker for worker in client.status()["workers"] if worker["group"] == "default"]


def _live(client: Any, summary: dict[str, Any]) -> None:
    _say("100 async tools that wait 100 ms each, all at once; then what a generator yields, as it comes:")
    handles = [client.submit("async_nap", {"seconds": 0.1}) for _ in range(100)]
    pids, spent = _timed(lambda: {handle.result() for handle in handles})
    print(f"  {len(handles)} answers from {len(pids)} processes after {spent:.2f} s")
    began = time.perf_counter()
    letters = []
    for letter in client.stream("spell", {"text": "toolring"}):
        letters.append(letter)
        print(f"  {letter} at {(time.perf_counter() - began) * 1e3:.0f} ms", end="", flush=True)
    print()
    summary.update(async_answers=len(handles), async_processes=len(pids), streamed="".join(letters))


def _errors(client: Any, summary: dict[str, Any]) -> None:
    _say("Bad calls are refused by name, a tool's own error comes back as one:")
    for name, arguments in (
        ("outline", {"path": 3}),
        ("outline", {"file": "json/decoder.py"}),
        ("read_lines", {"path": "../../../etc/passwd"}),
        ("outlin", {"path": "json/decoder.py"}),
    ):
        try:
            client.call(name, arguments)
        except ToolringError as error:
            _count(summary, error)
            print(f"  {error.code:18} {str(error)[:100]}", flush=True)


def _count(summary: dict[str, Any], error: ToolringError) -> None:
    summary["errors"][error.code] = summary["errors"].get(error.code, 0) + 1


def _killed(client: Any, summary: dict[str, Any]) -> None:
    """Kill a worker with SIGKILL while it runs a job, others waiting behind."""
    _say("20 jobs of 100 ms; one worker is killed by SIGKILL while it runs one:")
    handles = [client.submit("nap", {"seconds": 0.1}) for _ in range(20)]
    victim = None
    while victim is None:
        victim = next((worker["pid"] for worker in _workers(client) if worker["state"] == "busy"), None)
    os.kill(victim, signal.SIGKILL)
    results = [handle.result() for handle in handles]
    again = [result for result in results if result["attempt"] > 1]
    after = _settled(client, {victim})
    summary.update(killed=victim, killed_jobs=len(results), killed_repeated=len(again), pids_after_kill=after)
    print(
        f"  killed {victim}; {len(results)} of 20 answered, {len(again)} of them by a second attempt; pids now {after}"
    )


def _settled(client: Any, gone: set[int]) -> list[int]:
    """The workers' pids, once all can take jobs and none of ``gone`` is among them."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        workers = _workers(client)
        if all(worker["state"] in ("ready", "busy") and worker["pid"] not in gone for worker in workers):
            break
        time.sleep(0.01)
    return [worker["pid"] for worker in workers]


def _hung(client: Any, summary: dict[str, Any]) -> None:
    _say("A tool that never returns, with a deadline of 0.5 s:")
    before = {worker["pid"] for worker in _workers(client)}
    began = time.perf_counter()
    try:
        client.call("hang", timeout=0.5)
    except ToolringError as error:
        _count(summary, error)
        spent = time.perf_counter() - began
        print(f"  {error.code} after {spent:.3f} s: {error}")
    end = time.monotonic() + 30
    after = before
    while len(after - before) < 1 and time.monotonic() < end:
        after = set(_settled(client, set()))
    summary.update(hang_seconds=round(spent, 3), hang_ended=sorted(before - after), pids_after=sorted(after))
    print(f"  its worker {sorted(before - after)} was replaced by {sorted(after - before)}", flush=True)


def _speed(client: Any, jobs: int, summary: dict[str, Any]) -> None:
    latencies = []
    for number in range(1000):
        began = time.perf_counter()
        client.call("echo", {"text": str(number)})
        latencies.append((time.perf_counter() - began) * 1e6)
    latencies.sort()
    texts = ({"text": f"{number:0100d}"} for number in range(jobs))
    count, spent = _timed(lambda: sum(1 for _ in client.map("echo", texts)))
    summary.update(
        jobs=count, jobs_per_second=round(count / spent), p50_us=round(latencies[500]), p99_us=round(latencies[989])
    )


def _figures(client: Any, summary: dict[str, Any]) -> None:
    status = client.status()
    summary["exits"] = status["exits"]
    summary["tools"] = {name: tool for name, tool in status["tools"].items() if tool["answered"] or tool["errors"]}
    _say("Figures:")
    rows = [
        (name, tool["answered"], tool["cached"], sum(tool["errors"].values()), (tool["mean_run_seconds"] or 0) * 1e3)
        for name, tool in summary["tools"].items()
    ]
    print(table(("TOOL", "ANSWERED", "CACHED", "ERRORS", "MEAN RUN MS"), rows), end="\n\n")
    speed = [
        ("jobs/s, 256 in flight", summary["jobs_per_second"]),
        ("one at a time, p50 us", summary["p50_us"]),
        ("one at a time, p99 us", summary["p99_us"]),
        ("worker exits", summary["exits"]),
    ]
    print(table(("FIGURE", "VALUE"), speed), flush=True)


def _tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    import psutil

    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _problems(summary: dict[str, Any]) -> list[str]:
    """What was not as promised."""
    checks = {
        "no answer came from the cache": summary["cache_hits"] == 0,
        "a stream did not come whole": summary["streamed"] != "toolring",
        "not every job was answered although a worker was killed": summary["killed_jobs"] != 20,
        "the killed worker was not replaced": summary["killed"] in summary["pids_after_kill"],
        "the hanging tool was not ended at its deadline": not summary["hang_ended"] or summary["hang_seconds"] > 5,
        "the node did not end well": summary["exit_status"] != 0,
        "something was left over": bool(summary["left_over"]),
    }
    return [text for text, bad in checks.items() if bad]
