"""How each system is measured: the same steps, the same amounts of work, whatever it is."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from time import perf_counter, perf_counter_ns
from typing import Any

from benchmarks.peers.base import System
from benchmarks.processes import descendants, pss_mib

WINDOW = 256
CALLS = 2000
MEGABYTE = 1_000_000
MOST = 400_000
"""Arguments are made before the clock starts, so their number is bounded."""

_numbers = itertools.count()


def texts(count: int) -> list[str]:
    """Arguments of 100 bytes, none of which occurs twice: nothing can be cached or joined."""
    return [f"{number:0100d}" for number in itertools.islice(_numbers, count)]


def latencies(call: Callable[[], Any], count: int, seconds: float) -> list[float]:
    """Sorted seconds of up to ``count`` calls, one at a time, for at most ``seconds``."""
    found = []
    end = perf_counter() + seconds
    for _ in range(count):
        began = perf_counter_ns()
        call()
        found.append((perf_counter_ns() - began) * 1e-9)
        if perf_counter() > end:
            break
    return sorted(found)


def rate(system: System, job: str, seconds: float) -> tuple[float, int]:
    """Jobs/s with WINDOW of them under way, over about ``seconds``; and how many that were."""
    count = 2 * WINDOW
    while (took := system.many(job, texts(count), WINDOW)) < seconds / 20 and count < MOST / 20:
        count *= 4
    count = int(min(MOST, max(2 * WINDOW, seconds * count / took)))
    return count / system.many(job, texts(count), WINDOW), count


def one_at_a_time(system: System, quick: bool) -> dict[str, float]:
    call = system.call
    arguments = iter(texts(CALLS + 300))
    latencies(lambda: call("echo", next(arguments)), 300, 3)
    found = latencies(lambda: call("echo", next(arguments)), CALLS, 1.5 if quick else 7)
    return {"p50_us": 1e6 * found[len(found) // 2], "p99_us": 1e6 * found[int(len(found) * 0.99)]}


def megabytes(system: System, quick: bool) -> dict[str, float]:
    data = b"b" + os.urandom(MEGABYTE - 1)
    assert bytes(system.call("big", data)) == data
    latencies(lambda: system.call("big", data), 10, 1)
    found = latencies(lambda: system.call("big", data), 2000, 0.5 if quick else 2)
    return {"mb_per_s": len(found) / sum(found)}


def everything(system: System, started: float, quick: bool) -> dict[str, Any]:
    """All figures of one system. ``started``: when the client's interpreter was started, on the monotonic clock.

    The system is started and stopped here.
    """
    scale = 0.15 if quick else 1.0
    found: dict[str, Any] = {}
    extras: dict[str, float] = {}
    try:
        system.start()
        (text,) = texts(1)
        answer = system.call("echo", text)
        found["cold_s"] = time.monotonic() - started
        assert answer == {"text": text}, answer
        found.update(one_at_a_time(system, quick))
        time.sleep(0.5)
        service = descendants()
        found.update(pss_mib=pss_mib(service), processes=len(service))
        found["jobs_per_s"], found["jobs"] = rate(system, "echo", 4 * scale)
        found["spin_per_s"], found["spins"] = rate(system, "spin", 2.5 * scale)
        if system.takes_megabytes:
            found.update(megabytes(system, quick))
        extras = system.extras(texts, 2 * scale)
    finally:
        system.stop()
    found.update(system.figures_after(quick))
    found["extras"] = extras
    return found
