from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from toolring.policy.ring import Ring
from toolring.supervisor.dashboard.shares import CIRCLE, MOST_DRAWN, Shares


def outcome(steps: Generator[None, None, dict[str, Any]]) -> tuple[dict[str, Any], int]:
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as over:
            return dict(over.value), count
        count += 1


def test_shares_are_those_of_the_points_that_keys_fall_on() -> None:
    ring = Ring([str(number) for number in range(5)])
    found, _ = outcome(Shares().of("default", ring))
    assert sum(found["shares"].values()) == pytest.approx(1.0, abs=1e-12)
    keys = 20_000
    for member, share in found["shares"].items():
        held = sum(ring.find(number * CIRCLE // keys) == member for number in range(keys))
        assert held / keys == pytest.approx(share, abs=0.005)
    by_arcs = dict.fromkeys(ring.members, 0.0)
    for member, length in found["arcs"]:
        by_arcs[member] += length
    assert by_arcs == pytest.approx(found["shares"], abs=1e-4)


def test_a_large_ring_is_looked_at_in_steps_and_once() -> None:
    shares, ring = Shares(), Ring([str(number) for number in range(20)])
    assert len(ring.members) > MOST_DRAWN
    found, steps = outcome(shares.of("default", ring))
    assert steps >= 9
    assert found["arcs"] == []
    assert outcome(shares.of("default", ring)) == (found, 0)
    other, steps = outcome(shares.of("default", Ring(["0"])))
    assert other["shares"] == {"0": 1.0}
    shares.forget(set())
    assert outcome(shares.of("default", ring))[1] >= 9
