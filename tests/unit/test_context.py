from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from toolring import remaining
from toolring.context import Context, at_hand, in_task


def context(deadline: float | None, cancelled: bool = False, made: list[dict[str, Any]] | None = None) -> Context:
    def logger(**bound: Any) -> str:
        (made if made is not None else []).append(bound)
        return "logger"

    return Context(job="s-1", tool="t", attempt=2, deadline=deadline, cancelled=lambda: cancelled, make_logger=logger)


def test_it_says_when_to_return() -> None:
    assert not context(None).cancelled
    assert not context(time.monotonic() + 60).cancelled
    assert context(time.monotonic() - 1).cancelled
    assert context(None, cancelled=True).cancelled


def test_the_rest_of_the_time_is_never_negative() -> None:
    assert context(None).remaining() is None
    assert context(time.monotonic() - 5).remaining() == 0.0
    rest = context(time.monotonic() + 60).remaining()
    assert rest is not None
    assert 59 < rest <= 60


def test_a_logger_is_made_when_it_is_wanted_and_knows_the_job() -> None:
    made: list[dict[str, Any]] = []
    one = context(None, made=made)
    assert made == []
    assert one.logger == "logger"
    assert made == [{"job": "s-1", "tool": "t", "attempt": 2}]


# ---- progress, and sections that are not interrupted


def test_progress_goes_to_whoever_listens_and_to_nobody_by_itself() -> None:
    told: list[Any] = []
    listened = Context(
        job="s-1",
        tool="t",
        attempt=1,
        deadline=None,
        cancelled=lambda: False,
        make_logger=lambda **_: None,
        tell=lambda *word: told.append(word),
    )
    listened.progress(1)
    listened.progress(0.5, 2, "half")
    assert told == [(1, None, ""), (0.5, 2, "half")]
    context(None).progress(1, 2, "nobody hears")


def test_a_context_without_a_worker_shields_nothing() -> None:
    with context(None).shield(), context(None).shield(5.0):
        pass


# ---- what remains of the time


@dataclass
class Job:
    deadline: float
    tool: str = "any"
    trace: str = ""


@pytest.fixture
def none_at_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(at_hand, "job", None)
    token = in_task.set(None)
    yield
    in_task.reset(token)


@pytest.mark.parametrize(
    ("process", "task", "left"),
    [
        (None, None, None),
        (50.0, None, 50.0),
        (None, 30.0, 30.0),
        (50.0, 30.0, 30.0),
        (30.0, 50.0, 50.0),
        (-5.0, None, 0.0),
        (None, -5.0, 0.0),
        (float("inf"), None, float("inf")),
    ],
)
def test_what_remains_is_that_of_the_task_or_else_of_the_process(
    none_at_hand: None, process: float | None, task: float | None, left: float | None
) -> None:
    now = time.monotonic()
    if process is not None:
        at_hand.job = Job(now + process)
    if task is not None:
        in_task.set(Job(now + task))
    found = remaining()
    assert found == left or (found is not None and left is not None and left - 1 < found <= left)


def test_who_sees_it(none_at_hand: None) -> None:
    """A thread sees the deadline of the process's job; a task sees its own, and those it makes see it, too."""
    at_hand.job = Job(time.monotonic() + 50)
    seen: list[float | None] = []
    thread = threading.Thread(target=lambda: seen.append(remaining()))
    thread.start()
    thread.join()
    assert seen[0] is not None

    async def job(seconds: float) -> tuple[float | None, float | None]:
        in_task.set(Job(time.monotonic() + seconds))
        await asyncio.sleep(0)

        async def inner() -> float | None:
            return remaining()

        return remaining(), await asyncio.create_task(inner())

    async def main() -> list[tuple[float | None, float | None]]:
        return list(await asyncio.gather(job(100.0), job(200.0)))

    for (own, inner), seconds in zip(asyncio.run(main()), (100, 200), strict=True):
        assert own is not None
        assert inner is not None
        assert seconds - 5 < inner <= own <= seconds
    left = remaining()
    assert left is not None
    assert left <= 50


@pytest.mark.parametrize(
    "given", [("1", 2, ""), (1, "2", ""), (None, None, ""), ([], 1, ""), (1, 2, 3), (1, 2, b"half")]
)
def test_progress_is_told_in_numbers_and_words_whoever_listens(given: Any) -> None:
    with pytest.raises(TypeError, match="two numbers and a text are wanted"):
        context(None).progress(*given)
