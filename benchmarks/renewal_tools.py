"""Tools of benchmarks.renewal."""

from __future__ import annotations

from toolring import tool

KEPT: list[bytearray] = []


@tool
def leak() -> int:
    """A megabyte, touched and never given back."""
    KEPT.append(bytearray(b"x" * 4096) * 256)
    return len(KEPT)


@tool
def echo(n: int) -> int:
    return n
