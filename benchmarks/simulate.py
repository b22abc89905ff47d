"""A simulated cluster under the product's own policies: who is chosen, who is left alone, what is tried again.

python -m benchmarks.simulate                              the tables
python -m benchmarks.simulate --docs docs/simulation.md    and write the page and its charts

Discrete events; nothing here decides: balancers, pool, health and retry budget are those that toolring runs. Members
have some places each and a line; requests come by chance, at a rate that doesn't wait for answers.
"""

from __future__ import annotations

import argparse
import math
import random
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import accumulate, count
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import report
from toolring.policy.balance import (
    LeastOutstanding,
    PeakEWMA,
    Random,
    Rendezvous,
    RingOverflow,
    RoundRobin,
    TwoChoices,
)
from toolring.policy.health import HealthPolicy
from toolring.policy.pool import Factory, Pool
from toolring.policy.retry import RetryBudget, delay
from toolring.policy.ring import Ring, hash64

MEAN: Final = 0.010
"""Seconds that a request takes at a member that is well, on average."""
PLACES: Final = 8
"""Requests that a member has under way at once."""
LOST_SECONDS: Final = 1.0
"""After so long a caller takes a member that says nothing for lost."""
NEVER: Final = HealthPolicy(errors=1_000_000, most=0.0, panic=0.0)
WATCHED: Final = HealthPolicy(errors=5, eject=5.0, most=0.3, panic=0.5)
BALANCERS: Final[dict[str, Factory]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_outstanding": LeastOutstanding,
    "p2c": TwoChoices,
    "peak_ewma": PeakEWMA,
    "ring": RingOverflow,
    "rendezvous": Rendezvous,
}


class Member:
    """One server: how slow it is, how often it fails, whether it says anything at all."""

    __slots__ = ("busy", "fails", "line", "lost", "slow", "under_way")

    def __init__(self) -> None:
        self.slow = 1.0
        self.fails = 0.0
        self.lost = False
        self.busy = 0
        self.line: deque[Request] = deque()
        self.under_way = 0
        """Requests that callers have there."""


class Request:
    __slots__ = ("attempt", "came", "key", "sent", "tried", "where")

    def __init__(self, came: float, key: int) -> None:
        self.came = self.sent = came
        self.key = key
        self.attempt = 1
        self.tried: list[int] = []
        self.where = -1


class Done(NamedTuple):
    """What became of a request: when it came, how long it took, whether it failed, how many runs it took."""

    came: float
    seconds: float
    failed: bool
    runs: int


class _Loads(Sequence[float]):
    def __init__(self, members: list[Member]) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: Any) -> Any:
        return self._members[index].under_way

    def __iter__(self) -> Iterator[float]:
        return iter([member.under_way for member in self._members])


class World:
    """A pool of members, requests that come, and a clock that jumps from event to event."""

    def __init__(
        self,
        size: int,
        factory: Factory,
        policy: HealthPolicy = NEVER,
        *,
        retries: int = 0,
        budget: RetryBudget | None = None,
        elsewhere: bool = True,
        seed: int = 1,
    ) -> None:
        """``retries``: how often a request that failed is tried again, if the budget (None: without end) has one left;
        ``elsewhere``: at a member that it was not at."""
        self.now = 0.0
        self.dice = random.Random(seed)
        self.members = [Member() for _ in range(size)]
        weights = {f"m{number}": 1.0 for number in range(size)}
        draw, floor = self.dice.random, 2.0 * PLACES
        self.pool = Pool(weights, _Loads(self.members), factory, policy, floor, draw, lambda: self.now)
        self.done: list[Done] = []
        self.runs: list[float] = []
        """When each run was sent."""
        self._retries = retries
        self._budget = budget
        self._elsewhere = elsewhere
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._numbers), what))

    def run(self, until: float, rate: Callable[[float], float], keys: Callable[[], int]) -> list[Done]:
        """Requests at this rate (per second, at a time), until then; then until all are answered."""

        def come() -> None:
            self._send(Request(self.now, keys()))
            if self._budget is not None:
                self._budget.called()
            after = self.now + self.dice.expovariate(rate(self.now))
            if after < until:
                self.at(after, come)

        self.at(0.0, come)
        while self._events:
            self.now, _, what = heappop(self._events)
            what()
        return self.done

    def _send(self, request: Request) -> None:
        point = hash64(b"%d" % request.key) if self.pool.keyed else 0
        index = self.pool.choose(point, request.tried if self._elsewhere else ())
        if index is None:
            request.tried.clear()
            index = self.pool.choose(point)
        assert index is not None
        self.pool.began(index)
        request.where, request.sent = index, self.now
        self.runs.append(self.now)
        member = self.members[index]
        member.under_way += 1
        if member.lost:
            self.at(self.now + LOST_SECONDS, lambda: self._back(request, True))
        elif member.busy < PLACES:
            self._begin(member, request)
        else:
            member.line.append(request)

    def _begin(self, member: Member, request: Request) -> None:
        member.busy += 1
        failed = self.dice.random() < member.fails
        spent = MEAN * 0.1 if failed else self.dice.expovariate(1 / MEAN) * member.slow

        def end() -> None:
            member.busy -= 1
            if member.lost:
                self.at(self.now + LOST_SECONDS, lambda: self._back(request, True))
                return
            self._back(request, failed)
            if member.line:
                self._begin(member, member.line.popleft())

        self.at(self.now + spent, end)

    def lose(self, indexes: Sequence[int]) -> None:
        """These say nothing any more; whoever waits there finds out in time."""
        for index in indexes:
            member = self.members[index]
            member.lost = True
            for request in member.line:
                self.at(self.now + LOST_SECONDS, lambda request=request: self._back(request, True))  # type: ignore[misc]
            member.line.clear()

    def _back(self, request: Request, failed: bool) -> None:
        index = request.where
        self.members[index].under_way -= 1
        self.pool.ended(index, self.now - request.sent, failed)
        again = failed and request.attempt <= self._retries
        if again and (self._budget is None or self._budget.take(self.now)):
            request.tried.append(index)
            pause = delay(0.005, request.attempt, self.dice.random)
            request.attempt += 1
            self.at(self.now + pause, lambda: self._send(request))
        else:
            self.done.append(Done(request.came, self.now - request.came, failed, request.attempt))


