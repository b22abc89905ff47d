from __future__ import annotations

import random
from collections import Counter
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.plugins.registry import load_plugins
from toolring.policy.balance import (
    DECAY_SECONDS,
    SECONDS,
    LeastOutstanding,
    Members,
    PeakEWMA,
    Random,
    Rendezvous,
    RingOverflow,
    RoundRobin,
    TwoChoices,
)
from toolring.policy.ring import hash64

FLOOR = 0.05


def members(count: int, **more: Any) -> Members:
    return Members(tuple(str(n) for n in range(count)), **{"random": random.Random(1).random, **more})


def slots(count: int) -> Members:
    return members(count, unit=SECONDS, floor=FLOOR)


def test_those_that_ship() -> None:
    assert set(load_plugins(block=["sample"]).balancers) == {
        "least_outstanding",
        "p2c",
        "peak_ewma",
        "random",
        "rendezvous",
        "ring",
        "round_robin",
    }


def test_round_robin_takes_turns_and_passes_over_who_is_away() -> None:
    balancer = RoundRobin(members(4))
    assert [balancer.place(0, [0, 0, 0, 0]) for _ in range(5)] == [0, 1, 2, 3, 0]
    assert [balancer.place(0, [0, None, 0, None]) for _ in range(4)] == [2, 0, 2, 0]
    with pytest.raises(ValueError, match="no member"):
        balancer.place(0, [None, None])


def test_random_keeps_to_the_weights_of_those_that_are_there() -> None:
    balancer = Random(members(3, weights=(1.0, 2.0, 5.0)))
    held = Counter(balancer.place(0, [0, 0, None]) for _ in range(3000))
    assert held[2] == 0
    assert 0.28 < held[0] / 3000 < 0.38


def test_the_least_outstanding_take_turns_when_they_are_equal() -> None:
    balancer = LeastOutstanding(members(4))
    assert balancer.place(0, [3.0, None, 0.5, 0.5]) == 2
    assert [balancer.place(0, [3.0, None, 0.5, 0.5]) for _ in range(2)] == [3, 2]


def test_two_choices_take_the_lesser_of_two_different_ones() -> None:
    balancer = TwoChoices(members(3))
    held = Counter(balancer.place(0, [1.0, 2.0, 3.0]) for _ in range(900))
    assert held[2] == 0, "it is the more laden of any two"
    assert held[0] > held[1] > 200
    assert balancer.place(0, [None, 9.0, None]) == 1


def test_peak_ewma_leaves_a_slow_one_at_once_and_comes_back_in_time() -> None:
    now = 0.0
    balancer = PeakEWMA(members(2, clock=lambda: now))
    for member in (0, 1):
        balancer.took(member, 0.01)
    balancer.took(0, 1.0)
    assert {balancer.place(0, [0, 20]) for _ in range(20)} == {1}
    assert balancer.place(0, [0, 200]) == 0, "even a slow one is better than a very long line"
    now = 5 * DECAY_SECONDS
    balancer.took(1, 0.01)
    assert balancer.place(0, [0, 0]) == 0, "nobody has used it for long: it is tried again"


def test_peak_ewma_follows_fast_answers_little_by_little() -> None:
    now = 0.0
    balancer = PeakEWMA(members(2, clock=lambda: now))
    balancer.took(0, 1.0)
    balancer.took(1, 0.5)
    for _ in range(5):
        now += 1.0
        balancer.took(0, 0.1)
        balancer.took(1, 0.5)
        assert balancer.place(0, [0, 0]) == 1
    for _ in range(15):
        now += 1.0
        balancer.took(0, 0.1)
        balancer.took(1, 0.5)
    assert balancer.place(0, [0, 0]) == 0


def test_the_ring_keeps_a_key_at_home_while_that_is_not_far_busier() -> None:
    balancer = RingOverflow(slots(4))
    for number in range(200):
        point = hash64(b"%d" % number)
        home = balancer.place(point, [0.0] * 4)
        here: list[float | None] = [0.0] * 4
        here[home] = FLOOR
        assert balancer.place(point, here) == home, "50 ms of work are not worth a cold cache"
        here[home] = 10.0
        moved = balancer.place(point, here)
        assert moved != home
        assert balancer.place(point, here) == moved, "overflow has a fixed place too"


def test_the_ring_takes_a_key_home_again() -> None:
    balancer = RingOverflow(slots(3))
    home = balancer.place(7, [0.0, 0.0, 0.0])
    away: list[float | None] = [0.0, 0.0, 0.0]
    away[home] = None
    assert balancer.place(7, away) != home
    assert balancer.place(7, [0.0, 0.0, 0.0]) == home


