from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toolring.policy.restart import RestartBudget


def test_more_deaths_than_the_intensity_within_the_period_are_too_many() -> None:
    budget = RestartBudget(3, 10.0)
    for second in range(3):
        budget.died(float(second))
        assert not budget.exhausted(float(second))
    budget.died(3.0)
    assert budget.exhausted(3.0)


def test_deaths_are_forgotten_after_the_period() -> None:
    budget = RestartBudget(1, 10.0)
    budget.died(0.0)
    budget.died(9.9)
    assert budget.exhausted(9.95)
    assert not budget.exhausted(10.0)
    budget.died(20.0)
    assert not budget.exhausted(20.0)


def test_a_worker_that_answered_ends_the_series() -> None:
    budget = RestartBudget(1, 10.0)
    budget.died(0.0)
    budget.died(0.1)
    budget.lived()
    assert not budget.exhausted(0.1)
    assert budget.delay() == 0.0


def test_no_delay_after_one_crash_then_doubling_up_to_the_longest() -> None:
    budget = RestartBudget(100, 1e6, first_delay=0.05, longest_delay=0.5)
    delays = []
    for number in range(7):
        budget.died(float(number))
        delays.append(budget.delay())
    assert delays == [0.0, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


def test_the_delay_grows_even_if_it_is_longer_than_the_period() -> None:
    budget = RestartBudget(2, 1.0, first_delay=0.5, longest_delay=4.0)
    now, delays = 0.0, []
    for _ in range(8):
        budget.died(now)
        delays.append(budget.delay())
        now += delays[-1] + 0.1
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    budget.died(now + 5.0)
    assert budget.delay() == 0.0, "it is another fault"


def test_intensity_zero_allows_no_death() -> None:
    budget = RestartBudget(0, 10.0)
    assert not budget.exhausted(0.0)
    budget.died(1.0)
    assert budget.exhausted(1.0)


@given(st.integers(0, 8), st.lists(st.floats(0, 100), max_size=60))
def test_it_agrees_with_counting(intensity: int, times: list[float]) -> None:
    budget = RestartBudget(intensity, 10.0)
    for index, now in enumerate(sorted(times)):
        budget.died(now)
        recent = [t for t in sorted(times)[: index + 1] if t > now - 10.0]
        assert budget.exhausted(now) == (len(recent) > intensity)
        assert budget.delay() <= 10.0
