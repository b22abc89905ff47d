"""Writes the supervisor's log in a thread of its own: whoever reads standard error may stall, and jobs go on."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_BYTES: Final = 4 << 20
"""Of lines that wait; further ones are dropped, and counted."""


class LogWriter:
    """Writes to a descriptor, from the start. ``dropped`` is called, in the thread, with how many lines were dropped,
    once those before them are written."""

    def __init__(self, descriptor: int, dropped: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._tell_dropped = dropped
        self._lines: deque[bytes] = deque()
        self._bytes = self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """From any thread, at any time."""
        data = line.encode(errors="backslashreplace")
        with self._changed:
            if self._bytes + len(data) > MOST_BYTES:
                self._dropped += 1
                return
            self._lines.append(data)
            self._bytes += len(data)
            self._changed.notify()

    def close(self, patience: float = 1.0) -> None:
        """Let it write what there is, for at most so many seconds. What is logged afterwards is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._lines or self._closing):
                    self._changed.wait()
                if not self._lines:
                    return
                data = self._lines.popleft()
            self._put(data)
            with self._changed:
                self._bytes -= len(data)
                dropped, self._dropped = (0, self._dropped) if self._lines else (self._dropped, 0)
            if dropped:
                self._tell_dropped(dropped)

    def _put(self, data: bytes) -> None:
        """Not by ``sys.stderr``: that would be locked while this waits, also for the interpreter's end."""
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass  # nobody reads it any more: no reason to end
