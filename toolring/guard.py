"""What ties a child process to its parent's life."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Be killed, or get another signal, when ``parent`` dies. Linux only; elsewhere a child ends when its pipe or
    socket closes.

    The signal is tied to the thread of the parent that made this process, so children are to be made by main
    threads. A parent that died before the call is noticed here.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