# ---- what comes


def steady(size: int, load: float) -> Callable[[float], float]:
    """So much of what all members can do, all the time."""
    rate = load * size * PLACES / MEAN
    return lambda now: rate


def _burst(rate: Callable[[float], float], first: float, last: float) -> Callable[[float], float]:
    """Three times as much for a while."""
    return lambda now: (3 if first < now < last else 1) * rate(now)


def zipf(dice: random.Random, keys: int, skew: float = 0.99) -> Callable[[], int]:
    """Keys, some of them far more often than others."""
    sums = list(accumulate(1 / rank**skew for rank in range(1, keys + 1)))
    return lambda: bisect_left(sums, dice.random() * sums[-1])


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def _latency(done: list[Done], share: float) -> float:
    return 1e3 * quantile([one.seconds for one in done], share)


# ---- scenarios


def slow_members(sizes: Sequence[int], requests: int) -> list[list[str]]:
    """A tenth of the members is ten times slower; arrivals at 30 % of what all could do."""
    rows = [["balancer", *(f"{size} members, p50 / p99 ms" for size in sizes)]]
    for name, factory in BALANCERS.items():
        row = [name]
        for size in sizes:
            world = World(size, factory, seed=size)
            for member in world.members[::10]:
                member.slow = 10.0
            rate = steady(size, 0.3)
            done = world.run(max(requests, 150 * size) / rate(0.0), rate, zipf(random.Random(2), 100_000))
            row.append(f"{_latency(done, 0.5):.1f} / {_latency(done, 0.99):.1f}")
        rows.append(row)
    return rows


def failing_members(size: int, requests: int) -> list[list[str]]:
    """One member in twenty answers with an error at once, which makes it look the fastest of all."""
    rows = [["balancer", "errors, nothing done", "ejected after 5 in a row", "and tried once elsewhere"]]
    for name, factory in BALANCERS.items():
        row = [name]
        for policy, retries in ((NEVER, 0), (WATCHED, 0), (WATCHED, 1)):
            world = World(size, factory, policy, retries=retries, budget=RetryBudget(), seed=3)
            for member in world.members[::20]:
                member.fails = 1.0
            rate = steady(size, 0.5)
            done = world.run(requests / rate(0.0), rate, zipf(random.Random(2), 100_000))
            row.append(f"{100 * sum(one.failed for one in done) / len(done):.2f} %")
        rows.append(row)
    return rows


def spread(sizes: Sequence[int], requests: int) -> list[list[str]]:
    """Zipf keys and a burst of three times the load: how much the busiest member had, beside the mean."""
    rows = [["who gets a key", *(f"{size} members" for size in sizes)]]
    plain: dict[str, Factory] = {
        "ring without a bound": lambda members: RingOverflow(members._replace(floor=1e9)),
        "ring, bounded load": RingOverflow,
        "rendezvous": Rendezvous,
        "p2c": TwoChoices,
    }
    for name, factory in plain.items():
        row = [name]
        for size in sizes:
            world = World(size, factory, seed=4)
            base = steady(size, 0.25)
            seconds = requests / base(0.0)
            most: list[float] = []

            def look(world: World = world, most: list[float] = most) -> None:
                loads = [member.under_way for member in world.members]
                most.append(max(loads) / max(1.0, sum(loads) / len(loads)))

            for step in range(1, 20):
                world.at(seconds * step / 20, look)
            world.run(seconds, _burst(base, 0.4 * seconds, 0.6 * seconds), zipf(random.Random(2), 100_000))
            row.append(f"{sum(most) / len(most):.1f}")
        rows.append(row)
    return rows


