"""The metrics sinks that ship with toolring, and a sample one, under the contract that a plugin's author runs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.process.otlp_receiver import Collector
from toolring.plugins.registry import load_plugins
from toolring.plugins.sinks.jsonlines import JsonLines
from toolring.plugins.sinks.log import LogSink
from toolring.plugins.sinks.otlp_metrics import OtlpMetrics
from toolring.plugins.sinks.statsd import Statsd
from toolring.plugins.specs import AlertEvent, SinkSettings
from toolring.testing import FIGURES, MetricsSinkContract


class Latest:
    """A sink as somebody else would write it: it keeps the last figures."""

    def __init__(self, settings: SinkSettings) -> None:
        self.figures: Mapping[str, Any] = {}

    def emit(self, figures: Mapping[str, Any]) -> None:
        self.figures = figures

    def close(self) -> None:
        pass


class Everything(Latest):
    """Wants all metrics, and alerts."""

    families = True

    def emit(self, figures: Mapping[str, Any]) -> None:
        self.figures = {family.name: len(family.samples) for family in figures["families"]}

    def alert(self, event: AlertEvent) -> None:
        self.figures = {event.alert: event.value}


class Greedy(Latest):
    """Broken: takes what belongs to all."""

    def emit(self, figures: Mapping[str, Any]) -> None:
        assert isinstance(figures, dict)
        figures.pop("tools")


class Meddler(Latest):
    """Broken: changes what is inside."""

    def emit(self, figures: Mapping[str, Any]) -> None:
        figures["jobs"]["refused"].clear()


class Awaited(Latest):
    """Broken: nobody awaits it."""

    async def emit(self, figures: Mapping[str, Any]) -> None:  # type: ignore[override]
        raise AssertionError("it never runs")


class Yielding(Latest):
    """Broken, too: a generator runs once somebody iterates over it."""

    def emit(self, figures: Mapping[str, Any]) -> Any:
        yield figures


class Deaf(Latest):
    """Broken: alerts have an argument."""

    def alert(self) -> None:
        pass


class Shy(Latest):
    """Broken: takes no alert whose value is not known."""

    def alert(self, event: AlertEvent) -> None:
        print(f"{event.value:.2f}")


class TestLatest(MetricsSinkContract):
    factory = Latest


class TestEverything(MetricsSinkContract):
    factory = Everything


class TestOtlpMetrics(MetricsSinkContract):
    """Of what it sends tests/process/test_otlp_metrics.py tells."""

    factory = OtlpMetrics

    @pytest.fixture(autouse=True)
    def collector(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
        collector = Collector()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        yield collector
        collector.close()


class TestStructlog(MetricsSinkContract):
    factory = LogSink


class TestJsonLines(MetricsSinkContract):
    factory = JsonLines


class TestStatsd(MetricsSinkContract):
    factory = Statsd


@pytest.mark.parametrize(
    ("broken", "test", "says"),
    [
        (Greedy, "takes_figures_again_and_again_and_changes_nothing_in_them", "other sinks get the same figures"),
        (Meddler, "takes_figures_again_and_again_and_changes_nothing_in_them", "other sinks get the same figures"),
        (Awaited, "takes_figures_again_and_again_and_changes_nothing_in_them", r"emit\(\) has not run"),
        (Yielding, "may_be_used_in_another_thread_than_it_was_made_in", r"emit\(\) has not run"),
        (Deaf, "takes_alerts_if_it_has_a_method_for_them", "positional argument"),
        (Shy, "takes_alerts_if_it_has_a_method_for_them", "NoneType"),
    ],
)
def test_the_contract_finds_what_is_wrong(broken: type[Latest], test: str, says: str) -> None:
    class Broken(MetricsSinkContract):
        factory = broken

    with pytest.raises((AssertionError, TypeError), match=says):
        getattr(Broken(), f"test_it_{test}")()


def test_what_a_sink_does_to_figures_is_not_seen_by_others() -> None:
    class Broken(MetricsSinkContract):
        factory = Meddler

    before = copy.deepcopy(FIGURES)
    for name in dir(Broken):
        if name.startswith("test_"):
            with contextlib.suppress(AssertionError):
                getattr(Broken(), name)()
    assert before == FIGURES


def test_those_that_ship_are_offered(tmp_path: Any) -> None:
    offered = load_plugins().metrics_sinks
    assert sorted(offered) == ["jsonlines", "otlp", "statsd", "structlog"]
    for factory in offered.values():
        sink = factory(SinkSettings(1.0, f"{tmp_path}/x", "127.0.0.1:9"))
        sink.emit(FIGURES)
        sink.close()
