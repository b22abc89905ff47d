"""The spool: what a worker's tools write, on its way to the supervisor, in shared memory that outlives the worker.

A ring of records in the worker's lane. The worker appends whole ones, the supervisor takes what there is; each moves a
count of its own, in bytes since the worker began. What finds no room is the worker's to count: it never waits.
"""

from __future__ import annotations

from toolring.lane import SPOOL_BYTES, SPOOL_START, TAKEN_OFF, WRITTEN, Lane, fence

_HEAD = 4


class Spool:
    """Of one lane. The same class serves both sides."""

    __slots__ = ("_lane", "_words")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._words = lane.words

    @property
    def waiting(self) -> bool:
        """Is there anything to be taken?"""
        words = self._words
        return bool(words[WRITTEN] != words[TAKEN_OFF])

    def append(self, record: bytes) -> bool:
        """False: there is no room for it."""
        words = self._words
        at, size = words[WRITTEN], _HEAD + len(record)
        if at - words[TAKEN_OFF] + size > SPOOL_BYTES:
            return False
        self._put(at, len(record).to_bytes(_HEAD, "little") + record)
        words[WRITTEN] = at + size  # only now there is anything to be seen
        return True

    def take(self) -> list[bytes]:
        """All that there is, oldest first. Raises ValueError if somebody wrote over it; it is empty then, too."""
        words = self._words
        begin, end = words[TAKEN_OFF], words[WRITTEN]
        if begin == end:
            return []
        fence()
        if not 0 < end - begin <= SPOOL_BYTES:
            words[TAKEN_OFF] = end
            raise ValueError(f"{end - begin} bytes in a spool of {SPOOL_BYTES}")
        data = self._get(begin, end - begin)
        words[TAKEN_OFF] = end
        found, at = [], 0
        while at < len(data):
            size = int.from_bytes(data[at : at + _HEAD], "little")
            if at + _HEAD + size > len(data):
                raise ValueError("a record in the spool is longer than all of it")
            found.append(data[at + _HEAD : at + _HEAD + size])
            at += _HEAD + size
        return found

    def _put(self, at: int, data: bytes) -> None:
        memory, start = self._lane.bytes, at % SPOOL_BYTES
        first = min(len(data), SPOOL_BYTES - start)
        memory[SPOOL_START + start : SPOOL_START + start + first] = data[:first]
        memory[SPOOL_START : SPOOL_START + len(data) - first] = data[first:]

    def _get(self, at: int, size: int) -> bytes:
        memory, start = self._lane.bytes, at % SPOOL_BYTES
        first = min(size, SPOOL_BYTES - start)
        head = bytes(memory[SPOOL_START + start : SPOOL_START + start + first])
        return head + bytes(memory[SPOOL_START : SPOOL_START + size - first])
