"""What a body costs: tools that take or give so many bytes, and do nothing with them."""

from __future__ import annotations

import functools
import os

from toolring import tool


@tool
def take(data: bytes) -> int:
    return len(data)


@functools.cache
def made(size: int) -> bytes:
    return os.urandom(size)


@tool
def give(size: int) -> bytes:
    return made(size)


@tool(store_over=1000)
def store(size: int) -> bytes:
    return made(size)
