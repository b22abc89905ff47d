"""Seconds by stack, with a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from toolring.workers import sampler
from toolring.workers.sampler import OTHERS, Sampler


class Time:
    """Each sleep takes as long as it should, or as long as the next of ``late``."""

    def __init__(self, *late: float) -> None:
        self.now = 100.0
        self.late = list(late)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += self.late.pop(0) if self.late else seconds


def run(time: Time, seconds: float, tool: str = "") -> tuple[dict[str, object], dict[str, float]]:
    """In a thread, as in a worker: what it says, and the seconds of the main thread by its innermost function."""
    found: list[dict[str, object]] = []
    one = Sampler(frozenset(), lambda: tool, time.clock, time.sleep)
    thread = threading.Thread(target=lambda: found.append(one.run(seconds, 10)))
    thread.start()
    thread.join()
    spent: dict[str, float] = {}
    for names, size in found[0]["stacks"]:  # type: ignore[attr-defined]
        if names[0] == "main thread":
            spent[names[1]] = spent.get(names[1], 0.0) + size
    return found[0], spent


def test_each_look_counts_for_the_time_since_the_last() -> None:
    told, spent = run(Time(), 1.0, "burns")
    assert told["samples"] in (10, 11)
    assert sum(spent.values()) == pytest.approx(told["seconds"])
    assert list(spent) == ["burns"]


def test_a_look_that_was_held_up_counts_for_all_of_it() -> None:
    told, spent = run(Time(0.1, 5.0), 1.0, "holds")
    assert told["samples"] == 2
    assert spent == {"holds": pytest.approx(5.1)}


def test_it_ends_when_nobody_wants_it() -> None:
    wanted = iter([True, True, False])
    one = Sampler(frozenset(), lambda: "", Time().clock, lambda _seconds: None)
    assert one.run(60.0, 10, lambda: next(wanted))["samples"] == 2


def test_there_are_not_more_stacks_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "MOST_STACKS", 0)
    told, spent = run(Time(), 0.5)
    assert list(spent) == [OTHERS]
    assert told["samples"] in (5, 6)
