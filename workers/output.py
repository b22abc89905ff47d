"""What a tool writes becomes part of its job's record: standard output and error, warnings, logging.

``sys.stdout`` and ``sys.stderr`` of a worker are streams that look whose code writes: that of a job goes line by line,
and when it is flushed, into the spool, anything else to where it went before. A line that is in the spool survives the
worker. What is written to the descriptors themselves, by code in C or by child processes, is not seen here.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Final, TextIO

from toolring import protocol
from toolring.context import JobAtHand, job_at_hand
from toolring.lane import Lane
from toolring.protocol import TOLD, Answer
from toolring.spool import Spool

MOST_LINE: Final = 8192
"""Characters of one record; a longer line becomes several."""
_COST: Final = 32
"""What a record costs of what its job may write, beside its characters."""


class _Written:
    """What one attempt has written so far."""

    __slots__ = ("begun", "dropped", "left", "parts")

    def __init__(self, left: int) -> None:
        self.left = left
        """What it may write still."""
        self.dropped = 0
        """Records for which there was no room."""
        self.parts: dict[str, str] = {}
        """Lines that have no end yet, by stream."""
        self.begun: set[str] = set()
        """Streams of which the start of such a line is told already."""


class Output:
    """Of one worker process. ``number`` gives the sequence number of the attempt that a job at hand is."""

    def __init__(self, lane: Lane, most: int, number: Callable[[Any], int]) -> None:
        self._spool = Spool(lane)
        self._most = most
        self._number = number
        self._lock = threading.RLock()  # a soft interrupt may leave it taken by the main thread, which may go on then
        self._own = True
        self.open: dict[int, _Written] = {}
        """Attempts that have written something, by sequence number."""
        os.register_at_fork(after_in_child=self._disown)

    def _disown(self) -> None:
        """A child that a tool forked isn't its worker, and writes where that did before."""
        self._own = False

    def install(self) -> None:
        """From now on, for all code of this process."""
        out, err = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Stream(self, "stdout", out), Stream(self, "stderr", err)
        self._plain = err
        self._shown = warnings.showwarning
        warnings.showwarning = self._warned
        if logging.lastResort is not None:
            logging.lastResort = Handler(self, logging.lastResort)
        for handler in _handlers():
            if isinstance(handler, logging.StreamHandler) and handler.stream in (out, err):
                handler.emit = _emitter(self, handler)  # type: ignore[method-assign,assignment]

    def mine(self) -> JobAtHand | None:
        """The job whose code runs here."""
        return job_at_hand() if self._own else None

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        job = self.mine()
        if job is None or file is not None:
            self._shown(message, category, filename, lineno, file, line)
        else:
            self.tell(job, "warnings", "warning", f"{filename}:{lineno}: {category.__name__}: {message}")

    def write(self, job: JobAtHand, stream: str, text: str) -> None:
        """Some text, of which whole lines go out."""
        with self._lock:
            seq = self._number(job)
            written = self._of(seq)
            *whole, rest = (written.parts.get(stream, "") + text).split("\n")
            if len(rest) > MOST_LINE:
                whole.append(rest)
                rest = ""
            written.parts[stream] = rest
            if whole and stream in written.begun:
                written.begun.remove(stream)
                if not whole[0]:
                    del whole[0]  # it was but the end
            for line in whole:
                self._line(seq, written, stream, "", line)

    def flush(self, job: JobAtHand, stream: str) -> None:
        """What has no end yet goes out as it is: who flushes wants it seen."""
        with self._lock:
            seq = self._number(job)
            written = self.open.get(seq)
            if written is not None and (rest := written.parts.get(stream)):
                written.parts[stream] = ""
                written.begun.add(stream)
                self._line(seq, written, stream, "", rest)

    def tell(self, job: JobAtHand, stream: str, level: str, text: str) -> None:
        """One thing that is whole."""
        with self._lock:
            seq = self._number(job)
            self._line(seq, self._of(seq), stream, level, text)

    def logged(self, text: str) -> None:
        """A line of toolring's own log, or of ``context.logger``: it goes there, and into the record of the job."""
        self._plain.write(text)
        if (job := self.mine()) is not None and text.strip():
            self.tell(job, "log", "", text.rstrip("\n"))

    def ended(self, answer: Answer) -> None:
        """An attempt is over: what it left without an end goes out, and its answer tells that there is something."""
        with self._lock:
            written = self.open.pop(answer.id, None)
            if written is None:
                return
            for stream, rest in written.parts.items():
                if rest:
                    self._line(answer.id, written, stream, "", rest)
            if written.dropped:
                text = f"{written.dropped} further lines were dropped"
                self._spool.append(_encoded(answer.id, "dropped", "", text))
            answer.flags |= TOLD

    def _of(self, seq: int) -> _Written:
        written = self.open.get(seq)
        if written is None:
            written = self.open[seq] = _Written(self._most)
        return written

    def _line(self, seq: int, written: _Written, stream: str, level: str, text: str) -> None:
        for start in range(0, len(text) or 1, MOST_LINE):
            piece = text[start : start + MOST_LINE]
            cost = len(piece) + _COST
            if written.left < cost or not self._spool.append(_encoded(seq, stream, level, piece)):
                written.dropped += 1
            else:
                written.left -= cost


class Stream(io.TextIOBase):
    """Stands for a standard stream."""

    def __init__(self, output: Output, name: str, plain: TextIO) -> None:
        self._output = output
        self._name = name
        self._plain = plain

    def write(self, text: str) -> int:
        job = self._output.mine()
        if job is None:
            return self._plain.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._output.write(job, self._name, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        job = self._output.mine()
        if job is not None:
            self._output.flush(job, self._name)
        self._plain.flush()

    def fileno(self) -> int:
        return self._plain.fileno()

    def isatty(self) -> bool:
        return self._plain.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._plain.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._plain.errors

    @property
    def buffer(self) -> Any:
        """Bytes that are written here go past the job's record, as those written to the descriptor do."""
        return self._plain.buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


class Handler(logging.Handler):
    """Where records go for which no handler was configured."""

    def __init__(self, output: Output, plain: logging.Handler) -> None:
        super().__init__(plain.level)
        self._output = output
        self._plain = plain

    def emit(self, record: logging.LogRecord) -> None:
        job = self._output.mine()
        if job is None:
            self._plain.handle(record)
        else:
            self._output.tell(job, "logging", record.levelname.lower(), f"{record.name}: {self.format(record)}")


def _emitter(output: Output, handler: logging.Handler) -> Callable[[logging.LogRecord], None]:
    """What a handler that writes to a standard stream does from now on: its format stays."""
    plain = handler.emit

    def emit(record: logging.LogRecord) -> None:
        job = output.mine()
        if job is None:
            plain(record)
            return
        try:
            output.tell(job, "logging", record.levelname.lower(), handler.format(record))
        except Exception:
            handler.handleError(record)

    return emit


def _handlers() -> list[logging.Handler]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return [one for logger in loggers if isinstance(logger, logging.Logger) for one in logger.handlers]


def _encoded(seq: int, stream: str, level: str, text: str) -> bytes:
    try:
        return protocol.encode((seq, time.monotonic(), stream, level, text))
    except UnicodeEncodeError:  # half a character, as surrogateescape makes of what it can't read
        text = text.encode("utf-8", "backslashreplace").decode()
        return protocol.encode((seq, time.monotonic(), stream, level, text))
