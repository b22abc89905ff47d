"""Calls in a closed and in an open loop, against a clock that is turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from toolring.cli.drive import SLICES, Drive, Plan, Record
from toolring.errors import Busy


class World:
    """A clock that calls and sleep move on."""

    def __init__(self, *costs: float) -> None:
        self.now = 100.0
        self.costs = costs
        self.calls: list[Any] = []
        self.failing = False

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)

    async def call(self, arguments: Mapping[str, Any]) -> None:
        self.now += self.costs[len(self.calls) % len(self.costs)]
        self.calls.append(arguments)
        if self.failing:
            raise Busy("full")

    def run(self, plan: Plan) -> Record:
        drive = Drive(plan, self.call, self.clock, self.sleep)
        asyncio.run(drive.run())
        return drive.record


def test_a_closed_loop_asks_again_when_it_has_an_answer() -> None:
    world = World(0.125)
    record = world.run(Plan("t", [{"n": 1}, {"n": 2}], seconds=1.0))
    assert [one["n"] for one in world.calls] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert record.times.n == 8
    assert record.times.mean == 125_000
    assert record.longest == 125_000
    assert sum(record.answers) == 7  # the last came when the time was over


def test_what_is_called_to_warm_up_is_not_counted() -> None:
    world = World(0.125)
    record = world.run(Plan("t", [{}], seconds=1.0, warmup=0.5))
    assert len(world.calls) == 12
    assert record.times.n == 8


def test_an_open_loop_times_from_when_a_call_was_meant_to_begin() -> None:
    world = World(1.0, *[0.0] * 9)  # the first call holds everything up for a second
    record = world.run(Plan("t", [{}], seconds=1.0, rate=10.0))
    assert record.times.n == 10
    waits = [1.0 - n / 10 for n in range(10)]
    assert record.times.mean == pytest.approx(sum(waits) / 10 * 1e6, rel=1e-3)
    assert record.longest == 1_000_000


def test_an_open_loop_keeps_its_rate() -> None:
    world = World(0.0)
    record = world.run(Plan("t", [{}], seconds=1.25, rate=64.0))
    assert len(world.calls) == 80
    assert record.answers == [8] * SLICES


def test_errors_are_counted_by_code_and_not_timed() -> None:
    world = World(0.125)
    world.failing = True
    record = world.run(Plan("t", [{}], seconds=1.0))
    assert record.errors == {"BUSY": 8}
    assert record.times.n == 0
    assert sum(record.answers) == 0


def test_a_stop_begins_no_more() -> None:
    world = World(0.125)

    async def main() -> Record:
        async def call(arguments: Mapping[str, Any]) -> None:
            await world.call(arguments)
            if len(world.calls) == 3:
                drive.stop()

        drive = Drive(Plan("t", [{}], seconds=1.0), call, world.clock, world.sleep)
        await drive.run()
        return drive.record

    assert asyncio.run(main()).times.n == 3


def test_at_random_is_the_same_in_every_run() -> None:
    lines = [{"n": n} for n in range(50)]
    plan = Plan("t", lines, seconds=1.0, at_random=True)
    first, second = ([next(drawn)["n"] for _ in range(200)] for drawn in (plan.drawn(), plan.drawn()))
    assert first == second
    assert len(set(first)) > 40
    assert first[:50] != list(range(50))


def test_an_error_that_is_none_of_the_tools_ends_it() -> None:
    async def call(arguments: Mapping[str, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        asyncio.run(Drive(Plan("t", [{}], seconds=1.0), call).run())
