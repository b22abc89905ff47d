"""The policies in the simulated cluster of benchmarks/simulate.py, small: the same every time, so that figures may be
asserted."""

from __future__ import annotations

import random

import pytest

from benchmarks.simulate import NEVER, WATCHED, World, quantile, rack_lost, retry_storm, steady, zipf
from toolring.policy.balance import LeastOutstanding, PeakEWMA, RingOverflow, RoundRobin, TwoChoices
from toolring.policy.health import HealthPolicy
from toolring.policy.pool import Factory


def p99(factory: Factory) -> float:
    """Of four members one is ten times slower; arrivals at 30 % of what all could do."""
    world = World(4, factory, seed=4)
    world.members[0].slow = 10.0
    done = world.run(2.0, steady(4, 0.3), zipf(random.Random(2), 1000))
    assert not any(one.failed for one in done)
    return quantile([one.seconds for one in done], 0.99)


@pytest.mark.parametrize("factory", [TwoChoices, PeakEWMA, LeastOutstanding])
def test_who_looks_at_the_load_leaves_a_slow_member_alone(factory: Factory) -> None:
    assert p99(factory) <= 0.5 * p99(RoundRobin)


def test_a_bounded_ring_does_not_let_a_slow_member_drown() -> None:
    assert p99(RingOverflow) <= 0.5 * p99(RoundRobin)


@pytest.mark.parametrize("factory", [RoundRobin, TwoChoices, LeastOutstanding])
def test_members_that_fail_are_ejected_and_tried_elsewhere(factory: Factory) -> None:
    def errors(policy: HealthPolicy, retries: int) -> float:
        world = World(10, factory, policy, retries=retries, seed=3)
        world.members[3].fails = 1.0
        done = world.run(2.0, steady(10, 0.3), lambda: 0)
        return sum(one.failed for one in done) / len(done)

    assert errors(NEVER, 0) > 0.05
    assert errors(WATCHED, 0) < 0.01
    assert errors(WATCHED, 1) == 0.0


def test_a_lost_rack_is_noticed() -> None:
    nobody, watched = (
        quantile([one.seconds for one in done if one.came > 3.0], 0.99) for done in rack_lost(10, 4.0).values()
    )
    assert nobody > 1.0
    assert watched < 0.2


def test_a_retry_storm_is_stopped_by_the_budget() -> None:
    without, budget = (len(world.runs) / len(world.done) for world in retry_storm(5, 1.5).values())
    assert without > 1.5
    assert budget < 1.2
