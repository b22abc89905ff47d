"""What a job tells before its answer: the parts that it yields, as far as its caller takes them, and its progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any, Final

from msgspec import Raw

from toolring import protocol
from toolring.protocol import ALIVE, NIL, PART_BYTES, PROGRESS, Part, Work
from toolring.workers.runnable import encoded, joined, within

PROGRESS_SECONDS: Final = 0.05
"""Words of progress are no closer together than this, but for those that all is done."""


class Outlet:
    """One job's. ``post`` sends a part; ``granted`` grows as the caller takes parts in.

    If its caller wants no parts, what a generator yields is collected here instead.
    """

    __slots__ = (
        "_alive",
        "_collected",
        "_limit",
        "_post",
        "_seq",
        "_size",
        "_told",
        "_work",
        "granted",
        "parts",
        "sent",
    )

    def __init__(self, seq: int, work: Work, post: Callable[[Part], None], limit: int) -> None:
        self._seq = seq
        self._work = work
        self._post = post
        self._limit = limit
        self._told = self._alive = -inf
        """When it last told of its progress, and that it is alive."""
        self._collected: list[bytes] = []
        self._size = 0
        self.granted = work.stream
        """Bytes of parts that may have been sent in all."""
        self.parts = 0
        self.sent = 0

    @property
    def full(self) -> bool:
        """Must it wait until its caller has taken in more?"""
        return bool(self._work.stream) and self.sent >= self.granted

    def begin(self) -> None:
        """A generator begins, of a chunk perhaps not the first."""
        self._collected.clear()
        self._size = 0

    def give(self, item: Any) -> None:
        """Send or collect what was yielded. Raises TooLarge, InvalidResult, or what the encoder raises."""
        body = encoded(self._work, item, self._limit)
        if self._work.stream:
            self.parts += 1
            self.sent += len(body) + PART_BYTES
            self._post(Part(self._seq, self.parts, body))
            return
        self._size += len(body)
        if self._size > self._limit:
            within(self._work, b"".join([*self._collected, bytes(body)]), self._limit)
        self._collected.append(bytes(body))
        if self._work.progress and (now := time.monotonic()) - self._alive >= PROGRESS_SECONDS:
            self._alive = now
            self._post(Part(self._seq, ALIVE, NIL))

    def result(self, returned: Any) -> Raw:
        """What the job answers once its generator is done: what that returned, or all that was collected."""
        if self._work.stream:
            return encoded(self._work, returned, self._limit)
        return joined(self._work, self._collected, self._limit)

    def tell(self, done: float, total: float | None, message: str) -> None:
        """Send a word of progress, if somebody listens, and the last is not too young or this says that all is done."""
        if not self._work.progress:
            return
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS or done == total:
            self._told = now
            text = message[:1000].encode("utf-8", "backslashreplace").decode()
            self._post(Part(self._seq, PROGRESS, Raw(protocol.encode([done, total, text]))))
