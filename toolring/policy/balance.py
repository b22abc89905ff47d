"""Balancers: which member gets the next job: of the slots of a group, of the endpoints of a service, of the nodes of a
cluster. Pure: loads come in, a member's index goes out.

Among workers the default needs no balancer at all: jobs wait in one line, and whoever has the least work in hand takes
the next. A balancer is asked when a job must be placed before anyone is free.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from math import ceil, exp, inf, log
from typing import Final, NamedTuple, Protocol

from toolring.policy.ring import Ring, hash64

OVERFLOW_FACTOR: Final = 1.25
SECONDS: Final = "seconds"
REQUESTS: Final = "requests"
DECAY_SECONDS: Final = 10.0
"""Over how long a member's slowness is forgotten by about two thirds."""
_LEAST_WEIGHT: Final = 1e-9
"""Of one, beside the largest: less makes no difference, and nothing may be divided by it."""
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


class Members(NamedTuple):
    """Those among whom a balancer chooses. It is made for them; when they change, another one is."""

    names: tuple[str, ...]
    weights: tuple[float, ...] = ()
    """What each should get, in relation to the others; empty: all the same."""
    unit: str = REQUESTS
    """What loads count: ``requests`` under way, or ``seconds`` of work in hand."""
    floor: float = 1.0
    """A load up to which nobody is too busy for what belongs to it."""
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic


class Balancer(Protocol):
    """Places one job. ``point`` is the job's place on the 64-bit circle (a hash of its key, or 0 if ``keyed`` is
    False). Of each member there is its load; None marks one that can't take jobs now. At least one can."""

    keyed: bool
    """Does the key matter?"""

    def place(self, point: int, loads: Sequence[float | None]) -> int: ...


class Learner(Protocol):
    """What a balancer may be besides: told how long each job took (seconds), failed ones too."""

    def took(self, member: int, seconds: float) -> None: ...


class RoundRobin:
    """Each in turn."""

    __slots__ = ("_next",)
    keyed = False

    def __init__(self, members: Members) -> None:
        self._next = 0

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        for _ in loads:
            index = self._next % len(loads)
            self._next = index + 1
            if loads[index] is not None:
                return index
        raise ValueError("no member can take jobs")


class Random:
    """Anybody, in proportion to their weights."""

    __slots__ = ("_random", "_weights")
    keyed = False

    def __init__(self, members: Members) -> None:
        self._random = members.random
        self._weights = members.weights or (1.0,) * len(members.names)

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        left = self._random() * sum(w for w, load in zip(self._weights, loads, strict=True) if load is not None)
        last = -1
        for index, load in enumerate(loads):
            if load is not None:
                last = index
                left -= self._weights[index]
                if left < 0:
                    break
        return last


class LeastOutstanding:
    """The least load; equals take turns."""

    __slots__ = ("_last",)
    keyed = False

    def __init__(self, members: Members) -> None:
        self._last = -1

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        count, after = len(loads), self._last + 1
        found = min((load, (index - after) % count) for index, load in enumerate(loads) if load is not None)
        self._last = (found[1] + after) % count
        return self._last


class TwoChoices:
    """Two at random, and of these the one with less load: nearly as good as the least of all, and no herd runs there.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (IEEE TPDS 2001).
    """

    __slots__ = ("_random",)
    keyed = False

    def __init__(self, members: Members) -> None:
        self._random = members.random

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        one, other = _two(loads, self._random)
        return one if _cost(loads[one]) <= _cost(loads[other]) else other


class PeakEWMA:
    """Of two at random the one that will probably answer first: what it lately took, times what it has under way.

    A slow answer counts at once, a fast one little by little; what isn't used is forgotten in time and tried again.
    After Finagle's peak EWMA (https://twitter.github.io/finagle/guide/Clients.html).
    """

    __slots__ = ("_clock", "_random", "_seconds", "_stamps", "_whole")
    keyed = False

    def __init__(self, members: Members) -> None:
        self._random = members.random
        self._clock = members.clock
        self._whole = members.unit == REQUESTS
        self._seconds = [0.0] * len(members.names)
        self._stamps = [0.0] * len(members.names)

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        one, other = _two(loads, self._random)
        return one if self._expected(one, loads) <= self._expected(other, loads) else other

    def took(self, member: int, seconds: float) -> None:
        now = self._clock()
        kept = self._kept(member, now)
        lately = self._seconds[member]
        self._seconds[member] = seconds if seconds > lately * kept else lately * kept + seconds * (1 - kept)
        self._stamps[member] = now

    def _expected(self, member: int, loads: Sequence[float | None]) -> float:
        load, took = _cost(loads[member]), self._seconds[member] * self._kept(member, self._clock())
        return took * (load + 1) if self._whole else took + load

    def _kept(self, member: int, now: float) -> float:
        return exp(-max(0.0, now - self._stamps[member]) / DECAY_SECONDS)