def moved(sizes: Sequence[int]) -> list[list[str]]:
    """A rack is lost: a fifth of the members. Keys that move, beside those that have to."""
    rows = [["who gets a key", *(f"{size} members" for size in sizes)]]
    points = [hash64(b"%d" % number) for number in range(4000)]
    for name in ("ring", "rendezvous", "hash modulo n"):
        row = [name]
        for size in sizes:
            names = [f"m{number}" for number in range(size)]
            left = [one for at, one in enumerate(names) if at % 5]
            if name == "ring":
                whole, rest = Ring(names), Ring(left)
                pairs = [(whole.find(point), rest.find(point)) for point in points]
            elif name == "rendezvous":
                few = points[: max(400, 40_000 // size)]
                one, two = _pool(names), _pool(left)
                pairs = [(one.names[one.preference(p, 1)[0]], two.names[two.preference(p, 1)[0]]) for p in few]
            else:
                pairs = [(names[point % size], left[point % len(left)]) for point in points]
            gone = set(names) - set(left)
            had_to = sum(before in gone for before, _ in pairs) / len(pairs)
            did = sum(before != after for before, after in pairs) / len(pairs)
            row.append(f"{100 * did:.1f} % ({100 * had_to:.1f} %)")
        rows.append(row)
    return rows


def _pool(names: list[str]) -> Pool:
    return Pool(dict.fromkeys(names, 1.0), [0.0] * len(names), Rendezvous, NEVER)


def rack_lost(size: int, seconds: float) -> dict[str, list[Done]]:
    """A fifth of the members says nothing any more, in the middle of it; two tries for each request."""
    found = {}
    for name, policy in (("nobody is ejected", NEVER), ("ejected after 5 failures in a row", WATCHED)):
        world = World(size, TwoChoices, policy, retries=1, seed=5)
        world.at(seconds / 2, lambda world=world: world.lose(range(0, size, 5)))  # type: ignore[misc]
        found[name] = world.run(seconds, steady(size, 0.4), lambda: 0)
    return found


def retry_storm(size: int, seconds: float) -> dict[str, World]:
    """All members fail nine of ten, for a third of the time; three retries for each request."""
    found = {}
    for name, budget in (("without a budget", None), ("with toolring's budget", RetryBudget(0.1, 10.0))):
        world = World(size, TwoChoices, NEVER, retries=3, budget=budget, seed=6)

        def fails(share: float, world: World = world) -> None:
            for member in world.members:
                member.fails = share

        world.at(seconds / 3, lambda fails=fails: fails(0.9))  # type: ignore[misc]
        world.at(2 * seconds / 3, lambda fails=fails: fails(0.0))  # type: ignore[misc]
        world.run(seconds, steady(size, 0.6), lambda: 0)
        found[name] = world
    return found


# ---- charts


def _per_slice(times: list[float], seconds: float, slices: int) -> list[int]:
    found = [0] * slices
    for when in times:
        if when < seconds:
            found[int(when / seconds * slices)] += 1
    return found


def draw(
    racks: dict[str, list[Done]], rack_seconds: float, storms: dict[str, World], storm_seconds: float, path: Path
) -> None:
    import matplotlib  # optional: toolring[bench]

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "toolring"
    from matplotlib import pyplot  # optional: toolring[bench]

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    slices = 40
    for name, done in racks.items():
        by_slice: list[list[float]] = [[] for _ in range(slices)]
        for one in done:
            by_slice[min(slices - 1, int(one.came / rack_seconds * slices))].append(1e3 * one.seconds)
        left.plot(
            [rack_seconds * at / slices for at in range(slices)], [quantile(v, 0.99) for v in by_slice], label=name
        )
    left.set(title="A rack is lost", xlabel="seconds", ylabel="p99 of requests that come then, ms", yscale="log")
    for name, world in storms.items():
        came = _per_slice([one.came for one in world.done], storm_seconds, slices)
        sent = _per_slice(world.runs, storm_seconds, slices)
        ratio = [runs / max(1, requests) for runs, requests in zip(sent, came, strict=True)]
        right.plot([storm_seconds * at / slices for at in range(slices)], ratio, label=name)
    right.set(title="Everything fails for a while", xlabel="seconds", ylabel="runs for each request")
    for panel in (left, right):
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def _numbers(cell: str) -> list[float]:
    return [float(one) for one in re.findall(r"\d+(?:\.\d+)?", cell)]


def draw_tables(tables: dict[str, list[list[str]]], sizes: Sequence[int], path: Path) -> None:
    """What the tables say of latencies, of the spread of load and of keys that move."""
    import matplotlib  # optional: toolring[bench]

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "toolring"
    from matplotlib import pyplot  # optional: toolring[bench]

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4), layout="constrained")
    slow = {name: _numbers(cells[1]) for name, *cells in tables["slow"][1:]}
    for number, label in enumerate(("p50", "p99")):
        places = [at + 0.2 - 0.4 * number for at in range(len(slow))]
        left.barh(places, [both[number] for both in slow.values()], 0.38, label=label)
    left.set_yticks(range(len(slow)), list(slow))
    left.invert_yaxis()
    left.set(title=f"{sizes[1]} members, some slow", xlabel="ms", xscale="log")
    for name, *cells in tables["spread"][1:]:
        middle.plot(sizes, [_numbers(cell)[0] for cell in cells], marker="o", label=name)
    middle.set(title="Hot keys and a burst", xlabel="members", ylabel="busiest ÷ mean", xscale="log", yscale="log")
    moving = {name: [_numbers(cell) for cell in cells] for name, *cells in tables["moved"][1:]}
    for number, (name, shares) in enumerate(moving.items()):
        right.bar([at + 0.27 * (number - 1) for at in range(len(sizes))], [did for did, _ in shares], 0.25, label=name)
    needed = [sum(shares[at][1] for shares in moving.values()) / len(moving) for at in range(len(sizes))]
    right.hlines(
        needed, [at - 0.42 for at in range(len(sizes))], [at + 0.42 for at in range(len(sizes))], colors="black"
    )
    right.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    right.set(title="A rack is lost", xlabel="members", ylabel="keys that move, %")
    for panel in (left, middle, right):
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


