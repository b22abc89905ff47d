from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import pytest

from toolring.plugins.specs import AlertEvent
from toolring.policy.alerts import DEFAULTS, EACH, Alert, AlertRule
from toolring.supervisor.alerts import Alerts, rules, told
from toolring.supervisor.errands import Errands

RULES = {
    "slow": AlertRule(figure="response_p99", above=1.0, resolve_after=0, severity="critical"),
    "failing": AlertRule(figure="error_rate", tool=EACH, above=0.5, holds=10, resolve_after=0),
}


class Readings:
    """Says what it is told to say, in steps."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, float | None]] = {"response_p99": {"": 0.1}, "error_rate": {}}
        self.looks = 0

    def look(self, now: float) -> None:
        self.looks += 1

    def of(self, rule: AlertRule, now: float) -> Generator[None, None, dict[str, float | None]]:
        yield
        return self.values[rule.figure]


class Watched:
    def __init__(self) -> None:
        self.readings = Readings()
        self.told: list[AlertEvent] = []
        self.faults: list[str] = []
        self.errands = Errands(self.faults.append)
        tell = (self.told.append,)
        self.alerts = Alerts(RULES, {"slow": RULES["slow"]}, 5.0, cast("Any", self.readings), tell, None)

    def look(self, now: float) -> None:
        self.alerts.look(self.errands, now)
        while self.errands:
            self.errands.go_on()


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_what_fires_and_what_is_over_is_told_with_all_that_one_needs_to_know(watched: Watched) -> None:
    watched.readings.values["response_p99"] = {"": 2.5}
    watched.look(0)
    watched.readings.values["response_p99"] = {"": 0.2}
    watched.look(60)
    first, last = watched.told
    assert first == AlertEvent(
        alert="slow",
        state="firing",
        severity="critical",
        figure="response_p99",
        tool="",
        group="",
        value=2.5,
        sense="above",
        threshold=1.0,
        seconds=0.0,
        text="slow: response_p99 is 2.5 seconds, above 1",
    )
    assert (last.state, last.seconds) == ("resolved", 60.0)
    assert last.text == "slow: response_p99 is 0.2 seconds, no longer above 1"


def test_it_looks_no_more_often_than_it_should_and_never_twice_at_once(watched: Watched) -> None:
    watched.look(0)
    watched.look(4.9)
    assert watched.readings.looks == 1
    watched.alerts.look(watched.errands, 5)
    watched.alerts.look(watched.errands, 10)
    while watched.errands:
        watched.errands.go_on()
    assert watched.readings.looks == 2
    watched.look(10)
    assert watched.readings.looks == 3


def test_a_look_that_breaks_off_is_not_the_last(watched: Watched) -> None:
    values = watched.readings.values
    watched.readings.values = {}
    watched.look(0)
    assert watched.faults == ["KeyError: 'response_p99'"]
    watched.readings.values = values
    values["response_p99"] = {"": 2.5}
    watched.look(5)
    assert [event.alert for event in watched.told] == ["slow"]


def test_the_report_names_each_subject_that_there_is_something_about(watched: Watched) -> None:
    def states() -> list[tuple[Any, ...]]:
        return [(one["alert"], one["tool"], one["state"], one["value"]) for one in watched.alerts.report(20)]

    watched.look(0)
    assert states() == [("slow", "", "ok", 0.1), ("failing", "*", "ok", None)]
    watched.readings.values["error_rate"] = {"a": 0.9, "b": 0.1}
    watched.look(5)
    assert states() == [("slow", "", "ok", 0.1), ("failing", "a", "pending", 0.9)]
    assert watched.alerts.counts() == {"rules": 2, "firing": 0, "pending": 1, "passed_over": 0, "command": {}}
    watched.look(15)
    assert states()[1][2] == "firing"
    assert list(watched.alerts.firing()) == [("slow", "critical", 0), ("failing", "warning", 1)]
    row = watched.alerts.report(20)[1]
    assert {key: row[key] for key in ("seconds", "own", "threshold", "for", "window", "unit")} == {
        "seconds": 5,
        "own": False,
        "threshold": 0.5,
        "for": 10,
        "window": "5m",
        "unit": "share",
    }
    assert watched.told[-1].text == "failing: error_rate of tool a is 0.9, above 0.5"


def test_a_rule_of_ones_own_takes_the_place_of_one_that_ships() -> None:
    own = AlertRule(figure="backlog_age", above=1.0)
    found = rules({"backlog_old": own, "mine": own}, True, True, True)
    assert list(found) == [*DEFAULTS, "mine"]
    assert found["backlog_old"] is own
    assert rules({"mine": own}, False, True, True) == {"mine": own}
    assert set(DEFAULTS) - set(rules({}, True, False, True)) == {"workers_dying", "tool_failing"}, "nothing is counted"
    assert set(DEFAULTS) - set(rules({}, True, True, False)) == {"service_circuit_open", "service_failing"}


def test_the_text_is_true_while_it_eases_and_of_what_is_not_known(watched: Watched) -> None:
    def texts() -> list[str]:
        return [row["text"] for row in watched.alerts.report(99)]

    values = watched.readings.values
    values["error_rate"] = {}
    watched.look(0)
    assert texts() == ["slow: response_p99 is 0.1 seconds, not above 1", "failing: error_rate of each tool is unknown"]
    values["error_rate"] = {"a": 0.9}
    watched.look(5)
    watched.look(15)
    assert texts()[1] == "failing: error_rate of tool a is 0.9, above 0.5"
    values["error_rate"] = {"a": 0.47}
    watched.look(20)
    assert texts()[1] == "failing: error_rate of tool a is 0.47, no longer above 0.5", "it fires, since that is near"
    values["error_rate"] = {}
    watched.look(25)
    assert texts()[1] == "failing: error_rate of tool a is unknown now; it was above 0.5"
    assert watched.told[-1].text == "failing: error_rate of tool a is unknown now; it was above 0.5"


def test_large_numbers_are_told_in_full() -> None:
    alert = Alert(AlertRule(figure="memory", above=2e9), 0)
    news = alert.see(3_221_225_472.0, 0)
    assert news is not None
    assert told("large", "", alert, news, 0).text == "large: memory is 3,221,225,472 bytes, above 2,000,000,000"


def test_one_about_a_service_names_it() -> None:
    alert = Alert(AlertRule(figure="service_errors", service=EACH, above=0.5), 0)
    news = alert.see(0.75, 0)
    assert news is not None
    event = told("billing_fails", "billing", alert, news, 0)
    assert (event.tool, event.group, event.service) == ("", "", "billing")
    assert event.text == "billing_fails: service_errors of service billing is 0.75, above 0.5"


def test_what_is_lit_is_what_fires_or_may_soon_the_firing_ones_first(watched: Watched) -> None:
    watched.readings.values = {"response_p99": {"": 2.5}, "error_rate": {"b": 0.9, "a": 0.1}}
    watched.look(0)
    assert [(row["alert"], row["tool"], row["state"]) for row in watched.alerts.lit(1, 9)[0]] == [
        ("slow", "", "firing"),
        ("failing", "b", "pending"),
    ]
    (first,), more = watched.alerts.lit(1, 1)
    assert (first["alert"], more) == ("slow", 1)
    watched.readings.values["response_p99"] = {"": 0.5}
    watched.look(5)
    watched.look(20)
    assert [(row["alert"], row["state"], row["text"]) for row in watched.alerts.lit(21, 9)[0]] == [
        ("failing", "firing", "failing: error_rate of tool b is 0.9, above 0.5"),
    ]
