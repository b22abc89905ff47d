"""Tools of benchmarks.services: one asks a service, one is slow in one of the workers."""

from __future__ import annotations

import fcntl
import os
import time
from functools import cache

from toolring import AsyncService, tool

PACE = 0.01
SLOWER = 10


@tool(read_only=True)
async def ask(shop: AsyncService) -> int:
    return (await shop.get("/x")).status_code


@tool(read_only=True)
def work() -> None:
    time.sleep(PACE * (SLOWER if _slow() else 1))


@cache
def _slow() -> bool:
    """Is this the one worker that got the lock?"""
    descriptor = os.open(os.environ["SLOW_LOCK"], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True