class RingOverflow:
    """The key's own member, so that its caches stay warm, unless it is far busier than the others.

    Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018): a member is full at 1.25 x
    what its weight's share of the load is, then the next on the ring is asked. It is never full up to the members'
    ``floor``.
    """

    __slots__ = ("_floor", "_order", "_weights", "_whole", "ring")
    keyed = True

    def __init__(self, members: Members) -> None:
        weights = _weights(members)
        self.ring = Ring(dict(zip(members.names, weights, strict=True)))
        self._weights = [max(weight / max(weights), _LEAST_WEIGHT) for weight in weights]
        self._order = {name: index for index, name in enumerate(members.names)}
        self._floor = members.floor
        self._whole = members.unit == REQUESTS

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        home = self._order[self.ring.find(point)]
        load, floor = loads[home], self._floor
        if load is not None and load + self._whole <= floor:
            return home
        weights = self._weights
        known = [(load, weights[index]) for index, load in enumerate(loads) if load is not None]
        fair = OVERFLOW_FACTOR * (sum(load for load, _ in known) + self._whole) / sum(weight for _, weight in known)
        for name in self.ring.walk(point):
            at = self._order[name]
            load, most = loads[at], fair * weights[at]
            if load is not None and load <= max(floor, ceil(most) if self._whole else most) - self._whole:
                return at
        return min((load / weights[index], index) for index, load in enumerate(loads) if load is not None)[1]


class Rendezvous:
    """The member that draws the highest number for the key: no points to keep, keys spread evenly, and each lookup
    asks all members, so it is for some dozens of them.

    Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (IEEE/ACM ToN 1998); with weights:
    Schindelhauer and Schomaker (SPAA 2005).
    """

    __slots__ = ("_seeds", "_weights")
    keyed = True

    def __init__(self, members: Members) -> None:
        self._seeds = [hash64(name.encode()) for name in members.names]
        self._weights = members.weights if len(set(members.weights)) > 1 else None

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        best, at = -inf, -1
        if self._weights is None:  # as _draw says, but half of that would be the call
            for index, seed in enumerate(self._seeds):
                mixed = ((point ^ seed) * _GOLDEN) & _MASK
                mixed = ((mixed ^ (mixed >> 32)) * _GOLDEN) & _MASK
                mixed ^= mixed >> 29
                if mixed > best and loads[index] is not None:
                    best, at = mixed, index
            return at
        for index in range(len(self._seeds)):
            if (drawn := self._draw(index, point)) > best and loads[index] is not None:
                best, at = drawn, index
        return at

    def order(self, point: int) -> list[int]:
        """All members, those first who would get the key first."""
        return sorted(range(len(self._seeds)), key=lambda index: -self._draw(index, point))

    def _draw(self, member: int, point: int) -> float:
        mixed = ((point ^ self._seeds[member]) * _GOLDEN) & _MASK
        mixed = ((mixed ^ (mixed >> 32)) * _GOLDEN) & _MASK
        mixed ^= mixed >> 29
        return mixed if self._weights is None else -self._weights[member] / log((mixed + 1) / (_MASK + 2))


def _weights(members: Members) -> tuple[float, ...]:
    return members.weights or (1.0,) * len(members.names)


def _cost(load: float | None) -> float:
    return inf if load is None else load


def _two(loads: Sequence[float | None], draw: Callable[[], float]) -> tuple[int, int]:
    """Two different members that can take jobs; the same twice if there is but one."""
    able = [index for index, load in enumerate(loads) if load is not None]
    one = int(draw() * len(able))
    if len(able) == 1:
        return able[0], able[0]
    other = int(draw() * (len(able) - 1))
    return able[one], able[other + (other >= one)]
