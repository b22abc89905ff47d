from __future__ import annotations

from collections import Counter
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.policy.ring import MOST_POINTS, POINTS, Ring, hash64

names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=1, max_size=12, unique=True)
points = st.integers(0, 2**64 - 1)
KEYS = [hash64(b"key %d" % number) for number in range(3000)]


def test_the_fullest_of_a_hundred_holds_little_more_than_its_share() -> None:
    """Exact shares of the circle, from the points themselves, over 40 sets of names."""
    worst = []
    for seed in range(40):
        ring = Ring([f"node-{seed}-{number}" for number in range(100)])
        shares: Counter[str] = Counter()
        edges = ring._points
        for before, here in zip([edges[-1] - 2**64, *edges], edges, strict=False):
            shares[ring.find(here)] += here - before
        assert sum(shares.values()) == 2**64
        worst.append(max(shares.values()) / (2**64 / 100))
    assert mean(worst) <= 1.27


@given(names, st.data())
def test_a_lost_member_moves_its_own_keys_and_no_others(members: list[str], data: st.DataObject) -> None:
    lost = data.draw(st.sampled_from(members))
    rest = [member for member in members if member != lost]
    before = Ring(members)
    if not rest:
        return
    after = Ring(rest)
    for key in KEYS[:300]:
        home = before.find(key)
        if home == lost:
            assert after.find(key) == before.preference(key, 2)[1], "it falls to the next in the walk"
        else:
            assert after.find(key) == home
    again = Ring([*rest, lost])
    assert [again.find(key) for key in KEYS[:300]] == [before.find(key) for key in KEYS[:300]]


@given(names, points)
def test_the_order_in_which_members_are_named_is_nothing(members: list[str], point: int) -> None:
    assert Ring(members).find(point) == Ring(members[::-1]).find(point) == Ring(sorted(members)).find(point)


@given(names, points)
def test_the_walk_meets_every_member_once_and_begins_at_home(members: list[str], point: int) -> None:
    ring = Ring(members)
    walk = list(ring.walk(point))
    assert walk[0] == ring.find(point)
    assert sorted(walk) == sorted(members)
    for count in range(1, len(members) + 1):
        assert ring.preference(point, count) == walk[:count]


@pytest.mark.parametrize("count", [0, -1, 4])
def test_more_members_than_there_are_is_an_error(count: int) -> None:
    with pytest.raises(ValueError, match="of 3 members"):
        Ring(["a", "b", "c"]).preference(0, count)


def test_weights_share_the_keys() -> None:
    ring = Ring({"heavy": 3.0, "light": 1.0, "other": 1.0})
    held = Counter(ring.find(key) for key in KEYS)
    assert 0.5 < held["heavy"] / len(KEYS) < 0.7
    assert held["light"] > 0


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 10_000.0, "b": 1.0},
        {"a": 1e6, "b": 1.0},
        {"a": 1.0, "b": 1e9, "c": 1e308},
        {"a": 1e308, "b": 1e308},
        {"a": 5e-324, "b": 1e-320},
        {f"n{n}": 1000.0 + n for n in range(200)},
    ],
)
def test_weights_cost_no_more_points_than_there_may_be(weights: dict[str, float]) -> None:
    ring = Ring(weights)
    assert len(ring._points) <= max(MOST_POINTS, POINTS * len(weights)) + len(weights)
    assert set(ring.walk(0)) == set(weights)


@pytest.mark.parametrize("scale", [1e-300, 0.001, 0.01, 100.0, 1e6])
def test_weights_are_taken_in_relation_to_each_other(scale: float) -> None:
    shares = {"a": 1.0, "b": 2.0, "c": 4.0}
    ring = Ring({name: weight * scale for name, weight in shares.items()})
    held = Counter(ring.find(key) for key in KEYS)
    for name, weight in shares.items():
        assert held[name] / len(KEYS) == pytest.approx(weight / 7, rel=0.35)


def test_weights_that_cost_few_points_are_taken_as_they_are() -> None:
    """So another member moves nothing but its own share."""
    some = {"a": 0.5, "b": 1.0, "c": 10.0}
    before, after = Ring(some), Ring({**some, "d": 5.0})
    assert len(before._points) == 11.5 * POINTS
    assert all(after.find(key) in (before.find(key), "d") for key in KEYS)


def test_beyond_that_another_member_moves_little_more_than_its_share() -> None:
    some = {"a": 64.0, "b": 128.0, "c": 256.0}
    before, after = Ring(some), Ring({**some, "d": 64.0})
    moved = sum(before.find(key) != after.find(key) for key in KEYS)
    assert moved < 2 * len(KEYS) / 8


def test_a_tiny_weight_still_owns_a_point() -> None:
    ring = Ring({"a": 1.0, "b": 1e-9})
    assert set(ring.walk(0)) == {"a", "b"}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([], "at least one"),
        (["a", "a"], "twice"),
        ({"a": 0.0}, "not a positive"),
        ({"a": float("nan")}, "not a positive"),
        ({"a": float("inf")}, "not a positive"),
    ],
)
def test_what_makes_no_ring(members: list[str] | dict[str, float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Ring(members)


def test_the_hash_is_part_of_the_contract() -> None:
    """Clients in other languages and other machines must find the same place."""
    assert hash64(b"") == 0x2D06800538D394C2
    assert hash64(b"a") == 0xE6C632B61E964E1F, "XXH3 of 64 bits, without a seed"


def test_both_ends_of_the_circle_have_an_owner() -> None:
    ring = Ring(["a", "b"])
    assert ring.find(0) in ("a", "b")
    assert ring.find(2**64 - 1) == ring._owners[0] or ring._points[-1] == 2**64 - 1


@pytest.mark.parametrize("members", [["a"], ["a", "b", "c"], {"a": 3.0, "b": 1.0}])
def test_arcs_go_all_around_and_belong_to_whom_keys_on_them_belong_to(members: list[str] | dict[str, float]) -> None:
    ring = Ring(members)
    at = ring._points[-1]
    for owner, length in ring.arcs():
        assert ring.find((at + 1) % 2**64) == owner
        at = (at + length) % 2**64
        assert ring.find(at) == owner
    assert sum(length for _, length in ring.arcs()) == 2**64
