"""More workers as soon as jobs wait, fewer once they weren't needed for a while; the number doesn't swing."""

from __future__ import annotations

from collections import deque
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from toolring.policy.scaling import Scaler, Scaling, Seen

POLICY = Scaling(1, 8, 0.1, 10.0)


def seen(serving: int, busy: float = 0.0, waiting: float = 0.0, waits: float = 0.0, starting: int = 0) -> Seen:
    return Seen(serving, starting, busy, waiting, waits)


def test_who_waits_too_long_calls_for_more_at_most_twice_as_many() -> None:
    scaler = Scaler(POLICY, 0.0)
    assert scaler.wanted(seen(2, 2, waiting=9, waits=0.05), 0.0) == 2, "not for so long"
    assert scaler.wanted(seen(2, 2, waiting=9, waits=0.2), 0.2) == 4
    assert scaler.wanted(seen(2, 2, waiting=1, waits=0.2), 0.3) == 3, "one waits"
    assert scaler.wanted(seen(2, 2, waiting=2, waits=0.2, starting=2), 0.4) == 4, "they are on their way"
    assert scaler.wanted(seen(2, 2, waiting=9, waits=0.2, starting=2), 0.5) == 4, "and no more than as many"
    assert scaler.wanted(seen(6, 6, waiting=50, waits=0.2), 0.6) == 8, "no more than the most"


def test_what_waited_elsewhere_has_not_waited_for_a_worker() -> None:
    scaler = Scaler(POLICY, 0.0)
    assert scaler.wanted(seen(2, 2), 5.0) == 2
    assert scaler.wanted(seen(2, 2, waiting=1, waits=4.0), 5.1) == 2, "it was tried before, or its tool had a limit"
    assert scaler.wanted(seen(2, 2, waiting=1, waits=4.2), 5.3) == 3


def test_what_was_needed_counts_by_time_not_by_how_often_somebody_looked() -> None:
    scaler = Scaler(Scaling(1, 8, 0.1, 10.0), 0.0)
    workers, now = 8, 0.0
    for _ in range(60):
        for pause, busy in [(0.25, 1.0)] * 4 + [(0.002, 8.0)] * 10:  # looked at often only while it is busy
            now += pause
            workers = scaler.wanted(seen(workers, min(busy, workers)), now)
    assert workers == 2


def test_with_nobody_there_it_is_at_once() -> None:
    scaler = Scaler(Scaling(0, 4), 0.0)
    assert scaler.wanted(seen(0), 0.0) == 0
    assert scaler.wanted(seen(0, waiting=0.01), 0.1) == 1
    assert scaler.wanted(seen(0, waiting=7.0), 0.1) == 1, "and then as usual"


def run(scaler: Scaler, workers: int, busy: float, begin: float, seconds: float) -> list[int]:
    """What it wants at each moment, where that is what it gets."""
    found = []
    for step in range(round(seconds / 0.05)):
        workers = scaler.wanted(seen(workers, busy), begin + step * 0.05)
        found.append(workers)
    return found


def test_who_was_not_needed_for_a_while_leaves() -> None:
    scaler = Scaler(POLICY, 0.0)
    found = run(scaler, 8, 2.0, 0.0, 30.0)
    assert set(found[:199]) == {8}, "nothing is known yet of what is needed"
    assert found[-1] == 3, "two are busy: three are to be for three quarters of their time"
    assert sorted(found, reverse=True) == found


def test_the_most_that_was_needed_lately_decides() -> None:
    scaler = Scaler(POLICY, 0.0)
    run(scaler, 8, 0.5, 0.0, 15.0)
    run(scaler, 8, 5.8, 15.0, 1.0)
    after = run(scaler, 8, 0.0, 16.0, 20.0)
    assert after[100] == 8, "a burst five seconds ago"
    assert after[-1] == 1


def test_nothing_at_all_for_a_while_is_needed_for_none() -> None:
    scaler = Scaler(Scaling(0, 4, 0.1, 10.0), 0.0)
    assert run(scaler, 2, 0.0, 0.0, 11.0)[-1] == 0
    scaler = Scaler(Scaling(0, 4, 0.1, 10.0), 0.0)
    assert run(scaler, 2, 0.001, 0.0, 11.0)[-1] == 1, "hardly anything is not nothing"


def test_where_nobody_asked_for_long_nothing_is_known() -> None:
    scaler = Scaler(POLICY, 0.0)
    run(scaler, 8, 0.0, 0.0, 9.0)
    found = run(scaler, 8, 0.0, 1000.0, 11.0)
    assert set(found[:199]) == {8}
    assert found[-1] == 1


def test_the_last_one_does_not_leave_while_somebody_waits() -> None:
    scaler = Scaler(Scaling(0, 4, 0.1, 10.0), 0.0)
    workers = run(scaler, 1, 0.001, 0.0, 20.0)[-1]
    workers = run(scaler, workers, 0.0, 20.0, 9.95)[-1]
    assert workers == 1
    assert scaler.wanted(seen(1, waiting=1e-10), 40.2) == 1, "it is seen to wait for the first time"
    assert scaler.wanted(seen(1), 40.3) == 0


@given(
    least=st.integers(0, 3),
    more=st.integers(0, 5),
    steps=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20), st.floats(0, 1), st.floats(0.01, 3))),
)
def test_it_stays_between_least_and_most(least: int, more: int, steps: list[tuple[float, float, float, float]]) -> None:
    policy = Scaling(least, least + more, 0.1, 2.0)
    scaler = Scaler(policy, 0.0)
    workers, now, since = least, 0.0, inf
    for busy, waiting, waits, pause in steps:
        now += pause
        since = min(since, now) if waiting else inf
        wanted = scaler.wanted(seen(workers, min(busy, workers), waiting, waits), now)
        assert policy.least <= wanted <= policy.most
        assert wanted >= min(workers, 1) or not waiting, "nobody is left for what waits"
        if min(waits, now - since) > policy.wait:
            assert wanted >= workers, "fewer while some wait for long"
        workers = wanted


def test_a_load_between_two_numbers_does_not_swing() -> None:
    """Open arrivals of 1.9 workers' worth, in a toy: one job each 0.25 s for each of 1.9 · 4 places."""
    scaler = Scaler(Scaling(1, 8, 0.1, 5.0), 0.0)
    workers, changes, now = 1, 0, 0.0
    queue: deque[float] = deque()
    free: list[float] = [0.0] * 8
    due = 0.0
    for _ in range(60 * 20):
        now += 0.05
        while due <= now:
            queue.append(due)
            due += 0.25 / 1.9
        for n in range(workers):
            if free[n] <= now and queue:
                queue.popleft()
                free[n] = now + 0.25
        busy = sum(free[n] > now for n in range(workers))
        waits = now - queue[0] if queue else 0.0
        wanted = scaler.wanted(seen(workers, busy, len(queue), waits), now)
        changes += wanted != workers and now > 20
        workers = wanted
    assert workers in (3, 4)
    assert changes <= 1
