"""Logging with structlog: a console for people, JSON lines for machines, always to standard error.

structlog takes longer to import than everything else together, so it is imported when the first logger is made.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

FORMATS: Final = ("auto", "console", "json")
LEVELS: Final = ("debug", "info", "warning", "error")

_format = "auto"
_level = "info"
_ready = False
_write: Callable[[str], object] | None = None


class _Stderr:
    """Standard error, which may be a terminal or collector that went away: no reason to end."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            (_write or sys.stderr.write)(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(format: str, level: str, write: Callable[[str], object] | None = None) -> None:
    """Choose format and level, and who writes lines if not ``sys.stderr``; takes effect with the first logger."""
    global _format, _level, _ready, _write
    _format, _level, _ready, _write = format, level, False, write


def bound(**values: Any) -> Any:
    """A structlog logger with ``values`` on every line."""
    global _ready  # noqa: PLW0603
    import structlog  # optional: costs 80 ms, which only those who log pay

    if not _ready:
        people = _format == "console" or (_format == "auto" and sys.stderr.isatty())
        shared: list[Any] = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not people),
            structlog.processors.format_exc_info,
        ]
        last: Any = structlog.processors.JSONRenderer()
        if people:
            last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
            shared.pop()
        stream: Any = _Stderr()
        structlog.configure(
            processors=[*shared, last],
            wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, _level.upper())),
            logger_factory=structlog.WriteLoggerFactory(stream),
            cache_logger_on_first_use=False,
        )
        _ready = True
    return structlog.get_logger(**values)
