"""The worker's half of the journal: an answer is in shared memory before the next job may start.

So a crash takes only the job that was running: what was finished before it reaches the caller, although the
messages that carried it died with the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from toolring.lane import ACK, JOURNAL, JOURNAL_BYTES, JOURNAL_START, Lane

LARGEST: Final = 16 << 10
"""Bytes of an answer that is still journalled; a larger one waits for its acknowledgement instead."""


class Journal:
    """Append answers, oldest first; the space is used again once all of them are acknowledged."""

    __slots__ = ("_bytes", "_count", "_end", "_generation", "_last", "_sleep", "_words")

    def __init__(self, lane: Lane, sleep: Callable[[float], None] = time.sleep) -> None:
        self._bytes = lane.bytes
        self._words = lane.words
        self._sleep = sleep
        self._end = JOURNAL_START
        self._count = 0
        self._last = 0
        self._generation = 0
        """Tells a reader that what it read has been written over since; in the word's upper 16 bits."""

    def append(self, seq: int, answer: bytes) -> bool:
        """Keep an answer; False if there is no room until everything before it is acknowledged."""
        size = len(answer)
        start = self._end
        end = start + size
        if end > JOURNAL_START + JOURNAL_BYTES:
            return False
        self._bytes[start:end] = answer
        self._end = end
        self._count += 1
        self._last = seq
        self._words[JOURNAL] = self._generation | self._count << 32 | (end - JOURNAL_START)
        return True

    def reclaim(self) -> None:
        """Start over, if everything journalled has been acknowledged."""
        if self._count and self._words[ACK] >= self._last:
            self._end = JOURNAL_START
            self._count = 0
            self._generation = (self._generation + (1 << 48)) % (1 << 64)
            self._words[JOURNAL] = self._generation

    def wait_for(self, seq: int) -> None:
        """Wait until the answer ``seq`` is acknowledged (it was sent): no job may start before."""
        pause = 20e-6
        while self._words[ACK] < seq:
            self._sleep(pause)
            pause = min(pause * 1.5, 2e-3)
