"""Answers to whoever wants to know what this process does, at any moment: while a tool runs, waits or hangs.

Two signals. The first is handled by Python, between two of its instructions, so that what is read holds together; it
never comes to that while code in C doesn't return. The second is handled in C by ``faulthandler``, wherever the process
is. Both restart the system calls that they interrupt. Nothing of it costs anything until somebody asks.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from toolring import looks, protocol
from toolring.lane import DUMP, LOOK, PROFILE, STACKS, Lane
from toolring.workers import stacks
from toolring.workers.sampler import Sampler


class Looks:
    """Of one worker process."""

    def __init__(self, lane: Lane, directory: str, roots: Collection[CodeType], tool: Callable[[], str]) -> None:
        """``tool`` names what runs in the main thread; who called one of the ``roots`` is of no interest."""
        self._words = lane.words
        self._roots = roots
        self._tool = tool
        self._seen = [lane.words[DUMP], lane.words[PROFILE]]
        self.tasks: Callable[[], list[dict[str, Any]]] | None = None
        """Tells those of an event loop, if this worker has one."""
        self._dump, self._profile, self._stacks = (
            _opened(looks.path(directory, lane.index, kind), os.O_RDWR | os.O_CREAT | os.O_TRUNC | more)
            for kind, more in ((looks.DUMP_FILE, 0), (looks.PROFILE_FILE, 0), (looks.STACKS_FILE, os.O_APPEND))
        )

    def install(self) -> None:
        """Handle the signals in this process's main thread."""
        signal.signal(LOOK, self._look)
        signal.siginterrupt(LOOK, False)
        faulthandler.register(STACKS, file=self._stacks, all_threads=True)

    def _look(self, _number: int, frame: FrameType | None) -> None:
        """Runs in the midst of anything, so it takes no lock that anybody else may hold."""
        dump, profile = self._words[DUMP], self._words[PROFILE]
        if dump != self._seen[0]:
            self._seen[0] = dump
            told = {
                "threads": stacks.threads(frame, self._roots),
                "tasks": None if self.tasks is None else self.tasks(),
                "tool": self._tool(),
            }
            looks.put(self._dump, dump, protocol.encode(told))
        if profile and profile != self._seen[1]:
            self._seen[1] = profile
            _thread.start_new_thread(self._sample, (profile,))

    def _sample(self, profile: int) -> None:
        """In a thread that ends with it; not one of ``threading``'s, since to start these takes a lock. Nobody is
        answered whose word has left the lane: they have gone."""
        number, rate, seconds = profile >> 32, profile >> 16 & 0xFFFF, (profile & 0xFFFF) / 10

        def wanted() -> bool:
            return self._words[PROFILE] == profile

        told: dict[str, Any] = Sampler(self._roots, self._tool).run(seconds, rate, wanted)
        if wanted():
            looks.put(self._profile, number, protocol.encode(told))


def _opened(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, 0o600)
    except OSError:  # somebody has removed the directory; to tell nothing is no reason not to work
        return os.open(os.devnull, os.O_RDWR)
