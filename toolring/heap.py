"""Freed memory: some is kept in the process, where the next large body finds it again, until there is nothing to do.

By default glibc gives such a block back to the kernel at once, and the next one costs a page fault for every 4 KiB: in
a virtual machine more than all the rest of a round trip (``make bench-bodies``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
KEPT_BYTES: Final = 64 << 20
LARGEST_KEPT: Final = 32 << 20
"""glibc allows no more."""
SPARE_BYTES: Final = 8 << 20
"""So little may stay with a process that has nothing to do."""


def keep_freed() -> bool:
    """Keep up to KEPT_BYTES of freed heap, in blocks of up to LARGEST_KEPT; False where malloc isn't glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))


def one_heap() -> bool:
    """Let all threads that start from now on share one heap: what others have of their own is given back only by them.
    For a process that runs no tools, whose threads might want memory all at once. False where malloc isn't glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, 1))


def give_back() -> bool:
    """Return to the system what is free, from anywhere in the heap; False where malloc isn't glibc's."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is None:
        return False
    malloc_trim(0)
    return True


class Rest:
    """To be called while a process has nothing to do: gives back what it has kept, if that is worth it."""

    __slots__ = ("_give_back", "_least", "_resident")

    def __init__(self, resident: Callable[[], int], give_back: Callable[[], object] = give_back) -> None:
        self._resident = resident
        self._give_back = give_back
        self._least = resident()
        """What it needs, as far as is known."""

    def __call__(self) -> None:
        size = self._resident()
        if size - self._least > SPARE_BYTES:
            self._give_back()
            self._least = self._resident()
        elif size < self._least:
            self._least = size
