"""The tools of ``benchmarks.caching``, ``benchmarks.flow`` and ``benchmarks.live``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from benchmarks import work
from toolring import Retry, tool

echo = tool(work.echo)
held = tool(name="held", read_only=True, cache=3600)(work.echo)


@tool(read_only=True)
def look() -> None:
    """The same, and it may be repeated."""
    time.sleep(0.02)


@tool
def slow() -> None:
    """As long as a call to another service takes."""
    time.sleep(0.02)


@tool(read_only=True, cache=3600)
def look_up(number: int) -> dict[str, Any]:
    """A millisecond of somebody else's time: a worker waits for it, the processor doesn't."""
    time.sleep(0.001)
    return {"number": number}


@tool(read_only=True, retries=3, retry_delay=0.01)
def down() -> None:
    """A service that is down for everybody."""
    raise Retry("down")


# ---- async


@tool
async def async_echo(text: str) -> dict[str, str]:
    return {"text": text}


@tool
async def async_slow() -> None:
    await asyncio.sleep(0.02)


class Shared:
    """Something that eight can use at once, and that gets slower for all if more do."""

    running = 0


async def _crowded() -> int:
    Shared.running += 1
    crowd = Shared.running
    try:
        await asyncio.sleep(0.01 * max(1.0, (crowd / 8) ** 2))
    finally:
        Shared.running -= 1
    return crowd


@tool
async def crowded() -> int:
    """Nobody limits it."""
    return await _crowded()


@tool(adaptive=True, concurrency=100)
async def adaptive() -> int:
    """The node finds out how many may."""
    return await _crowded()


# ---- streams


@tool
def count(n: int) -> Iterator[int]:
    yield from range(n)


@tool
async def async_count(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


# ---- many calls at once


@tool(read_only=True)
def weigh(text: str) -> int:
    """What costs 5 ms to begin, and next to nothing for each that is weighed."""
    time.sleep(0.005)
    return len(text)


@tool(read_only=True, batch=32, batch_delay=0.005)
def weigh_many(text: list[str]) -> list[int]:
    time.sleep(0.005)
    return [len(each) for each in text]
