"""Tools that are called from the command line, many times or one part after the other. They tell what they did in
files, and wait for files, so that nobody has to wait for time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

from toolring import Context, tool


def _append(path: str, text: object) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


@tool(read_only=True)
def length(word: str) -> int:
    """The length of a word, which must not be empty."""
    if not word:
        raise ValueError("an empty word")
    return len(word)


@tool(read_only=True)
async def echo(x: Any = None) -> Any:
    return x


@tool(read_only=True)
async def gate(path: str, name: str = "", wait: bool = True) -> str:
    """Until somebody makes the file ``PATH.open``, if it is to wait; tells when it begins and ends."""
    _append(path, f"begin {name}")
    try:
        while wait and not Path(path + ".open").exists():
            await asyncio.sleep(0.002)
    finally:
        _append(path, f"end {name}")
    return name


@tool(read_only=True)
def job(x: int, context: Context) -> str:
    """Which job this call is of."""
    return context.job


@tool(read_only=True, cache=60, cache_scope="partition")
def scoped(path: str, word: str) -> str:
    _append(path, word)
    return word.upper()


@tool(read_only=True)
def raw() -> bytes:
    return b"\0\xff"


# ---- parts and progress


@tool(read_only=True)
def steps(n: int, step: str = "", fail: int = -1) -> Generator[object, None, str]:
    """Yields n times; with ``step``, the k-th only once the file ``STEP.k`` is there."""
    for k in range(n):
        while step and not Path(f"{step}.{k}").exists():
            time.sleep(0.002)
        if k == fail:
            raise ValueError("no further")
        yield {"k": k} if k % 2 else f"part {k}"
    return "that was all"


@tool(read_only=True)
async def async_steps(n: int, step: str = "", fail: int = -1) -> AsyncIterator[object]:
    for k in range(n):
        while step and not Path(f"{step}.{k}").exists():
            await asyncio.sleep(0.002)
        if k == fail:
            raise ValueError("no further")
        yield {"k": k} if k % 2 else f"part {k}"


@tool(read_only=True)
def report(path: str, context: Context) -> str:
    """Tells that it is half way, and goes on once the file ``PATH.open`` is there."""
    context.progress(1, 2, "half\nway \x1b[2J")
    while not Path(path + ".open").exists():
        time.sleep(0.002)
    context.progress(2, 2, "over")
    return "reported"


@tool(read_only=True)
def steps_and_report(path: str, context: Context) -> Generator[str, None, None]:
    """A part, a word of progress once the file ``PATH.read`` is there, a part once ``PATH.open`` is."""
    yield "first"
    while not Path(path + ".read").exists():
        time.sleep(0.002)
    context.progress(1, None, "between")
    while not Path(path + ".open").exists():
        time.sleep(0.002)
    yield "second"


@tool(read_only=True)
def silent() -> None:
    time.sleep(600)


@tool(read_only=True)
async def async_silent() -> AsyncIterator[str]:
    """Falls silent after its first part."""
    yield "a word"
    await asyncio.sleep(600)
