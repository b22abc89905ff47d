"""The rate of a count that is looked at now and then. The rest of `toolring bench` is in tests/process/."""

from __future__ import annotations

import pytest

from toolring.cli.bench import Average


def test_a_mean_rate_is_that_between_the_first_and_the_last_change() -> None:
    average = Average()
    means = []
    for moment, value in enumerate([5.0, 5.0, 6.0, 6.0, 8.0, 8.0, 8.0, 11.0]):
        average.saw(value, float(moment))
        means.append(average.mean)
    assert means[:4] == [None] * 4
    assert means[4:7] == [1.0] * 3
    assert means[7] == pytest.approx(1.0)


def test_of_too_short_a_time_there_is_none() -> None:
    average = Average()
    average.saw(1.0, 0.0)
    average.saw(2.0, 1.0)
    assert average.mean is None
