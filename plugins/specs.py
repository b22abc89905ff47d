"""Every hook of toolring, on one page. Implement those that you need and mark them with ``toolring.hookimpl``.

A plugin is a module or an object. toolring finds it by an entry point of the group ``toolring``, by ``plugins``
in the configuration, or by ``--plugin MODULE``. What it offers is checked when the node starts: a plugin that
doesn't fit ends the start, by name. The supervisor and every worker load it, each in its own process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from toolring.plugins.markers import hookspec

if TYPE_CHECKING:
    from toolring.declare import Tool


class CacheStrategy(Protocol):
    """Decides which entry leaves a full cache. It holds keys only, and is told of every change, once.

    ``added``: a key that wasn't there. ``touched``: it was used. ``removed``: it left, for whatever reason.
    ``victim``: names a present key to leave next; the cache removes it and then calls ``removed``.
    """

    def added(self, key: bytes) -> None: ...
    def touched(self, key: bytes) -> None: ...
    def removed(self, key: bytes) -> None: ...
    def victim(self) -> bytes: ...


class MetricsSink(Protocol):
    """Takes the node's figures now and then, in a thread of its own: it may be slow, and late figures are dropped."""

    def emit(self, figures: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """``address``: what the node listens on. ``tools``: the names it serves."""

    address: str
    workers: int
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """``cause`` is how its process ended ("killed by SIGSEGV"); empty for a start."""

    slot: int
    pid: int
    generation: int
    cause: str = ""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One answered job. ``code`` is empty for a success, else the error's code; times are in seconds."""

    job: str
    tool: str
    attempt: int
    code: str
    cached: bool
    run_seconds: float
    total_seconds: float


# ---- offers: asked for once, when a process starts


@hookspec
def toolring_cache_strategies() -> Mapping[str, Callable[[int], CacheStrategy]]:  # type: ignore[empty-body]
    """Eviction strategies by name: factories that take the most entries that the cache may hold."""


@hookspec
def toolring_metrics_sinks() -> Mapping[str, Callable[[], MetricsSink]]:  # type: ignore[empty-body]
    """Metrics sinks by name. Those named in ``[metrics] sinks`` are made, in the supervisor."""


@hookspec
def toolring_tools() -> Sequence[Tool[..., Any]]:  # type: ignore[empty-body]
    """Tools to be served beside those of the targets. Called in the workers' side only."""


# ---- events: in the supervisor, in its one thread, so be quick; what is raised is logged and otherwise ignored


@hookspec
def toolring_node_started(event: NodeEvent) -> None:
    """The node listens and its first workers are ready."""


@hookspec
def toolring_node_stopping(event: NodeEvent) -> None:
    """The node has begun to drain."""


@hookspec
def toolring_worker_ready(event: WorkerEvent) -> None:
    """A worker can take jobs."""


@hookspec
def toolring_worker_exited(event: WorkerEvent) -> None:
    """A worker's process has ended, for whatever reason."""


@hookspec
def toolring_job_finished(event: JobEvent) -> None:
    """A job has its final answer. Costs every job some microseconds as soon as one plugin implements it."""
