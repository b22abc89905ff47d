"""What a worker process must know, as plain data: it crosses from parent to child."""

from __future__ import annotations

from typing import NamedTuple


class WorkerSettings(NamedTuple):
    targets: tuple[str, ...]
    address: str
    lanes: str
    """The path of the shared memory, for workers that don't inherit it."""
    start_method: str
    """fork: from the warm zygote; spawn: a fresh interpreter each; auto: fork unless the tools start threads."""
    cache_strategy: str
    cache_entries: int
    cache_bytes: int
    max_result: int
    plugins: tuple[str, ...]
    allow: tuple[str, ...]
    block: tuple[str, ...]
    log_format: str
    log_level: str
