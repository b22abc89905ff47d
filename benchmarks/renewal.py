"""Renewal: how soon a successor is ready, what renewals and reloads cost callers, and a tool that leaks for long.

python -m benchmarks.renewal                                     about five minutes
python -m benchmarks.renewal --quick
python -m benchmarks.renewal --docs docs/renewal-benchmarks.md   and write the page
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import psutil

from benchmarks import report
from benchmarks.caching import node
from benchmarks.flow import quantile
from toolring import Client
from toolring.policy.memory import MemoryPolicy
from toolring.probe import Probe, of_descendants
from toolring.supervisor.spawner import resident
from toolring.workers.care import Care

WORKERS: Final = 2
LIMIT: Final = 256 << 20


def starts(rounds: int) -> list[float]:
    """Seconds from a successor's start until it was ready, as the node tells them."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        log = Path(directory, "log")
        with node(WORKERS, target="benchmarks.renewal_tools", log=str(log)) as client:
            for _ in range(rounds):
                pids = {one["pid"] for one in client.recycle()}
                while pids & {worker["pid"] for worker in client.status()["workers"]}:
                    time.sleep(0.005)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [one["took"] for one in lines if one["event"] == "worker_ready" and one["generation"] > 1]


def rolling(seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of calls made one after the other: as usual, and while all workers are renewed without a pause."""
    usual: list[float] = []
    renewed: list[float] = []
    with node(WORKERS, target="benchmarks.renewal_tools") as client:
        for found in (usual, renewed):
            over = threading.Event()
            if found is renewed:
                threading.Thread(target=_renew, args=(client.address, over), daemon=True).start()
            until = perf_counter() + seconds
            while (began := perf_counter()) < until:
                client.call("echo", {"n": 1})
                found.append(perf_counter() - began)
            over.set()
    return usual, renewed


def _renew(address: str, over: threading.Event) -> None:
    with Client(address) as client:
        while not over.wait(0.2):
            client.recycle()


def reloads(rounds: int, seconds: float) -> tuple[list[float], list[float], list[float]]:
    """Seconds of calls made one after the other: as usual, and while the tools are loaded anew, whose import keeps a
    core busy for ``seconds``; and of each reload."""
    usual: list[float] = []
    reloaded: list[float] = []
    took: list[float] = []
    with (
        node(WORKERS, target="benchmarks.heavy_tools", BENCH_IMPORT_SECONDS=str(seconds)) as client,
        Client(client.address) as operator,
    ):
        for _ in range(rounds):
            until = perf_counter() + seconds
            while (began := perf_counter()) < until:
                client.call("echo", {"n": 1})
                usual.append(perf_counter() - began)
            outcomes: list[dict[str, Any]] = []
            waiting = threading.Thread(target=_reload, args=(operator, outcomes), daemon=True)
            waiting.start()
            while not outcomes:
                began = perf_counter()
                client.call("echo", {"n": 1})
                reloaded.append(perf_counter() - began)
            waiting.join()
            if outcomes[0]["error"] is not None:
                raise RuntimeError(f"the reload failed: {outcomes[0]['error']}")
            took.append(outcomes[0]["seconds"])
    return usual, reloaded, took


def _reload(client: Client, outcomes: list[dict[str, Any]]) -> None:
    number = client.reload()
    while (outcome := client.reloads(number)["outcome"]) is None:
        time.sleep(0.02)
    outcomes.append(outcome)


def leaking(calls: int) -> tuple[int, float, int, int, float]:
    """Calls answered, seconds, workers renewed, the most bytes of all processes together, the longest call."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        file = Path(directory, "toolring.toml")
        file.write_text(f"[groups.default]\nmax_memory = {LIMIT}\n")
        with node(WORKERS, target="benchmarks.renewal_tools", TOOLRING_CONFIG=str(file)) as client:
            top = psutil.Process(client.status()["pid"])
            most, longest, answered = 0, 0.0, 0
            began = last = perf_counter()
            for _ in client.map("leak", repeat({}, calls), chunk=1, window=8, ordered=False):
                now = perf_counter()
                longest, last = max(longest, now - last), now
                answered += 1
                if answered % 200 == 0:
                    most = max(most, sum(_resident(one) for one in [top, *top.children(recursive=True)]))
            return answered, perf_counter() - began, client.status()["renewed"], most, longest


def watching(rounds: int) -> dict[str, list[float]]:
    """Seconds of the processor that looks at memory take: a worker's own, quick and thorough, and the supervisor's at
    one worker."""
    care, child = Care(MemoryPolicy(), WORKERS, list), subprocess.Popen(["sleep", "600"])
    probe = Probe(WORKERS)
    looks: dict[str, Callable[[], object]] = {
        "quick": care.figures,
        "thorough": lambda: probe.snapshot(thorough=True),
        "of one worker": lambda: (of_descendants(child.pid), resident(child.pid)),
    }
    found: dict[str, list[float]] = {name: [] for name in looks}
    try:
        for _ in range(rounds):
            for name, look in looks.items():
                began = time.thread_time()
                look()
                found[name].append(time.thread_time() - began)
    finally:
        child.kill()
        child.wait()
    return found


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


DOCUMENT: Final = """\
# Renewal

Written by `make bench-renewal` on {date}. {machine}

{table}

Starts are those of successors, from the order to a warm zygote until the worker says that it is ready. Calls are of a
no-op, one after the other; during the second run all workers are asked to be renewed five times a second. The import
that takes long keeps a core busy for five seconds of its time, beside the node and the caller. The tool that
leaks keeps a megabyte of each call; each worker may have {limit} MiB, and is measured four times a second. Looks at
memory are in time of the processor, which they take from the tools, or from the supervisor's jobs.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.renewal", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    took = starts(5 if options.quick else 100)
    usual, renewed = rolling(2.0 if options.quick else 15.0)
    plain, reloaded, reloading = reloads(1 if options.quick else 5, 1.0 if options.quick else 5.0)
    looks = watching(200 if options.quick else 2_000)
    calls = 2_000 if options.quick else 100_000
    answered, seconds, count, most, longest = leaking(calls)
    rows = [
        ["", "seen", "target"],
        ["starts", str(len(took)), ""],
        ["ready after, p50, ms", report.number(quantile(took, 0.5) * 1e3), ""],
        ["ready after, p99, ms", report.number(quantile(took, 0.99) * 1e3), "≤ 50"],
        ["a call as usual, p50 / p99 / longest, ms", _three(usual), ""],
        ["a call during renewals, p50 / p99 / longest, ms", _three(renewed), "longest ≤ usual + 50"],
        ["reloads of tools whose import takes so long, s", f"{len(reloading)}, {_spread(reloading)}", ""],
        ["  a call as usual, p50 / p99 / longest, ms", _three(plain), ""],
        ["  a call during reloads, p50 / p99 / longest, ms", _three(reloaded), "longest ≤ usual + 50"],
        *_looks(looks),
        ["calls of a tool that leaks 1 MB each", f"{answered} of {calls}", "none lost"],
        ["  per second", report.number(answered / seconds), ""],
        ["  workers renewed", str(count), ""],
        ["  most memory of the node, MiB", report.number(most / (1 << 20)), "bounded"],
        ["  longest wait for the next answer, ms", report.number(longest * 1e3), ""],
    ]
    print(report.plain(rows))
    if options.docs:
        date = datetime.now(UTC).date().isoformat()
        table = report.markdown(rows)
        options.docs.write_text(DOCUMENT.format(date=date, machine=report.machine(), table=table, limit=LIMIT >> 20))


def _looks(found: dict[str, list[float]]) -> list[list[str]]:
    told = {name: f"{quantile(one, 0.5) * 1e6:.0f} / {quantile(one, 0.9) * 1e6:.0f}" for name, one in found.items()}
    return [
        ["a worker's look at its memory, once a second at most, p50 / p90, µs", told["quick"], "≤ 1000"],
        ["  the thorough one, twice a minute", told["thorough"], "≤ 30000"],
        ["the supervisor's look at each worker, every 2 s", told["of one worker"], "≤ 200"],
    ]


def _spread(found: list[float]) -> str:
    return f"{report.number(min(found))} to {report.number(max(found))}"


def _three(found: list[float]) -> str:
    return " / ".join(report.number(one * 1e3) for one in (quantile(found, 0.5), quantile(found, 0.99), max(found)))


if __name__ == "__main__":
    main()
