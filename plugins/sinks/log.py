"""A metrics sink that writes one log line of figures an interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolring import logs
from toolring.plugins.specs import SinkSettings


class LogSink:
    """Figures to structlog, in the format that the node logs in."""

    def __init__(self, settings: SinkSettings) -> None:
        self._log = logs.bound(sink="structlog")

    def emit(self, figures: Mapping[str, Any]) -> None:
        self._log.info("figures", **figures)

    def close(self) -> None:
        pass
