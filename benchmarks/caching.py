"""Measure what a cached result costs, and what affinity is worth.

    python -m benchmarks.caching                                   both, five rounds
    python -m benchmarks.caching --quick
    python -m benchmarks.caching --docs docs/caching-benchmarks.md  and write the page

Both sides of a ratio are measured in turns, round by round: the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any, NamedTuple

from benchmarks import report
from benchmarks.processes import end, environment, line_of
from toolring import Client

WINDOW = 256
ZIPF = 0.9
NUMBERS = 20_000
ENTRIES = 2_000
WORKERS = 4


class Round(NamedTuple):
    p50: float
    rate: float


@contextmanager
def node(workers: int, target: str = "benchmarks.cached_tools", log: str = "", **settings: str) -> Iterator[Client]:
    """A node of its own with these settings (``TOOLRING_...``), and a client of it. ``log``: where all is logged."""
    directory = tempfile.mkdtemp(prefix="bench-")
    address = f"ipc://{directory}/n"
    command = [str(Path(sys.executable).with_name("toolring")), "serve", target]
    command += ["--bind", address, "--workers", str(workers), "--log-level", "info" if log else "error"]
    home = environment(XDG_RUNTIME_DIR=directory, XDG_CACHE_HOME=directory, **settings)
    with ExitStack() as stack:
        error = stack.enter_context(open(log, "wb")) if log else None
        process = subprocess.Popen(
            command, env=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=error, text=True
        )
    try:
        line_of(process)
        with Client(address) as client:
            yield client
    finally:
        end([process])
        shutil.rmtree(directory, ignore_errors=True)


def measured(client: Client, tool: str, calls: int, jobs: int) -> Round:
    """Median seconds of calls one at a time; then jobs/s with WINDOW of them under way. 100 arguments, in turns."""
    texts = [{"text": f"{number:0100d}"} for number in range(100)]
    for text in texts:
        client.call(tool, text)
    found = []
    for text in itertools.islice(itertools.cycle(texts), calls):
        began = perf_counter_ns()
        client.call(tool, text)
        found.append((perf_counter_ns() - began) * 1e-9)
    start = perf_counter()
    for _ in client.map(tool, itertools.islice(itertools.cycle(texts), jobs), window=WINDOW):
        pass
    return Round(median(found), jobs / (perf_counter() - start))


def cost(rounds: int, calls: int, jobs: int) -> list[list[str]]:
    """A cached result beside a no-op job of the same node: held by the supervisor, or by a worker alone."""
    rows = [["", "p50 µs", "÷ no-op's p50", "jobs/s", "÷ no-op's jobs/s"]]
    for title, settings in (
        ("held by the supervisor", {}),
        ("in a worker's memory", {"TOOLRING_CACHE_HOT_BYTES": "0"}),
    ):
        pairs: list[tuple[Round, Round]] = []
        with node(2, **settings) as client:
            for _ in range(rounds):
                pairs.append((measured(client, "echo", calls, jobs), measured(client, "held", calls, jobs)))
        plain, cached = zip(*pairs, strict=True)
        for name, ones in (("no-op, not cached", plain), (f"no-op, {title}", cached)):
            ratios = ("", "") if ones is plain else _ratios(pairs)
            p50, rate = report.spread([one.p50 * 1e6 for one in ones]), report.spread([one.rate for one in ones])
            rows.append([name, p50, ratios[0], rate, ratios[1]])
    return rows


def _ratios(pairs: list[tuple[Round, Round]]) -> tuple[str, str]:
    return (
        report.spread([cached.p50 / plain.p50 for plain, cached in pairs]),
        report.spread([cached.rate / plain.rate for plain, cached in pairs]),
    )


def zipf(count: int, seed: int) -> list[int]:
    """Numbers whose n-th most frequent is asked for in proportion to 1 / n ** ZIPF."""
    rng = random.Random(seed)
    total = list(itertools.accumulate(1 / rank**ZIPF for rank in range(1, NUMBERS + 1)))
    names = rng.sample(range(NUMBERS), NUMBERS)
    return [names[bisect.bisect_left(total, rng.random() * total[-1])] for _ in range(count)]


def affinity(rounds: int, jobs: int) -> list[list[str]]:
    """The same Zipf load with and without the ring; worker memory alone, each a tenth of the working set."""
    found: dict[str, list[tuple[float, float]]] = {"ring": [], "least_outstanding": []}
    for number in range(rounds):
        asked = zipf(jobs, number)
        for balancer, ones in found.items():
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory, "toolring.toml")
                small = f"[cache]\nhot_bytes = 0\nlayers = []\nmax_entries = {ENTRIES}\n"
                file.write_text(f'{small}[tools.look_up]\nbalancer = "{balancer}"\n')
                with node(WORKERS, TOOLRING_CONFIG=str(file)) as client:
                    half = len(asked) // 2
                    _look_up(client, asked[:half])  # fills the memories
                    before = _counts(client)
                    spent = _look_up(client, asked[half:])
                    after = _counts(client)
            ones.append(((after[0] - before[0]) / (after[1] - before[1]), (len(asked) - half) / spent))
    rows = [["", "hit ratio", "calls/s"]]
    for title, name in (
        ("whoever is free", "least_outstanding"),
        ("the ring: the same call to the same worker", "ring"),
    ):
        hits, rates = zip(*found[name], strict=True)
        rows.append([title, report.spread(hits), report.spread(rates)])
    both = list(zip(found["ring"], found["least_outstanding"], strict=True))
    rows.append(["ratio", *(report.spread([one[at] / other[at] for one, other in both]) for at in (0, 1))])
    return rows


def _look_up(client: Client, numbers: list[int]) -> float:
    began = perf_counter()
    for _ in client.map("look_up", ({"number": number} for number in numbers), window=WINDOW):
        pass
    return perf_counter() - began


def _counts(client: Client) -> tuple[int, int]:
    """Hits in a worker's memory, and all calls that a worker took."""
    figures: dict[str, Any] = client.status()["cache"]["tools"]["look_up"]
    hits = figures["hits"]["memory"]
    return hits, hits + figures["runs"]


DOCUMENT = """\
# What a cached result costs, and what affinity is worth

Written by `make bench-cache` on {date}; {rounds} rounds, both sides of each ratio in turns.
Median [least-most]. {machine}

## A cached result beside a job that does nothing

One hundred different arguments of 100 bytes, two workers, every setting as it comes: one call at a time, then
{window} under way.

{cost}

## Affinity

{workers} workers whose memories hold {entries:,} results each, {numbers:,} different calls of 1 ms, Zipf with exponent
{zipf}, {window} under way. No stores, and nothing held by the supervisor. The memories are filled by the first half of
the load; the second half is measured.

{affinity}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caching", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    rounds, calls, jobs = (1, 500, 20_000) if options.quick else (5, 2000, 100_000)
    costs = cost(rounds, calls, jobs)
    print(report.plain(costs), end="\n\n")
    worth = affinity(1 if options.quick else 3, 20_000 if options.quick else 60_000)
    print(report.plain(worth))
    if options.docs:
        options.docs.write_text(
            DOCUMENT.format(
                date=datetime.now(UTC).date().isoformat(),
                rounds=rounds,
                machine=report.machine(),
                window=WINDOW,
                cost=report.markdown(costs),
                workers=WORKERS,
                entries=ENTRIES,
                numbers=NUMBERS,
                zipf=ZIPF,
                affinity=report.markdown(worth),
            )
        )


if __name__ == "__main__":
    main()
