"""The context that a tool may ask for with a parameter annotated ``Context``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class Context:
    """What a running tool may know of its call.

    ``job`` is the job's id, ``attempt`` counts runs from 1, ``deadline`` is in seconds of ``time.monotonic()``
    (None: no deadline), ``logger`` is a structlog logger with job, tool and attempt bound to every line.
    """

    __slots__ = ("_cancelled", "_make_logger", "_shield", "attempt", "deadline", "job", "tool")

    def __init__(
        self,
        *,
        job: str,
        tool: str,
        attempt: int,
        deadline: float | None,
        cancelled: Callable[[], bool],
        make_logger: Callable[..., Any],
        shield: Callable[[float], AbstractContextManager[None]] = lambda _seconds: nullcontext(),
    ) -> None:
        self.job = job
        self.tool = tool
        self.attempt = attempt
        self.deadline = deadline
        self._cancelled = cancelled
        self._make_logger = make_logger
        self._shield = shield

    @property
    def cancelled(self) -> bool:
        """True once the caller gave up, the deadline passed or the job was cancelled: time to return."""
        return self._cancelled() or (self.deadline is not None and time.monotonic() >= self.deadline)

    def shield(self, seconds: float = 1.0) -> AbstractContextManager[None]:
        """``with context.shield():`` - a section that is not interrupted when the job is cancelled or expires.

        It puts that off until the section ends, for so many seconds at most, and never for longer than the node's
        ``timeouts.shield``. Its caller hears at once all the same.
        """
        return self._shield(seconds)

    def remaining(self) -> float | None:
        """Seconds left until the deadline, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def logger(self) -> Any:
        return self._make_logger(job=self.job, tool=self.tool, attempt=self.attempt)
