"""One line on a terminal that says how far many calls are, or one long one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from toolring.client.feed import Progress

_REFRESH: Final = 0.1


class Bar:
    """Counts; draws itself at most ten times a second, and only on a terminal. ``total`` may be unknown."""

    def __init__(
        self, total: int | None, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._began = clock()
        self._drawn = 0.0
        self._shown = self._stream.isatty()
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        if self._shown and self._clock() - self._drawn >= _REFRESH:
            self._draw()

    def finish(self) -> None:
        """Draw it a last time, and leave the line."""
        if self._shown:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()

    def _draw(self) -> None:
        self._drawn = self._clock()
        _redraw(self._stream, self.line())

    def line(self) -> str:
        spent = max(1e-9, self._clock() - self._began)
        rate = self.done / spent
        if not self._total:
            return f"{self.done:,} done  {rate:,.0f}/s"
        left = (self._total - self.done) / rate if self.done else 0.0
        return f"{_bar(self.done / self._total)} {self.done:,}/{self._total:,}  {rate:,.0f}/s  {left:.0f} s left"


class Gauge:
    """What one job says of its progress, on a terminal; it leaves no line behind."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._drawn = False
        self.shown = self._stream.isatty()

    def __enter__(self) -> Gauge:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, progress: Progress) -> None:
        """Draw it over the last."""
        done, total, message = progress
        said = "".join(char for char in " ".join(message.split()) if char.isprintable())  # or it steers the terminal
        text = f"{_number(done)}  {said}"
        if total:
            text = f"{_bar(min(1.0, max(0.0, done / total)))} {_number(done)}/{_number(total)}  {said}"
        _redraw(self._stream, text)
        self._drawn = True

    def clear(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False


def _redraw(stream: TextIO, text: str) -> None:
    """Write over what is on the line, no further than its end: what wraps is not written over."""
    stream.write(f"\r{text[: _columns(stream) - 1]}\x1b[K")
    stream.flush()


def _columns(stream: TextIO) -> int:
    """Of the terminal that is drawn on: standard output may be something else."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _number(value: float) -> str:
    return f"{value:,.2f}" if value % 1 else f"{value:,.0f}"


def _bar(share: float) -> str:
    full = int(30 * share)
    return "[" + "#" * full + "." * (30 - full) + "]"
