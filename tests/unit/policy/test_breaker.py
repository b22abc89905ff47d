from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from toolring.policy.breaker import TABLE, Breaker, BreakerPolicy, Counts, Event, IllegalEvent, State, TimeWindow

POLICY = BreakerPolicy(window=10, minimum=4, wait=30.0, probes=3)
ORDERS = (Event.FORCE_OPEN, Event.FORCE_CLOSE, Event.OBSERVE, Event.AUTO)


def call(breaker: Breaker, failed: bool, now: float = 0.0, seconds: float = 0.0) -> bool:
    """One call through it; False: it was refused."""
    permit = breaker.permit(now)
    if permit is None:
        return False
    breaker.record(permit, failed, seconds, now)
    return True


def opened(policy: BreakerPolicy = POLICY) -> Breaker:
    breaker = Breaker(policy)
    while breaker.state is State.CLOSED:
        call(breaker, True)
    return breaker


def test_three_failures_among_two_hundred_successes_do_not_open_it() -> None:
    breaker = Breaker(BreakerPolicy())
    for number in range(203):
        assert call(breaker, number % 70 == 35)
    assert breaker.state is State.CLOSED


def test_it_opens_at_the_rate_but_not_before_the_minimum_of_calls() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        call(breaker, True)
        assert breaker.state is State.CLOSED
    call(breaker, True)
    assert breaker.state is State.OPEN
    assert not call(breaker, False, now=29.9)
    assert (breaker.opened, breaker.refused) == (1, 1)
    assert breaker.retry_after(10.0) == 20.0


def test_what_left_the_window_counts_no_more() -> None:
    breaker = Breaker(POLICY)
    for failed in [True, True, True, False, False, False, False, False, False, False]:
        call(breaker, failed)
    assert breaker.counts(0.0) == (10, 3, 0)
    for failed in [False, True, True, True]:
        call(breaker, failed)
    assert breaker.counts(0.0) == (10, 3, 0)
    assert breaker.state is State.CLOSED


def test_slow_calls_open_it_as_failures_do() -> None:
    breaker = Breaker(replace(POLICY, slow=1.0, slow_rate=0.75))
    for seconds in (0.5, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0):
        call(breaker, False, seconds=seconds)
        assert breaker.state is State.CLOSED
    call(breaker, False, seconds=2.0)
    assert breaker.state is State.OPEN


def test_five_hundred_at_once_get_exactly_the_probes() -> None:
    breaker = opened()
    permits = [breaker.permit(30.0) for _ in range(500)]
    assert sum(permit is not None for permit in permits) == POLICY.probes
    assert breaker.refuses(30.0)


def test_probes_that_go_well_close_it_and_a_bad_share_of_them_opens_it_again() -> None:
    breaker = opened()
    for _ in range(2):
        assert call(breaker, False, now=30.0)
        assert breaker.state is State.HALF_OPEN
    assert call(breaker, True, now=30.0)
    assert breaker.state is State.CLOSED
    breaker = opened()
    call(breaker, True, now=30.0)
    assert breaker.state is State.HALF_OPEN
    call(breaker, True, now=31.0)
    assert breaker.state.name == "OPEN", "two of three: it is certain already"
    assert breaker.refuses(60.9)
    assert breaker.shut(60.9)
    assert not breaker.refuses(61.0)
    assert not breaker.shut(61.0), "whoever calls next is let through"


def test_a_cancelled_probe_gives_its_permit_back() -> None:
    breaker = opened()
    permits = [breaker.permit(30.0) for _ in range(3)]
    assert breaker.permit(30.0) is None
    assert permits[0] is not None
    breaker.cancel(permits[0])
    assert not breaker.refuses(30.0)
    assert breaker.permit(30.0) is not None
    assert breaker.permit(30.0) is None


