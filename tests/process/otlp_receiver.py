"""An OpenTelemetry collector for tests: it takes in what arrives over OTLP, and keeps it."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """What an OpenTelemetry collector does with OTLP over HTTP: take in, and say that it did."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: list[dict[str, Any]] = []
        """Of each request: the metrics that it had, by name."""
        self.resources: list[dict[str, str]] = []
        """Of what toolring told, in the order in which it came."""
        self.instances: set[str] = set()
        self.services: set[str] = set()
        self.broken = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces" and not collector.broken:
                    collector.take(body)
                elif self.path == "/v1/metrics" and not collector.broken:
                    collector.take_metrics(body)
                self.send_response(400 if collector.broken else 200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                if scope.scope.name == "toolring":
                    self._take_resource(resource.resource)
                self.spans += scope.spans

    def take_metrics(self, body: bytes) -> None:
        request = ExportMetricsServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_metrics:
            self._take_resource(resource.resource)
            for scope in resource.scope_metrics:
                assert scope.scope.name == "toolring"
                self.metrics.append({metric.name: metric for metric in scope.metrics})

    def _take_resource(self, resource: Any) -> None:
        told = {one.key: one.value.string_value for one in resource.attributes}
        self.resources.append(told)
        self.services.add(told["service.name"])
        self.instances.add(told["service.instance.id"])

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
