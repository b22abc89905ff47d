"""The life of a worker process, from its first line to its last."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from toolring import logs
from toolring.declare import Tool
from toolring.errors import LoadError
from toolring.guard import die_with
from toolring.heap import keep_freed
from toolring.lane import Lane, register_for_fence
from toolring.plugins.registry import Registry
from toolring.settings import WorkerSettings
from toolring.workers.cache.base import Cache
from toolring.workers.cache.results import ResultCache
from toolring.workers.interrupt import Armed, install
from toolring.workers.loop import connected, serve
from toolring.workers.runner import Runnable, Runner


def prepare(settings: WorkerSettings, tools: Mapping[str, Tool[..., Any]], registry: Registry) -> dict[str, Runnable]:
    """Tools with their caches: one cache for each strategy that is named, with the worker's limits.

    Raises LoadError for a strategy that no plugin offers.
    """
    caches: dict[str, Cache] = {}
    runnables: dict[str, Runnable] = {}
    for name, tool in tools.items():
        cache = None
        if tool.spec.cache is not None:
            strategy = tool.spec.cache_strategy or settings.cache_strategy
            if strategy not in caches:
                caches[strategy] = _cache(strategy, name, settings, registry)
            cache = ResultCache(caches[strategy], tool.spec, _tell_broken)
        runnables[name] = Runnable(tool, cache)
    return runnables


def _tell_broken(tool: str, reason: str) -> None:
    logs.bound(tool=tool).error("cache_strategy_failed", reason=reason, effect="this worker caches it no more")


def _cache(strategy: str, tool: str, settings: WorkerSettings, registry: Registry) -> Cache:
    factory = registry.cache_strategies.get(strategy)
    if factory is None:
        known = ", ".join(sorted(registry.cache_strategies))
        raise LoadError(f"tool {tool!r}: no cache strategy {strategy!r}; there is {known}", tool=tool)
    return Cache(factory(settings.cache_entries), settings.cache_entries, settings.cache_bytes)


def run(
    settings: WorkerSettings,
    tools: Mapping[str, Tool[..., Any]],
    registry: Registry,
    lane: Lane,
    identity: bytes,
    parent: int,
) -> None:
    """Serve until told to stop. Runs in the main thread of a process of its own."""
    os.setpgid(0, 0)  # so that the tool's own children can be ended with it
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(2, 1)  # what a tool prints must not mix with the supervisor's own output
    register_for_fence()
    keep_freed()
    armed = Armed()
    install(armed, lane)
    logs.configure(settings.log_format, settings.log_level)
    runnables = prepare(settings, tools, registry)
    caches = {id(one.cache.store): one.cache.store for one in runnables.values() if one.cache is not None}.values()
    runner = Runner(runnables, lane, armed, logs.bound, settings.max_result)
    with connected(settings.address, identity) as socket:
        serve(socket, lane, runner, os.getpid(), (lambda: _figures(caches)) if caches else None)


def _figures(caches: Collection[Cache]) -> dict[str, Any]:
    """What ``toolring status`` shows of a worker beside its jobs."""
    total: Counter[str] = Counter()
    for cache in caches:
        total.update(cache.stats())
    return {"cache": dict(total)}
