"""Large buffers that are used again, since the kernel takes far longer to map fresh memory than to clear it."""

from __future__ import annotations

import struct
from collections import OrderedDict
from operator import index
from threading import Lock
from typing import Final

from toolring.workers.pools.forks import begin_in_children

SMALLEST: Final = 4096
"""Bytes of a buffer, at least."""


class BufferPool:
    """``with pool.acquire(n) as view``: a writable memoryview of n bytes, all zero. Thread-safe.

    Using the view afterwards raises ValueError. A part of it (``view[a:b]``), or whatever else reads its memory, can't
    be told to let go; a buffer that somebody still sees is not used again, so what he sees is nobody else's. At most
    ``max_bytes`` are kept; sizes that haven't been used for longest go first.
    """

    def __init__(self, *, max_bytes: int = 128 * 2**20) -> None:
        if not isinstance(max_bytes, int):
            raise TypeError(f"max_bytes={max_bytes!r} is not a whole number of bytes")
        if max_bytes < 0:
            raise ValueError(f"max_bytes={max_bytes!r} is negative")
        self._max_bytes = max_bytes
        self._created = self._reused = self._destroyed = self._exported = 0
        self._begin()
        begin_in_children(self)

    def _begin(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[int, list[tuple[bytearray, int]]] = OrderedDict()
        """By size, in the order of their last use: buffers, and how many of their first bytes aren't zero."""
        self._bytes = 0

    def acquire(self, size: int) -> BufferLease:
        """TypeError if size is not a whole number, ValueError if it is negative."""
        try:
            size = index(size)
        except TypeError:
            raise TypeError(f"size={size!r} is not a whole number of bytes") from None
        if size < 0:
            raise ValueError(f"size={size!r} is negative")
        return BufferLease(self, size)

    def stats(self) -> dict[str, int]:
        """``exported`` are those of the destroyed that somebody still saw; ``bytes`` those that are kept."""
        with self._lock:
            return {
                "idle": sum(map(len, self._kept.values())),
                "bytes": self._bytes,
                "created": self._created,
                "reused": self._reused,
                "destroyed": self._destroyed,
                "exported": self._exported,
            }

    def clear(self) -> None:
        """Let go of all that is kept."""
        with self._lock:
            self._shrink(0)

    def _take(self, size: int) -> tuple[bytearray, int]:
        """A buffer of at least so many bytes, those zero, and how many of its bytes may not be once it was used."""
        whole = _round_up(size)
        with self._lock:
            if kept := self._kept.get(whole):  # no call from here on: an interrupt comes before all of it or after
                buffer, dirty = kept[-1]
                del kept[-1]
                self._bytes -= whole
                self._reused += 1
            else:
                buffer, dirty = None, 0
                self._created += 1
        if buffer is None:
            buffer = bytearray(whole)
        elif dirty and size:
            struct.pack_into(f"{min(dirty, size)}x", buffer, 0)  # the fastest way there is: a memset
        return buffer, max(dirty, size)

    def _give(self, buffer: bytearray, dirty: int, exported: bool) -> None:
        try:
            buffer.append(buffer.pop())  # which it refuses as long as somebody sees its memory
        except BufferError:
            exported = True
        whole = len(buffer)
        with self._lock:
            if exported or whole > self._max_bytes:
                self._exported += exported
                self._destroyed += 1
                return
            self._shrink(self._max_bytes - whole)
            kept = self._kept.setdefault(whole, [])
            self._kept.move_to_end(whole)
            self._bytes += whole
            kept.append((buffer, dirty))

    def _shrink(self, most: int) -> None:
        while self._bytes > most:
            whole = next(iter(self._kept))
            if self._kept[whole]:
                del self._kept[whole][0]
                self._bytes -= whole
                self._destroyed += 1
            else:
                del self._kept[whole]


class BufferLease:
    """One claim on a buffer."""

    __slots__ = ("_buffer", "_dirty", "_pool", "_size", "_view")

    def __init__(self, pool: BufferPool, size: int) -> None:
        self._pool = pool
        self._size = size
        self._view: memoryview | None = None

    def take(self) -> memoryview:
        if self._view is not None:
            raise RuntimeError("this lease holds a buffer already")
        self._buffer, self._dirty = self._pool._take(self._size)
        self._view = memoryview(self._buffer)[: self._size]
        return self._view

    __enter__ = take

    def give(self) -> None:
        """Back to the pool. Raises RuntimeError if it holds nothing."""
        view, self._view = self._view, None
        if view is None:
            raise RuntimeError("this lease holds nothing: it was given back already, or never taken")
        try:
            view.release()
            exported = False
        except BufferError:  # somebody reads it in place
            exported = True
        buffer = self._buffer
        del self._buffer
        self._pool._give(buffer, self._dirty, exported)

    def __exit__(self, *_: object) -> None:
        self.give()


def _round_up(size: int) -> int:
    """To an eighth of a power of two: at most an eighth is in vain, and sizes that are nearly equal share buffers."""
    step = 1 << max(0, size.bit_length() - 4)
    return max(SMALLEST, -(-size // step) * step)
