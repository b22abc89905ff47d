"""The cache strategies that ship with toolring, and a sample one, under the contract that a plugin's author runs."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest

from benchmarks import replay
from toolring.config import CacheSection
from toolring.plugins.caches import fifo as toolrings
from toolring.plugins.caches.adaptive import Adaptive
from toolring.plugins.caches.lfu import LFU
from toolring.plugins.caches.lru import LRU
from toolring.plugins.caches.s3fifo import S3FIFO
from toolring.plugins.caches.sieve import SIEVE
from toolring.plugins.caches.wtinylfu import WTinyLFU
from toolring.plugins.registry import load_plugins
from toolring.plugins.specs import CacheStrategy
from toolring.testing import CacheStrategyContract
from toolring.testing.strategies import Trial
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


class TestWithOneLine(CacheStrategyContract):
    """Nearly all times to live share the heap."""

    factory = LRU

    @pytest.fixture(autouse=True)
    def _one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("toolring.workers.cache.base.LINES", 1)


class TestFIFO(CacheStrategyContract):
    factory = toolrings.FIFO


class TestLFU(CacheStrategyContract):
    factory = LFU


class TestSIEVE(CacheStrategyContract):
    factory = SIEVE


class TestS3FIFO(CacheStrategyContract):
    factory = S3FIFO


class TestWTinyLFU(CacheStrategyContract):
    factory = WTinyLFU


class TestAdaptive(CacheStrategyContract):
    factory = Adaptive


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


# ---- on real traces, beside a reference implementation and the optimum


@pytest.fixture(scope="module")
def replayed() -> dict[tuple[str, int], dict[str, int]]:
    return replay.replay(dict(load_plugins(block=["sample"]).cache_strategies))


def test_simple_strategies_hit_exactly_as_often_as_the_reference(
    replayed: dict[tuple[str, int], dict[str, int]],
) -> None:
    about = replay.reference()
    for (name, size), hits in replayed.items():
        theirs = about[name]["hits"][str(size)]
        for strategy in ("lru", "fifo", "sieve"):
            assert hits[strategy] == theirs[strategy], f"{strategy} on {name} with {size} entries"


@pytest.mark.parametrize(("strategy", "points"), [("s3fifo", 0.5), ("wtinylfu", 1.5)])
def test_the_others_come_near_to_the_reference_or_pass_it(
    replayed: dict[tuple[str, int], dict[str, int]], strategy: str, points: float
) -> None:
    about = replay.reference()
    for (name, size), hits in replayed.items():
        least = about[name]["hits"][str(size)][strategy] - about[name]["requests"] * points / 100
        assert hits[strategy] >= least, f"{strategy} on {name} with {size} entries"


@pytest.mark.parametrize(
    ("strategy", "optimum", "lru"), [(CacheSection().strategy, 0.85, 0.95), ("adaptive", 0.88, 1.0)]
)
def test_the_default_and_the_adaptive_one_are_safe_on_every_trace(
    replayed: dict[tuple[str, int], dict[str, int]], strategy: str, optimum: float, lru: float
) -> None:
    about = replay.reference()
    shares = [hits[strategy] / about[name]["hits"][str(size)]["belady"] for (name, size), hits in replayed.items()]
    assert sum(shares) / len(shares) >= optimum
    assert all(hits[strategy] >= lru * hits["lru"] for hits in replayed.values())
