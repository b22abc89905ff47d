"""A metrics sink for OpenTelemetry collectors: OTLP over HTTP, with the names and labels that Prometheus would get.

Sums are cumulative since the node's start, histograms have the explicit bounds of the page for Prometheus. Where to,
and so on, is said in the environment, as for spans (otlp.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from toolring.plugins.sinks import otel
from toolring.plugins.specs import Buckets, MetricFamily, SinkSettings

CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
START: Final = "toolring_start_time_seconds"
UNITS: Final = {"seconds": "s", "bytes": "By"}
"""As UCUM has them; what has none counts something."""
_UNKNOWN: Final[Any] = None


class OtlpMetrics:
    """Sends all metrics each interval. Raises RuntimeError for what could not be delivered; the next set has it all.

    Making one raises ConfigError for an environment that nobody here can follow.
    """

    families = True

    def __init__(self, settings: SinkSettings) -> None:
        self.check(settings)
        self._disabled = otel.disabled()
        self._resource = otel.resource(settings.node)
        self._scope = InstrumentationScope("toolring")
        self._exporter = OTLPMetricExporter()

    @staticmethod
    def check(_settings: SinkSettings) -> None:
        otel.check("METRICS")

    def emit(self, figures: Mapping[str, Any]) -> None:
        families: Sequence[MetricFamily] = figures.get("families", ())
        if self._disabled or not families:
            return  # or the node counts nothing
        metrics = told(families, time.time_ns())
        resource = ResourceMetrics(self._resource, [ScopeMetrics(self._scope, metrics, "")], "")
        with otel.reasons(OTLPMetricExporter) as why:
            done = self._exporter.export(MetricsData([resource]))
        if done is not MetricExportResult.SUCCESS:
            raise RuntimeError(f"{len(metrics)} metrics could not be delivered: {why}")

    def close(self) -> None:
        self._exporter.shutdown()


def told(families: Sequence[MetricFamily], now: int) -> list[Metric]:
    """As OpenTelemetry has them. ``now`` in nanoseconds since the epoch."""
    started = next((value for one in families if one.name == START for _, value in one.samples), 0)
    start = int(started * 1e9) if isinstance(started, int | float) else 0
    return [_metric(family, start, now) for family in families if family.samples]


def _metric(family: MetricFamily, start: int, now: int) -> Metric:
    unit = UNITS.get(family.unit, "1")
    if family.kind == "histogram":
        points = [
            _histogram(dict(zip(family.labels, labels, strict=True)), value, start, now)
            for labels, value in family.samples
            if isinstance(value, Buckets)
        ]
        return Metric(family.name, family.help, unit, Histogram(points, CUMULATIVE))
    counts = family.kind == "counter"
    numbers = [
        NumberDataPoint(dict(zip(family.labels, labels, strict=True)), start if counts else 0, now, value)
        for labels, value in family.samples
        if not isinstance(value, Buckets)
    ]
    data = Sum(numbers, CUMULATIVE, is_monotonic=True) if counts else Gauge(numbers)
    return Metric(family.name, family.help, unit, data)


def _histogram(attributes: dict[str, str], value: Buckets, start: int, now: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(value.counts),
        sum=value.total,
        bucket_counts=value.counts,
        explicit_bounds=value.bounds,
        min=_UNKNOWN,
        max=_UNKNOWN,
    )
