"""Which allocations grow, traced on demand: tracing makes Python code some times slower, so it is off otherwise."""

from __future__ import annotations

import tracemalloc
from types import TracebackType
from typing import NamedTuple, Self

Lines = dict[tuple[str, int], tuple[int, int]]
"""By file and line: bytes and blocks."""


class Growth(NamedTuple):
    """Of what one line allocated: bytes and blocks that there are more of than at the start."""

    file: str
    line: int
    bytes: int
    blocks: int
    native: tuple[str, ...] = ()
    """The C functions that the line had called, the outermost first, where these are traced."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.bytes:+,} bytes in {self.blocks:+,} blocks"


class Allocations:
    """Those between the start and a look at them. For a ``with`` statement, or start and stop.

    If somebody traces already, that goes on afterwards.
    """

    def __init__(self) -> None:
        self._before: Lines | None = None
        self._ours = False

    def start(self) -> None:
        if not tracemalloc.is_tracing():
            tracemalloc.start()
            self._ours = True
        self._before = _lines()

    def top(self, most: int = 10) -> list[Growth]:
        """The lines whose allocations grew, the most first. With a million of blocks it takes seconds."""
        if self._before is None:
            raise RuntimeError("no allocations are traced: start() comes first")
        none, before = (0, 0), self._before
        grown = [
            Growth(*line, size - before.get(line, none)[0], count - before.get(line, none)[1])
            for line, (size, count) in _lines().items()
        ]
        grown = [growth for growth in grown if growth.bytes > 0]
        return sorted(grown, key=lambda growth: growth.bytes, reverse=True)[:most]

    def stop(self) -> None:
        self._before = None
        if self._ours:
            tracemalloc.stop()
            self._ours = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


def _lines() -> Lines:
    """What is allocated, without what tracing itself takes."""
    return {
        (frame.filename, frame.lineno): (found.size, found.count)
        for found in tracemalloc.take_snapshot().statistics("lineno")
        for frame in found.traceback[:1]
        if frame.filename not in (tracemalloc.__file__, __file__)
    }
