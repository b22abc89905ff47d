"""The tools of ``benchmarks.caching`` and ``benchmarks.flow``."""

from __future__ import annotations

import time
from typing import Any

from benchmarks import work
from toolring import tool

echo = tool(work.echo)
held = tool(name="held", read_only=True, cache=3600)(work.echo)


@tool
def slow() -> None:
    """As long as a call to another service takes."""
    time.sleep(0.02)


@tool(read_only=True, cache=3600)
def look_up(number: int) -> dict[str, Any]:
    """A millisecond of somebody else's time: a worker waits for it, the processor doesn't."""
    time.sleep(0.001)
    return {"number": number}
