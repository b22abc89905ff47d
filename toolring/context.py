"""The context that a tool may ask for with a parameter annotated ``Context``, and what remains of a job's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol

from toolring.given import Given


class JobAtHand(Protocol):
    """What code that runs for a job may know of it."""

    @property
    def tool(self) -> str: ...

    @property
    def deadline(self) -> float:
        """In seconds of ``time.monotonic()``."""
        ...

    @property
    def trace(self) -> str:
        """Its W3C trace context, as it travels; empty: none."""
        ...


in_task: ContextVar[JobAtHand | None] = ContextVar("toolring_job", default=None)
"""The job that a task runs, where each job is a task of its own."""


class _AtHand:
    """The one job that this process runs, where it runs one at a time."""

    __slots__ = ("job",)

    def __init__(self) -> None:
        self.job: JobAtHand | None = None


at_hand = _AtHand()


def job_at_hand() -> JobAtHand | None:
    """The job that this code runs for; None outside of a tool."""
    return in_task.get() or at_hand.job


def remaining() -> float | None:
    """Seconds left until the deadline of the job that this code runs for, never negative; None outside of a tool.

    For what a tool calls in turn. toolring's own clients look here by themselves. Threads of a tool see it, too; those
    of an async one if they were made by ``asyncio.to_thread``.
    """
    job = job_at_hand()
    return None if job is None else max(0.0, job.deadline - time.monotonic())


class Context(Given):
    """What a running tool may know of its call.

    ``job`` is the job's id, ``attempt`` counts runs from 1, ``deadline`` is in seconds of ``time.monotonic()``
    (None: no deadline), ``traceparent`` is the W3C trace that the call belongs to (empty: none), ``logger`` is a
    structlog logger with job, tool and attempt bound to every line.
    """

    __slots__ = (
        "_buffer",
        "_cancelled",
        "_make_logger",
        "_shield",
        "_tell",
        "attempt",
        "deadline",
        "job",
        "tool",
        "traceparent",
    )

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
        tell: Callable[[float, float | None, str], None] = lambda _done, _total, _message: None,
        trace: str = "",
        buffer: Callable[[int], AbstractContextManager[memoryview]] = lambda size: nullcontext(
            memoryview(bytearray(size))
        ),
    ) -> None:
        self.job = job
        self.tool = tool
        self.attempt = attempt
        self.deadline = deadline
        self._cancelled = cancelled
        self._make_logger = make_logger
        self._shield = shield
        self._tell = tell
        self._buffer = buffer
        self.traceparent = trace.partition(" ")[0]

    @property
    def cancelled(self) -> bool:
        """True once the caller gave up, the deadline passed or the job was cancelled: time to return."""
        return self._cancelled() or (self.deadline is not None and time.monotonic() >= self.deadline)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell the caller how far this is, if it wants to hear; an ``idle_timeout`` begins anew.

        It may be called as often as one likes: words that follow each other within a twentieth of a second are
        dropped, unless they say that all is done. Raises TypeError for anything but numbers and a text.
        """
        if not (isinstance(done, int | float) and isinstance(total, int | float | None) and isinstance(message, str)):
            raise TypeError(f"progress({done!r}, {total!r}, {message!r}): two numbers and a text are wanted")
        self._tell(done, total, message)

    def shield(self, seconds: float = 1.0) -> AbstractContextManager[None]:
        """``with context.shield():`` - a section that is not interrupted when the job is cancelled or expires.

        It puts that off until the section ends, for so many seconds at most, and never for longer than the node's
        ``timeouts.shield``. Its caller hears at once all the same.
        """
        return self._shield(seconds)

    def buffer(self, size: int) -> AbstractContextManager[memoryview]:
        """``with context.buffer(1 << 20) as view:`` - so many zero bytes to write to, for the length of the block.

        The memory is used again by later calls, which pays from a megabyte on; the view can't be used afterwards. See
        ``BufferPool``. Raises ValueError for a size below 0.
        """
        return self._buffer(size)

    def remaining(self) -> float | None:
        """Seconds left until the deadline, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def logger(self) -> Any:
        return self._make_logger(job=self.job, tool=self.tool, attempt=self.attempt)
