from __future__ import annotations

import pytest

from toolring.plugins.caches.lru import LRU
from toolring.workers.cache.base import OVERHEAD, Cache


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cache(clock: Clock, entries: int = 3, size: int = 1 << 20) -> Cache:
    return Cache(LRU(entries), entries, size, clock)


def test_what_was_put_is_got_until_its_time_is_over(clock: Clock) -> None:
    one = cache(clock)
    assert one.get(b"k") is None
    assert one.put(b"k", b"v", 10.0)
    clock.now = 9.999
    assert one.get(b"k") == b"v"
    clock.now = 10.0
    assert one.get(b"k") is None
    assert one.stats() == {"entries": 0, "bytes": 0, "hits": 1, "misses": 2, "evictions": 0, "expirations": 1}


def test_the_least_recently_used_leaves(clock: Clock) -> None:
    one = cache(clock)
    for key in (b"a", b"b", b"c"):
        one.put(key, b"v", 60.0)
    one.get(b"a")
    one.put(b"d", b"v", 60.0)
    assert one.get(b"b") is None
    assert one.get(b"a") == b"v"
    assert one.evictions == 1


def test_weight_counts_key_value_and_overhead(clock: Clock) -> None:
    one = cache(clock, 100, 2 * (OVERHEAD + 101))
    one.put(b"a", b"x" * 100, 60.0)
    one.put(b"b", b"x" * 100, 60.0)
    assert len(one) == 2
    one.put(b"c", b"", 60.0)
    assert len(one) == 2
    assert one.get(b"a") is None


def test_what_is_larger_than_the_cache_is_not_kept_and_nobody_leaves_for_it(clock: Clock) -> None:
    one = cache(clock, 3, 1000)
    one.put(b"a", b"v", 60.0)
    assert not one.put(b"b", b"x" * 1000, 60.0)
    assert one.get(b"a") == b"v"


def test_a_value_that_is_not_kept_does_not_leave_the_old_one(clock: Clock) -> None:
    """The old value would be stale."""
    one = cache(clock, 3, 1000)
    one.put(b"a", b"old", 60.0)
    assert not one.put(b"a", b"x" * 1000, 60.0)
    assert one.get(b"a") is None
    one.put(b"a", b"old", 60.0)
    assert not one.put(b"a", b"new", 0.0)
    assert one.get(b"a") is None


def test_putting_again_renews_value_weight_and_time(clock: Clock) -> None:
    one = cache(clock)
    one.put(b"a", b"x" * 50, 5.0)
    clock.now = 4.0
    one.put(b"a", b"y", 5.0)
    clock.now = 8.0
    assert one.get(b"a") == b"y"
    assert one.bytes == 2 + OVERHEAD


def test_expired_entries_leave_before_live_ones_whatever_their_ttl(clock: Clock) -> None:
    one = cache(clock)
    one.put(b"long", b"v", 100.0)
    one.put(b"brief", b"v", 1.0)
    one.put(b"other", b"v", 50.0)
    one.get(b"brief")
    clock.now = 1.0
    one.put(b"new", b"v", 60.0)
    assert one.get(b"long") == b"v"
    assert one.get(b"other") == b"v"
    assert one.evictions == 0


def test_a_frozen_or_backward_clock_expires_nothing(clock: Clock) -> None:
    one = cache(clock)
    clock.now = 100.0
    one.put(b"a", b"v", 10.0)
    clock.now = 50.0
    assert one.get(b"a") == b"v"


def test_delete_and_clear(clock: Clock) -> None:
    one = cache(clock)
    one.put(b"a", b"v", 60.0)
    one.put(b"b", b"v", 60.0)
    assert one.delete(b"a")
    assert not one.delete(b"a")
    one.clear()
    assert (len(one), one.bytes) == (0, 0)
    assert one.put(b"a", b"v", 60.0)


def test_a_cache_for_nothing_keeps_nothing(clock: Clock) -> None:
    one = cache(clock, 0)
    assert not one.put(b"a", b"v", 60.0)
    assert one.get(b"a") is None


def test_memory_of_what_expired_comes_back_though_there_is_room(clock: Clock) -> None:
    one = cache(clock, 100)
    for number in range(10):
        one.put(b"%d" % number, b"v", 1.0)
    clock.now = 1.0
    for number in range(5):
        one.put(b"n%d" % number, b"v", 60.0)
    assert len(one) == 5
    assert one.bytes == 5 * (OVERHEAD + 3)
    assert one.stats()["expirations"] == 10


def test_any_value_is_kept_for_ever_if_asked_to_and_looking_is_no_access(clock: Clock) -> None:
    one = cache(clock)
    missing = object()
    assert one.put(b"none", None, None, weight=10)
    clock.now = 1e12
    assert one.get(b"none", missing) is None
    assert b"none" in one
    assert one.peek(b"none", missing) is None
    assert one.peek(b"other", missing) is missing
    assert (one.hits, one.misses, one.bytes) == (1, 0, 10)


def test_times_to_live_are_exact_however_many_and_records_of_what_left_are_few(clock: Clock) -> None:
    one = cache(clock, 100)
    for number in range(5000):
        one.put(b"%d" % (number % 150), b"v", 10.0 + number / 1000)
        assert len(one._heap) <= 2 * len(one) + 65
    clock.now = 14.9495
    assert one.peek(b"149") is None, "until 14.949"
    assert one.peek(b"0") == b"v", "until 14.95"
    assert sum(b"%d" % number in one for number in range(150)) == 50


def test_after_the_clock_went_back_what_expires_first_leaves_first() -> None:
    now = 100.0
    cache = Cache(LRU(2), 2, 1 << 20, lambda: now)
    cache.put(b"a", b"", 2.0)
    cache.get(b"a")
    now = 98.0
    cache.put(b"c", b"", 2.0)
    now = 101.0  # the second has expired, the first has not
    cache.put(b"b", b"", 60.0)
    assert (b"a" in cache, b"b" in cache, b"c" in cache) == (True, True, False)


@pytest.mark.parametrize(("share", "left"), [(1.0, 10), (0.5, 5), (0.0, 0)])
def test_it_can_be_made_smaller(share: float, left: int) -> None:
    cache = Cache(LRU(10), 10, 1 << 20)
    for number in range(10):
        cache.put(b"%d" % number, b"x" * 100, None)
    cache.shrink(share)
    assert len(cache) == left
    assert all(b"%d" % number in cache for number in range(10 - left, 10)), "who leaves the strategy says"
    assert cache.stats()["evictions"] == 10 - left
