"""Spans on their way to a collector: what arrives over OTLP, from a caller's own span to those of a tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.process.kit import eventually, lines, place, run_cli, running
from tests.process.otlp_receiver import Collector

TOOLS = """
import os, time
from pathlib import Path
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from toolring import Context, Retry, tool

def tracer():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("tools")

@tool(idempotent=True, retries=2)
def flaky(context: Context) -> int:
    with tracer().start_as_current_span("inside"):
        if context.attempt == 1:
            raise Retry("not yet")
        return context.attempt

@tool(read_only=True)
def fatal(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(3)
    return "survived"

@tool
def plain() -> str:
    return "ok"
"""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    yield collector
    collector.close()


@contextmanager
def node(settings: str = '[tracing]\nsinks = ["otlp"]\n') -> Iterator[Any]:
    with place() as directory:
        (Path(directory) / "spanned.py").write_text(TOOLS)
        (Path(directory) / "toolring.toml").write_text(settings)
        with running("spanned", directory=directory) as node:
            yield node


def test_a_trace_from_caller_to_tool(collector: Collector) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    with node() as served, served.client() as client:
        with provider.get_tracer("caller").start_as_current_span("asking"):
            assert client.call("flaky") == 2
        eventually(lambda: collector.named("execute_tool flaky") and collector.named("asking"))
        (asking,), (job,) = collector.named("asking"), collector.named("execute_tool flaky")
        assert len({span.trace_id for span in collector.spans}) == 1
        assert job.parent_span_id == asking.span_id
        runs = sorted(collector.named("run"), key=lambda span: span.start_time_unix_nano)
        assert [run.parent_span_id for run in runs] == [job.span_id] * 2
        inside = sorted(collector.named("inside"), key=lambda span: span.start_time_unix_nano)
        assert [span.parent_span_id for span in inside] == [run.span_id for run in runs]
        assert [len(collector.named(name)) for name in ("queue", "retry")] == [1, 1]
        for outer, inner in [(asking, job), *((job, run) for run in runs), *zip(runs, inside, strict=True)]:
            assert outer.start_time_unix_nano <= inner.start_time_unix_nano
            assert inner.end_time_unix_nano <= outer.end_time_unix_nano
        assert [run.status.message for run in runs] == ["RETRY", ""]
        assert collector.services == {"toolring"}
        assert collector.instances == {served.status()["node"]}
    provider.shutdown()


def test_a_lost_worker_is_in_the_trace(collector: Collector, tmp_path: Path) -> None:
    with node('[tracing]\nsinks = ["otlp"]\nsample = 1.0\n') as served, served.client() as client:
        assert client.call("fatal", {"marker": str(tmp_path / "once")}) == "survived"
        eventually(lambda: collector.named("execute_tool fatal"))
        assert sorted(run.status.message for run in collector.named("run")) == ["", "worker lost"]
        (job,) = collector.named("execute_tool fatal")
        assert job.parent_span_id == b""
        told = {one.key: one.value for one in job.attributes}
        assert told["gen_ai.tool.name"].string_value == "fatal"
        assert told["toolring.attempts"].int_value == 2


def test_a_collector_that_refuses_costs_no_call_and_is_told(collector: Collector) -> None:
    collector.broken = True
    with node('[tracing]\nsinks = ["otlp"]\nsample = 1.0\n') as served, served.client() as client:
        assert [client.call("plain") for _ in range(20)] == ["ok"] * 20
        eventually(lambda: "sink_failed" in served.log)
        failed = [line for line in map(json.loads, lines(served.err)) if line["event"] == "sink_failed"]
        assert "400" in failed[0]["reason"], "it says why; all lines are JSON"
        eventually(lambda: served.status()["tracing"]["otlp"]["failed"] >= 1)
        collector.broken = False
        client.call("plain")
        eventually(lambda: collector.spans, "what comes later arrives")


def test_what_was_made_last_arrives_before_the_node_is_gone(collector: Collector) -> None:
    with node('[tracing]\nsinks = ["otlp"]\nsample = 1.0\n') as served:
        with served.client() as client:
            client.call("plain")
        served.signal(15)
        assert served.wait() == 0
    assert len(collector.named("execute_tool plain")) == 1


def test_an_unknown_sink_is_refused_by_name() -> None:
    with place() as directory:
        (Path(directory) / "spanned.py").write_text(TOOLS)
        (Path(directory) / "toolring.toml").write_text('[tracing]\nsinks = ["zipkin"]\n')
        told = run_cli("serve", str(directory / "spanned.py"), "--config", str(directory / "toolring.toml"))
        assert told.returncode == 3
        assert "no span sink 'zipkin'; there is otlp" in told.stderr
