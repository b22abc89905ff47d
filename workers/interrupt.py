"""The soft interrupt: a signal ends the running tool with an exception, so that its cleanup runs.

The exception can only be raised while the very attempt that it is meant for is armed. The order of the stores
matters: CPython checks for signals at calls, function entries and backward jumps, and there is none of these
between the end of a tool and ``armed = 0`` (see Runner._run). The storm test belongs to every Python version.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from toolring.lane import CANCEL, INTERRUPT, SHIELD, Lane

MOST_SECONDS: Final = 86400.0


class JobInterrupted(BaseException):
    """Raised inside a tool whose job was cancelled or expired. A BaseException: ``except Exception`` lets it pass."""


class Armed:
    """The sequence number of the attempt that may be interrupted now; 0: none."""

    __slots__ = ("missed", "sending", "seq", "shields")

    def __init__(self) -> None:
        self.seq = 0
        self.sending = False
        """A message is on its way out in pieces: nothing is raised in its midst, but right after it."""
        self.missed = False
        self.shields = 0
        """How many of the tool's shields are up: as long as there is one, nothing is raised."""


class Shield:
    """Puts off the interruption of the job at hand while a critical section runs, for a bounded time."""

    __slots__ = ("_armed", "_seq", "_words")

    def __init__(self, armed: Armed, lane: Lane, seq: int) -> None:
        self._armed = armed
        self._words = lane.words
        self._seq = seq

    @contextmanager
    def __call__(self, seconds: float) -> Iterator[None]:
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"shield({seconds!r}): more than 0 seconds, and at most {MOST_SECONDS:g}")
        words, armed = self._words, self._armed
        before = words[SHIELD]
        words[SHIELD] = max(before, int((time.monotonic() + seconds) * 1e6))
        armed.shields += 1
        try:
            yield
        finally:
            words[SHIELD] = before
            armed.shields -= 1
            if not armed.shields and words[CANCEL] == self._seq == armed.seq and sys.exc_info()[1] is None:
                raise JobInterrupted


def install(armed: Armed, lane: Lane) -> None:
    """Handle the signal in this process's main thread."""
    words = lane.words

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        seq = armed.seq
        if seq == 0 or words[CANCEL] != seq or armed.shields:
            return
        if _cleaning_up(sys.exc_info()[1]):
            return
        if armed.sending:
            armed.missed = True
        else:
            raise JobInterrupted

    signal.signal(INTERRUPT, interrupt)
    signal.siginterrupt(INTERRUPT, True)


def _cleaning_up(error: BaseException | None) -> bool:
    """Is an earlier interrupt's cleanup running? Then a second signal must not break into it."""
    while error is not None:
        if isinstance(error, JobInterrupted):
            return True
        error = error.__context__
    return False
