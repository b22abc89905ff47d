"""Tools with limits, for the tests of the queue. They tell what they did in files."""

from __future__ import annotations

import os
import time
from pathlib import Path

from toolring import Context, Retry, tool


def _append(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.002)


@tool(read_only=True)
def echo(x: int) -> int:
    return x


@tool
def gate(path: str) -> int:
    """Runs until somebody makes the file ``PATH.open``."""
    _append(path, str(os.getpid()))
    _wait_for(path + ".open")
    return os.getpid()


@tool
def note(path: str, text: str, seconds: float = 0.0) -> str:
    _append(path, text)
    time.sleep(seconds)
    return text


@tool
def mark(path: str, text: str) -> None:
    """Slow enough for a worker to be given one at a time."""
    _append(path, text)
    time.sleep(0.005)


@tool(concurrency=1, backlog=3)
def single(path: str, gate: str = "") -> str:
    """Never beside itself: its ledger says when it begins and ends."""
    _append(path, "begin")
    if gate:
        _wait_for(gate)
    _append(path, "end")
    return "done"


@tool(concurrency=1, timeout=0.2)
def stubborn(path: str) -> None:
    """Never beside itself, and no interrupt ends it."""
    _append(path, "begin")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(60)
        except BaseException:
            pass


@tool(rate=20, burst=2)
def metered(path: str) -> None:
    _append(path, repr(time.monotonic()))


@tool(read_only=True, retries=3, retry_delay=0.01, retry_on=("ConnectionError", "WORKER_OOM"))
def flaky(path: str, fails: int, how: str = "retry", context: Context | None = None) -> int:
    """Fails so often, then gives the number of the attempt that succeeded."""
    assert context is not None
    _append(path, str(context.attempt))
    if context.attempt <= fails:
        if how == "retry":
            raise Retry("not yet", retry_after=0.02)
        raise {"connection": ConnectionError, "value": ValueError}[how]("no")
    return context.attempt


@tool(read_only=True, retries=5, retry_delay=30)
def patient(path: str) -> None:
    """Would be tried again in about half a minute."""
    _append(path, "tried")
    raise Retry("later", retry_after=20)


@tool(read_only=True, queue_timeout=0.2)
def impatient() -> str:
    return "started"


@tool
def polite(path: str, context: Context) -> str:
    """Looks whether it is still wanted, and ends by itself."""
    _append(path, str(os.getpid()))
    while not context.cancelled:
        time.sleep(0.002)
    _append(path, "noticed")
    return "whatever"


@tool
def careful(path: str, seconds: float, shield: float, context: Context) -> None:
    """A critical section of so many seconds, under a shield for so many."""
    with context.shield(shield):
        _append(path, str(os.getpid()))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.002)
        _append(path, "complete")
    time.sleep(60)
