"""Measure async tools, streams, tools that take many calls at once, and the adaptive limit.

python -m benchmarks.live                                  all of it, about two minutes
python -m benchmarks.live --quick
python -m benchmarks.live --docs docs/live-benchmarks.md   and write the page
"""

from __future__ import annotations

import argparse
import itertools
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import report
from benchmarks.caching import node
from benchmarks.flow import quantile
from toolring import Client

WINDOW = 256


def one_at_a_time(client: Client, tool: str, calls: int) -> float:
    """Median microseconds of a call."""
    found = []
    for _ in range(calls):
        began = perf_counter()
        client.call(tool, {"text": "x" * 100})
        found.append(perf_counter() - began)
    return median(found) * 1e6


def in_flight(client: Client, tool: str, arguments: dict[str, Any], calls: int, window: int = WINDOW) -> float:
    """Calls/s with so many under way."""
    began = perf_counter()
    for _ in client.map(tool, itertools.repeat(arguments, calls), window=window):
        pass
    return calls / (perf_counter() - began)


def parts(client: Client, tool: str, count: int) -> float:
    """Parts/s of one stream."""
    began = perf_counter()
    assert sum(1 for _ in client.stream(tool, {"n": count})) == count
    return count / (perf_counter() - began)


def asynchronous(client: Client, rounds: int, calls: int) -> list[list[str]]:
    text = {"text": "x" * 100}
    plain, ours, slow, many = [], [], [], []
    for _ in range(rounds):
        plain.append((one_at_a_time(client, "echo", calls // 20), in_flight(client, "echo", text, calls)))
        ours.append((one_at_a_time(client, "async_echo", calls // 20), in_flight(client, "async_echo", text, calls)))
        slow.append(in_flight(client, "slow", {}, calls // 200))
        many.append(in_flight(client, "async_slow", {}, calls // 4))
    return [
        ["", "plain", "async", "async ÷ plain"],
        ["a no-op, one at a time, p50 µs", *_pair([p[0] for p in plain], [o[0] for o in ours])],
        ["a no-op, 256 in flight, jobs/s", *_pair([p[1] for p in plain], [o[1] for o in ours])],
        ["20 ms of waiting, 256 in flight, jobs/s", *_pair(slow, many)],
    ]


def streaming(client: Client, rounds: int, count: int) -> list[list[str]]:
    plain = [parts(client, "count", count) for _ in range(rounds)]
    ours = [parts(client, "async_count", count) for _ in range(rounds)]
    return [["", "parts/s"], ["a plain generator", report.spread(plain)], ["an async one", report.spread(ours)]]


def together(client: Client, rounds: int, calls: int) -> list[list[str]]:
    text = {"text": "x" * 100}
    each = [in_flight(client, "weigh", text, calls // 10) for _ in range(rounds)]
    many = [in_flight(client, "weigh_many", text, calls) for _ in range(rounds)]
    alone = []
    for _ in range(20 * rounds):
        began = perf_counter()
        client.call("weigh_many", text)
        alone.append((perf_counter() - began) * 1e3)
    return [
        ["", "calls/s", "÷ one by one"],
        ["one by one", report.spread(each), ""],
        ["32 at once", report.spread(many), report.spread([m / e for m, e in zip(many, each, strict=True)])],
        ["one that comes alone, ms", report.spread(alone), ""],
    ]


def limits(client: Client, seconds: float) -> list[list[str]]:
    """A hundred callers at once of what eight can use well, with the adaptive limit and without any."""
    rows = [["", "jobs/s", "p50 of a run, ms", "p99 of a run, ms", "at once"]]
    for tool in ("crowded", "adaptive"):
        crowds, runs, jobs = crowd(client, tool, seconds)
        shown = [f"{jobs:,.0f}", *(f"{quantile(runs, share) * 1e3:.0f}" for share in (0.5, 0.99))]
        rows.append([tool, *shown, f"{median(crowds):.0f}"])
    return rows


def crowd(client: Client, tool: str, seconds: float) -> tuple[list[int], list[float], float]:
    """How many ran beside each, how long each ran, and how many a second, once the limit has settled."""
    crowds: list[int] = []
    runs: list[float] = []
    settled = perf_counter() + seconds
    end = settled + seconds

    def call() -> None:
        while perf_counter() < end:
            handle = client.submit(tool)
            found = handle.result()
            if perf_counter() > settled:
                crowds.append(found)
                runs.append(handle.run_seconds or 0.0)

    callers = [threading.Thread(target=call) for _ in range(100)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return crowds, runs, len(runs) / seconds


def _pair(plain: Sequence[float], ours: Sequence[float]) -> list[str]:
    ratios = [o / p for p, o in zip(plain, ours, strict=True)]
    return [report.spread(list(plain)), report.spread(list(ours)), report.spread(ratios)]


DOCUMENT = """\
# Async tools, streams and batches

Written by `make bench-live` on {date}. Median [least-most]. {machine}

Two workers for plain tools, two for async ones with 100 places each, every setting as it comes.

## Async tools

{asynchronous}

What waits costs an async worker no process: a hundred at once in each.

## Streams

One stream of small numbers, one reader. A plain generator hands each part on before it makes the next; what an async
one yields in one turn of its event loop travels together.

{streaming}

## Many calls at once

A tool that takes 5 ms to begin and next to nothing for each thing that it weighs, 256 calls under way; declared with
`batch=32, batch_delay=0.005`, and without.

{together}

## The adaptive limit

Something that eight can use at once; with more its time grows with the square of how many they are. A hundred callers
at once, in one worker process, with the node's adaptive limit and without any.

{limits}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    rounds, calls, seconds = (2, 5_000, 3.0) if options.quick else (5, 20_000, 15.0)
    measures: dict[str, Callable[[Client], list[list[str]]]] = {
        "asynchronous": lambda client: asynchronous(client, rounds, calls),
        "streaming": lambda client: streaming(client, rounds, calls),
        "together": lambda client: together(client, rounds, calls),
    }
    found = {}
    with node(2) as client:
        for name, measure in measures.items():
            found[name] = measure(client)
            print(report.plain(found[name]), end="\n\n", flush=True)
    with node(1) as client:
        found["limits"] = limits(client, seconds)
    print(report.plain(found["limits"]))
    if options.docs:
        tables = {name: report.markdown(rows) for name, rows in found.items()}
        date = datetime.now(UTC).date().isoformat()
        options.docs.write_text(DOCUMENT.format(date=date, machine=report.machine(), **tables))


if __name__ == "__main__":
    main()
