"""Async tools, generators and tools that take many calls at once, for the tests. They tell what they did in files."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from toolring import Client, Context, Retry, remaining, tool


def _append(path: str, text: object) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


async def _until(path: str) -> None:
    while not Path(path).exists():
        await asyncio.sleep(0.002)


# ---- threads


@tool(read_only=True)
async def hop(words: int, context: Context) -> str:
    """Tells of its progress from a thread."""

    def work() -> str:
        for number in range(words):
            context.progress(number + 1, words)
            time.sleep(0.06)
        try:
            with context.shield():
                return "shielded"
        except RuntimeError as error:
            return str(error)

    return await asyncio.to_thread(work)


@tool(read_only=True)
def pooled(threads: int, words: int, context: Context) -> int:
    """Tells of its progress from many threads at once."""

    def work(first: int) -> None:
        for number in range(words):
            context.progress(words, words, f"{first} {number}")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return threads * words


@tool(read_only=True)
def outlive(path: str, context: Context) -> None:
    """A thread of it goes on to tell of its progress after it has returned."""

    def work() -> None:
        while not Path(path).exists():
            context.progress(1, 1)

    threading.Thread(target=work, daemon=True).start()


@tool(read_only=True)
def streamed(parts: int, context: Context) -> Generator[int, None, None]:
    """A thread tells of its progress while parts go out, and are waited for."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.001):
            context.progress(1, 1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield from range(parts)
    finally:
        over.set()
        thread.join()


@tool
async def leave_behind(path: str) -> None:
    """A task of it blocks the event loop after it has returned."""

    async def stray() -> None:
        await asyncio.sleep(0.05)
        _append(path, os.getpid())
        time.sleep(120)

    asyncio.get_running_loop().create_task(stray())


# ---- async


@tool
async def gate(path: str, name: str = "") -> str:
    """Until somebody makes the file ``PATH.open``; may not be repeated."""
    _append(path, f"begin {name}")
    try:
        await _until(path + ".open")
    except asyncio.CancelledError:
        _append(path, f"cancelled {name}")
        raise
    finally:
        _append(path, f"end {name}")
    return name


@tool(read_only=True)
async def look(path: str, name: str, context: Context) -> int:
    """The same, but may be repeated; gives its attempt."""
    _append(path, f"begin {name} {context.attempt}")
    await _until(path + ".open")
    return context.attempt


@tool(read_only=True)
async def who() -> int:
    return os.getpid()


@tool
async def stubborn(path: str) -> None:
    """Ends neither by its deadline nor by being cancelled."""
    _append(path, os.getpid())
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


@tool(read_only=True)
async def block(path: str) -> None:
    """Holds up its event loop: what an async tool must not do."""
    _append(path, os.getpid())
    time.sleep(120)


@tool(read_only=True)
async def crash(path: str) -> None:
    _append(path, os.getpid())
    await asyncio.sleep(0.01)
    os.abort()


@tool
async def careful(path: str, context: Context) -> None:
    with context.shield(10):
        _append(path, "in")
        await asyncio.sleep(0.4)
        _append(path, "complete")
    await asyncio.sleep(60)


@tool
async def hungry(path: str) -> None:
    _append(path, os.getpid())
    raise MemoryError("no more")


@tool(read_only=True, cache=60)
async def cached(path: str, key: str) -> str:
    _append(path, key)
    await asyncio.sleep(0.05)
    return key.upper()


@tool
async def nested(address: str, path: str) -> str:
    """Calls another tool without a timeout of its own."""
    client = Client(address)
    try:
        await asyncio.to_thread(client.call, "slow", {"path": path})
    finally:
        client.close()
    return "never"


# ---- plain


@tool
def slow(path: str) -> None:
    _append(path, f"slow {remaining()}")
    try:
        time.sleep(60)
    finally:
        _append(path, "slow ended")


@tool
def nested_sync(address: str, path: str) -> None:
    with Client(address) as client:
        client.call("slow", {"path": path})


@tool(read_only=True)
def steps(n: int, path: str = "", step: str = "", size: int = 0, fail: int = -1) -> Generator[str, None, str]:
    """Yields n times; with ``step``, the k-th only once the file ``STEP.k`` is there."""
    try:
        for k in range(n):
            while step and not Path(f"{step}.{k}").exists():
                time.sleep(0.002)
            if k == fail:
                raise ValueError("no further")
            if path:
                _append(path, f"{k} {os.getpid()}")
            yield f"{k}" + "x" * size
    finally:
        if path:
            _append(path, "closed")
    return "all"


@tool
async def async_steps(n: int, path: str = "", step: str = "", size: int = 0, fail: int = -1) -> AsyncIterator[str]:
    try:
        for k in range(n):
            while step and not Path(f"{step}.{k}").exists():
                await asyncio.sleep(0.002)
            if k == fail:
                raise ValueError("no further")
            if path:
                _append(path, f"{k} {os.getpid()}")
            yield f"{k}" + "x" * size
    finally:
        if path:
            _append(path, "closed")


@tool
def report(n: int, seconds: float, context: Context) -> int:
    for k in range(n):
        context.progress(k, n, f"step {k}")
        time.sleep(seconds)
    context.progress(n, n, "over")
    return n


@tool(idle_timeout=0.3)
def silent(seconds: float, context: Context) -> str:
    time.sleep(seconds)
    return "spoke"


@tool
async def async_silent(seconds: float, context: Context) -> str:
    await asyncio.sleep(seconds)
    return "spoke"


# ---- many calls at once


class Ask(Struct):
    name: str
    path: str
    how: str = "ok"


@tool(batch=4, batch_delay=0.05, retries=2, retry_delay=0.01, idempotent=True)
def together(asks: list[Ask]) -> list[object]:
    """How many went together; it may wait, fail by itself or kill its worker."""
    for ask in asks:
        _append(ask.path, f"{ask.name} {len(asks)} {os.getpid()}")
    for ask in asks:
        if ask.how == "kill":
            time.sleep(0.02)
            os.abort()
        while ask.how == "gate" and not Path(ask.path + ".open").exists():
            time.sleep(0.002)
    told = {"raise": ValueError("not this one"), "later": Retry("not yet")}
    return [told.get(ask.how, f"{ask.name} of {len(asks)}") for ask in asks]


@tool(batch=8, batch_delay=30.0)
async def company(name: list[str]) -> list[str]:
    """Waits for seven others."""
    return [f"{each} of {len(name)}" for each in name]


@tool(batch=3, batch_delay=0.01)
def miscounts(n: list[int]) -> list[int]:
    return [0]
