"""toolring's own plugin: it registers by the same hooks as anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from toolring.errors import PluginError
from toolring.plugins.caches.adaptive import Adaptive
from toolring.plugins.caches.fifo import FIFO
from toolring.plugins.caches.lfu import LFU
from toolring.plugins.caches.lru import LRU
from toolring.plugins.caches.s3fifo import S3FIFO
from toolring.plugins.caches.sieve import SIEVE
from toolring.plugins.caches.wtinylfu import WTinyLFU
from toolring.plugins.markers import hookimpl
from toolring.plugins.specs import CacheStore, CacheStrategy, MetricsSink, SinkSettings, SpanSink, StoreSettings
from toolring.policy.balance import (
    Balancer,
    LeastOutstanding,
    Members,
    PeakEWMA,
    Random,
    Rendezvous,
    RingOverflow,
    RoundRobin,
    TwoChoices,
)


@hookimpl
def toolring_cache_strategies() -> Mapping[str, Callable[[int], CacheStrategy]]:
    return {
        "adaptive": Adaptive,
        "fifo": FIFO,
        "lfu": LFU,
        "lru": LRU,
        "s3fifo": S3FIFO,
        "sieve": SIEVE,
        "wtinylfu": WTinyLFU,
    }


@hookimpl
def toolring_cache_stores() -> Mapping[str, Callable[[StoreSettings], CacheStore]]:
    return {
        "sqlite": Store("toolring.plugins.stores.sqlite", "SqliteStore"),
        "redis": Store("toolring.plugins.stores.redis", "RedisStore", extra="redis"),
        "lmdb": Store("toolring.plugins.stores.lmdb", "LmdbStore", extra="lmdb"),
    }


@dataclass(frozen=True)
class Store:
    """The factory of a store that is imported by those only who use it: not by the supervisor, nor for nothing."""

    module: str
    name: str
    extra: str = ""

    @property
    def shared(self) -> bool:
        return bool(getattr(import_module(self.module), self.name).shared)

    def check(self) -> None:
        """Import it, before there are workers. Raises PluginError while its package is missing."""
        try:
            import_module(self.module)
        except ImportError as error:
            hint = f"; pip install 'toolring[{self.extra}]'" if self.extra else ""
            raise PluginError(f"the cache layer needs a package that is missing: {error}{hint}") from None

    def __call__(self, settings: StoreSettings) -> CacheStore:
        store: CacheStore = getattr(import_module(self.module), self.name)(settings)
        return store


@hookimpl
def toolring_balancers() -> Mapping[str, Callable[[Members], Balancer]]:
    return {
        "least_outstanding": LeastOutstanding,
        "p2c": TwoChoices,
        "peak_ewma": PeakEWMA,
        "random": Random,
        "rendezvous": Rendezvous,
        "ring": RingOverflow,
        "round_robin": RoundRobin,
    }


@hookimpl
def toolring_span_sinks() -> Mapping[str, Callable[[SinkSettings], SpanSink]]:
    return {"otlp": Sink("toolring.plugins.sinks.otlp", "OtlpSpans", extra="otel")}


@hookimpl
def toolring_metrics_sinks() -> Mapping[str, Callable[[SinkSettings], MetricsSink]]:
    return {
        "jsonlines": Sink("toolring.plugins.sinks.jsonlines", "JsonLines"),
        "otlp": Sink("toolring.plugins.sinks.otlp_metrics", "OtlpMetrics", extra="otel"),
        "statsd": Sink("toolring.plugins.sinks.statsd", "Statsd"),
        "structlog": Sink("toolring.plugins.sinks.log", "LogSink"),
    }


@dataclass(frozen=True)
class Sink:
    """The factory of a sink that is imported by the supervisor that wants it, and by no worker."""

    module: str
    name: str
    extra: str = ""

    @property
    def families(self) -> bool:
        return bool(getattr(self._class(), "families", False))

    def check(self, settings: SinkSettings) -> None:
        """What can be said of one without making it."""
        getattr(self._class(), "check", lambda _: None)(settings)

    def __call__(self, settings: SinkSettings) -> Any:
        return self._class()(settings)

    def _class(self) -> Any:
        try:
            return getattr(import_module(self.module), self.name)
        except ImportError as error:
            hint = f"; pip install 'toolring[{self.extra}]'" if self.extra else ""
            raise PluginError(f"a package is missing: {error}{hint}") from None
