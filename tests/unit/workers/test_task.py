from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from msgspec import Raw

from toolring import tool
from toolring.lane import STEP, Lane, Lanes
from toolring.protocol import Part, Work
from toolring.workers.outlet import Outlet
from toolring.workers.runnable import Runnable
from toolring.workers.task import Run, Steps


@tool
async def idle() -> None: ...


class Task:
    """Counts how often it was cancelled."""

    cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def lane() -> Iterator[Lane]:
    lanes = Lanes(1)
    yield lanes.all[0]
    lanes.close()


def made(begun: bool = True, seq: int = 3) -> tuple[Run, Task]:
    posted: list[Part] = []
    work = Work("idle", Raw(b"\x80"), float("inf"), "abcd", 7, 1, stream=100)
    run = Run(seq, work, Runnable(idle, None), Outlet(seq, work, posted.append, 1000))
    task = Task()
    run.task, run.begun = cast(asyncio.Task[None], task), begun
    return run, task


@pytest.mark.parametrize(
    ("begun", "shields", "cancelled"), [(True, 0, 1), (True, 1, 0), (True, 2, 0), (False, 0, 0), (False, 1, 0)]
)
def test_what_runs_is_cancelled_unless_something_puts_it_off(begun: bool, shields: int, cancelled: int) -> None:
    run, task = made(begun)
    run.shields = list(range(shields))
    run.halt()
    assert run.halted, "it is known in any case"
    assert task.cancelled == cancelled


def test_a_grant_never_shrinks() -> None:
    run, _ = made()
    assert (run.outlet.granted, run.taken.is_set()) == (100, False)
    run.more(50)
    assert run.outlet.granted == 100
    run.more(300)
    assert run.outlet.granted == 300
    assert run.taken.is_set()


# ---- whose code runs


async def steps(words: memoryview, seen: list[Any]) -> None:
    seen.append(words[STEP])
    try:
        await asyncio.sleep(0)
        seen.append(words[STEP])
    except asyncio.CancelledError:
        seen.append(("cancelled", words[STEP]))
        raise


def test_the_lane_says_whose_code_runs_as_long_as_it_does(lane: Lane) -> None:
    seen: list[Any] = []
    step = Steps(steps(lane.words, seen), lane.words, made(seq=9)[0])
    step.send(None)
    assert (seen, lane.words[STEP]) == ([9], 0)
    with pytest.raises(StopIteration):
        step.send(None)
    assert (seen, lane.words[STEP]) == ([9, 9], 0)


def test_what_is_thrown_in_and_what_comes_out_leave_no_name_behind(lane: Lane) -> None:
    seen: list[Any] = []
    step = Steps(steps(lane.words, seen), lane.words, made(seq=9)[0])
    step.send(None)
    with pytest.raises(asyncio.CancelledError):
        step.throw(asyncio.CancelledError())
    assert (seen, lane.words[STEP]) == ([9, ("cancelled", 9)], 0)


def test_one_that_never_begins_is_closed_without_a_word(lane: Lane) -> None:
    seen: list[Any] = []
    step = Steps(steps(lane.words, seen), lane.words, made(seq=9)[0])
    step.close()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        step.send(None)
    assert (seen, lane.words[STEP]) == ([], 0)
    with pytest.raises(TypeError, match="by its task only"):
        step.__await__()


def test_a_task_runs_it_as_any_coroutine(lane: Lane) -> None:
    seen: list[Any] = []

    async def values() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    async def job() -> None:
        async for number in values():
            seen.append((number, lane.words[STEP]))

    async def main() -> None:
        one = asyncio.create_task(Steps(job(), lane.words, made(seq=5)[0]))
        two = asyncio.create_task(Steps(job(), lane.words, made(seq=6)[0]))
        await asyncio.gather(one, two)

    asyncio.run(main())
    assert sorted(seen) == [(number, seq) for number in range(3) for seq in (5, 6)]
    assert lane.words[STEP] == 0


def test_a_task_that_is_cancelled_before_it_begins_still_answers(lane: Lane) -> None:
    """Whoever cancels every task that there is cancels those, too, which have not had their turn."""
    run, _ = made(begun=False)
    seen: list[Any] = []

    async def job() -> None:
        seen.append(run.halted)

    async def main() -> None:
        task = asyncio.create_task(Steps(job(), lane.words, run))
        task.cancel()
        await task

    asyncio.run(main())
    assert seen == [True]
