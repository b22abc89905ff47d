"""What a job tells before its answer, on its caller's side: parts that wait to be taken, and the last word of progress.

Without I/O. How much the node may send is counted in bytes from the first part on, so a grant that is lost or
repeated does no harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.errors import InvalidArguments, ProtocolError
from toolring.protocol import PART_BYTES, PROGRESS, Follow, Part

_decode_word = msgspec.msgpack.Decoder(list[Any]).decode
WINDOW: Final = 1 << 20
"""Bytes of parts that may be on their way, or wait to be taken, unless the caller says otherwise."""
MOST: Final = 1 << 62
"""A window of more could not be told to the node, nor what is granted in all."""


class Progress(NamedTuple):
    """How far a job is, as its tool says."""

    done: float
    total: float | None
    message: str


OnProgress = Callable[[Progress], Any]


def checked(window: Any) -> int:
    """Bytes that a stream may be ahead of its reader. Raises InvalidArguments."""
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise InvalidArguments(f"window={window!r:.100} is not a number of bytes, at least 1", argument="window")
    if window > MOST:
        raise InvalidArguments(f"window={window} is more bytes than the {MOST} that can be granted", argument="window")
    return window


class Feed:
    """One job's. ``window`` is 0 for a job whose parts nobody wants."""

    __slots__ = ("_granted", "_taken", "_window", "lost", "number", "parts", "progress", "told")

    def __init__(self, window: int = 0) -> None:
        self._window = window
        self._granted = window
        self._taken = 0
        self.number = 0
        """Parts that have arrived."""
        self.parts: deque[Raw | Progress] = deque()
        """Those that wait to be taken; of a stream, words of progress have their place among them."""
        self.lost = False
        """Some did not arrive: they were sent on a connection that is no more."""
        self.progress: Progress | None = None
        self.told = False
        """There is a word of progress that nobody has looked at."""

    def follow(self, progress: bool, idle: float | None) -> Follow:
        return Follow(self._window, progress, idle)

    @property
    def granted(self) -> int:
        return self._granted

    @property
    def streams(self) -> bool:
        return bool(self._window)

    @property
    def has_told(self) -> bool:
        """Is there anything that its caller has not taken?"""
        return self.told or bool(self.parts) or self.lost

    def tell(self, on_progress: OnProgress | None) -> None:
        """Tell a caller what it has not heard of the job's progress, if anything."""
        told, self.told = self.told, False
        if told and not self.streams and on_progress is not None and self.progress is not None:
            on_progress(self.progress)

    def arrived(self, part: Part) -> None:
        if part.number == PROGRESS:
            try:
                self.progress = Progress(*_decode_word(part.value)[:3])
            except (msgspec.DecodeError, TypeError) as error:
                raise ProtocolError(f"the node sent malformed progress: {error}") from None
            self.told = True
            if self.streams:
                if self.parts and isinstance(self.parts[-1], Progress):
                    self.parts.pop()  # an older word, which nobody has read
                self.parts.append(self.progress)
            return
        self.number += 1
        self.lost = self.lost or part.number != self.number
        self.parts.append(part.value)

    def take(self) -> Any:
        """The next part, decoded, or a Progress that came before it; there must be one."""
        value = self.parts.popleft()
        if isinstance(value, Progress):
            return value
        self._taken += len(value) + PART_BYTES
        return protocol.decode_value(value)

    def more(self) -> bool:
        """Is it time to let the node send more? Then ``granted`` has grown."""
        if self._window + self._taken - self._granted < max(1, self._window // 2):
            return False
        self._granted = self._window + self._taken
        return True
