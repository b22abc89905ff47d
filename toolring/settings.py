"""What a worker process must know, as plain data: it crosses from parent to child."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from toolring.policy.memory import MemoryPolicy
from toolring.policy.service import ServicePolicy
from toolring.process import ProcessLimits


class CacheSettings(NamedTuple):
    """Seconds and bytes. ``entries`` and ``bytes`` limit each worker's memory, for each strategy in use."""

    strategy: str = "s3fifo"
    entries: int = 10_000
    bytes: int = 64 << 20
    layers: tuple[str, ...] = ()
    """Stores behind the workers' memory, nearest first."""
    directory: str = ""
    url: str = ""
    store_bytes: int = 256 << 20
    timeout: float = 0.1
    local: float = 1.0
    """How long what came from a store that other nodes share is kept here without asking again."""
    early: float = 1.0
    namespace: str = ""
    """What a result depends on beside tool and arguments: nodes with another one don't share it."""


class ResultSettings(NamedTuple):
    """Where and how results are stored. Without a directory none is."""

    directory: str = ""
    life: str = ""
    """Names this life of the node, in handles."""
    secret: bytes = b""
    """What handles are made with, so that nobody can guess one who knows the result."""
    over: int = 0
    preview: int = 1000
    max_bytes: int = 1 << 30


class WorkerSettings(NamedTuple):
    targets: tuple[str, ...]
    node: str
    """The node's address, for people."""
    address: str
    """Where the supervisor listens to its workers."""
    lanes: str
    """The path of the shared memory, for workers that don't inherit it."""
    start_method: str
    """fork: from the warm zygote; spawn: a fresh interpreter each; auto: fork unless the tools start threads."""
    overrides: Mapping[str, Mapping[str, Any]]
    """Policy that the configuration sets for a tool, by its name."""
    cache: CacheSettings
    services: Mapping[str, ServicePolicy]
    memory: MemoryPolicy
    resources: Mapping[str, Mapping[str, Any]]
    """Settings that the configuration decides of a pool, by its name."""
    processes: Mapping[str, ProcessLimits]
    """What the processes of a group may have of the machine, by its name."""
    results: ResultSettings
    max_result: int
    plugins: tuple[str, ...]
    allow: tuple[str, ...]
    block: tuple[str, ...]
    log_format: str
    log_level: str
    output: int = 0
    """Bytes of what a tool writes that become part of its job's record; 0: nothing does."""
    looks: str = ""
    """The directory of the files in which workers tell what they do, when somebody wants to know; empty: none do."""
    watch: bool = False
    """Workers tell which files the modules are from that they have imported since."""
