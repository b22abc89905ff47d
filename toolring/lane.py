"""The lane: some shared memory beside each worker that outlives it.

It holds what messages can't promise once a process may die at any instant: which job has STARTED, which jobs are
taken back, and the answers that the supervisor hasn't acknowledged yet (the journal). Each word is an aligned
8-byte store, so a reader sees the old or the new value, never a torn one. Worker and supervisor write to
different cache lines.

Layout, in 8-byte words:

====  ==========  =======================================================================
word  written by  meaning
====  ==========  =======================================================================
0     worker      ``sequence << 2 | state`` of the job at hand, or of the one that it has begun last
1     worker      ``generation << 48 | answers << 32 | bytes`` now in the journal
2     worker      until then (microseconds of CLOCK_MONOTONIC) the tool asks not to be interrupted
3     worker      when its event loop last turned (microseconds of CLOCK_MONOTONIC), if it has one
4     worker      the sequence of the job whose code that loop runs now; 0: of none
5     worker      bytes that it has written into the spool, in all (``spool.py``)
8     supervisor  every job up to this sequence is taken back unless it was taken before
9     supervisor  the sequence to interrupt
10    supervisor  answers up to this sequence have arrived; of many at once, so many answers
11    supervisor  the number of the last dump that is wanted
12    supervisor  ``number << 32 | samples a second << 16 | tenths of a second`` of the profile that is wanted; 0: none
13    supervisor  bytes that it has taken off the spool, in all
====  ==========  =======================================================================
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import tempfile
from typing import Final

from toolring import calls, stamps

SPOOL_BYTES: Final = 128 << 10
LANE_BYTES: Final = (256 << 10) + SPOOL_BYTES
JOURNAL_START: Final = 128
JOURNAL_BYTES: Final = LANE_BYTES - SPOOL_BYTES - JOURNAL_START
SPOOL_START: Final = JOURNAL_START + JOURNAL_BYTES

AT: Final = 0
JOURNAL: Final = 1
SHIELD: Final = 2
TURNED: Final = 3
STEP: Final = 4
WRITTEN: Final = 5
RECALL: Final = 8
CANCEL: Final = 9
ACK: Final = 10
DUMP: Final = 11
PROFILE: Final = 12
TAKEN_OFF: Final = 13

INTERRUPT: Final = signal.SIGUSR1
"""Makes a worker look at word 9."""
LOOK: Final = signal.SIGRTMIN + 8
"""Makes a worker look at words 11 and 12: somebody wants to know what it does."""
STACKS: Final = signal.SIGRTMIN + 9
"""Makes a worker tell its stacks from a C handler, whatever it does."""

# states of word AT
IDLE: Final = 0
TAKEN: Final = 1
"""Can't be taken back any more; the tool has not been called yet."""
STARTED: Final = 2
"""The tool has been called: a side effect may have happened."""
DONE: Final = 3
"""The answer is in the journal, or acknowledged."""


class Lane:
    """One worker's share of it. The same class serves both sides; each writes its own words only."""

    __slots__ = ("bytes", "index", "words")

    def __init__(self, memory: mmap.mmap, index: int) -> None:
        self.index = index
        self.bytes = memoryview(memory)[index * LANE_BYTES : (index + 1) * LANE_BYTES]
        self.words = self.bytes[:JOURNAL_START].cast("Q")

    def clear(self) -> None:
        """Make it fit for a new worker. Only while no process uses it."""
        for word in range(JOURNAL_START // 8):
            self.words[word] = 0

    def at(self) -> tuple[int, int]:
        """(sequence, state) of the job at hand."""
        word = self.words[AT]
        return word >> 2, word & 3

    def recall(self, last: int) -> int:
        """Take back all up to ``last`` that hasn't been taken; returns the last sequence that was.

        Without the fence both sides could miss the other's store, and a job would run twice. Where there is none,
        the worker still skips what it sees in time, and says so; until then all counts as taken.
        """
        self.words[RECALL] = last
        return self.words[AT] >> 2 if fence() else last

    def journal(self) -> bytes:
        """The answers in the journal as one msgpack array, oldest first."""
        while True:
            word = self.words[JOURNAL]
            fence()
            size, count = word & 0xFFFFFFFF, word >> 32 & 0xFFFF
            found = bytes(self.bytes[JOURNAL_START : JOURNAL_START + size])
            fence()
            if self.words[JOURNAL] >> 48 == word >> 48:  # or its owner began to write over it meanwhile
                return b"\xdd" + count.to_bytes(4, "big") + found


def shared_calls(memory: mmap.mmap, lane: int = 0) -> calls.Calls:
    """What workers share of services, between the lanes and the stamps."""
    room = len(memory) - stamps.BYTES
    count = room // (LANE_BYTES + calls.size(1) - calls.size(0))
    return calls.Calls(memoryview(memory)[count * LANE_BYTES : room], lane)


class Lanes:
    """Shared memory for a number of lanes; behind them what workers share of services, and at the end the stamps.
    Pages cost memory when first touched.

    Forked children inherit ``memory``; others map ``path``, which is valid while this object lives.
    """

    def __init__(self, count: int) -> None:
        if hasattr(os, "memfd_create"):
            self._fd = os.memfd_create("toolring-lanes")
            self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
        else:
            self._fd, self.path = tempfile.mkstemp(prefix="toolring-lanes-")
        size = count * LANE_BYTES + calls.size(count) + stamps.BYTES
        os.ftruncate(self._fd, size)
        self.memory = mmap.mmap(self._fd, size)
        self.all = [Lane(self.memory, index) for index in range(count)]

    def close(self) -> None:
        os.close(self._fd)
        if not self.path.startswith("/proc/"):
            os.unlink(self.path)


# ---- the fence: membarrier(2) lets the supervisor pay (11 us) and the worker nothing

_GLOBAL_EXPEDITED = 2
_REGISTER_GLOBAL_EXPEDITED = 4
_NUMBER = {"x86_64": 324, "aarch64": 283, "riscv64": 283}.get(platform.machine())
_syscall = ctypes.CDLL(None, use_errno=True).syscall if platform.system() == "Linux" else None


def _membarrier(command: int) -> bool:
    if _NUMBER is None or _syscall is None:
        return False
    return bool(_syscall(_NUMBER, command, 0, 0) == 0)


def register_for_fence() -> bool:
    """To be called by a worker; False where the kernel has no membarrier (see ``Lane.recall``)."""
    return _membarrier(_REGISTER_GLOBAL_EXPEDITED)


def fence() -> bool:
    """Order the caller's stores and loads against those of every registered process."""
    return _membarrier(_GLOBAL_EXPEDITED)
