"""What the sinks for OpenTelemetry have in common: who tells, where to, and why something could not be delivered.

The environment says it, as OpenTelemetry's specification has it. What can't be done is refused when the node starts.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource

from toolring.errors import ConfigError

PROTOCOL: Final = "http/protobuf"
MOST_REASON: Final = 400
"""Characters of why something could not be delivered."""


def resource(node: str) -> Resource:
    """Of all that a node tells: the same for traces and metrics, so that they can be joined. What OTEL_SERVICE_NAME and
    OTEL_RESOURCE_ATTRIBUTES say wins."""
    named = {SERVICE_NAME: "toolring", SERVICE_INSTANCE_ID: node} if node else {SERVICE_NAME: "toolring"}
    return Resource.create(named).merge(OTELResourceDetector().detect())


def disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def check(signal: str) -> None:
    """``signal``: TRACES or METRICS. Raises ConfigError for what the environment says and nobody here can do."""
    name, protocol = _said(signal, "PROTOCOL")
    if protocol and protocol != PROTOCOL:
        raise ConfigError(f"{name}={protocol}: only {PROTOCOL} is spoken here", key=name)
    name, endpoint = _said(signal, "ENDPOINT")
    parts = urlsplit(endpoint)
    if endpoint and not (parts.scheme in ("http", "https") and parts.hostname):
        raise ConfigError(f"{name}={endpoint}: it must be a URL, such as http://localhost:4318", key=name)


class Reasons(logging.Handler):
    """What an exporter logs while this thread uses it: it says there alone why it failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._texts = [*self._texts[-1:], record.getMessage()]

    def __str__(self) -> str:
        """The last ones; an exporter that gives up has said before what went wrong."""
        return "; ".join(self._texts)[:MOST_REASON] or "the exporter doesn't say why"


@contextmanager
def reasons(exporter: type) -> Iterator[Reasons]:
    """What it logs is held back from the log, since it comes with what the sink raises."""
    log, heard = logging.getLogger(exporter.__module__), Reasons()
    propagated, log.propagate = log.propagate, False
    log.addHandler(heard)
    try:
        yield heard
    finally:
        log.removeHandler(heard)
        log.propagate = propagated


def _said(signal: str, what: str) -> tuple[str, str]:
    """The variable of the signal, or else that of all, and what it says."""
    name = f"OTEL_EXPORTER_OTLP_{signal}_{what}"
    if not os.environ.get(name):
        name = f"OTEL_EXPORTER_OTLP_{what}"
    return name, os.environ.get(name, "").strip()
