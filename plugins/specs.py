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
from toolring.policy.balance import Balancer, Members

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


@dataclass(frozen=True, slots=True)
class Stored:
    """One result on its way into or out of a store. Times are spans of seconds, so that no clocks are compared.

    ``value``: the encoded result, or the error's map where ``status`` is 1. ``fresh``: for how long it may still be
    given; negative once it is only good to be given while it is renewed, which ends ``stale`` seconds after that.
    ``cost``: how long it took to make.
    """

    value: bytes
    status: int
    fresh: float
    stale: float
    cost: float


class CacheStore(Protocol):
    """A layer of the result cache behind the workers' memory, shared by processes that may die at any time.

    Each worker makes its own when it starts, and uses it in one thread. It may fail and be slow: then it counts as
    empty for a while. Keys are 32 bytes. ``tags`` name what an entry depends on; an entry that was put under tags
    is gone as soon as one of them is invalidated, by any process that shares the store.

    ``get`` gives the entry, if there is one, and a token: the state of the tags. ``put`` takes the token of the
    ``get`` before the load, so that what was loaded before an invalidation is never given after it.
    ``claim`` asks for the right to make a key's value for at most so many seconds, ``release`` gives it back.
    ``shared`` tells that other nodes may use the store too: only then are claims made. ``stats`` gives plain numbers.
    """

    shared: bool

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, Any]: ...
    def put(self, key: bytes, tags: Sequence[bytes], token: Any, entry: Stored) -> None: ...
    def invalidate(self, tags: Sequence[bytes]) -> None: ...
    def claim(self, key: bytes, seconds: float) -> bool: ...
    def release(self, key: bytes) -> None: ...
    def stats(self) -> Mapping[str, int]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What a store is made with. ``directory`` is private to the user (0700); ``url`` is for servers."""

    directory: str
    url: str
    max_bytes: int
    timeout: float
    """Seconds that one operation may take."""


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """What a sink is made with: ``[metrics]`` of the configuration, and whose it is."""

    interval: float
    """Seconds between two sets of figures."""
    file: str
    """For one that writes a file; empty: none is named."""
    statsd: str
    """HOST:PORT of a StatsD server; empty: none is named."""
    node: str = ""
    """The node's id, new with each start."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: how many lay between one of the ``bounds`` (seconds) and the next; ``counts`` has one more, for what
    lay beyond the last. ``total``: the sum of all."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """One metric of docs/metrics.md. ``kind``: counter, gauge or histogram; ``unit``: seconds, bytes or empty; each of
    the ``samples`` has the values of the ``labels`` and a number, or the ``Buckets`` of a histogram."""

    name: str
    kind: str
    unit: str
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], float | Buckets]]


class MetricsSink(Protocol):
    """Takes the node's figures now and then, in a thread of its own: it may be slow, and late figures are dropped.

    ``figures`` is what ``Client.status`` gives, with two more: ``metrics``, the last minute as ``Client.metrics`` gives
    it, and ``counts``, by tool since the start. All of it is plain data, shared by all sinks: not to be changed. A sink
    that keeps failing gets nothing for a while.

    One whose attribute ``families`` is true gets one more: ``families``, all that Prometheus would get, as a sequence
    of ``MetricFamily``. One that has a method ``alert`` is given each ``AlertEvent``, in the same thread, before the
    next figures.
    """

    def emit(self, figures: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a job's time. ``begin`` and ``end`` are nanoseconds since the epoch, ``kind`` is server or internal.
    ``parent``: None of a trace's first; ``error``: empty if it went well; ``state``: the trace's W3C tracestate."""

    name: str
    trace: int
    number: int
    parent: int | None
    kind: str
    begin: int
    end: int
    attributes: Mapping[str, str | int | float | bool]
    error: str
    state: str


class SpanSink(Protocol):
    """Takes spans a few times a second, in a thread of its own. What comes while it is busy waits, up to a bound."""

    def emit(self, spans: Sequence[Span]) -> None: ...
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
class MemoryEvent:
    """A process's memory is worth a look. ``slot``: the worker's, or -1: the supervisor itself. ``kind``: rss, share,
    children, pressure, kill_rss, kill_share or leak; ``value`` and ``threshold`` in bytes, shares, or (leak) bytes a
    second; ``advice``: what to change."""

    slot: int
    pid: int
    kind: str
    value: float
    threshold: float
    advice: str


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert fires, still fires, or is over. ``state``: firing or resolved; ``severity``: warning or critical.
    ``tool``, ``group``, ``service``: what it is about; all empty: the node. ``value``: the figure's, None if it tells
    nothing any more; it was to be ``above`` or ``below`` the ``threshold``, by ``sense``. ``seconds``: for how long it
    has fired; ``text``: all that for people."""

    alert: str
    state: str
    severity: str
    figure: str
    tool: str
    group: str
    value: float | None
    sense: str
    threshold: float
    seconds: float
    text: str
    service: str = ""


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
def toolring_cache_stores() -> Mapping[str, Callable[[StoreSettings], CacheStore]]:  # type: ignore[empty-body]
    """Stores by name: layers of the result cache behind the workers' memory, named in ``[cache] layers``.

    Factories are called in the workers, at the first use. One that is no class should have the attribute ``shared`` of
    its stores: as long as it isn't known, other nodes are taken to use the store too. One that has a method ``check``
    is asked before, when the node starts: what that raises ends the start.
    """


@hookspec
def toolring_balancers() -> Mapping[str, Callable[[Members], Balancer]]:  # type: ignore[empty-body]
    """Balancers by name: factories that take those among whom to choose, made where jobs are placed: in the supervisor
    for each group of workers that a tool with it runs in.
    """


@hookspec
def toolring_metrics_sinks() -> Mapping[str, Callable[[SinkSettings], MetricsSink]]:  # type: ignore[empty-body]
    """Metrics sinks by name: factories that take the settings. Those named in ``[metrics] sinks`` are made, in the
    supervisor."""


@hookspec
def toolring_span_sinks() -> Mapping[str, Callable[[SinkSettings], SpanSink]]:  # type: ignore[empty-body]
    """Span sinks by name: factories that take the settings. Those named in ``[tracing] sinks`` are made, in the
    supervisor."""


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
def toolring_memory_alert(event: MemoryEvent) -> None:
    """A process's memory has passed a threshold of ``[memory]``, or leaks. Of one kind at most once in its cooldown."""


@hookspec
def toolring_alert(event: AlertEvent) -> None:
    """An alert of ``[alerts.NAME]``, or of those that ship, fires, is told again, or is over."""


@hookspec
def toolring_job_finished(event: JobEvent) -> None:
    """A job has its final answer. Costs every job some microseconds as soon as one plugin implements it."""
