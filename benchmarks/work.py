"""The three jobs that every system runs. Imports nothing, so that it weighs nothing in anybody's worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def echo(text: str) -> dict[str, Any]:
    """No work at all: what is left is the price of the call."""
    return {"text": text}


def spin(text: str) -> dict[str, Any]:
    """Burn 1 ms of CPU time, not of wall time: a worker that is scheduled out must not get its work done for free."""
    clock = time.thread_time_ns
    end = clock() + 1_000_000
    while clock() < end:
        pass
    return {"text": text}


def big(data: bytes) -> bytes:
    """Give a large argument back."""
    return data


FUNCTIONS: dict[str, Callable[..., Any]] = {"echo": echo, "spin": spin, "big": big}
