"""Many calls of one tool: how they are cut into jobs, how many are under way, and what comes of each. Without I/O.

A chunk is several calls that travel and run as one job: for calls that take microseconds, that is most of their cost.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from toolring.client.arguments import priority_of, seconds
from toolring.client.progress import Bar
from toolring.client.session import Pending
from toolring.errors import Busy, InvalidArguments, ProtocolError, ToolringError, from_wire
from toolring.protocol import MAX_CHUNK

P = TypeVar("P", bound=Pending)
P_co = TypeVar("P_co", bound=Pending, covariant=True)
Call = Mapping[str, Any]


class Send(Protocol[P_co]):
    """Sends calls as one job: a chunk, or by itself if there is one and it isn't to be a chunk of one."""

    def __call__(self, calls: list[Call], timeout: float | None, chunk: bool) -> P_co: ...


class Piece(Generic[P]):
    """Consecutive calls that are one job; ``index`` is that of the first."""

    __slots__ = ("again_at", "calls", "chunk", "error", "handle", "index", "sent")

    def __init__(self, index: int, calls: list[Call], chunk: bool) -> None:
        self.index = index
        self.calls = calls
        self.chunk = chunk
        self.handle: P | None = None
        self.sent = 0.0
        self.error: ToolringError | None = None
        """Why it was never sent."""
        self.again_at: float | None = None
        """The node was too busy for it: when it is sent once more."""

    @property
    def settled(self) -> bool:
        return self.handle is None or self.handle.settled


class Plan:
    """What the caller of ``map`` asked for, checked."""

    __slots__ = ("chunk", "jobs", "low", "ordered", "raises", "timeout")

    def __init__(
        self, tool: str, window: int, chunk: int, ordered: bool, errors: str, timeout: float | None, priority: str
    ) -> None:
        priority_of(tool, priority)
        if timeout is not None:
            timeout = seconds(tool, timeout)
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
        self.timeout = timeout
        self.jobs = window if chunk == 1 else max(2, window // chunk)
        """Jobs that are under way at once."""
        self.low = self.jobs - max(1, self.jobs // 4)
        """Refilled by the quarter, so that jobs share messages."""

    def cut(self, calls: Iterable[Call]) -> Iterator[list[Call]]:
        """The calls in pieces."""
        source = iter(calls)
        while piece := list(islice(source, self.chunk)):
            yield piece


class Window(Generic[P]):
    """The pieces of one ``map`` that are under way, oldest first."""

    __slots__ = ("_bar", "_clock", "_filling", "_index", "_plan", "_send", "pieces")

    def __init__(self, plan: Plan, send: Send[P], bar: Bar | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._send = send
        self._bar = bar
        self._index = 0
        self._filling = True
        self.pieces: deque[Piece[P]] = deque()

    @property
    def has_room(self) -> bool:
        """May more be sent before a result is given?"""
        size = len(self.pieces)
        self._filling = size < self._plan.jobs if self._filling else size <= self._plan.low
        return self._filling

    def add(self, calls: list[Call]) -> None:
        """Send further calls. Of a chunk in which one can't be sent, each travels by itself."""
        self._add(calls, self._plan.chunk > 1)

    def _add(self, calls: list[Call], chunk: bool) -> None:
        piece: Piece[P] = Piece(self._index, calls, chunk)
        piece.sent = self._clock()
        try:
            piece.handle = self._send(calls, self._plan.timeout, chunk)
        except (InvalidArguments, ProtocolError) as error:
            if chunk:
                for call in calls:
                    self._add([call], False)
                return
            piece.error = error
        self._index += len(calls)
        self.pieces.append(piece)

    def ready(self) -> Piece[P] | None:
        """One whose results may be given now; the first, or any. What the node was too busy for is sent again."""
        now = self._clock() if self.pieces else 0.0
        for piece in self.pieces:
            if piece.again_at is not None and now >= piece.again_at:
                piece.handle, piece.again_at = self._send(piece.calls, self._left(piece, now), piece.chunk), None
                piece.sent = now
            elif piece.again_at is None and piece.settled:
                piece.again_at = _again_at(piece)
                if piece.again_at is None:
                    return piece
            if self._plan.ordered:
                return None
        return None

    def next_look(self) -> float:
        """When the first of them is to be sent again; inf: none."""
        return min((piece.again_at for piece in self.pieces if piece.again_at is not None), default=math.inf)

    def give(self, piece: Piece[P]) -> Iterable[Any]:
        """What ``map`` gives for a piece: results in order, or (index, result). An error is raised in its place, or
        given in it."""
        self.pieces.remove(piece)
        if self._bar is not None:
            self._bar.add(len(piece.calls))
        try:
            if piece.handle is None:
                assert piece.error is not None
                raise piece.error
            value = piece.handle.outcome()
        except ToolringError as error:
            return self._one_by_one(piece, [error] * len(piece.calls))
        if not piece.chunk:
            results = [value]
        else:
            results = [from_wire(given) if status else given for status, given in value]
            if [1 for status, _ in value if status]:
                return self._one_by_one(piece, results)
        return results if self._plan.ordered else enumerate(results, piece.index)

    def _one_by_one(self, piece: Piece[P], results: list[Any]) -> Iterator[Any]:
        for index, result in enumerate(results, piece.index):
            if self._plan.raises and isinstance(result, ToolringError):
                raise result
            yield result if self._plan.ordered else (index, result)

    def _left(self, piece: Piece[P], now: float) -> float | None:
        """Seconds until it must be answered, however often it is sent; None: there is no such limit."""
        assert piece.handle is not None
        left = piece.handle.deadline - now
        return None if left == math.inf else max(0.001, left)


def _again_at(piece: Piece[Any]) -> float | None:
    """When a piece that was refused because the node is busy is sent again; None: that is its answer.

    It is refused for good once it has been tried for as long as one job may take.
    """
    handle = piece.handle
    if handle is None or handle.answer is None or handle.answer.status == 0:
        return None
    try:
        handle.outcome()
    except Busy as error:
        at = piece.sent + float(error.facts.get("retry_after", 0.05))
        return at if at < handle.deadline else None
    except ToolringError:
        pass
    return None
