from __future__ import annotations

import re
from typing import Any

import pytest

from toolring.policy.health import TABLE, Event, Health, HealthPolicy, IllegalEvent, State


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def health(clock: Clock, count: int = 4, **more: Any) -> Health:
    return Health(count, HealthPolicy(**{"errors": 3, "eject": 10.0, **more}), clock)


def fail(health: Health, index: int, times: int = 3) -> None:
    for _ in range(times):
        health.failed(index)


def states(health: Health) -> list[str]:
    return [member.state.name for member in health.members]


def test_errors_in_a_row_eject_a_member_and_one_that_is_not_starts_anew(clock: Clock) -> None:
    pool = health(clock)
    fail(pool, 1, 2)
    pool.succeeded(1, 0.1)
    fail(pool, 1, 2)
    assert pool.able() == [True] * 4
    pool.failed(1)
    assert pool.able() == [True, False, True, True]
    assert pool.unwell == 1


def test_it_comes_back_by_one_probe_at_a_time_and_each_time_later(clock: Clock) -> None:
    pool = health(clock)
    fail(pool, 1)
    clock.now += 9.9
    assert not pool.able()[1]
    clock.now += 0.1
    assert pool.able()[1]
    pool.began(1)
    assert not pool.able()[1], "the one probe is under way"
    pool.failed(1)
    clock.now += 10.0
    assert not pool.able()[1], "the second time it is twice as long"
    clock.now += 10.0
    assert pool.able()[1]
    pool.began(1)
    pool.gave_up(1)
    assert pool.able()[1], "a probe that told nothing is made again"
    pool.began(1)
    pool.succeeded(1, 0.1)
    assert (pool.able(), pool.unwell) == ([True] * 4, 0)


def test_no_more_than_a_share_is_ejected(clock: Clock) -> None:
    pool = health(clock, panic=0.0)
    for index in range(4):
        fail(pool, index)
    assert sum(pool.able()) == 2
    alone = health(clock, 1)
    fail(alone, 0, 20)
    assert alone.able() == [True]


def test_when_most_are_down_all_are_used(clock: Clock) -> None:
    pool = health(clock, fall=1)
    pool.checked(0, False)
    pool.checked(1, False)
    assert pool.able() == [False, False, True, True]
    pool.checked(2, False)
    assert pool.able() == [True] * 4, "a panic"
    calm = health(clock, fall=1, panic=0.0)
    for index in range(3):
        calm.checked(index, False)
    assert calm.able() == [False, False, False, True]
    calm.checked(3, False)
    assert calm.able() == [True] * 4, "somebody has to be tried"


def test_checks_that_fail_take_it_down_and_others_bring_it_back(clock: Clock) -> None:
    pool = health(clock, fall=2, rise=2)
    pool.checked(0, False)
    pool.checked(0, True)
    pool.checked(0, False)
    assert states(pool)[0] == "UP"
    pool.checked(0, False)
    assert states(pool)[0] == "DOWN"
    fail(pool, 0)
    pool.succeeded(0, 0.1)
    assert states(pool)[0] == "DOWN", "calls say nothing about one that is down"
    pool.checked(0, True)
    pool.checked(0, True)
    assert states(pool)[0] == "UP"


def test_an_ejected_one_does_not_come_back_by_its_checks(clock: Clock) -> None:
    pool = health(clock)
    fail(pool, 2)
    for _ in range(5):
        pool.checked(2, True)
    assert states(pool)[2] == "EJECTED"


def test_one_that_is_far_slower_than_the_median_is_ejected(clock: Clock) -> None:
    pool = health(clock, slower=3.0)
    for _ in range(5):
        for index in range(4):
            pool.succeeded(index, 1.0 if index == 3 else 0.1)
    assert states(pool) == ["UP", "UP", "UP", "EJECTED"]
    same = health(clock, slower=3.0)
    for _ in range(50):
        for index in range(4):
            same.succeeded(index, 0.1 + 0.05 * index)
    assert states(same) == ["UP"] * 4


def test_what_is_known_is_taken_over(clock: Clock) -> None:
    old, new = health(clock), health(clock, 2)
    fail(old, 3)
    new.adopt(1, old.members[3])
    assert (new.able(), new.unwell) == ([True, False], 1)
    new.adopt(1, old.members[0])
    assert new.unwell == 0


def test_what_cannot_happen_raises_and_changes_nothing(clock: Clock) -> None:
    pool = health(clock)
    for state in State:
        for event in Event:
            pool.members[0].state = state
            if event not in TABLE[state]:
                with pytest.raises(IllegalEvent, match=f"{event.name} in state {state.name}"):
                    pool._step(pool.members[0], event)
                assert pool.members[0].state is state


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"errors": 0}, "errors=0 must be at least 1"),
        ({"most": 1.5}, "most=1.5 is not a share"),
        ({"panic": -0.1}, "panic=-0.1 is not a share"),
        ({"eject": 0.0}, "eject=0.0 is not a positive"),
        ({"slower": 0.5}, "slower=0.5 must be more than 1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        HealthPolicy(**said)
