"""toolring's own plugin: it registers by the same hooks as anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from toolring.errors import PluginError
from toolring.plugins.caches.adaptive import Adaptive
from toolring.plugins.caches.fifo import FIFO
from toolring.plugins.caches.lfu import LFU
from toolring.plugins.caches.lru import LRU
from toolring.plugins.caches.s3fifo import S3FIFO
from toolring.plugins.caches.sieve import SIEVE
from toolring.plugins.caches.wtinylfu import WTinyLFU
from toolring.plugins.markers import hookimpl
from toolring.plugins.sinks.log import LogSink
from toolring.plugins.specs import CacheStore, CacheStrategy, MetricsSink, StoreSettings
from toolring.plugins.stores.sqlite import SqliteStore


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
        "sqlite": SqliteStore,
        "redis": Extra("toolring.plugins.stores.redis", "RedisStore", "redis"),
        "lmdb": Extra("toolring.plugins.stores.lmdb", "LmdbStore", "lmdb"),
    }


@dataclass(frozen=True)
class Extra:
    """The factory of a store whose package comes with an extra of the same name; imported only where it is used."""

    module: str
    name: str
    package: str

    def __call__(self, settings: StoreSettings) -> CacheStore:
        store: CacheStore = getattr(import_module(self.module), self.name)(settings)
        return store

    def check(self) -> None:
        """Raises PluginError while its package is missing."""
        if find_spec(self.package) is None:
            raise PluginError(
                f"the cache layer {self.package!r} needs a package: pip install 'toolring[{self.package}]'"
            )


@hookimpl
def toolring_metrics_sinks() -> Mapping[str, Callable[[], MetricsSink]]:
    return {"structlog": LogSink}