def test_what_began_in_an_earlier_state_changes_nothing() -> None:
    breaker = Breaker(POLICY)
    late = breaker.permit(0.0)
    assert late is not None
    for _ in range(4):
        call(breaker, True)
    breaker.record(late, True, 0.0, 30.0)
    assert breaker.state is State.OPEN
    first = breaker.permit(30.0)
    assert first is not None
    breaker.record(late, True, 0.0, 30.0)
    breaker.cancel(late)
    assert breaker.state.name == "HALF_OPEN"
    assert breaker.counts(30.0) == (0, 0, 0)
    assert [breaker.permit(30.0) for _ in range(3)].count(None) == 1


@pytest.mark.parametrize("before", list(State))
def test_orders_are_heard_in_every_state(before: State) -> None:
    for event in ORDERS:
        breaker = Breaker(POLICY)
        breaker.state = before
        breaker.order(event)
        assert breaker.state is TABLE[before][event]
        through = [call(breaker, True) for _ in range(50)]
        if event is Event.FORCE_OPEN:
            assert not any(through)
            assert breaker.retry_after(0.0) == POLICY.wait
        elif event is Event.AUTO:
            assert through == [True] * 4 + [False] * 46
        else:
            assert all(through)
            assert breaker.counts(0.0) == ((10, 10, 0) if event is Event.OBSERVE else (0, 0, 0))


def test_what_cannot_happen_raises_and_changes_nothing() -> None:
    breaker = opened()
    with pytest.raises(IllegalEvent, match="TRIP in state OPEN"):
        breaker._step(Event.TRIP)
    with pytest.raises(IllegalEvent, match="TRIP is no order"):
        breaker.order(Event.TRIP)
    assert breaker.state is State.OPEN


def test_a_window_of_time_forgets_a_tenth_at_once() -> None:
    window = TimeWindow(10.0)
    window.add(True, False, 0.5)
    window.add(False, True, 9.5)
    assert window.counts(9.9) == (2, 1, 1)
    assert window.counts(10.0) == (1, 0, 1)
    assert window.counts(19.0) == (0, 0, 0)


def test_a_window_of_time_under_a_clock_that_goes_back_adds_to_the_newest_part() -> None:
    window = TimeWindow(10.0)
    window.add(True, False, 5.0)
    window.add(True, False, 3.0)
    assert window.counts(5.0) == Counts(2, 2, 0)


def test_without_a_bound_no_call_is_slow() -> None:
    breaker = Breaker(POLICY)
    assert POLICY.slow is None
    for _ in range(20):
        call(breaker, False, seconds=1e9)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"failure_rate": 0.0}, "failure_rate=0.0 is not a share"),
        ({"slow_rate": 1.5}, "slow_rate=1.5 is not a share"),
        ({"window": 0}, "window=0 is not from 1"),
        ({"probes": 0}, "probes=0 is not from 1"),
        ({"minimum": 101}, "minimum=101 is more than the window's 100 calls"),
        ({"wait": 0.0}, "wait=0.0 is not a positive"),
        ({"slow": float("nan")}, "slow=nan is not a positive"),
        ({"window_seconds": -1.0}, "window_seconds=-1.0 is not"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        BreakerPolicy(**said)


def test_one_that_only_observes_lets_everything_through_from_the_start() -> None:
    breaker = Breaker(replace(POLICY, observe=True))
    assert all(call(breaker, True) for _ in range(50))
    assert breaker.counts(0.0) == (10, 10, 0)
    breaker.order(Event.FORCE_OPEN)
    assert not call(breaker, False)
    breaker.order(Event.AUTO)
    assert breaker.state is State.METRICS_ONLY, "as it was declared"
    assert all(call(breaker, True) for _ in range(50))


def test_a_share_of_slow_calls_needs_to_know_which_are_slow() -> None:
    with pytest.raises(ValueError, match=r"slow_rate=0\.2 does nothing without slow="):
        BreakerPolicy(slow_rate=0.2)
    assert BreakerPolicy(slow_rate=0.2, slow=1.0).slow_rate == 0.2
