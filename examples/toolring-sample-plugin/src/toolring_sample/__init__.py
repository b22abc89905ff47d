"""A sample plugin: the hooks. What they offer lies in modules of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from toolring import hookimpl
from toolring.plugins.specs import CacheStrategy, MetricsSink
from toolring_sample.fifo import FIFO
from toolring_sample.jsonl import JSONLines


@hookimpl
def toolring_cache_strategies() -> Mapping[str, Callable[[int], CacheStrategy]]:
    return {"sample_fifo": FIFO}


@hookimpl
def toolring_metrics_sinks() -> Mapping[str, Callable[[], MetricsSink]]:
    return {"sample_jsonl": JSONLines}
