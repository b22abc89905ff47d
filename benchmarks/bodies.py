"""Bodies: what large arguments and results cost on their way, and what other ways would cost.

python -m benchmarks.bodies                                  about three minutes
python -m benchmarks.bodies --quick
python -m benchmarks.bodies --docs docs/body-benchmarks.md   and write the page

All sides of a ratio are measured in turns, round by round: the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

from benchmarks import report
from benchmarks.body_chain import WAYS, Chain
from benchmarks.caching import node
from toolring import Client

SIZES: Final = (
    *(1_000, 4_000, 16_000, 32_000, 64_000, 128_000, 256_000),
    *(1_000_000, 4_000_000, 16_000_000, 64_000_000),
)
OURS: Final = "toolring"
STORED: Final = "stored"

Found = dict[tuple[str, str, int], list[float]]
"""Seconds of a call, of each round the median: by direction, way and size."""


def taken(call: Callable[[], Any], seconds: float) -> float:
    """The median of calls one after the other, for about so long, three at least."""
    found: list[float] = []
    until = perf_counter() + seconds
    while len(found) < 3 or perf_counter() < until:
        began = perf_counter()
        call()
        found.append(perf_counter() - began)
    return median(found)


def measured(chain: Chain, client: Client, rounds: int, seconds: float) -> Found:
    found: Found = {}
    for _ in range(rounds):
        for size in SIZES:
            for (direction, way), call in calls(chain, client, size).items():
                call()
                found.setdefault((direction, way, size), []).append(taken(call, seconds))
    return found


def calls(chain: Chain, client: Client, size: int) -> dict[tuple[str, str], Callable[[], Any]]:
    """What is compared for one size. Each is right: it gives what was sent, or all that was asked for."""
    data = os.urandom(size)
    made: dict[tuple[str, str], Callable[[], Any]] = {}
    for way in WAYS:
        made["arguments", way] = partial(chain.arguments, way, data)
        made["results", way] = partial(chain.results, way, size)
    made["arguments", OURS] = lambda: client.call("take", {"data": data})
    made["results", OURS] = lambda: client.call("give", {"size": size})
    made["results", STORED] = lambda: client.call("store", {"size": size})
    for (direction, way), call in made.items():
        got = call()
        if way != STORED and (got if direction == "arguments" else len(got)) != size:
            raise RuntimeError(f"{direction} of {size} bytes by {way}: {got!r:.100}")
    return made


def ratios(found: Found, direction: str, size: int, above: str, below: str) -> list[float]:
    """Of each round."""
    pairs = zip(found[direction, above, size], found[direction, below, size], strict=True)
    return [one / other for one, other in pairs]


def table(found: Found, direction: str) -> report.Table:
    ways = [OURS, *WAYS]
    heads = [f"{way}, ms" for way in ways]
    compared = [("copy", "frames"), ("frames", "shared"), (OURS, "frames"), (OURS, "shared")]
    rows = [["bytes", *heads, *(f"{one} / {other}" for one, other in compared)]]
    for size in SIZES:
        row = [f"{size:,}"]
        row += [report.number(median(found[direction, way, size]) * 1e3) for way in ways]
        row += [report.spread(ratios(found, direction, size, one, other)) for one, other in compared]
        rows.append(row)
    return rows


def stored_table(found: Found) -> report.Table:
    rows = [["bytes", "sent, ms", "stored, ms", "sent / stored"]]
    for size in SIZES:
        both = [report.number(median(found["results", way, size]) * 1e3) for way in (OURS, STORED)]
        rows.append([f"{size:,}", *both, report.spread(ratios(found, "results", size, OURS, STORED))])
    return rows


DOCUMENT: Final = """\
# Bodies

Written by `make bench-bodies` on {date}. {machine}

Median milliseconds of a call with one worker, one after the other, and ratios by round: median [min-max] of {rounds}.
The bare chain is a client, a broker and a worker with nothing around them that encode and decode as toolring does, and
carry the bytes in three ways: `copy` copies each frame in each process, `frames` doesn't, `shared` has them in memory
that all three have mapped (a file in /dev/shm, again and again the same), so that only a head travels.

## Arguments

{arguments}

## Results

{results}

## Stored results

What it costs a caller until there is an answer, if the result is [stored](how-to/large-results.md): each time the same
bytes, so they are encoded and hashed, and written the first time only.

{stored}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bodies", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    rounds, seconds = (2, 0.02) if options.quick else (5, 0.1)
    with closing(Chain()) as chain, node(1, target="benchmarks.body_tools") as client:
        found = measured(chain, client, rounds, seconds)
    tables = {"arguments": table(found, "arguments"), "results": table(found, "results"), "stored": stored_table(found)}
    for name, rows in tables.items():
        print(f"{name}\n{report.plain(rows)}\n")
    if options.docs:
        told = {name: report.markdown(rows) for name, rows in tables.items()}
        date = datetime.now(UTC).date().isoformat()
        options.docs.write_text(DOCUMENT.format(date=date, machine=report.machine(), rounds=rounds, **told))


if __name__ == "__main__":
    main()
