"""A metrics sink that appends one JSON object an interval to a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from toolring.plugins.specs import SinkSettings

VARIABLE = "SAMPLE_SINK_FILE"


class JSONLines:
    """Made once, in the supervisor, if ``[metrics] sinks`` names it. What is raised here ends the start, by name."""

    def __init__(self, settings: SinkSettings) -> None:
        path = os.environ.get(VARIABLE)
        if not path:
            raise RuntimeError(f"{VARIABLE} must name the file to write to")
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - until close()

    def emit(self, figures: Mapping[str, Any]) -> None:
        """Called in the sink's own thread: it may block, later figures are dropped meanwhile."""
        self._file.write(json.dumps(figures) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
