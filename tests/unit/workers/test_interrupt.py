"""Real signals to this very process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from toolring.lane import CANCEL, INTERRUPT, SHIELD, Lane, Lanes
from toolring.workers.interrupt import Armed, JobInterrupted, Shield, install


@pytest.fixture
def lane() -> Iterator[Lane]:
    before = signal.getsignal(INTERRUPT)
    lanes = Lanes(1)
    yield lanes.all[0]
    signal.signal(INTERRUPT, before)
    lanes.close()


@pytest.fixture
def armed(lane: Lane) -> Armed:
    armed = Armed()
    install(armed, lane)
    return armed


def strike() -> None:
    os.kill(os.getpid(), INTERRUPT)
    for _ in range(10):
        pass


def test_nothing_happens_while_nothing_is_armed(armed: Armed, lane: Lane) -> None:
    lane.words[CANCEL] = 0
    strike()
    lane.words[CANCEL] = 7
    strike()


def test_only_the_attempt_that_is_meant_is_hit(armed: Armed, lane: Lane) -> None:
    armed.seq = 7
    lane.words[CANCEL] = 6
    strike()
    lane.words[CANCEL] = 7
    with pytest.raises(JobInterrupted):
        strike()
    armed.seq = 0


def test_a_second_signal_does_not_break_into_the_cleanup(armed: Armed, lane: Lane) -> None:
    armed.seq = lane.words[CANCEL] = 1
    steps = []

    def tool() -> None:
        try:
            strike()
        finally:
            strike()
            steps.append("cleaned up")
            try:
                raise KeyError("in the cleanup")
            except KeyError:
                strike()
                steps.append("handled")

    with pytest.raises(JobInterrupted):
        tool()
    assert steps == ["cleaned up", "handled"]
    armed.seq = 0


def test_it_passes_by_those_who_catch_exceptions(armed: Armed, lane: Lane) -> None:
    armed.seq = lane.words[CANCEL] = 1

    def tool() -> None:
        try:
            strike()
        except Exception:
            pytest.fail("an Exception would be swallowed by most tools")

    with pytest.raises(JobInterrupted):
        tool()
    armed.seq = 0


def test_a_blocking_call_is_interrupted_too(armed: Armed, lane: Lane) -> None:
    armed.seq = lane.words[CANCEL] = 1
    began = time.monotonic()
    timer = threading.Timer(0.05, os.kill, (os.getpid(), INTERRUPT))
    timer.start()
    with pytest.raises(JobInterrupted):
        time.sleep(5)
    armed.seq = 0
    timer.join()
    assert time.monotonic() - began < 2


def test_a_signal_after_the_end_of_the_attempt_is_ignored(armed: Armed, lane: Lane) -> None:
    armed.seq = lane.words[CANCEL] = 3
    armed.seq = 0
    strike()
    armed.seq = 4
    strike()
    armed.seq = 0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_shield_is_for_a_time_that_can_be_told(armed: Armed, lane: Lane, seconds: float) -> None:
    with pytest.raises(ValueError, match="shield"), Shield(armed, lane, 1)(seconds):
        pass
    assert not armed.shields
    assert not lane.words[SHIELD]
