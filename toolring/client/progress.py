"""One line on a terminal that says how far many calls are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

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
        self._stream.write(f"\r{self.line()}\x1b[K")
        self._stream.flush()

    def line(self) -> str:
        spent = max(1e-9, self._clock() - self._began)
        rate = self.done / spent
        if not self._total:
            return f"{self.done:,} done  {rate:,.0f}/s"
        full = int(30 * self.done / self._total)
        left = (self._total - self.done) / rate if self.done else 0.0
        bar = "#" * full + "." * (30 - full)
        return f"[{bar}] {self.done:,}/{self._total:,}  {rate:,.0f}/s  {left:.0f} s left"
