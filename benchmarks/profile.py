"""CPU microseconds a job, by process: where the time of toolring goes, beside the bare packed broker.

    python -m benchmarks.profile [--only toolring,packed] [--seconds 3]

One client, two workers, 256 no-op jobs under way; then one at a time. Read from the kernel's accounting.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from time import perf_counter

from benchmarks import measure
from benchmarks.peers import KNOWN, make
from benchmarks.peers.base import System
from benchmarks.processes import adopt_orphans, cpu_seconds, end_descendants

ROLES = ("client", "supervisor", "broker", "service", "workers", "zygote")


def spent(system: System, run: Callable[[], object]) -> dict[str, float]:
    """CPU seconds by role while ``run`` runs."""
    roles = system.roles()
    before = {role: cpu_seconds(pids) for role, pids in roles.items()}
    run()
    return {role: cpu_seconds(pids) - before[role] for role, pids in roles.items()}


def show(name: str, what: str, jobs_per_s: float, seconds: dict[str, float], jobs: int) -> None:
    parts = [f"{role} {1e6 * seconds[role] / jobs:6.2f}" for role in ROLES if role in seconds]
    total = 1e6 * sum(seconds.values()) / jobs
    print(
        f"{name:9s} {what:14s} {jobs_per_s:9,.0f} jobs/s   {'   '.join(parts)}   all {total:6.2f} µs a job", flush=True
    )


def one_at_a_time(system: System, texts: Iterator[str]) -> list[float]:
    """Seconds of each call."""
    found = []
    for text in texts:
        began = perf_counter()
        system.call("echo", text)
        found.append(perf_counter() - began)
    return found


def profile(name: str, seconds: float) -> None:
    system = make(name)
    system.start()
    try:
        per_second, _ = measure.rate(system, "echo", seconds / 4)
        jobs = int(min(measure.MOST, per_second * seconds))
        texts = measure.texts(jobs)
        took: list[float] = []
        used = spent(system, lambda: took.append(system.many("echo", texts, measure.WINDOW)))
        show(name, f"{measure.WINDOW} under way", jobs / took[0], used, jobs)
        left = iter(measure.texts(int(1000 * seconds)))
        calls: list[float] = []
        used = spent(system, lambda: calls.extend(one_at_a_time(system, left)))
        show(name, "one at a time", len(calls) / sum(calls), used, len(calls))
    finally:
        system.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("--only", metavar="NAMES", default="toolring,packed", help=f"some of: {','.join(KNOWN)}")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to keep each busy")
    options = parser.parse_args()
    adopt_orphans()
    try:
        for name in options.only.split(","):
            profile(name, options.seconds)
    finally:
        end_descendants()


if __name__ == "__main__":
    main()
