"""A worker's care for its memory: what is done at once, and what is asked for."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator
from math import inf

import pytest

from toolring.plugins.caches.lru import LRU
from toolring.policy.memory import MemoryPolicy, Snapshot
from toolring.workers.cache.base import Cache
from toolring.workers.care import Care


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    before = list(gc.callbacks)
    yield Clock()
    gc.callbacks[:] = before


class Growing:
    """A probe of a process that grows as it is told."""

    rss = 100 << 20

    def __init__(self, processes: int, clock: Clock) -> None:
        self._clock = clock

    def snapshot(self, thorough: bool = False) -> Snapshot:
        return Snapshot(self._clock(), Growing.rss)

    def resident(self) -> int:
        return Growing.rss


def filled() -> Cache:
    cache = Cache(LRU(100), 100, 1 << 20)
    for number in range(100):
        cache.put(b"%d" % number, b"x" * 1000, None)
    return cache


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolring.workers.care.Probe", Growing)
    monkeypatch.setattr(Growing, "rss", 100 << 20)


def test_one_thing_after_the_other(clock: Clock, growing: None) -> None:
    cache = filled()
    care = Care(MemoryPolicy(rss=10 << 20, settle=5.0), 1, lambda: [cache], clock)
    assert care.figures()["trims"] == 0, "what it began with doesn't count"
    Growing.rss += 20 << 20
    told = care.figures()
    assert (told["trims"], told["collects"], told["wants"]) == (1, 1, None)
    assert 40 <= len(cache) <= 50
    assert [alert["kind"] for alert in told["alerts"]] == ["rss"]
    clock.now += 1.0
    assert care.figures()["collects"] == 1, "it has time to show"
    clock.now += 5.0
    told = care.figures()
    assert (told["trims"], told["collects"], told["wants"]) == (1, 2, None)
    clock.now += 6.0
    told = care.figures()
    assert told["wants"] == "recycle"
    assert not told["alerts"]
    clock.now += 6.0
    assert care.figures()["wants"] is None, "it is asked for once"


def test_one_that_is_well_does_nothing(clock: Clock) -> None:
    cache = filled()
    care = Care(MemoryPolicy(rss=1 << 40, share=0.0, kill_share=0.0, pressure=0.0), 1, lambda: [cache], clock)
    for _ in range(50):
        clock.now += 1.0
        told = care.figures()
        assert (told["trims"], told["collects"], told["wants"], told["alerts"]) == (0, 0, None, [])
    assert told["rss"] > 1 << 20
    assert told["uss"] is None or told["uss"] > 0
    assert len(cache) == 100


def test_far_too_much_is_told_at_once_and_then_again(clock: Clock, growing: None) -> None:
    care = Care(MemoryPolicy(rss=1, kill_rss=2, grace=5.0), 1, list, clock)
    Growing.rss += 3
    assert care.figures()["wants"] == "recycle"
    clock.now += 1.0
    assert care.figures()["wants"] is None
    clock.now += 5.0
    assert care.figures()["wants"] == "kill"


def test_allocations_are_traced_for_a_while(clock: Clock) -> None:
    care = Care(MemoryPolicy(), 1, list, clock)
    care.trace(7, 10.0, 5)
    kept = [bytearray(1000) for _ in range(2000)]
    assert care.again < 100
    assert care.figures()["allocations"] is None
    clock.now += 10.0
    told = care.figures()["allocations"]
    assert (told["number"], told["seconds"]) == (7, 10.0)
    assert told["top"][0]["file"] == __file__
    assert told["top"][0]["blocks"] >= len(kept)
    assert care.again == inf
    assert not tracemalloc.is_tracing()


def test_a_trace_may_end_before_its_time(clock: Clock) -> None:
    care = Care(MemoryPolicy(), 1, list, clock)
    care.trace(7, 10.0, 5)
    clock.now += 2.0
    care.trace(6, 0.0, 0)
    assert care.figures()["allocations"] is None, "that was another"
    care.trace(7, 0.0, 0)
    told = care.figures()["allocations"]
    assert (told["number"], told["seconds"]) == (7, 2.0)
    assert not tracemalloc.is_tracing()


def test_who_leaves_ends_its_trace(clock: Clock) -> None:
    care = Care(MemoryPolicy(), 1, list, clock)
    assert not care.leave()
    care.trace(7, 10.0, 5)
    clock.now += 2.0
    assert care.leave()
    told = care.figures()["allocations"]
    assert (told["number"], told["seconds"]) == (7, 2.0)
    assert not care.leave()


def test_it_looks_again_while_anything_is_wrong(clock: Clock, growing: None) -> None:
    care = Care(MemoryPolicy(rss=10 << 20, settle=1.0, cooldown=1.0), 1, list, clock)
    care.figures()
    assert care.again == inf
    Growing.rss += 20 << 20
    care.figures()
    assert care.again < 5
    Growing.rss -= 20 << 20
    clock.now += 2.0
    care.figures()
    assert care.again == inf


def test_those_of_c_code_are_traced_too(clock: Clock) -> None:
    care = Care(MemoryPolicy(), 1, list, clock)
    care.trace(6, 10.0, 5)
    care.trace(7, 10.0, 5, native=True)
    assert not tracemalloc.is_tracing(), "one after the other"
    kept = [bytearray(1000) for _ in range(2000)]
    clock.now += 10.0
    told = care.figures()["allocations"]
    assert told["number"] == 7
    assert (told["top"][0]["file"], told["top"][0]["native"] != ()) == (__file__, True)
    assert told["top"][0]["bytes"] >= 1000 * len(kept)


def test_without_memray_it_says_what_to_install(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)
    care = Care(MemoryPolicy(), 1, list, clock)
    care.trace(7, 10.0, 5, native=True)
    assert care.again == inf
    told = care.figures()["allocations"]
    assert told["error"]["code"] == "LOAD"
    assert "pip install 'toolring[memray]'" in told["error"]["message"]
    care.trace(8, 10.0, 5)
    clock.now += 10.0
    assert care.figures()["allocations"]["number"] == 8


def test_somebody_may_want_a_collection(clock: Clock) -> None:
    care = Care(MemoryPolicy(), 1, list, clock)
    loop: list[object] = [bytearray(1000)]
    loop.append(loop)
    del loop
    care.collect()
    assert care.figures()["collects"] == 1
