"""The sinks for OpenTelemetry: what the environment says of both, against a receiver."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.process.otlp_receiver import Collector
from toolring.errors import ConfigError
from toolring.plugins.sinks.otlp import OtlpSpans
from toolring.plugins.sinks.otlp_metrics import OtlpMetrics
from toolring.plugins.specs import SinkSettings, Span
from toolring.testing import FAMILIES, FIGURES

SETTINGS = SinkSettings(1.0, "", "", node="0123abcd")
SPAN = Span("run", 1 << 100, 7, None, "internal", 1, 2, {}, "", "")


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    yield collector
    collector.close()


def figures() -> Mapping[str, Any]:
    return {**copy.deepcopy(FIGURES), "families": FAMILIES}


def told() -> None:
    """By both."""
    spans, metrics = OtlpSpans(SETTINGS), OtlpMetrics(SETTINGS)
    spans.emit([SPAN])
    metrics.emit(figures())
    spans.close()
    metrics.close()


def test_traces_and_metrics_are_of_one_resource(collector: Collector) -> None:
    told()
    of_spans, of_metrics = collector.resources
    assert of_spans == of_metrics
    assert (of_spans["service.name"], of_spans["service.instance.id"]) == ("toolring", SETTINGS.node)


def test_what_the_environment_says_of_it_wins(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=foo,service.instance.id=mine,x=y")
    told()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bar")
    told()
    names = ("service.name", "service.instance.id", "x")
    found = [tuple(one[name] for name in names) for one in collector.resources]
    assert found == [("foo", "mine", "y")] * 2 + [("bar", "mine", "y")] * 2


def test_nothing_is_sent_where_opentelemetry_is_disabled(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    told()
    assert collector.resources == []


def test_it_says_why_something_could_not_be_delivered(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    collector.broken = True
    spans, metrics = OtlpSpans(SETTINGS), OtlpMetrics(SETTINGS)
    with pytest.raises(RuntimeError, match=r"1 spans could not be delivered: Failed to export.*400"):
        spans.emit([SPAN])
    with pytest.raises(RuntimeError, match=r"5 metrics could not be delivered: Failed to export.*400"):
        metrics.emit(figures())
    assert caplog.records == [], "it isn't told twice"
    spans.close()
    metrics.close()


@pytest.mark.parametrize(("sink", "signal"), [(OtlpSpans, "TRACES"), (OtlpMetrics, "METRICS")])
@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("PROTOCOL", "grpc", "grpc: only http/protobuf is spoken"),
        ("ENDPOINT", "localhost:4318", "localhost:4318: it must be a URL"),
        ("ENDPOINT", "collector", "collector: it must be a URL"),
    ],
)
def test_what_can_not_be_done_is_refused_by_name(
    sink: type[Any], signal: str, what: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"TRACES": "METRICS", "METRICS": "TRACES"}[signal]
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{other}_{what}", value)
    sink(SETTINGS).close()
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(ConfigError, match=f"^{name}={says}"):
                sink(SETTINGS)
