"""A span sink for OpenTelemetry collectors: OTLP over HTTP.

Where to, with which headers, certificates and resource attributes is said in the environment, as for any program that
uses OpenTelemetry: OTEL_EXPORTER_OTLP_ENDPOINT (http://localhost:4318), OTEL_SERVICE_NAME (toolring) and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from toolring.plugins.sinks import otel
from toolring.plugins.specs import SinkSettings, Span

_KINDS = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OtlpSpans:
    """Sends spans as they come. Raises RuntimeError for what could not be delivered; they are lost then.

    Making one raises ConfigError for an environment that nobody here can follow.
    """

    def __init__(self, settings: SinkSettings) -> None:
        self.check(settings)
        self._disabled = otel.disabled()
        self._resource = otel.resource(settings.node)
        self._scope = InstrumentationScope("toolring")
        self._exporter = OTLPSpanExporter()

    @staticmethod
    def check(_settings: SinkSettings) -> None:
        otel.check("TRACES")

    def emit(self, spans: Sequence[Span]) -> None:
        if self._disabled:
            return
        with otel.reasons(OTLPSpanExporter) as why:
            done = self._exporter.export([self._told(span) for span in spans])
        if done is not SpanExportResult.SUCCESS:
            raise RuntimeError(f"{len(spans)} spans could not be delivered: {why}")

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _told(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else None
        parent = None
        if span.parent is not None:
            parent = SpanContext(span.trace, span.parent, span.kind == "server", _SAMPLED, state)
        return ReadableSpan(
            span.name,
            SpanContext(span.trace, span.number, False, _SAMPLED, state),
            parent,
            self._resource,
            dict(span.attributes),
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.begin,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )
