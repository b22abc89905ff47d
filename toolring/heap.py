"""Freed memory: a little is kept in the process, where a message of a megabyte finds it again, until it is wanted back.

By default glibc gives such a block back to the kernel at once, and the next one costs 256 page faults: in a virtual
machine more than all the rest of a 1 MB round trip.
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 8 << 20
LARGEST_KEPT: Final = 4 << 20


def keep_freed() -> bool:
    """Keep up to KEPT_BYTES of freed heap, in blocks of up to LARGEST_KEPT; False where malloc isn't glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))


def give_back() -> bool:
    """Return to the system what is free, from anywhere in the heap; False where malloc isn't glibc's."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is None:
        return False
    malloc_trim(0)
    return True
