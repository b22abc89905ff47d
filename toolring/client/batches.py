"""Many calls of one tool: how they are cut into jobs, how many are under way, and what comes of each. Without I/O.

A chunk is several calls that travel and run as one job: for calls that take microseconds, that is most of their cost.
"""

from __future__ import annotations

import math
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar

from toolring.client.arguments import priority_of, seconds
from toolring.client.progress import Bar
from toolring.errors import Busy, Expired, InvalidArguments, ProtocolError, ToolringError, Unreachable, from_wire
from toolring.protocol import MAX_CHUNK

Call = Mapping[str, Any]
WINDOW: Final = 256
CHUNKS: Final = 64
"""Calls, or chunks of them, that are under way at once if nobody says otherwise."""
GROWTH: Final = 1 / 8
"""For each job that is answered, so many more are under way at once: a busy node refuses one in nine."""
LONGEST: Final = 1.0
"""Seconds until what one of several nodes refuses is sent there again, at most, unless the node says more."""


class Sent(Protocol):
    """A job that is under way, as far as a window looks at it."""

    @property
    def settled(self) -> bool: ...

    @property
    def deadline(self) -> float: ...

    @property
    def refusal(self) -> Busy | None:
        """Why it was not even accepted."""

    def outcome(self) -> Any: ...

    def cancel(self) -> None: ...


P = TypeVar("P", bound=Sent)
P_co = TypeVar("P_co", bound=Sent, covariant=True)


class Send(Protocol[P_co]):
    """Sends calls as one job: a chunk, or by itself if there is one and it isn't to be a chunk of one."""

    def __call__(self, calls: list[Call], timeout: float | None, chunk: bool) -> P_co: ...


class Piece(Generic[P]):
    """Consecutive calls that are one job; ``index`` is that of the first."""

    __slots__ = ("again", "ahead", "calls", "chunk", "error", "final", "handle", "index", "out", "refusals", "sent")

    def __init__(self, index: int, calls: list[Call], chunk: bool) -> None:
        self.index = index
        self.calls = calls
        self.chunk = chunk
        self.handle: P | None = None
        self.sent = 0.0
        self.ahead = 0
        """How many were with the node when this one was sent."""
        self.out = False
        """It is with the node, as far as was noticed."""
        self.final = False
        """Its results may be given. What is neither this nor out was refused, and is sent again."""
        self.error: ToolringError | None = None
        """Why it was not sent, or not again."""
        self.again = 0.0
        """When it may be sent again, if it was refused by one of several nodes."""
        self.refusals = 0

    @property
    def settled(self) -> bool:
        return self.handle is None or self.handle.settled


