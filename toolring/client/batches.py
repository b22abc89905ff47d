"""Many calls of one tool: how they are cut into jobs, how many are under way, and what comes of each. Without I/O.

A chunk is several calls that travel and run as one job: for calls that take microseconds, that is most of their cost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

from toolring.client.session import Pending
from toolring.errors import Busy, InvalidArguments, ToolringError, from_wire
from toolring.protocol import MAX_CHUNK

P = TypeVar("P", bound=Pending)
Call = Mapping[str, Any]


class Piece(Generic[P]):
    """Consecutive calls that are one job; ``index`` is that of the first."""

    __slots__ = ("calls", "handle", "index", "since")

    def __init__(self, index: int, calls: list[Call], handle: P) -> None:
        self.index = index
        self.calls = calls
        self.handle = handle
        self.since = time.monotonic()

    def left(self) -> float | None:
        """Seconds until it must be answered, however often it is sent; None: there is no such limit."""
        left = self.handle.deadline - time.monotonic()
        return None if left == math.inf else max(0.001, left)

    def again(self, handle: P) -> None:
        """It was sent once more."""
        self.handle = handle
        self.since = time.monotonic()


class Plan:
    """What the caller of ``map`` asked for, checked."""

    __slots__ = ("chunk", "jobs", "low", "ordered", "raises")

    def __init__(self, window: int, chunk: int, ordered: bool, errors: str) -> None:
        for name, value in (("window", window), ("chunk", chunk)):
            if not isinstance(value, int) or value < 1:
                raise InvalidArguments(f"{name}={value!r} must be at least 1", argument=name)
        if chunk > MAX_CHUNK:
            raise InvalidArguments(f"chunk={chunk!r} must be at most {MAX_CHUNK}", argument="chunk")
        if errors not in ("raise", "return"):
            raise InvalidArguments(f"errors={errors!r} is neither 'raise' nor 'return'", argument="errors")
        self.chunk = chunk
        self.ordered = ordered
        self.raises = errors == "raise"
        self.jobs = window if chunk == 1 else max(2, window // chunk)
        """Jobs that are under way at once."""
        self.low = self.jobs - max(1, self.jobs // 4)
        """Refilled by the quarter, so that jobs share messages."""

    def cut(self, calls: Iterable[Call]) -> Iterator[tuple[int, list[Call]]]:
        """The calls in pieces, each with the index of its first."""
        source = iter(calls)
        index = 0
        while piece := list(islice(source, self.chunk)):
            yield index, piece
            index += len(piece)

    def told(self, piece: Piece[Any]) -> Iterable[Any]:
        """What ``map`` gives for a piece: results in order, or (index, result). An error is raised in its place, or
        given in it."""
        try:
            value = piece.handle.outcome()
        except ToolringError as error:
            return self._one_by_one(piece, [error] * len(piece.calls))
        if self.chunk == 1:
            results = [value]
        else:
            results = [from_wire(given) if status else given for status, given in value]
            if [1 for status, _ in value if status]:
                return self._one_by_one(piece, results)
        return results if self.ordered else enumerate(results, piece.index)

    def _one_by_one(self, piece: Piece[Any], results: list[Any]) -> Iterator[Any]:
        for index, result in enumerate(results, piece.index):
            if self.raises and isinstance(result, ToolringError):
                raise result
            yield result if self.ordered else (index, result)


def again_after(piece: Piece[Any]) -> float | None:
    """Seconds until a piece that was refused because the node is busy may be sent again; None: that is its answer.

    It is refused for good once it has been tried for as long as one job may take.
    """
    handle = piece.handle
    if handle.answer is None or handle.answer.status == 0:
        return None
    try:
        handle.outcome()
    except Busy as error:
        patience = handle.deadline - time.monotonic()
        after = piece.since + float(error.facts.get("retry_after", 0.05)) - time.monotonic()
        return max(0.0, after) if after < patience else None
    except ToolringError:
        pass
    return None
