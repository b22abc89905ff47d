from __future__ import annotations

from itertools import accumulate
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolring.policy.histogram import Coarse, Histogram, bounds_of, bucket_of

HOUR = 3_600_000_000
times = st.integers(0, HOUR) | st.integers(0, 40).flatmap(lambda bits: st.integers(max(0, 2**bits - 2), 2**bits + 2))
many = st.lists(times, max_size=60)
SHARES = (0.0, 0.5, 0.95, 0.99, 1.0)


def below(values: list[int], bounds: list[int]) -> list[int]:
    """How many lie up to each of the bounds, as far as coarse buckets tell."""
    return list(accumulate(Coarse(bounds).counts(filled(values))))[:-1]


def filled(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(value)
    return made


def same(one: Histogram, other: Histogram) -> bool:
    return (one.counts, one.total) == (other.counts, other.total)


@settings(deadline=None)
@given(times)
def test_a_time_lies_within_its_bucket_and_buckets_follow_each_other(micros: int) -> None:
    bucket = bucket_of(micros)
    first, last = bounds_of(bucket)
    assert first <= micros <= last
    assert bounds_of(bucket + 1)[0] == last + 1
    assert (first + last) / 2 == pytest.approx(micros, rel=0.008)


@settings(deadline=None)
@given(many.filter(bool))
def test_a_quantile_is_within_one_percent_of_the_nearest_rank(values: list[int]) -> None:
    ordered = sorted(values)
    for share, found in zip(SHARES, filled(values).quantiles(SHARES), strict=True):
        assert found == pytest.approx(ordered[max(1, ceil(share * len(values))) - 1], rel=0.01)


@settings(deadline=None)
@given(many, many, many)
def test_merging_is_the_same_as_recording_it_all_in_one_in_any_order(a: list[int], b: list[int], c: list[int]) -> None:
    one = filled(a)
    one.add(filled(b))
    one.add(filled(c))
    other = filled(c)
    rest = filled(b)
    rest.add(filled(a))
    other.add(rest)
    assert same(one, other)
    assert same(one, filled(a + b + c))


@settings(deadline=None)
@given(many)
def test_many_at_once_count_as_one_by_one(values: list[int]) -> None:
    at_once = Histogram()
    at_once.record_all(values)
    assert same(at_once, filled(values))
    assert at_once.n == len(values)
    assert at_once.mean == (sum(values) / len(values) if values else None)


@settings(deadline=None)
@given(many, st.lists(st.integers(1, 34).map(lambda octave: 2**octave - 1), unique=True).map(sorted))
def test_counts_below_the_end_of_an_octave_are_exact(values: list[int], bounds: list[int]) -> None:
    assert below(values, bounds) == [sum(value <= bound for value in values) for bound in bounds]


@settings(deadline=None)
@given(many, st.lists(st.integers(1, HOUR), min_size=1, unique=True).map(sorted))
def test_counts_below_anything_grow_and_are_off_by_a_bucket_at_most(values: list[int], bounds: list[int]) -> None:
    found = below(values, bounds)
    assert found == sorted(found)
    for bound, count in zip(bounds, found, strict=True):
        assert sum(value <= bound * 0.984 - 1 for value in values) <= count <= sum(value <= bound for value in values)


def test_nothing_has_no_quantiles_and_no_mean() -> None:
    assert Histogram().quantiles(SHARES) == [None] * len(SHARES)
    assert Histogram().mean is None


def test_a_time_before_zero_counts_as_zero() -> None:
    one, other = Histogram(), Histogram()
    one.record(-5)
    other.record_all([-5])
    assert same(one, other)
    assert one.counts == {0: 1}
    assert one.total == 0
