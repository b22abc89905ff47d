"""The metrics sinks that ship with toolring, and a sample one, under the contract that a plugin's author runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from toolring.plugins.registry import load_plugins
from toolring.plugins.sinks.jsonlines import JsonLines
from toolring.plugins.sinks.log import LogSink
from toolring.plugins.sinks.otlp_metrics import OtlpMetrics
from toolring.plugins.sinks.statsd import Statsd
from toolring.plugins.specs import SinkSettings
from toolring.testing import FIGURES, MetricsSinkContract


class Latest:
    """A sink as somebody else would write it: it keeps the last figures."""

    def __init__(self, settings: SinkSettings) -> None:
        self.figures: Mapping[str, Any] = {}

    def emit(self, figures: Mapping[str, Any]) -> None:
        self.figures = figures

    def close(self) -> None:
        pass


class Greedy(Latest):
    """Broken: takes what belongs to all."""

    def emit(self, figures: Mapping[str, Any]) -> None:
        assert isinstance(figures, dict)
        figures.pop("tools")


class TestLatest(MetricsSinkContract):
    factory = Latest


class TestOtlpMetrics(MetricsSinkContract):
    """Of what it sends tests/process/test_otlp_metrics.py tells."""

    factory = OtlpMetrics


class TestStructlog(MetricsSinkContract):
    factory = LogSink


class TestJsonLines(MetricsSinkContract):
    factory = JsonLines


class TestStatsd(MetricsSinkContract):
    factory = Statsd


def test_the_contract_finds_one_that_changes_figures() -> None:
    class Broken(MetricsSinkContract):
        factory = Greedy

    with pytest.raises(AssertionError, match="other sinks get the same figures"):
        Broken().test_it_takes_figures_again_and_again_and_changes_nothing_in_them()


def test_those_that_ship_are_offered(tmp_path: Any) -> None:
    offered = load_plugins().metrics_sinks
    assert sorted(offered) == ["jsonlines", "otlp", "statsd", "structlog"]
    for factory in offered.values():
        sink = factory(SinkSettings(1.0, f"{tmp_path}/x", "127.0.0.1:9"))
        sink.emit(FIGURES)
        sink.close()
