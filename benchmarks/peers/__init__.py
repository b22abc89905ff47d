"""The systems that are compared, each behind the same few methods; a module is imported only for its own system."""

from __future__ import annotations

from importlib import import_module

from benchmarks.peers.base import System

KNOWN = {
    "toolring": "benchmarks.peers.ours:Toolring",
    "pool": "benchmarks.peers.pools:Pool",
    "executor": "benchmarks.peers.pools:Executor",
    "pebble": "benchmarks.peers.pools:Pebble",
    "grpc": "benchmarks.peers.rpc:Grpc",
    "drain": "benchmarks.peers.bare:Draining",
    "nocopy": "benchmarks.peers.bare:NoCopy",
    "packed": "benchmarks.peers.bare:Packed",
    "proxy": "benchmarks.peers.bare:Proxy",
}
"""Short name -> where its class is. The order is that of the table."""

TITLES = {
    "toolring": "**toolring**",
    "pool": "multiprocessing.Pool (apply_async)",
    "executor": "ProcessPoolExecutor",
    "pebble": "pebble",
    "grpc": "gRPC, one sync process",
    "drain": "bare draining broker",
    "nocopy": "bare draining broker, copy=False, credit 64",
    "packed": "bare packed broker",
    "proxy": "bare zmq.proxy",
}


def make(name: str) -> System:
    module, _, attribute = KNOWN[name].partition(":")
    system: System = getattr(import_module(module), attribute)()
    return system
