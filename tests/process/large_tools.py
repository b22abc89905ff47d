"""Tools whose results are large."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from toolring import tool

OVER = 10_000


def of(size: int, seed: str = "") -> str:
    return (f"{seed}{size} " * size)[:size]


@tool(store_over=OVER, idempotent=True)
def text(size: int, seed: str = "") -> str:
    return of(size, seed)


@tool(store_over=OVER)
def data(size: int) -> bytes:
    return os.urandom(size)


@tool(store_over=OVER)
def table(rows: int) -> list[dict[str, Any]]:
    return [{"id": n, "name": f"row {n}"} for n in range(rows)]


@tool(store_over=OVER)
async def awaited(size: int) -> str:
    return of(size)


@tool(store_over=OVER)
def parts(size: int, count: int) -> Iterator[str]:
    for _ in range(count):
        yield of(size)


@tool(store_over=OVER)
async def async_parts(size: int, count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield of(size)


@tool(store_over=OVER, batch=16)
def together(sizes: list[int]) -> list[str]:
    return [of(size) for size in sizes]


@tool
def whole(size: int) -> str:
    """Says nothing itself."""
    return of(size)


@tool(store_over=0)
def never(size: int) -> str:
    return of(size)


@tool(store_over=OVER, read_only=True, cache=60)
def cached(size: int, ran: str) -> str:
    with open(ran, "a") as file:
        file.write("ran\n")
    return of(size)


@tool(store_over=OVER)
def on_a_full_disk(size: int, files: int) -> str:
    """No file of this process may become larger than so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return of(size)


@tool(store_over=OVER)
def dies(size: int, once: str) -> str:
    """After it has stored something, by another result of the same process."""
    if not Path(once).exists():
        Path(once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return of(size)