@given(st.lists(st.floats(0.001, 0.02), min_size=50, max_size=300))
def test_no_slot_gets_much_more_than_the_mean_even_with_one_key(costs: list[float]) -> None:
    """One hot key: its slot fills up, then the others take over, within the bound."""
    balancer = RingOverflow(slots(4))
    loads: list[float | None] = [0.0] * 4
    for cost in costs:
        index = balancer.place(42, loads)
        held = loads[index]
        assert held is not None
        mean = sum(load or 0.0 for load in loads) / 4
        assert held <= max(FLOOR, 1.25 * mean) + 1e-9
        loads[index] = held + cost


@given(
    st.integers(2, 12),
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=200),
    st.integers(0, 1000),
)
def test_the_bound_holds_at_every_assignment(count: int, steps: list[tuple[int, bool]], seed: int) -> None:
    """c = 1.25, counted in requests: never above ceil(1.25 x mean), whatever comes and goes."""
    balancer = RingOverflow(members(count))
    loads = [0] * count
    for key, ends in steps:
        if ends and any(loads):
            loads[max(range(count), key=lambda index: (loads[index] > 0, (index * 7 + seed) % count))] -= 1
            continue
        at = balancer.place(hash64(b"%d" % key), loads)
        loads[at] += 1
        assert loads[at] <= max(1, ceil(1.25 * sum(loads) / count))


def test_a_floor_keeps_keys_at_home_while_there_is_little_to_do() -> None:
    balancer = RingOverflow(members(4, floor=8.0))
    home = balancer.place(42, [0, 0, 0, 0])
    loads = [0, 0, 0, 0]
    loads[home] = 7
    assert balancer.place(42, loads) == home
    loads[home] = 8
    assert balancer.place(42, loads) != home


def test_the_bound_is_the_share_that_a_weight_asks_for() -> None:
    weights = (6.0, 1.0, 1.0)
    balancer = RingOverflow(members(3, weights=weights))
    loads = [0, 0, 0]
    for number in range(400):
        loads[balancer.place(hash64(b"%d" % number), loads)] += 1
        for load, weight in zip(loads, weights, strict=True):
            assert load <= max(1, ceil(1.25 * sum(loads) * weight / 8))
    assert loads[0] > 250, "it is not full at the mean of all"


def test_weights_of_any_size_do_no_harm() -> None:
    balancer = RingOverflow(members(3, weights=(1e308, 1e308, 5e-324)))
    assert {balancer.place(hash64(b"%d" % number), [9, 9, 9]) for number in range(50)} >= {0, 1}
    assert balancer.place(7, [None, None, 9]) == 2


def test_keys_spread_over_the_slots() -> None:
    balancer = RingOverflow(slots(4))
    held = Counter(balancer.place(hash64(b"%d" % number), [0.0] * 4) for number in range(2000))
    assert set(held) == {0, 1, 2, 3}
    assert max(held.values()) < 1000


def test_rendezvous_spreads_keys_evenly_and_moves_those_of_a_lost_member_only() -> None:
    balancer = Rendezvous(members(8))
    points = [hash64(b"%d" % number) for number in range(8000)]
    before = [balancer.place(point, [0] * 8) for point in points]
    held = Counter(before)
    assert max(held.values()) < 1.12 * 1000
    loads: list[float | None] = [0] * 8
    loads[3] = None
    after = [balancer.place(point, loads) for point in points]
    assert all(a == b for a, b in zip(after, before, strict=True) if b != 3)
    assert len({a for a, b in zip(after, before, strict=True) if b == 3}) == 7, "all others share what it had"
    assert all(balancer.order(point)[0] == home for point, home in zip(points[:100], before, strict=False))


def test_rendezvous_places_by_its_order_whatever_the_weights_are_said_to_be() -> None:
    plain, equal = Rendezvous(members(9)), Rendezvous(members(9, weights=(3.0,) * 9))
    other = Rendezvous(members(9, weights=(3.0,) * 8 + (0.5,)))
    for number in range(300):
        point, loads = hash64(b"%d" % number), [None if index % 4 == number % 4 else 1.0 for index in range(9)]
        for balancer in (plain, equal, other):
            first = next(index for index in balancer.order(point) if loads[index] is not None)
            assert balancer.place(point, loads) == first
        assert plain.order(point) == equal.order(point)


def test_rendezvous_keeps_to_weights() -> None:
    balancer = Rendezvous(members(3, weights=(1.0, 1.0, 2.0)))
    held = Counter(balancer.place(hash64(b"%d" % number), [0, 0, 0]) for number in range(8000))
    assert 0.47 < held[2] / 8000 < 0.53
