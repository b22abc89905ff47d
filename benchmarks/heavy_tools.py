"""A tool of benchmarks.renewal whose module takes long to import, at work all the time."""

from __future__ import annotations

import os
import time

from toolring import tool

SECONDS = float(os.environ.get("BENCH_IMPORT_SECONDS", "5"))
_until = time.process_time() + SECONDS
while time.process_time() < _until:
    pass


@tool
def echo(n: int) -> int:
    return n
