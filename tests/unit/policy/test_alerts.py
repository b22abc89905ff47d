from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.policy import alerts
from toolring.policy.alerts import DEFAULTS, EACH, FIGURES, FIRES, Alert, AlertRule, Board, News, State


def rule(**more: Any) -> AlertRule:
    given: dict[str, Any] = {
        "figure": "backlog",
        "above": 10,
        "holds": 20,
        "resolve_after": 30,
        "cooldown": 100,
        "repeat": 1000,
    }
    return AlertRule(**{**given, **more})


def run(alert: Alert, *seen: tuple[float, float | None]) -> list[tuple[float, News]]:
    """What is told of values, each at its time."""
    return [(now, news) for now, value in seen if (news := alert.see(value, now)) is not None]


def state(alert: Alert) -> State:
    return alert.state


def test_it_fires_once_it_has_held_and_is_over_once_it_has_been_well_for_long_enough() -> None:
    alert = Alert(rule(), 0)
    assert run(alert, (0, 11), (10, 12), (19, 11)) == []
    assert state(alert) is State.PENDING
    assert run(alert, (20, 11), (25, 99)) == [(20, News.FIRING)]
    assert (alert.since, alert.fired, alert.value) == (20, 20, 99)
    assert run(alert, (30, 0), (50, 0)) == []
    assert state(alert) is State.EASING
    assert alert.fires
    assert run(alert, (60, 0)) == [(60, News.RESOLVED)]
    assert (alert.state, alert.since, alert.fires) == (State.RESOLVED, 60, False)


def test_what_holds_for_a_moment_only_is_never_told() -> None:
    alert = Alert(rule(), 0)
    assert run(alert, (0, 11), (10, 9.5), (15, 11), (30, 11)) == []
    assert state(alert) is State.PENDING
    assert run(alert, (34, None)) == []
    assert state(alert) is State.OK


def test_it_fires_at_once_if_it_needs_not_hold() -> None:
    assert run(Alert(rule(holds=0), 0), (0, 11)) == [(0, News.FIRING)]


def test_just_within_the_threshold_is_not_well() -> None:
    alert = Alert(rule(holds=0, ease=0.2), 0)
    run(alert, (0, 11))
    assert run(alert, (10, 9), (100, 9), (200, 8.1)) == []
    assert alert.state is State.FIRING
    assert run(alert, (210, 8), (230, 8.5), (250, 8), (279, 7)) == []
    assert run(alert, (280, 7)) == [(280, News.RESOLVED)]


def test_what_comes_back_within_the_cooldown_is_told_when_that_is_over_if_it_still_fires() -> None:
    alert = Alert(rule(holds=0, resolve_after=0), 0)
    assert run(alert, (0, 11), (10, 0)) == [(0, News.FIRING), (10, News.RESOLVED)]
    assert run(alert, (20, 11), (30, 0)) == []
    assert run(alert, (40, 11), (99, 11), (100, 11)) == [(100, News.FIRING)]
    assert run(alert, (110, 0)) == [(110, News.RESOLVED)]


def test_what_goes_on_is_told_again_now_and_then() -> None:
    alert = Alert(rule(holds=0), 0)
    told = run(alert, *((now, 11) for now in range(0, 2501, 100)))
    assert told == [(0, News.FIRING), (1000, News.FIRING), (2000, News.FIRING)]
    once = Alert(rule(holds=0, repeat=0), 0)
    assert len(run(once, *((now, 11) for now in range(0, 10_000, 100)))) == 1


def test_below_is_as_above_and_well_is_never_out_of_reach() -> None:
    few = rule(figure="workers_ready", above=None, below=0.95, holds=0, resolve_after=0)
    alert = Alert(few, 0)
    assert few.well == 1
    assert run(alert, (0, 0.94), (1, 0.96), (2, 1.0)) == [(0, News.FIRING), (2, News.RESOLVED)]
    none = rule(figure="circuit_open", above=0, holds=0, resolve_after=0)
    assert run(Alert(none, 0), (0, 1), (1, 0)) == [(0, News.FIRING), (1, News.RESOLVED)]


@given(
    st.lists(st.tuples(st.floats(0, 400), st.one_of(st.none(), st.floats(0, 20))), max_size=60),
    st.sampled_from([0.0, 20.0]),
    st.sampled_from([0.0, 30.0]),
)
def test_what_is_told_begins_by_firing_and_ends_where_it_fires_no_more(
    steps: list[tuple[float, float | None]], holds: float, resolve_after: float
) -> None:
    alert = Alert(rule(holds=holds, resolve_after=resolve_after), 0)
    now, open_, last = 0.0, False, -1e9
    for wait, value in steps:
        now += wait
        news = alert.see(value, now)
        if news is News.FIRING:
            assert alert.state in FIRES
            assert now - last >= (1000 if open_ else 100)
            open_, last = True, now
        elif news is News.RESOLVED:
            assert open_
            assert alert.state is State.RESOLVED
            open_ = False
        assert not (open_ and not alert.fires), "it is over, and nobody was told"
        if value is not None and value > 10 and holds == 0:
            assert alert.fires


def test_every_state_and_event_of_the_table_is_known() -> None:
    assert set(alerts.TABLE) == set(State)
    assert {event for row in alerts.TABLE.values() for event in row} == set(alerts.Event)


# ---- many subjects


def see(board: Board, values: Mapping[str, float | None], now: float) -> list[tuple[str, Alert, News]]:
    steps = board.see(values, now)
    while True:
        try:
            next(steps)
        except StopIteration as over:
            return list(over.value)


