from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from toolring.policy.limits import Fixed, Gradient, RateLimit


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(0, 50),
    pauses=st.lists(st.floats(0, 5), max_size=60),
)
def test_no_span_of_time_sees_more_starts_than_rate_and_burst_allow(
    rate: float, burst: int, pauses: list[float]
) -> None:
    limit = RateLimit(rate, burst)
    now, starts = 0.0, list[float]()
    for pause in pauses:
        now += pause
        if len(starts) > 3000:
            break
        while limit.available(now):
            limit.take(now)
            starts.append(now)
        assert limit.wait(now) > 0
        assert limit.wait(now) <= 1 / rate + 1e-6
    most = burst or max(1, -(-rate // 1))
    for first in range(0, len(starts), 7):
        for last in range(first, len(starts), 11):
            assert last - first + 1 <= most + rate * (starts[last] - starts[first]) + 1 + 1e-6


def test_a_wait_is_as_long_as_it_says() -> None:
    limit = RateLimit(10, 1)
    assert limit.available(0.0) == 1
    limit.take(0.0)
    assert limit.available(0.0) == 0
    assert abs(limit.wait(0.0) - 0.1) < 1e-9
    assert limit.available(limit.wait(0.0) + 1e-9) == 1


def test_taking_more_than_there_is_is_paid_later() -> None:
    limit = RateLimit(10, 5)
    limit.take(0.0, 10)
    assert limit.available(0.4) == 0
    assert limit.available(1.0) == 5


def test_a_fixed_limit_stays() -> None:
    limit = Fixed(3)
    limit.ended(100.0, 3)
    assert limit.limit == 3


def served(capacity: int, most: int, seconds: float = 0.01, runs: int = 4000, seed: int = 1) -> Gradient:
    """A tool that is as fast as ever with up to ``capacity`` beside each other, and slows down in proportion beyond."""
    dice = random.Random(seed)
    limit = Gradient(4, most)
    for _ in range(runs):
        running = limit.limit
        limit.ended(seconds * max(1.0, running / capacity) * dice.uniform(0.9, 1.1), running)
    return limit


def test_it_grows_while_nothing_gets_slower() -> None:
    assert served(1000, 64).limit == 64


def test_it_finds_where_things_get_slower() -> None:
    for seed in range(5):
        found = served(20, 1000, seed=seed).limit
        assert 10 <= found <= 80, found


def test_it_comes_down_when_the_tool_gets_slow() -> None:
    limit = served(1000, 200)
    for _ in range(300):
        limit.ended(0.2, limit.limit)
    assert limit.limit < 100
    assert limit.limit >= 1


def test_one_that_is_not_wanted_does_not_grow() -> None:
    limit = Gradient(40, 1000)
    for _ in range(limit.EVERY - 1):
        limit.ended(0.01, 1)
    assert limit.limit == 40