class Plan:
    """What the caller of ``map`` asked for, checked."""

    __slots__ = ("chunk", "jobs", "low", "ordered", "raises", "timeout")

    def __init__(
        self,
        tool: str,
        window: int | None,
        chunk: int,
        ordered: bool,
        errors: str,
        timeout: float | None,
        priority: str,
    ) -> None:
        priority_of(tool, priority)
        if timeout is not None:
            timeout = seconds(tool, timeout)
        for name, value in (("window", WINDOW if window is None else window), ("chunk", chunk)):
            if not isinstance(value, int) or value < 1:
                raise InvalidArguments(f"{name}={value!r} must be at least 1", argument=name)
        if window is None:
            window = WINDOW if chunk == 1 else CHUNKS * chunk
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
    """The pieces of one ``map`` that are under way, oldest first.

    A node that refuses a piece tells how many it has room for: as many as were with it when that one was sent. No more
    are sent from then on than that, and one more for every eight that are answered. What was refused goes first. Where
    nothing is answered for as long as the node said, one more is tried.

    With several nodes (``where`` tells that of a job) a refusal says nothing of the others: further ones are read and
    sent as long as there are no more pieces than the plan has jobs. What was refused is sent again when its node has
    answered another, or after as long as it said, which doubles with each refusal up to ``LONGEST``.
    """

    __slots__ = (
        "_again_at",
        "_bar",
        "_clock",
        "_filling",
        "_heard",
        "_index",
        "_limit",
        "_out",
        "_plan",
        "_refused",
        "_retry_after",
        "_send",
        "_where",
        "pieces",
    )

    def __init__(
        self,
        plan: Plan,
        send: Send[P],
        bar: Bar | None,
        clock: Callable[[], float] = time.monotonic,
        where: Callable[[P], str] | None = None,
    ) -> None:
        self._plan = plan
        self._where = where
        self._clock = clock
        self._send = send
        self._bar = bar
        self._index = 0
        self._filling = True
        self.pieces: deque[Piece[P]] = deque()
        self._out = 0
        """Those that are with the node, as far as was noticed."""
        self._limit = float(plan.jobs)
        """The most of them."""
        self._refused: list[Piece[P]] = []
        """Those that the node was too busy for, oldest first."""
        self._retry_after = 0.0
        self._again_at = math.inf
        """When one more is tried, if nothing is answered before."""
        self._heard = clock()
        """When the last was answered."""

    @property
    def has_room(self) -> bool:
        """May more be read and sent before a result is given?"""
        size = len(self.pieces)
        self._filling = size < self._plan.jobs if self._filling else size <= self._plan.low
        if self._where is not None:
            return size < self._plan.jobs if self._refused else self._filling
        return self._filling and not self._refused and self._out < max(1, int(self._limit))

    @property
    def stirred(self) -> bool:
        """Is there any answer that was not noticed?"""
        return any(piece.out and piece.settled for piece in self.pieces)

    @property
    def waits(self) -> bool:
        """Is anything to be sent again?"""
        return bool(self._refused)

    def add(self, calls: list[Call], error: ToolringError | None = None) -> None:
        """Send further calls. Of a chunk in which one can't be sent, each travels by itself. ``error``: why nothing can
        be sent now."""
        self._add(calls, self._plan.chunk > 1, error)

    def _add(self, calls: list[Call], chunk: bool, why: ToolringError | None = None) -> None:
        piece: Piece[P] = Piece(self._index, calls, chunk)
        try:
            if why is not None:
                raise why
            self._dispatch(piece)
        except (Unreachable, Expired) as error:
            _failed(piece, error)
        except (InvalidArguments, ProtocolError) as error:
            if chunk:
                for call in calls:
                    self._add([call], False)
                return
            _failed(piece, error)
        self._index += len(calls)
        self.pieces.append(piece)

    def _dispatch(self, piece: Piece[P]) -> None:
        piece.ahead, piece.sent = self._out, self._clock()
        piece.handle = self._send(piece.calls, self._plan.timeout, piece.chunk)
        piece.out = True
        self._out += 1

    def ready(self) -> Piece[P] | None:
        """One whose results may be given now; the first, or any."""
        for piece in self.pieces:
            if piece.out and piece.settled:
                self._notice(piece)
            if piece.final:
                return piece
            if self._plan.ordered:
                return None
        return None

    def look(self) -> bool:
        """Notice every answer, and send again what there is room for. False: nothing is new, so wait."""
        new = False
        for piece in self.pieces:
            if piece.out and piece.settled:
                self._notice(piece)
                new = True
        if self._where is None:
            now = self._clock()
            if now >= self.next_look():
                self._limit = max(self._limit, self._out + 1)
                self._again_at = now + self._retry_after
                new = True
        return self.send_again() or new

    def send_again(self) -> bool:
        """Send what was refused, as far as there is room for it, or its time has come. False: there was none."""
        if not self._refused:
            return False
        if self._where is None:
            due = self._refused[: max(0, int(self._limit) - self._out)]
        else:
            now = self._clock()
            due = [piece for piece in self._refused if piece.again <= now]
        for piece in due:
            self._refused.remove(piece)
            try:
                self._dispatch(piece)
            except ToolringError as error:
                _failed(piece, error)
        return bool(due)

    def next_look(self) -> float:
        """When to look even if nothing is answered; inf: never."""
        if self._where is not None:
            return min((piece.again for piece in self._refused), default=math.inf)
        return self._again_at if self._refused or self._limit < self._plan.jobs else math.inf

    def _notice(self, piece: Piece[P]) -> None:
        """A piece has its answer, or was refused, and waits to be sent again."""
        piece.out = False
        self._out -= 1
        handle = piece.handle
        assert handle is not None
        busy = handle.refusal
        if busy is None:
            piece.final = True
            self._heard = self._clock()
            self._again_at = self._heard + self._retry_after
            self._limit = min(self._plan.jobs, max(1.0, self._limit) + GROWTH)
            if self._where is not None and self._refused:
                self._answered_at(self._where(handle))
        elif piece.sent - self._heard < (most := handle.deadline - piece.sent):
            self._retry_after = min(float(busy.facts.get("retry_after", 0.05)), most)
            self._again_at = piece.sent + self._retry_after
            if self._where is None:
                self._limit = min(self._limit, piece.ahead)
            else:
                piece.refusals += 1
                longer = self._retry_after * 2 ** min(piece.refusals - 1, 10)
                piece.again = piece.sent + min(most, max(self._retry_after, min(longer, LONGEST)))
            insort(self._refused, piece, key=_index)
        else:  # it takes nothing any more, and that is the answer of all that it has refused
            for each in (piece, *self._refused):
                each.final = True
            self._refused.clear()

    def _answered_at(self, node: str) -> None:
        """It may have room for the oldest of those that it has refused."""
        assert self._where is not None
        for piece in self._refused:
            if piece.again and piece.handle is not None and self._where(piece.handle) == node:
                piece.again = 0.0
                return

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


def _failed(piece: Piece[Any], error: ToolringError) -> None:
    """It can't be sent, and that is its answer."""
    piece.handle, piece.error, piece.final = None, error, True


def _index(piece: Piece[Any]) -> int:
    return piece.index
