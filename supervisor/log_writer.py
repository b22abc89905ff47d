"""Writes the supervisor's log: at once as long as that can't block, else in a thread of its own. Whoever reads standard
error may stall, and jobs go on.
"""

from __future__ import annotations

import os
import select
import stat
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
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._at_once = _never_waiting(descriptor)
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
            if not self._bytes and self._at_once is not None:
                data = _rest(self._at_once, data)
            if not data:
                return
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
        with self._changed:
            at_once, self._at_once = self._at_once, None
        if at_once is not None and at_once != self._descriptor:
            os.close(at_once)

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
        while data:
            self._room.poll()  # whoever shares it may have said that nobody is to wait
            data = _rest(self._descriptor, data)


def _rest(descriptor: int, data: bytes) -> bytes:
    """What is left after a write. Not by ``sys.stderr``: that would be locked while it waits, also for the
    interpreter's end."""
    try:
        return data[os.write(descriptor, data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""  # nobody reads it any more: no reason to end


def _never_waiting(descriptor: int) -> int | None:
    """One to the same file, pipe or terminal by which a write doesn't wait; None: there is none. Others share the one
    that is given, and may want to wait."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
