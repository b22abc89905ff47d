"""The cache strategies that ship with toolring, and a sample one, under the contract that a plugin's author runs."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest

from toolring.plugins.caches.lru import LRU
from toolring.plugins.specs import CacheStrategy
from toolring.testing import CacheStrategyContract, Trial
from toolring.workers.cache.base import Cache


class FIFO:
    """A strategy as somebody else would write it: the oldest leaves, used or not."""

    def __init__(self, max_entries: int) -> None:
        self.keys: dict[bytes, None] = {}

    def added(self, key: bytes) -> None:
        self.keys[key] = None

    def touched(self, key: bytes) -> None:
        pass

    def removed(self, key: bytes) -> None:
        del self.keys[key]

    def victim(self) -> bytes:
        return next(iter(self.keys))


class Forgetful(FIFO):
    """Broken: goes on naming what has left."""

    def __init__(self, max_entries: int) -> None:
        super().__init__(max_entries)
        self.first = b""

    def added(self, key: bytes) -> None:
        self.first = self.first or key
        super().added(key)

    def victim(self) -> bytes:
        return self.first


class TestLRU(CacheStrategyContract):
    factory = LRU


class TestSample(CacheStrategyContract):
    factory = FIFO


class TestFactoryFunction(CacheStrategyContract):
    examples = 20

    @staticmethod
    def factory(max_entries: int) -> CacheStrategy:
        return FIFO(max_entries)


class Broken(CacheStrategyContract):
    """Not collected: used by the tests below."""

    factory = Forgetful


@pytest.mark.parametrize("name", ["test_every_key_can_leave_and_come_back", "test_any_key_may_leave_at_any_time"])
def test_the_contract_catches_a_broken_strategy(name: str) -> None:
    with pytest.raises(AssertionError, match=r"victim\(\) named"):
        getattr(Broken(), name)()


def test_the_random_histories_catch_a_broken_strategy() -> None:
    trial = Trial(Forgetful, 2, 100_000)
    with pytest.raises(AssertionError, match=r"victim\(\) named"):
        trial.run([("put", b"%d" % number, b"", 60.0) for number in range(4)])


def test_the_random_histories_catch_a_cache_that_lets_a_live_entry_go_before_an_expired_one() -> None:
    """Not the strategy's fault, but whoever relies on the contract relies on it."""
    trial = Trial(FIFO, 2, 100_000)
    trial.run([("put", b"live", b"", 60.0), ("put", b"dead", b"", 1.0), ("clock", 1.0), ("put", b"new", b"", 60.0)])
    assert set(trial.model) == {b"live", b"new"}


@pytest.mark.parametrize("seed", range(5))
def test_lru_hits_equal_those_of_a_reference(seed: int) -> None:
    rng = random.Random(seed)
    cache = Cache(LRU(64), 64, 1 << 30, lambda: 0.0)
    reference: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for _ in range(5000):
        key = b"%d" % int(rng.paretovariate(0.6))
        if key in reference:
            hits += 1
            reference.move_to_end(key)
        else:
            reference[key] = None
            if len(reference) > 64:
                reference.popitem(last=False)
        if cache.get(key) is None:
            cache.put(key, b"value", 60.0)
    assert cache.hits == hits
    assert 0 < hits < 5000
