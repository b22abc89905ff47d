"""What one operation of a cache costs, beside other libraries' in the same run."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter_ns
from typing import Any, Final

from benchmarks import report
from toolring.plugins.caches.lru import LRU
from toolring.workers.cache.base import Cache

ENTRIES: Final = 10_000
ROUNDS: Final = 7
OPERATIONS: Final = 100_000


class Ours:
    def __init__(self, factory: Any, size: int = ENTRIES) -> None:
        cache = Cache(factory(size), size, 1 << 60)
        self.get = cache.get
        put = cache.put
        self.put: Callable[[bytes, bytes], Any] = lambda key, value: put(key, value, 60.0)


class Theirs:
    """Any mapping with ``get``."""

    def __init__(self, cache: Any) -> None:
        self.get = cache.get
        self.put = cache.__setitem__


def _peers() -> dict[str, Callable[[], Any]]:
    import cachebox  # optional: toolring[bench]
    import cachetools  # optional: toolring[bench]

    return {
        "cachetools LRUCache": lambda: Theirs(cachetools.LRUCache(ENTRIES)),
        "cachetools TTLCache": lambda: Theirs(cachetools.TTLCache(ENTRIES, 60.0)),
        "cachebox LRUCache": lambda: Theirs(cachebox.LRUCache(ENTRIES)),
        "cachebox TTLCache": lambda: Theirs(cachebox.TTLCache(ENTRIES, 60.0)),
    }


def _keys() -> tuple[list[bytes], list[bytes]]:
    """As many as there are entries, and a Zipf-like load over ten times as many."""
    rng = random.Random(1)
    some = [b"%032d" % number for number in range(ENTRIES)]
    return some, [b"%032d" % min(10 * ENTRIES, int(rng.paretovariate(0.7))) for _ in range(OPERATIONS)]


def _hit(cache: Any, some: list[bytes], _mixed: list[bytes]) -> float:
    get = cache.get
    began = perf_counter_ns()
    for _ in range(OPERATIONS // ENTRIES):
        for key in some:
            get(key)
    return (perf_counter_ns() - began) / OPERATIONS


def _miss(cache: Any, some: list[bytes], _mixed: list[bytes]) -> float:
    get, put = cache.get, cache.put
    new = [b"n%031d" % number for number in range(OPERATIONS)]
    began = perf_counter_ns()
    for key in new:
        if get(key) is None:
            put(key, b"value")
    return (perf_counter_ns() - began) / OPERATIONS


def _mix(cache: Any, _some: list[bytes], mixed: list[bytes]) -> float:
    get, put = cache.get, cache.put
    began = perf_counter_ns()
    for key in mixed:
        if get(key) is None:
            put(key, b"value")
    return (perf_counter_ns() - began) / len(mixed)


def measured(strategies: dict[str, Any]) -> tuple[list[list[str]], str]:
    """The table of costs, and a sentence on how they grow with the cache."""
    makers: dict[str, Callable[[], Any]] = {
        f"toolring {name}": partial(Ours, factory) for name, factory in strategies.items()
    }
    makers.update(_peers())
    some, mixed = _keys()
    steps = {"hit": _hit, "miss": _miss, "mix": _mix}
    found: dict[str, dict[str, list[float]]] = {name: {step: [] for step in steps} for name in makers}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            cache = make()
            for key in some:
                cache.put(key, b"value")
            for step, measure in steps.items():
                found[name][step].append(measure(cache, some, mixed))
    base = found["cachetools LRUCache"]["mix"]
    rows = [["", *steps, "speed ÷ cachetools LRUCache's, mix"]]
    for name, costs in found.items():
        ratios = [theirs / own for own, theirs in zip(costs["mix"], base, strict=True)]
        rows.append([name, *(report.spread(costs[step]) for step in steps), report.spread(ratios)])
    return rows, growth()


class Bare:
    """What is the least that an LRU cache does."""

    def __init__(self, size: int) -> None:
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()

    def put(self, key: bytes, value: bytes) -> None:
        self._entries.popitem(last=False)
        self._entries[key] = value

    def fill(self, key: bytes, value: bytes) -> None:
        self._entries[key] = value


def growth(least: int = 1_000, most: int = 1_000_000) -> str:
    """How much dearer an insert into a full LRU cache gets from ``least`` to ``most`` entries, beside a bare
    OrderedDict's under the same accesses."""
    ratios = []
    for _ in range(3):
        costs: dict[tuple[str, int], float] = {}
        for size in (least, most):
            puts = max(100_000, size * 5 // 4)  # enough to pay for all that is put off
            keys = [b"%032d" % number for number in range(size + puts)]
            ours, bare = Ours(LRU, size), Bare(size)
            for name, put, fill in (("ours", ours.put, ours.put), ("bare", bare.put, bare.fill)):
                for key in keys[:size]:
                    fill(key, b"value")
                began = perf_counter_ns()
                for key in keys[size:]:
                    put(key, b"value")
                costs[name, size] = (perf_counter_ns() - began) / puts
            del ours, bare
        own, theirs = (costs[name, most] / costs[name, least] for name in ("ours", "bare"))
        ratios.append(own / theirs)
    return (
        f"An insert into a full LRU cache of {most:,} entries costs {median(ratios):.2f} "
        f"[{min(ratios):.2f}-{max(ratios):.2f}] times as much more than into one of {least:,} as a bare OrderedDict's "
        "insert does."
    )
