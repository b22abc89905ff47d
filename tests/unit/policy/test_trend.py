from __future__ import annotations

import random
from itertools import pairwise
from math import inf

import pytest

from toolring.policy.trend import PARTS, WINDOWS, Floors, slope


def test_the_slope_of_a_line_is_that_of_the_line() -> None:
    found = slope([(x, 3 * x + 1) for x in (0, 1, 4, 5, 9, 10)])
    assert found == (3, 3, 3)
    assert found.doubt == 0


def test_outliers_do_not_move_it() -> None:
    points = [(float(x), 2.0 * x) for x in range(20)]
    points[7], points[13] = (7.0, 500.0), (13.0, -500.0)
    found = slope(points)
    assert found.middle == 2
    assert found.lower > 0


def test_its_bounds_hold_the_true_slope_nearly_always() -> None:
    rng = random.Random(7)
    missed = 0
    for _ in range(400):
        found = slope([(x, 0.5 * x + rng.gauss(0, 5)) for x in range(20)])
        missed += not found.lower <= 0.5 <= found.upper
    assert missed <= 20, "two in a hundred are expected"


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_few_points_say_nothing_for_sure(count: int) -> None:
    found = slope([(x, x) for x in range(count)])
    assert (found.lower, found.upper) == (-inf, inf)


def test_of_each_part_the_least_is_kept_and_of_old_ones_none() -> None:
    floors = Floors(240.0)
    assert [floors.add(when, value) for when, value in [(3, 9), (5, 7), (9, 8), (10, 4)]] == [True, False, False, True]
    assert [(floor.when, floor.value) for floor in floors.all()] == [(5, 7), (10, 4)]
    for when in range(20, 100_000, 10):
        floors.add(when, 1.0)
    assert len(floors.all()) == PARTS * WINDOWS


def test_a_clock_that_goes_back_breaks_nothing() -> None:
    floors = Floors(240.0)
    rng = random.Random(3)
    for when in range(1000):
        floors.add(when - rng.choice([0, 0, 0, 100]), rng.random(), rng.random() < 0.1)
    assert all(a.when < b.when for a, b in pairwise(floors.all()))
    assert floors.trend() is not None


def test_there_is_no_trend_before_three_quarters_of_a_window() -> None:
    floors = Floors(240.0)
    for when in range(180):
        floors.add(when, when)
    assert floors.trend() is None
    for when in range(180, 200):
        floors.add(when, when)
    found = floors.trend()
    assert found is not None
    assert found.slope.middle == 1
    assert found.steady
    assert found.least == found.seconds


def test_a_rise_that_is_undone_or_over_is_not_steady() -> None:
    for values in (
        [min(when, 120) for when in range(250)],  # came to its end
        [100 * (when > 130) for when in range(250)],  # a step
        [when if when < 225 else 0 for when in range(250)],  # fell back at last
        [when % 80 for when in range(250)],  # up and down
    ):
        floors = Floors(240.0)
        for when, value in enumerate(values):
            floors.add(when, value)
        found = floors.trend()
        assert found is not None
        assert not found.steady


def test_what_was_collected_in_the_last_quarter_is_told() -> None:
    for at, told in ((100, False), (220, True)):
        floors = Floors(240.0)
        for when in range(250):
            floors.add(when, when, when == at)
        found = floors.trend()
        assert found is not None
        assert found.collected is told