def test_each_subject_is_by_itself_and_only_those_are_remembered_with_something_to_remember() -> None:
    board = Board("failing", rule(figure="error_rate", tool=EACH, above=0.5, holds=0, resolve_after=0, cooldown=0))
    news = see(board, {"a": 0.9, "b": 0.1, "c": None}, 0)
    assert [(subject, what) for subject, _, what in news] == [("a", News.FIRING)]
    assert list(board.alerts) == ["a"]
    assert [(subject, what) for subject, _, what in see(board, {"b": 0.7}, 1)] == [
        ("b", News.FIRING),
        ("a", News.RESOLVED),
    ]
    assert list(board.alerts) == ["b"]


@pytest.mark.parametrize("closed", [{"a": 0.0}, {}])
def test_the_cooldown_outlasts_a_subject_that_comes_and_goes(closed: dict[str, float]) -> None:
    board = Board("open", rule(figure="circuit_open", tool=EACH, above=0, holds=0, resolve_after=60, cooldown=300))
    told = []
    for now in range(0, 900, 5):
        told += [(now, what) for _, _, what in see(board, {"a": 1.0} if now % 80 < 10 else closed, now)]
    assert [now for now, what in told if what is News.FIRING] == [0, 300, 600]
    assert len(told) == 6
    see(board, {}, 1000)
    assert board.alerts == {}, "nothing is remembered for ever"


def test_what_was_told_once_and_is_well_is_forgotten_after_its_cooldown() -> None:
    board = Board("open", rule(figure="circuit_open", tool=EACH, above=0, holds=10, resolve_after=0, cooldown=100))
    for now, value in ((0, 1.0), (10, 1.0), (20, 0.0), (30, 1.0), (35, 0.0)):
        see(board, {"a": value}, now)
    assert board.alerts["a"].state is State.OK, "it had not held"
    see(board, {}, 109)
    assert "a" in board.alerts
    see(board, {}, 110)
    assert "a" not in board.alerts


def test_there_is_a_bound_and_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "MOST_SUBJECTS", 2)
    board = Board("failing", rule(figure="error_rate", tool=EACH, above=0.5, holds=0, resolve_after=0))
    assert len(see(board, {"a": 0.9, "b": 0.9, "c": 0.9}, 0)) == 2
    assert (len(board.alerts), board.passed_over) == (2, 1)
    see(board, {"a": 0.1, "b": 0.9, "c": 0.1}, 1)
    news = see(board, {"a": 0.1, "b": 0.9, "c": 0.9}, 2)
    assert [subject for subject, _, _ in news] == ["c"], "one that is well goes"
    assert set(board.alerts) == {"b", "c"}


class Counting(dict[str, Alert]):
    """Counts how often somebody goes through it."""

    times = 0

    def items(self) -> Any:
        self.times += 1
        return super().items()


def test_many_more_than_there_is_room_for_are_looked_at_in_steps_and_each_once() -> None:
    board = Board("failing", rule(figure="error_rate", tool=EACH, above=0.5, holds=0, resolve_after=0))
    board.alerts = counting = Counting()
    many = alerts.MOST_SUBJECTS * 3
    assert sum(1 for _ in board.see({str(number): 0.9 for number in range(many)}, 0)) == many // alerts.STEP
    assert (len(counting), board.passed_over) == (many // 3, many // 3 * 2)
    assert counting.times <= 1
    see(board, {str(number): 0.9 * (number % 2) for number in range(many // 3)}, 1)
    counting.times = 0
    news = see(board, {str(number): 0.9 * (number % 2) for number in range(many)}, 2)
    assert len(news) == many // 6, "those that are well have gone"
    assert counting.times <= 1


# ---- rules


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"figure": "latency"}, "'latency' is none; there is error_rate"),
        ({"above": None}, "one of above= and below= is needed"),
        ({"below": 3}, "and not both"),
        ({"above": float("nan")}, "not a threshold"),
        ({"figure": "error_rate", "above": 1}, "error_rate is never above 1"),
        ({"above": None, "below": 0}, "backlog is never below 0"),
        ({"above": -1}, "always above -1"),
        ({"figure": "workers_ready", "above": None, "below": 2}, "always below 2"),
        ({"tool": "x"}, "not counted by tool"),
        ({"figure": "refusals", "group": "x"}, "not counted by group"),
        ({"figure": "run_p99", "service": "x"}, "not counted by service"),
        ({"figure": "service_errors", "above": 0.5, "tool": "x"}, "not counted by tool"),
        ({"figure": "run_p99", "tool": "x", "group": "y"}, "exclude each other"),
        ({"figure": "circuit_open", "tool": "x", "service": "y"}, "exclude each other"),
        ({"window": "10m"}, "there is 1m, 5m"),
        ({"severity": "bad"}, "there is warning, critical"),
        ({"minimum": 0}, "minimum=0"),
        ({"figure": "memory", "window": "1m"}, "window= does nothing: memory is what it is at this moment"),
        ({"minimum": 7}, "minimum= does nothing: backlog is neither"),
        ({"figure": "restarts", "minimum": 50}, "minimum= does nothing: restarts is neither"),
        ({"figure": "throughput", "minimum": 50}, "minimum= does nothing: throughput is neither"),
        ({"ease": 1}, "ease=1"),
        ({"holds": -1}, "for=-1"),
        ({"repeat": float("inf")}, "repeat=inf"),
        ({"cooldown": -1}, "cooldown=-1"),
        ({"resolve_after": float("nan")}, "resolve_after=nan"),
    ],
)
def test_a_bad_rule_is_refused_and_told_why(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rule(**wrong)


def test_those_that_ship_are_of_figures_that_there_are() -> None:
    assert {one.figure for one in DEFAULTS.values()} <= set(FIGURES)
    assert {one.severity for one in DEFAULTS.values()} == {"warning", "critical"}
