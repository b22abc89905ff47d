"""Several nodes: what a routing decision costs, and how long callers wait when a node is killed.

python -m benchmarks.nodes                                      the tables
python -m benchmarks.nodes --docs docs/node-benchmarks.md       and write the page
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import uhashring

from benchmarks import report
from benchmarks.caching import node
from toolring import Cluster
from toolring.client.nodes import FLOOR, NODES
from toolring.policy.balance import Rendezvous, RingOverflow
from toolring.policy.pool import Pool
from toolring.policy.ring import Ring, hash64

NAMES: Final = [f"tcp://127.0.0.1:{number}" for number in range(7000, 7100)]
KEYS: Final = [b"user:%d" % number for number in range(20_000)]


def decisions(rounds: int) -> list[list[str]]:
    """Microseconds of a decision among 100 nodes, with the hash of its key; a bare look-up beside uhashring's."""
    loads = [0.0] * len(NAMES)
    ring = Pool(dict.fromkeys(NAMES, 1.0), loads, RingOverflow, NODES, FLOOR)
    drawn = Pool(dict.fromkeys(NAMES, 1.0), loads, Rendezvous, NODES, FLOOR)
    bare, theirs = Ring(NAMES), uhashring.HashRing(NAMES, vnodes=150)
    texts, points = [key.decode() for key in KEYS], [hash64(key) for key in KEYS]
    ways: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]] = {
        "a decision, consistent hash": (lambda key: ring.choose(hash64(key)), KEYS),
        "a decision, rendezvous": (lambda key: drawn.choose(hash64(key)), KEYS[:500]),
        "a look-up on the ring, of a key": (lambda key: bare.find(hash64(key)), KEYS),
        "a look-up on the ring, of its hash": (bare.find, points),
        "uhashring's, of a key": (theirs.get_node, texts),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, keys) in ways.items():
            began = perf_counter()
            for key in keys:
                way(key)
            found[name].append((perf_counter() - began) / len(keys) * 1e6)
    rows = [["100 nodes", "µs", "÷ uhashring's"]]
    other = found["uhashring's, of a key"]
    for name, spent in found.items():
        ratios = [own / one for own, one in zip(spent, other, strict=True)]
        rows.append([name, report.spread(spent), report.spread(ratios)])
    return rows


def failover(seconds: float) -> tuple[float, int, int]:
    """Two nodes, eight callers of a read-only tool; one node is killed. The longest call, and how many were answered
    and how many were not."""
    longest, answered, failed = 0.0, 0, 0
    guard = threading.Lock()
    with ExitStack() as stack:
        clients = [stack.enter_context(node(2)) for _ in range(2)]
        pids = [client.status()["pid"] for client in clients]
        cluster = stack.enter_context(Cluster([client.address for client in clients]))
        until = time.monotonic() + seconds

        def work(number: int) -> None:
            nonlocal longest, answered, failed
            while time.monotonic() < until:
                began = perf_counter()
                try:
                    cluster.call("look", route=number)
                    good = True
                except Exception:
                    good = False
                with guard:
                    number += 8
                    longest = max(longest, perf_counter() - began)
                    answered, failed = answered + good, failed + (not good)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 3)
        os.kill(pids[0], signal.SIGKILL)
        for thread in threads:
            thread.join()
    return longest, answered, failed


DOCUMENT = """\
# Several nodes

Written by `make bench-nodes` on {date}. Median [least-most]. {machine}

## What a decision costs

A decision may cost 5 µs. It includes the hash of the key, which toolring makes once, whoever needs it; uhashring hashes
in every look-up. Both rings have 150 points a node, and take turns. Rendezvous asks all nodes for each key, so its cost
grows with their number: it keeps to 5 µs up to some ten nodes, and is for those who want an even spread over a few.

{decisions}

## A node is killed

Two nodes of two workers, eight callers of a read-only tool that takes 20 ms; one node is killed with SIGKILL.

{failover}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    chosen = decisions(1 if options.quick else 9)
    print(report.plain(chosen), end="\n\n")
    runs = [failover(6.0) for _ in range(1 if options.quick else 5)]
    lost = [
        ["", "seen", "target"],
        ["the longest call, s", report.spread([longest for longest, _, _ in runs]), "≤ 1.5"],
        ["calls answered", str(sum(answered for _, answered, _ in runs)), ""],
        ["calls lost", str(sum(failed for _, _, failed in runs)), "0"],
    ]
    print(report.plain(lost))
    if options.docs:
        options.docs.write_text(
            DOCUMENT.format(
                date=datetime.now(UTC).date().isoformat(),
                machine=report.machine(),
                decisions=report.markdown(chosen),
                failover=report.markdown(lost),
            )
        )


if __name__ == "__main__":
    main()
