from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from toolring.policy.memory import (
    ACTIONS,
    ADVICE,
    SNAPSHOTS,
    TABLE,
    Action,
    Alert,
    MemoryPolicy,
    Snapshot,
    State,
    Warden,
)

MB = 1 << 20


class Process:
    """A simulated worker. It does what its warden asks, one step a simulated second."""

    def __init__(self, seed: int = 1, noise: float = 0.5, **policy: Any) -> None:
        self.rng = random.Random(seed)
        self.noise = noise
        self.warden = Warden(MemoryPolicy(**policy))
        self.now = self.rng.uniform(0, 1000)
        self.began = self.now
        self.kept = self.cache = self.garbage = 0.0
        """Megabytes, besides 100 that it always has."""
        self.full = 0
        self.more: dict[str, Any] = {}
        self.actions: list[Action] = []
        self.alerts: list[Alert] = []
        self.floor: int | None = None
        self.busy = False
        """It runs a job, and can't do as it is told."""

    @property
    def seconds(self) -> float:
        return self.now - self.began

    def rss(self) -> int:
        return int((100 + self.kept + self.cache + self.garbage + self.rng.gauss(0, self.noise)) * MB)

    def collect(self) -> None:
        self.garbage = 0.0
        self.full += 1
        self.floor = self.rss()

    def step(self, seconds: float = 1.0) -> None:
        self.now += seconds
        seen = Snapshot(self.now, self.rss(), full=self.full, floor=self.floor, **self.more)
        self.floor = None
        action, alerts = self.warden.look(seen)
        self.alerts += alerts
        if action is not None:
            self.actions.append(action)
        if not self.busy and self.warden.due in (Action.TRIM, Action.COLLECT):
            if self.warden.due is Action.TRIM:
                self.cache = 0.0
            else:
                self.collect()
            self.warden.done(self.now)

    def run(self, seconds: float, each: Callable[[float], None] = lambda _: None, every: float = 1.0) -> None:
        end = self.now + seconds
        while self.now < end:
            each(every)
            self.step(every)

    def kinds(self) -> list[str]:
        return [alert.kind for alert in self.alerts]


def sawtooth(process: Process, height: float, period: float, leak: float = 0.0) -> Callable[[float], None]:
    """Garbage of so many megabytes within so many seconds, then a collection; a leak of so many a minute."""
    phase = process.rng.uniform(0, period)

    def each(seconds: float) -> None:
        process.kept += leak * seconds / 60
        process.garbage += height * seconds / period
        if (process.seconds + seconds + phase) // period != (process.seconds + phase) // period:
            process.collect()

    return each


# ---- leaks


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("height", [0.0, 50.0])
def test_a_megabyte_a_minute_is_a_leak_within_ten_minutes(seed: int, height: float) -> None:
    process = Process(seed)
    process.run(600, sawtooth(process, height, random.Random(seed).uniform(5, 60), leak=1.0))
    assert process.kinds()[:1] == ["leak"]
    leak = process.alerts[0]
    assert 0.5 < leak.value * 60 / MB < 1.5
    assert leak.advice == ADVICE["leak"]
    assert set(process.actions) <= {Action.COLLECT}


@pytest.mark.parametrize("seed", range(20))
def test_an_hour_of_a_sawtooth_is_none(seed: int) -> None:
    process = Process(seed, noise=1.0)
    process.run(3600, sawtooth(process, 50.0, random.Random(seed).uniform(5, 600)))
    assert process.alerts == []


@pytest.mark.parametrize("seed", range(10))
def test_nor_is_one_whose_collections_nobody_counts(seed: int) -> None:
    process = Process(seed)

    def each(seconds: float) -> None:
        process.garbage = 50 * (process.seconds % 45) / 45

    process.run(3600, each)
    assert process.alerts == []


@pytest.mark.parametrize("seed", range(20))
def test_a_cache_that_fills_and_then_stays_is_none(seed: int) -> None:
    process = Process(seed)
    size, begin, fills = process.rng.uniform(20, 200), process.rng.uniform(0, 600), process.rng.choice([1, 60, 180])

    def each(seconds: float) -> None:
        if begin <= process.seconds < begin + fills:
            process.kept += size * seconds / fills

    process.run(1800, each)
    assert process.alerts == []


@pytest.mark.parametrize("noise", [0.0, 1.0, 4.0])
def test_a_flat_line_is_none(noise: float) -> None:
    process = Process(noise=noise)
    process.run(3600)
    assert process.alerts == []
    assert process.actions == []


def test_what_grows_without_a_collection_is_collected_before_anything_is_said() -> None:
    garbage = Process()

    def each(seconds: float) -> None:
        garbage.garbage += 2 * seconds / 60

    garbage.run(1800, each)
    assert garbage.alerts == []
    assert set(garbage.actions) == {Action.COLLECT}
    assert len(garbage.actions) <= 3

    leak = Process()

    def grow(seconds: float) -> None:
        leak.kept += 2 * seconds / 60

    leak.run(600, grow)
    assert leak.actions == [Action.COLLECT]
    assert leak.kinds() == ["leak"]


