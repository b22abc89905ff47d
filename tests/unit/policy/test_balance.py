from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.policy.balance import BALANCERS, OVERFLOW_SECONDS, Balancer, LeastOutstanding, RingOverflow, RoundRobin
from toolring.policy.ring import hash64

loads = st.lists(st.none() | st.floats(0, 10), min_size=1, max_size=8).filter(
    lambda found: any(x is not None for x in found)
)
points = st.integers(0, 2**64 - 1)


@given(loads, st.lists(points, min_size=1, max_size=10), st.sampled_from([RoundRobin, LeastOutstanding, RingOverflow]))
def test_nobody_places_a_job_where_nobody_works(
    loads: list[float | None], keys: list[int], kind: type[RoundRobin | LeastOutstanding | RingOverflow]
) -> None:
    balancer: Balancer = kind(len(loads))
    for key in keys:
        assert loads[balancer.place(key, loads)] is not None


def test_round_robin_takes_turns_and_passes_over_who_is_away() -> None:
    balancer = RoundRobin(4)
    assert [balancer.place(0, [0, 0, 0, 0]) for _ in range(5)] == [0, 1, 2, 3, 0]
    assert [balancer.place(0, [0, None, 0, None]) for _ in range(4)] == [2, 0, 2, 0]
    with pytest.raises(ValueError, match="no slot"):
        balancer.place(0, [None, None])


def test_least_outstanding_is_the_first_of_the_least() -> None:
    assert LeastOutstanding(4).place(0, [3.0, None, 0.5, 0.5]) == 2


def test_the_ring_keeps_a_key_at_home_while_that_is_not_far_busier() -> None:
    balancer = RingOverflow(4)
    for number in range(200):
        point = hash64(b"%d" % number)
        home = balancer.place(point, [0.0] * 4)
        here: list[float | None] = [0.0] * 4
        here[home] = OVERFLOW_SECONDS
        assert balancer.place(point, here) == home, "50 ms of work are not worth a cold cache"
        here[home] = 10.0
        moved = balancer.place(point, here)
        assert moved != home
        assert balancer.place(point, here) == moved, "overflow has a fixed place too"


def test_the_ring_takes_a_key_home_again() -> None:
    balancer = RingOverflow(3)
    home = balancer.place(7, [0.0, 0.0, 0.0])
    away: list[float | None] = [0.0, 0.0, 0.0]
    away[home] = None
    assert balancer.place(7, away) != home
    assert balancer.place(7, [0.0, 0.0, 0.0]) == home


@given(st.lists(st.floats(0.001, 0.02), min_size=50, max_size=300))
def test_no_slot_gets_much_more_than_the_mean_even_with_one_key(costs: list[float]) -> None:
    """One hot key: its slot fills up, then the others take over, within the bound."""
    balancer = RingOverflow(4)
    loads: list[float | None] = [0.0] * 4
    for cost in costs:
        index = balancer.place(42, loads)
        held = loads[index]
        assert held is not None
        mean = sum(load or 0.0 for load in loads) / 4
        assert held <= max(OVERFLOW_SECONDS, 1.25 * mean) + 1e-9
        loads[index] = held + cost


def test_keys_spread_over_the_slots() -> None:
    balancer = RingOverflow(4)
    held = Counter(balancer.place(hash64(b"%d" % number), [0.0] * 4) for number in range(2000))
    assert set(held) == {0, 1, 2, 3}
    assert max(held.values()) < 1000


def test_the_default_needs_no_balancer() -> None:
    assert BALANCERS["least_outstanding"] is None
    assert set(BALANCERS) == {"ring", "round_robin", "least_outstanding"}
