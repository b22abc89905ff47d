"""The tools of the nodes that the tests of clusters start."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from toolring import tool
from toolring.errors import Busy


def _append(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text + "\n")


@tool(read_only=True, affinity="key")
def where(key: str) -> int:
    return os.getppid()


@tool(read_only=True)
def slow(path: str, n: int) -> int:
    _append(path, f"{n} {os.getppid()}")
    time.sleep(0.02)
    return n


@tool(read_only=True)
def gate(path: str) -> int:
    _append(path, str(os.getppid()))
    while not Path(path + ".open").exists():
        time.sleep(0.005)
    return os.getppid()


@tool
def once(path: str) -> int:
    _append(path, str(os.getppid()))
    while not Path(path + ".open").exists():
        time.sleep(0.005)
    return os.getppid()


@tool(read_only=True, concurrency=1, backlog=1)
def narrow(path: str) -> int:
    _append(path, str(os.getppid()))
    while not Path(path + ".open").exists():
        time.sleep(0.005)
    return os.getppid()


@tool
def wrong() -> None:
    raise ValueError("it is wrong")


@tool(read_only=True)
def count(n: int) -> Iterator[int]:
    yield from range(n)


@tool
def endless() -> Iterator[int]:
    while True:
        yield 1
        time.sleep(0.01)


@tool(read_only=True, concurrency=1, backlog=1)
def passage() -> Iterator[int]:
    while True:
        yield os.getppid()
        time.sleep(0.01)


@tool
def too_busy(path: str) -> None:
    _append(path, "ran")
    raise Busy("what it asks is busy", retry_after=0.01)


@tool
def briefly(n: int) -> int:
    time.sleep(0.002)
    return n


@tool(read_only=True, affinity="key")
def die(path: str, key: str, n: int) -> None:
    _append(path, f"{n} {os.getppid()}")
    os._exit(3)
