"""toolring's own plugin: it registers by the same hooks as anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from toolring.plugins.caches.lru import LRU
from toolring.plugins.markers import hookimpl
from toolring.plugins.sinks.log import LogSink
from toolring.plugins.specs import CacheStrategy, MetricsSink


@hookimpl
def toolring_cache_strategies() -> Mapping[str, Callable[[int], CacheStrategy]]:
    return {"lru": LRU}


@hookimpl
def toolring_metrics_sinks() -> Mapping[str, Callable[[], MetricsSink]]:
    return {"structlog": LogSink}
