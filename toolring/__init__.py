"""toolring: run the tools that agents call in a ring of supervised worker processes.

The public names load on first use, so that ``import toolring`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolring.client.aio import AsyncClient as AsyncClient
    from toolring.client.aio import AsyncHandle as AsyncHandle
    from toolring.client.aio import AsyncStream as AsyncStream
    from toolring.client.aio_cluster import AsyncCluster as AsyncCluster
    from toolring.client.aio_cluster import AsyncClusterHandle as AsyncClusterHandle
    from toolring.client.cluster import Cluster as Cluster
    from toolring.client.cluster_handle import ClusterHandle as ClusterHandle
    from toolring.client.feed import Progress as Progress
    from toolring.client.handles import Handle as Handle
    from toolring.client.handles import Stream as Stream
    from toolring.client.stored import AsyncStoredResult as AsyncStoredResult
    from toolring.client.stored import StoredResult as StoredResult
    from toolring.client.sync import Client as Client
    from toolring.context import Context as Context
    from toolring.context import remaining as remaining
    from toolring.declare import Tool as Tool
    from toolring.declare import tool as tool
    from toolring.errors import Retry as Retry
    from toolring.errors import ToolringError as ToolringError
    from toolring.metrics import monitor as monitor
    from toolring.plugins.markers import hookimpl as hookimpl
    from toolring.spec import ToolSpec as ToolSpec
    from toolring.tracing import trace_headers as trace_headers
    from toolring.tracing import traced as traced
    from toolring.workers.pools.aio import AsyncPool as AsyncPool
    from toolring.workers.pools.buffers import BufferPool as BufferPool
    from toolring.workers.pools.objects import ObjectPool as ObjectPool
    from toolring.workers.pools.pool import Pool as Pool
    from toolring.workers.pools.resource import resource as resource
    from toolring.workers.services.service import AsyncService as AsyncService
    from toolring.workers.services.service import Service as Service

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "toolring.client.aio",
    "AsyncCluster": "toolring.client.aio_cluster",
    "AsyncClusterHandle": "toolring.client.aio_cluster",
    "AsyncHandle": "toolring.client.aio",
    "AsyncService": "toolring.workers.services.service",
    "AsyncPool": "toolring.workers.pools.aio",
    "AsyncStoredResult": "toolring.client.stored",
    "AsyncStream": "toolring.client.aio",
    "BufferPool": "toolring.workers.pools.buffers",
    "Client": "toolring.client.sync",
    "Cluster": "toolring.client.cluster",
    "ClusterHandle": "toolring.client.cluster_handle",
    "Context": "toolring.context",
    "Handle": "toolring.client.handles",
    "ObjectPool": "toolring.workers.pools.objects",
    "Pool": "toolring.workers.pools.pool",
    "Progress": "toolring.client.feed",
    "Retry": "toolring.errors",
    "Service": "toolring.workers.services.service",
    "StoredResult": "toolring.client.stored",
    "Stream": "toolring.client.handles",
    "Tool": "toolring.declare",
    "ToolSpec": "toolring.spec",
    "ToolringError": "toolring.errors",
    "hookimpl": "toolring.plugins.markers",
    "monitor": "toolring.metrics",
    "remaining": "toolring.context",
    "resource": "toolring.workers.pools.resource",
    "tool": "toolring.declare",
    "trace_headers": "toolring.tracing",
    "traced": "toolring.tracing",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604 - the names of _HOMES, sorted


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'toolring' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
