"""Tools that show what a node does with good and bad ones. ``toolring demo`` uses them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

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
async def async_nap(seconds: float = 0.1) -> int:
    """Wait without keeping a process; tell which one it was."""
    await asyncio.sleep(seconds)
    return os.getpid()


@tool(read_only=True, open_world=False)
def spell(text: str, seconds: float = 0.05) -> Iterator[str]:
    """Yield one letter after the other, slowly."""
    for letter in text:
        yield letter
        time.sleep(seconds)


@tool(read_only=True, open_world=False)
def hang() -> None:
    """Never return by itself."""
    while True:
        time.sleep(3600)


@tool(read_only=True, open_world=False)
def fail(message: str = "as asked") -> None:
    """Raise an exception."""
    raise RuntimeError(message)
