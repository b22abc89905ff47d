"""The words about services that all workers share."""

from __future__ import annotations

import pytest

from toolring.calls import Calls, alone, size
from toolring.lane import Lanes, shared_calls
from toolring.policy.service import MOST_ENDPOINTS
from toolring.stamps import Stamps


def test_each_lane_writes_its_own_and_all_read_the_sum() -> None:
    memory = memoryview(bytearray(size(3)))
    lanes = [Calls(memory, lane) for lane in range(3)]
    for number, one in enumerate(lanes):
        one.own(7, number + 1)
        one.own(MOST_ENDPOINTS - 1, 10)
    assert {one.total(7) for one in lanes} == {6}
    lanes[0].clear(1)
    assert lanes[0].total(7) == 4
    assert lanes[0].total(MOST_ENDPOINTS - 1) == 20
    assert lanes[0].total(6) == 0


def test_a_number_that_is_too_large_is_the_largest() -> None:
    one = alone()
    one.own(0, 1_000_000)
    assert one.total(0) == 65535


def test_orders_are_apart_from_numbers() -> None:
    memory = memoryview(bytearray(size(2)))
    one, other = Calls(memory, 0), Calls(memory, 1)
    for order in range(4):
        one.give(3, order)
        assert other.order(3) == order
        one.clear(0)
        assert other.order(3) == order
    assert one.total(3) == 0


@pytest.mark.parametrize("count", [1, 3, 64, 256])
def test_they_lie_between_the_lanes_and_the_stamps(count: int) -> None:
    lanes = Lanes(count)
    try:
        for lane in (0, count - 1):
            shared_calls(lanes.memory, lane).own(MOST_ENDPOINTS - 1, 3)
        assert shared_calls(lanes.memory).total(MOST_ENDPOINTS - 1) == (6 if count > 1 else 3)
        assert not any(any(lane.words) for lane in lanes.all)
        assert not any(Stamps(lanes.memory).words[:])
        lanes.all[-1].bytes[-1] = 1
        assert shared_calls(lanes.memory).order(0) == 0
    finally:
        lanes.close()
