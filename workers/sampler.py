"""Where this process spends its time, seen by a thread of it that looks at all stacks a hundred times a second.

The thread exists only while somebody wants to know. It needs the interpreter's lock for each look, so code in C that
holds the lock is seen only once it lets go. What a look sees therefore counts for all the time since the last one: the
line that called such code bears all of it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection
from types import CodeType, FrameType
from typing import Any, Final

MOST_STACKS: Final = 5000
"""Different ones; what more there are count as one."""
OTHERS: Final = "(others)"

Key = tuple[Any, ...]


class Sampler:
    """Counts seconds by stack. For a thread of its own."""

    def __init__(
        self,
        roots: Collection[CodeType],
        tool: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``tool`` names what runs in the main thread; what called one of the ``roots`` isn't counted."""
        self._roots = roots
        self._tool = tool
        self._clock = clock
        self._sleep = sleep
        self._main = threading.main_thread().ident
        self._seconds: dict[Key, float] = {}
        self._names: dict[int, str] = {}
        self.samples = 0

    def run(self, seconds: float, rate: int, wanted: Callable[[], bool] = lambda: True) -> dict[str, Any]:
        """Look for so long, so many times a second, while it is wanted. Gives ``seconds``, ``samples`` and ``stacks``:
        each a list of names from the outermost on, and the seconds that it was seen for."""
        began = last = self._clock()
        step = 1 / rate
        due = began + step
        while last < began + seconds and wanted():
            self._sleep(max(0.0, due - self._clock()))
            now = self._clock()
            self._look(now - last)
            last = now
            due = max(due + step, now)
        return {"seconds": last - began, "samples": self.samples, "stacks": self._told()}

    def _look(self, elapsed: float) -> None:
        self.samples += 1
        own, tool = threading.get_ident(), self._tool()
        counts = self._seconds
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            if ident not in self._names:
                self._names[ident] = self._name(ident)
            key: Key = (ident, tool if ident == self._main else "", *self._codes(frame))
            if key not in counts and len(counts) >= MOST_STACKS:
                key = (ident, "", OTHERS)
            counts[key] = counts.get(key, 0.0) + elapsed

    def _codes(self, frame: FrameType) -> list[CodeType]:
        """The innermost first."""
        found = []
        at: FrameType | None = frame
        while at is not None and at.f_code not in self._roots:
            found.append(at.f_code)
            at = at.f_back
        return found

    def _name(self, ident: int) -> str:
        if ident == self._main:
            return "main thread"
        found = threading._active.get(ident)  # type: ignore[attr-defined]  # the public ways take a lock
        return f"thread {found.name}" if found is not None else f"thread {ident}"

    def _told(self) -> list[list[Any]]:
        told = []
        for (ident, tool, *codes), seconds in self._seconds.items():
            names = [code if isinstance(code, str) else _named(code) for code in reversed(codes)]
            told.append([[self._names[ident], *([tool] if tool else []), *names], round(seconds, 6)])
        return sorted(told, key=lambda one: -one[1])


def _named(code: CodeType) -> str:
    return f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"
