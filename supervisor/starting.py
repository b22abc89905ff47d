"""The start of a node runs code of others in its one thread: plugins are imported, asked for what they offer, and told.

Whatever that waits for, a signal is to end the start. So it comes to a thread first, which ends the process if the main
one doesn't get on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE: Final = 1.0
"""Seconds after a signal within which the main thread may still end it in good order."""


@contextmanager
def hears_signals(wake_fd: int, give_up: Callable[[], None], patience: float = PATIENCE) -> Iterator[None]:
    """While the block runs, ``give_up`` is called from a thread if SIGTERM or SIGINT has come and it goes on. In the
    block and after it, ``wake_fd`` is told of signals."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            told = os.read(read, 512)
            _pass_on(wake_fd, told)
            if {signal.SIGTERM, signal.SIGINT} & set(told) and not over.wait(patience):
                give_up()

    thread = threading.Thread(target=listen, name="start", daemon=True)
    thread.start()
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
        over.set()
        os.write(write, b"\0")
        thread.join()
        os.close(read)
        os.close(write)


def _pass_on(wake_fd: int, told: bytes) -> None:
    try:
        os.write(wake_fd, told)
    except BlockingIOError:
        pass  # it will be read
