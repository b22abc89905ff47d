"""The soft interrupt: a signal ends the running tool with an exception, so that its cleanup runs.

The exception can only be raised while the very attempt that it is meant for is armed. The order of the stores
matters: CPython checks for signals at calls, function entries and backward jumps, and there is none of these
between the end of a tool and ``armed = 0`` (see runner.execute). The storm test belongs to every Python version.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from toolring.lane import CANCEL, INTERRUPT, Lane


class JobInterrupted(BaseException):
    """Raised inside a tool whose job was cancelled or expired. A BaseException: ``except Exception`` lets it pass."""


class Armed:
    """The sequence number of the attempt that may be interrupted now; 0: none."""

    __slots__ = ("seq",)

    def __init__(self) -> None:
        self.seq = 0


def install(armed: Armed, lane: Lane) -> None:
    """Handle the signal in this process's main thread."""
    words = lane.words

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        seq = armed.seq
        if seq == 0 or words[CANCEL] != seq:
            return
        if not _cleaning_up(sys.exc_info()[1]):
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
