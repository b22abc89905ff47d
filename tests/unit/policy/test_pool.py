from __future__ import annotations

import random

import pytest

from toolring.policy.balance import LeastOutstanding, PeakEWMA, RingOverflow
from toolring.policy.health import HealthPolicy
from toolring.policy.pool import Factory, Pool
from toolring.policy.ring import hash64

WEIGHTS = {"a": 1.0, "b": 1.0, "c": 1.0}
POLICY = HealthPolicy(errors=1, panic=0.0, most=1.0)


def pool(factory: Factory = RingOverflow, loads: list[float] | None = None, floor: float = 4.0) -> Pool:
    return Pool(WEIGHTS, loads or [0.0] * 3, factory, POLICY, floor, random.Random(1).random, lambda: 100.0)


def test_a_key_has_a_list_of_nodes_and_its_calls_go_to_the_first_that_is_well() -> None:
    one = pool()
    for number in range(50):
        point = hash64(b"%d" % number)
        first, second, third = one.preference(point, 3)
        assert {first, second, third} == {0, 1, 2}
        assert one.choose(point) == first
        assert one.choose(point, {first}) == second
        assert one.choose(point, {first, second}) == third
        assert one.choose(point, {0, 1, 2}) is None
    with pytest.raises(ValueError, match="4 of 3"):
        one.preference(0, 4)


def test_who_is_not_able_gets_nothing_unless_nobody_else_is_left() -> None:
    one = pool()
    first, second, third = one.preference(7, 3)
    one.ended(first, 0.1, True)
    assert one.choose(7) == second
    one.ended(second, 0.1, True)
    assert one.choose(7) == third
    assert one.choose(7, {third}) == first
    one.ended(third, 0.1, True)
    assert one.choose(7) == first


def test_loads_are_looked_up_when_somebody_is_chosen() -> None:
    loads = [0.0, 5.0, 9.0]
    one = pool(LeastOutstanding, loads)
    assert one.choose() == 0
    loads[0] = 7.0
    assert one.choose() == 1


def test_balancers_that_learn_are_told() -> None:
    one = pool(PeakEWMA)
    for index, seconds in enumerate((5.0, 5.0, 0.1)):
        one.ended(index, seconds, False)
    assert not one.keyed
    assert [one.choose() for _ in range(30)].count(2) > 12
