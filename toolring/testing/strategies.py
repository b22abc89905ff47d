"""The contract of a cache strategy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from toolring.plugins.specs import CacheStrategy
from toolring.workers.cache.base import OVERHEAD, Cache

_NOTHING: Any = object()
_KEYS = [b"a", b"b", b"c", b"dd", b"eee", b"ffff"]
_get = st.tuples(st.just("get"), st.sampled_from(_KEYS))
_put = st.tuples(
    st.just("put"),
    st.sampled_from(_KEYS),
    st.sampled_from([None, b"", b"one", b"two", b"v" * 100, b"w" * 300]),
    st.sampled_from([None, 1e9, 5.0, 2.0, 1.0, 0.0, -1.0]),
)
_step = st.one_of(
    *[_put] * 4,
    *[_get] * 3,
    st.tuples(st.just("peek"), st.sampled_from(_KEYS)),
    st.tuples(st.just("delete"), st.sampled_from(_KEYS)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("clock"), st.sampled_from([0.0, 0.5, 1.0, 3.0, -2.0])),
)


class CacheStrategyContract:
    """What a cache asks of its strategy, and what callers then may ask of the cache.

    ``factory`` takes the most entries that the cache may hold, as ``toolring_cache_strategies`` offers it.
    """

    factory: ClassVar[Any]
    examples: ClassVar[int] = 100
    """Random histories for each property."""

    def _strategy(self, max_entries: int) -> CacheStrategy:
        factory: Callable[[int], CacheStrategy] = inspect.getattr_static(type(self), "factory")
        return factory(max_entries)

    def test_every_key_can_leave_and_come_back(self) -> None:
        strategy = self._strategy(8)
        for _ in range(3):
            present = set(_KEYS)
            for key in _KEYS:
                strategy.added(key)
            while present:
                victim = strategy.victim()
                assert victim in present, f"victim() named {victim!r}, which is not there"
                strategy.removed(victim)
                present.remove(victim)

    def test_victim_alone_changes_nothing(self) -> None:
        strategy = self._strategy(8)
        for key in _KEYS:
            strategy.added(key)
        for key in _KEYS:
            strategy.victim()
            strategy.touched(key)
        for key in _KEYS:
            strategy.removed(key)

    def test_any_key_may_leave_at_any_time(self) -> None:
        """Expired and deleted entries leave without being the victim."""
        for gone in _KEYS:
            strategy = self._strategy(8)
            for key in _KEYS:
                strategy.added(key)
            strategy.removed(gone)
            for _ in range(len(_KEYS) - 1):
                victim = strategy.victim()
                assert victim != gone, f"victim() named {gone!r}, which had left"
                strategy.removed(victim)

    def test_a_cache_with_it_agrees_with_a_slow_and_obvious_one(self) -> None:
        @settings(max_examples=self.examples, deadline=None)
        @given(st.lists(_step, min_size=20, max_size=60), st.integers(1, 5), st.sampled_from([600, 1200, 100_000]))
        def check(steps: list[tuple[Any, ...]], max_entries: int, max_bytes: int) -> None:
            Trial(self._strategy, max_entries, max_bytes).run(steps)

        check()


class _Witness:
    """Passes everything on to the strategy, and holds both sides to the contract."""

    def __init__(self, strategy: CacheStrategy) -> None:
        self._strategy = strategy
        self.keys: set[bytes] = set()
        self.left: list[bytes] = []

    def added(self, key: bytes) -> None:
        assert key not in self.keys, f"{key!r} was added twice"
        self._strategy.added(key)
        self.keys.add(key)

    def touched(self, key: bytes) -> None:
        assert key in self.keys, f"{key!r} was touched and is not there"
        self._strategy.touched(key)

    def removed(self, key: bytes) -> None:
        assert key in self.keys, f"{key!r} left twice"
        self._strategy.removed(key)
        self.keys.remove(key)
        self.left.append(key)

    def victim(self) -> bytes:
        victim = self._strategy.victim()
        assert victim in self.keys, f"victim() named {victim!r}, which is not there"
        return victim


class Trial:
    """A cache beside its model: a plain dict of value, expiry and nothing clever."""

    def __init__(self, factory: Callable[[int], CacheStrategy], max_entries: int, max_bytes: int) -> None:
        self.now = 100.0
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self.witness = _Witness(factory(max_entries))
        self.cache = Cache(self.witness, max_entries, max_bytes, lambda: self.now)
        self.model: dict[bytes, tuple[bytes | None, float]] = {}
        self.hits = self.misses = 0

    def run(self, steps: list[tuple[Any, ...]]) -> None:
        for name, *arguments in steps:
            getattr(self, name)(*arguments)
            self.check()

    def get(self, key: bytes) -> None:
        value, expiry = self.model.get(key, (_NOTHING, math.inf))
        if self.now >= expiry:
            del self.model[key]
            value = _NOTHING
        self.hits += value is not _NOTHING
        self.misses += value is _NOTHING
        assert self.cache.get(key, _NOTHING) == value

    def peek(self, key: bytes) -> None:
        """Neither an access nor counted; what is over stays where it is."""
        value, expiry = self.model.get(key, (_NOTHING, math.inf))
        expected = _NOTHING if self.now >= expiry else value
        assert self.cache.peek(key, _NOTHING) == expected
        assert (key in self.cache) == (expected is not _NOTHING)

    def put(self, key: bytes, value: bytes | None, ttl: float | None) -> None:
        weight = _weight(key, value)
        self.model.pop(key, None)
        self.witness.left.clear()
        before = dict(self.model)
        lasts = math.inf if ttl is None else ttl
        kept = self.cache.put(key, value, ttl, weight)
        assert kept == (lasts > 0 and weight <= self.max_bytes)
        for gone in self.witness.left:
            if gone in self.model:
                full = len(self.model) >= self.max_entries
                full = full or self._bytes() + weight > self.max_bytes
                assert full or self.model[gone][1] <= self.now, f"{gone!r} left though there was room"
                del self.model[gone]
        live = [gone for gone in self.witness.left if gone in before and before[gone][1] > self.now]
        dead = [left for left, (_, expiry) in self.model.items() if expiry <= self.now]
        assert not (live and dead), f"{live} left, although {dead} had expired"
        if kept:
            self.model[key] = (value, self.now + lasts)

    def delete(self, key: bytes) -> None:
        assert self.cache.delete(key) == (self.model.pop(key, None) is not None)

    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    def clock(self, seconds: float) -> None:
        """Time passes, stands still, or (as no monotonic clock should) goes back."""
        self.now += seconds

    def check(self) -> None:
        assert self.witness.keys == set(self.model)
        assert len(self.cache) == len(self.model) <= self.max_entries
        assert self.cache.bytes == self._bytes() <= self.max_bytes
        stats = self.cache.stats()
        assert (stats["hits"], stats["misses"]) == (self.hits, self.misses)

    def _bytes(self) -> int:
        return sum(_weight(key, value) for key, (value, _) in self.model.items())


def _weight(key: bytes, value: bytes | None) -> int:
    return len(key) + len(value or b"") + OVERHEAD
