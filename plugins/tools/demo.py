"""Tools that show what a node does with good and bad ones. ``toolring demo`` uses them."""

from __future__ import annotations

import os
import time

from toolring.context import Context
from toolring.declare import tool


@tool(read_only=True, open_world=False)
def echo(text: str) -> str:
    """Give the text back."""
    return text


@tool(read_only=True, open_world=False)
def nap(context: Context, seconds: float = 0.1) -> dict[str, float | int]:
    """Sleep, then tell which process slept and which attempt it was."""
    time.sleep(seconds)
    return {"pid": os.getpid(), "attempt": context.attempt, "seconds": seconds}


@tool(read_only=True, open_world=False)
def hang() -> None:
    """Never return by itself."""
    while True:
        time.sleep(3600)


@tool(read_only=True, open_world=False)
def fail(message: str = "as asked") -> None:
    """Raise an exception."""
    raise RuntimeError(message)
