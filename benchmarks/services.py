"""Balancers before real workers and real HTTP endpoints, one of four ten times slower; and an endpoint that dies.

python -m benchmarks.services                                       about seven minutes
python -m benchmarks.services --quick
python -m benchmarks.services --docs docs/service-benchmarks.md     and write the page
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import psutil

from benchmarks import report
from benchmarks.caching import node
from benchmarks.flow import quantile
from benchmarks.processes import end, line_of, python
from benchmarks.service_tools import PACE, SLOWER
from toolring import AsyncClient, Client

CAPACITY: Final = 3 / PACE + 1 / (PACE * SLOWER)
"""Calls per second of three members and a slow one."""
ARRIVALS: Final = 0.3 * CAPACITY
BALANCERS: Final = ("round_robin", "random", "p2c", "peak_ewma", "least_outstanding")
BASE: Final = "round_robin"
CALLERS: Final = 8


@contextmanager
def endpoints(*paces: float) -> Iterator[list[str]]:
    """URLs of HTTP endpoints in a process of their own."""
    process = python("-m", "benchmarks.endpoints", *map(str, paces))
    try:
        yield [f"http://127.0.0.1:{port}" for port in line_of(process).split()]
    finally:
        end([process])


@contextmanager
def served(urls: list[str], workers: int, settings: str = "", group: str = "") -> Iterator[Client]:
    """A node whose tools ask a service at these endpoints."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        file = Path(directory, "toolring.toml")
        text = f"[services.shop]\nendpoints = {urls!r}\ntimeout = 120.0\nconnections = 4000\n{settings}\n"
        text += f"[groups.default]\n{group}\n"
        file.write_text(text + "per_worker = 0\n[groups.async]\nworkers = 1\nper_worker = 4000\n")
        variables = {"TOOLRING_CONFIG": str(file), "SLOW_LOCK": str(Path(directory, "lock"))}
        with node(workers, target="benchmarks.service_tools", **variables) as client:
            yield client


async def arrivals(address: str, tool: str, seconds: float, seed: int) -> list[float]:
    """Seconds that each call took, of callers who come whether or not others are done."""
    dice, found, tasks = random.Random(seed), [], []
    async with AsyncClient(address) as client:

        async def one() -> None:
            began = perf_counter()
            await client.call(tool, timeout=120)
            found.append(perf_counter() - began)

        for _ in range(20):  # connections and workers are warm
            await client.call(tool)
        due = perf_counter()
        until = due + seconds
        while due < until:
            due += dice.expovariate(ARRIVALS)
            await asyncio.sleep(max(0.0, due - perf_counter()))
            tasks.append(asyncio.create_task(one()))
        await asyncio.gather(*tasks)
    return found


def compared(kind: str, rounds: int, seconds: float) -> list[list[str]]:
    """Milliseconds of a call under each balancer, in turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in BALANCERS}
    with endpoints(PACE, PACE, PACE, PACE * SLOWER) as urls:
        for number in range(rounds):
            for name in BALANCERS:
                if kind == "endpoints":
                    way = served(urls, 1, f'balancer = "{name}"'), "ask"
                else:
                    way = served(urls, 4, group=f'balancer = "{name}"'), "work"
                with way[0] as client:
                    took = asyncio.run(arrivals(client.address, way[1], seconds, number))
                found[name].append((quantile(took, 0.5) * 1e3, quantile(took, 0.99) * 1e3))
                print(
                    f"{kind} {number} {name}: p50 {found[name][-1][0]:.1f} p99 {found[name][-1][1]:.1f} ms", flush=True
                )
    rows = [[f"four {kind}", "p50 ms", "p99 ms", f"p99 ÷ {BASE}'s"]]
    for name, runs in found.items():
        ratios = [one[1] / other[1] for one, other in zip(runs, found[BASE], strict=True)]
        rows.append([name, *(report.spread([one[n] for one in runs]) for n in (0, 1)), report.spread(ratios)])
    return rows


def death(seconds: float) -> tuple[int, int, float]:
    """Three endpoints, one of which is killed: calls answered, calls that failed, the longest in seconds."""
    answered = failed = 0
    longest = 0.0
    guard = threading.Lock()
    with ExitStack() as stack:
        (doomed,) = stack.enter_context(endpoints(0.001))
        others = stack.enter_context(endpoints(0.001, 0.001))
        client = stack.enter_context(served([doomed, *others], 2, 'health_check = "/healthz"'))
        until = time.monotonic() + seconds

        def work() -> None:
            nonlocal answered, failed, longest
            while time.monotonic() < until:
                began = perf_counter()
                try:
                    client.call("ask")
                    good = True
                except Exception:
                    good = False
                with guard:
                    answered, failed = answered + good, failed + (not good)
                    longest = max(longest, perf_counter() - began)

        threads = [threading.Thread(target=work) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 3)
        _kill(doomed)
        for thread in threads:
            thread.join()
    return answered, failed, longest


def _kill(url: str) -> None:
    port = int(url.rpartition(":")[2])
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.pid and one.laddr and one.laddr.port == port:
            psutil.Process(one.pid).kill()
            return
    raise RuntimeError(f"nobody listens at {url}")


DOCUMENT: Final = """\
# Services and balancers

Written by `make bench-services` on {date}. Median [least-most] of {rounds} rounds, in turns. {machine}

Of four members one takes {slow:.0f} ms for a call, the others {fast:.0f} ms, one call after the other. Callers come at
{rate:.0f} per second, 30 % of what the four can do, whether or not others are done. Under round robin the slow one gets
more than it can do, so its line grows as long as the run lasts ({seconds:.0f} s): the ratio is one of a run of that
length.

## Real HTTP endpoints, asked by an async tool

{endpoints}

## Real workers, one of them slow

`least_outstanding` is what tools have that say nothing: one line for all workers.

{workers}

## An endpoint dies

Three endpoints, eight callers of a read-only tool; one endpoint is killed with SIGKILL a third into the run.

{death}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.services", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once, and shortly")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    rounds, seconds = (1, 6.0) if options.quick else (3, 12.0)
    tables: dict[str, Any] = {kind: compared(kind, rounds, seconds) for kind in ("endpoints", "workers")}
    runs = [death(6.0) for _ in range(1 if options.quick else 3)]
    tables["death"] = [
        ["", "seen", "target"],
        ["calls answered", str(sum(one[0] for one in runs)), ""],
        ["calls that failed", str(sum(one[1] for one in runs)), "0"],
        ["the longest call, ms", report.spread([one[2] * 1e3 for one in runs]), ""],
    ]
    for rows in tables.values():
        print(report.plain(rows), end="\n\n")
    if options.docs:
        pages = {name: report.markdown(rows) for name, rows in tables.items()}
        date = datetime.now(UTC).date().isoformat()
        options.docs.write_text(
            DOCUMENT.format(
                date=date,
                machine=report.machine(),
                rounds=rounds,
                rate=ARRIVALS,
                seconds=seconds,
                fast=PACE * 1e3,
                slow=PACE * SLOWER * 1e3,
                **pages,
            )
        )


if __name__ == "__main__":
    main()
