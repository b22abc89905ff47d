"""Metrics on their way to a collector: what arrives over OTLP is what the page for Prometheus has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.process.kit import FAULTS, Node, eventually, failure, lines, place, run_cli, running
from tests.process.otlp_receiver import Collector
from tests.process.test_metrics import fetch, url
from toolring.errors import ToolError
from toolring.supervisor.families import FAMILIES, Kind

SETTINGS = '[metrics]\nsinks = ["otlp"]\ninterval = 0.2\nlisten = "127.0.0.1:0"\n'
CUMULATIVE = 2


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    yield collector
    collector.close()


@contextmanager
def node(settings: str = SETTINGS) -> Iterator[Node]:
    with place() as directory:
        (directory / "toolring.toml").write_text(settings)
        with running(FAULTS, directory=directory) as node:
            yield node


def labelled(point: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in point.attributes}


def of_tool(metric: Any, tool: str) -> Any:
    data = getattr(metric, metric.WhichOneof("data"))
    return next((point for point in data.data_points if labelled(point).get("tool") == tool), None)


def test_what_arrives_is_what_the_page_has(collector: Collector) -> None:
    with node() as served, served.client() as client:
        for number in range(3):
            client.call("nap", {"seconds": 0.02, "x": number})
        assert isinstance(failure(lambda: client.call("fail", {"message": "no"})), ToolError)

        def counted() -> bool:
            if not collector.metrics or "toolring_jobs" not in collector.metrics[-1]:
                return False
            point = of_tool(collector.metrics[-1]["toolring_jobs"], "nap")
            return point is not None and bool(point.as_int == 3)

        eventually(counted, "all calls have arrived")
        page = {one.name: one for one in parse(fetch(url(served))[2])}
        identity = served.status()["node"]
    told = collector.metrics[-1]
    assert collector.services == {"toolring"}
    assert collector.instances == {identity}
    kinds = {Kind.COUNTER: "sum", Kind.GAUGE: "gauge", Kind.HISTOGRAM: "histogram"}
    families = {family.name: family for family in FAMILIES}
    for name, metric in told.items():
        family = families[name]
        assert metric.WhichOneof("data") == kinds[family.kind]
        assert metric.unit == {"seconds": "s", "bytes": "By"}.get(family.unit, "1")
        assert metric.description == family.help
    assert {name for name, one in page.items() if one.samples} <= set(told), "each that has a sample"
    jobs, runs = told["toolring_jobs"].sum, told["toolring_job_run_seconds"].histogram
    assert (jobs.aggregation_temporality, jobs.is_monotonic) == (CUMULATIVE, True)
    assert runs.aggregation_temporality == CUMULATIVE
    started = told["toolring_start_time_seconds"].gauge.data_points[0].as_double
    assert jobs.data_points[0].start_time_unix_nano == pytest.approx(started * 1e9)
    assert jobs.data_points[0].start_time_unix_nano < jobs.data_points[0].time_unix_nano
    errors = of_tool(told["toolring_job_errors"], "fail")
    assert labelled(errors) == {"tool": "fail", "group": "default", "code": "TOOL_ERROR"}
    point = of_tool(told["toolring_job_run_seconds"], "nap")
    shown = [one for one in page["toolring_job_run_seconds"].samples if one.labels["tool"] == "nap"]
    buckets = [one for one in shown if one.name.endswith("_bucket")]
    assert list(point.explicit_bounds) == [float(one.labels["le"]) for one in buckets[:-1]]
    assert len(point.bucket_counts) == len(buckets)
    running_total = 0
    for count, bucket in zip(point.bucket_counts, buckets, strict=True):
        running_total += count
        assert running_total == bucket.value
    assert (point.count, point.sum) == (3, next(one.value for one in shown if one.name.endswith("_sum")))
    assert not point.HasField("min")


def test_a_collector_that_refuses_costs_no_call_and_gets_all_of_it_later(collector: Collector) -> None:
    collector.broken = True
    with node() as served, served.client() as client:
        assert [client.call("square", {"x": 2}) for _ in range(20)] == [4] * 20
        eventually(lambda: served.status()["sinks"]["otlp"]["failed"] >= 1)
        failed = [line for line in map(json.loads, lines(served.err)) if line["event"] == "sink_failed"]
        assert "400" in failed[0]["reason"], "it says why; all lines are JSON"
        collector.broken = False
        eventually(lambda: collector.metrics, "what comes later arrives, at the latest after half a minute", 60)
        assert of_tool(collector.metrics[-1]["toolring_jobs"], "square").as_int == 20


def test_it_is_refused_where_nothing_is_counted(tmp_path: Path) -> None:
    (tmp_path / "toolring.toml").write_text('[metrics]\nsinks = ["otlp"]\nfigures = false\n')
    with place() as directory:
        bind = f"ipc://{directory}/node.sock"
        told = run_cli("serve", str(FAULTS), "--config", str(tmp_path / "toolring.toml"), "--bind", bind)
    assert told.returncode == 3
    assert "otlp needs what the node counts, but metrics.figures is false" in told.stderr