def test_few_snapshots_find_it_too_if_floors_come_with_them() -> None:
    for leak, said in ((0.0, []), (1.0, ["leak"])):
        process = Process(3)
        process.run(600, sawtooth(process, 50.0, 25.0, leak), every=10.0)
        assert process.kinds() == said


# ---- the ladder


def test_who_stays_high_climbs_it_rung_by_rung() -> None:
    process = Process(settle=5.0)
    process.kept = 1000
    process.run(3)
    assert process.actions == [Action.TRIM]
    process.run(4)
    assert process.actions == [Action.TRIM, Action.COLLECT]
    process.run(20)
    assert process.actions == [Action.TRIM, Action.COLLECT, Action.RECYCLE]
    process.run(1000)
    assert process.actions == [Action.TRIM, Action.COLLECT, Action.RECYCLE], "it is told once"
    assert process.kinds().count("rss") == 4, "at once, and every five minutes"


def test_what_helped_is_the_end_of_it() -> None:
    process = Process()
    process.cache = 1000
    process.run(600)
    assert process.actions == [Action.TRIM]
    assert process.warden.state is State.CALM
    process.garbage = 1000
    process.run(600)
    assert process.actions[1:] == [Action.TRIM, Action.COLLECT]


def test_what_did_not_help_for_long_is_not_tried_again() -> None:
    process = Process(cooldown=300.0)
    process.cache = 1000
    process.run(60)
    process.cache = 1000
    process.run(3)
    assert process.actions == [Action.TRIM, Action.COLLECT]


def test_it_has_eased_only_well_below_the_threshold() -> None:
    process = Process(rss=1000 * MB, cooldown=10.0, noise=0.0)
    process.cache = 900
    process.kept = 850
    process.run(30)
    assert (process.actions, process.warden.state) == ([Action.TRIM], State.TRIMMED), "at 950 of 1000"
    process.kept = 750
    process.run(2)
    assert process.warden.state is State.CALM


def test_one_thing_at_a_time_and_the_next_after_it_was_done() -> None:
    process = Process()
    process.kept = 1000
    process.busy = True
    process.run(100)
    assert process.actions == [Action.TRIM]
    process.busy = False
    process.run(2)
    process.busy = True
    process.run(100)
    assert process.actions == [Action.TRIM, Action.COLLECT]


def test_who_is_about_to_break_the_node_is_recycled_at_once_and_then_killed() -> None:
    process = Process(kill_rss=2000 * MB, grace=5.0)
    process.kept = 1000
    process.busy = True
    process.run(1)
    assert process.actions == [Action.TRIM]
    process.kept = 3000
    process.run(1)
    assert process.actions[1:] == [Action.RECYCLE], "it takes the place of what was not done yet"
    process.run(4)
    assert process.actions[2:] == []
    process.run(2)
    assert process.actions[2:] == [Action.KILL]
    process.run(100)
    assert process.actions[3:] == []


def test_of_those_who_share_a_limit_those_act_who_have_their_part() -> None:
    shared = {"limit": 1000 * MB, "used": 900 * MB, "processes": 4}
    small, large = Process(), Process()
    small.more = large.more = shared
    large.kept = 500
    small.run(100)
    large.run(3)
    assert (small.actions, large.actions) == ([], [Action.TRIM])
    assert small.kinds() == large.kinds() == ["share"], "but all may tell"


def test_without_the_use_of_others_a_limit_holds_for_it_and_its_children() -> None:
    process = Process(children=0)
    process.more = {"limit": 1000 * MB, "children": 750 * MB}
    process.run(1)
    assert process.actions == [Action.TRIM]
    assert process.alerts[0].value == pytest.approx(0.85, abs=0.01)


def test_children_and_pressure_are_told_and_no_more() -> None:
    process = Process()
    process.more = {"children": 200 * MB, "pressure": 0.5}
    process.run(60)
    assert [(alert.kind, alert.value, alert.threshold) for alert in process.alerts] == [
        ("children", 200 * MB, 100 * MB),
        ("pressure", 0.5, 0.2),
    ]
    assert process.actions == []


def test_a_threshold_of_0_is_none() -> None:
    process = Process(rss=0, share=0, kill_share=0, children=0, pressure=0)
    process.kept = 100_000
    process.more = {"limit": MB, "children": MB, "pressure": 1.0}
    process.run(60)
    assert (process.actions, process.alerts) == ([], [])


def test_the_table_knows_every_state_and_each_but_calm_asks_for_something() -> None:
    assert set(TABLE) == set(State)
    assert set(ACTIONS) == set(State) - {State.CALM}


def test_the_last_snapshots_are_kept() -> None:
    process = Process()
    process.run(SNAPSHOTS + 50)
    assert len(process.warden.recent) == SNAPSHOTS
    assert process.warden.recent[-1].when == process.now


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"rss": -1}, "rss=-1 is not a number of bytes"),
        ({"share": 1.5}, "share=1.5 is not a share"),
        ({"ease": -0.1}, "ease=-0.1 is not a share"),
        ({"cooldown": 0.0}, "cooldown=0.0 is not a positive"),
        ({"kill_rss": 1}, "kill_rss=1 must be more than rss=1073741824"),
        ({"share": 0.96}, "kill_share=0.95 must be more than share=0.96"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        MemoryPolicy(**said)