DOCUMENT = """\
# How the policies do in a simulation

Written by `make bench-simulate`. The balancers, the health, the ring and the retry budget are those that toolring runs,
imported and not written anew; only the members are simulated: {places} places each, {mean:.0f} ms a request on average,
arrivals by chance that don't wait for answers. So it may have a thousand members and be the same each time.

![Latencies, load and keys that move](balancers.svg)

The tables as charts: latencies with {middle} members, a tenth of them slow; the busiest member's load with hot keys and
a burst; keys that move when a rack is lost, the line being those that had to.

## A tenth of the members is ten times slower

Arrivals at 30 % of what all could do.

{slow}

## Members that fail at once

One in twenty answers with an error in a tenth of the time, at half of the load. Who looks at the load alone sends more
and more there.

{failing}

## Some keys are hot, and a burst comes

Zipf keys, a quarter of the load, three times as much for a while: requests under way at the busiest member, beside the
mean, looked at nineteen times.

{spread}

## A rack is lost

A fifth of the members. Keys that move; in brackets those that had to.

{moved}

![A rack is lost, and a retry storm](simulation.svg)

On the left a fifth of {rack} members says nothing any more from the middle on, at 40 % of the load, with power of two
choices, and a second try for each request; a caller notices after {lost:.0f} s. On the right all members fail nine of
ten for a third of the time, with three retries for each request.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer members and requests")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page, and its charts beside it")
    options = parser.parse_args()
    sizes = (10, 50) if options.quick else (10, 100, 1000)
    requests = 5_000 if options.quick else 60_000
    tables = {
        "slow": slow_members(sizes, requests),
        "failing": failing_members(sizes[1], requests),
        "spread": spread(sizes, requests),
        "moved": moved(sizes),
    }
    for name, rows in tables.items():
        print(f"{name}\n{report.plain(rows)}\n")
    rack, rack_seconds, storm_seconds = sizes[1], 4.0 if options.quick else 20.0, 3.0 if options.quick else 9.0
    racks, storms = rack_lost(rack // 5, rack_seconds), retry_storm(10, storm_seconds)
    for name, done in racks.items():
        late = [one.seconds for one in done if one.came > 0.75 * rack_seconds]
        print(f"a rack is lost, {name}: p99 {1e3 * quantile(late, 0.99):.0f} ms in the last quarter")
    for name, world in storms.items():
        print(f"a retry storm, {name}: {len(world.runs) / len(world.done):.2f} runs for each request")
    if options.docs:
        draw(racks, rack_seconds, storms, storm_seconds, options.docs.with_name("simulation.svg"))
        draw_tables(tables, sizes, options.docs.with_name("balancers.svg"))
        pages = {name: report.markdown(rows) for name, rows in tables.items()}
        options.docs.write_text(
            DOCUMENT.format(places=PLACES, mean=1e3 * MEAN, middle=sizes[1], rack=rack // 5, lost=LOST_SECONDS, **pages)
        )


if __name__ == "__main__":
    main()
