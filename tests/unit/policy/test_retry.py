from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from toolring.policy.retry import LONGEST_DELAY, RetryBudget, delay, may_pass


@given(first=st.floats(0, 100), attempt=st.integers(1, 10_000), dice=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_bounded(first: float, attempt: int, dice: float) -> None:
    assert 0 <= delay(first, attempt, lambda: dice) <= LONGEST_DELAY


def test_delays_double_and_are_spread_over_their_whole_length() -> None:
    dice = random.Random(1)
    for attempt, mean in ((1, 0.1), (2, 0.2), (3, 0.4)):
        drawn = [delay(0.1, attempt, dice.random) for _ in range(4000)]
        assert abs(sum(drawn) / len(drawn) - mean) < 0.02 * 2**attempt
        assert min(drawn) < 0.05 * mean
        assert max(drawn) > 1.9 * mean


def test_what_may_pass() -> None:
    assert may_pass({"code": "RETRY"}, ())
    assert may_pass({"code": "TOOL_ERROR", "type": "TimeoutError"}, ("TimeoutError",))
    assert may_pass({"code": "WORKER_OOM"}, ("WORKER_OOM",))
    assert not may_pass({"code": "TOOL_ERROR", "type": "ValueError"}, ("TimeoutError",))
    assert not may_pass({"code": "CANCELLED"}, ())


@given(
    ratio=st.floats(0, 1),
    floor=st.floats(0, 10),
    history=st.lists(st.one_of(st.just("call"), st.just("retry"), st.floats(0, 20)), max_size=200),
)
def test_retries_are_a_part_of_the_calls_and_a_floor(ratio: float, floor: float, history: list[str | float]) -> None:
    budget = RetryBudget(ratio, floor)
    now, calls, retries = 0.0, 0, 0
    for event in history:
        if event == "call":
            budget.called()
            calls += 1
        elif event == "retry":
            retries += budget.take(now)
            assert retries <= ratio * calls + floor * now + budget.most + 1e-6
        else:
            now += float(event)


def test_a_tool_that_always_fails_is_asked_a_tenth_more_in_the_long_run() -> None:
    budget = RetryBudget(0.1, 0.0)
    retries = 0
    for _ in range(10_000):
        budget.called()
        retries += budget.take(0.0)
    assert retries <= 0.1 * 10_000 + budget.most
