"""A client of several nodes: who gets a call is decided here, so no router stands between callers and nodes.

Each node is a whole supervisor with its workers, and the one that accepted a job owns it to the end. A key's nodes are
a list: the first runs its calls, so that caches stay warm, and the next take over while it is gone. Nothing is copied.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

import psutil

from toolring.client.cluster_handle import ClusterHandle
from toolring.client.feed import WINDOW, OnProgress
from toolring.client.handles import Stream
from toolring.client.nodes import LOOKS, Key, Nodes
from toolring.client.sync import Client
from toolring.errors import InvalidArguments, ToolringError, Unreachable
from toolring.protocol import CALL, KEEP
from toolring.spec import ToolSpec


class Cluster:
    """Calls the tools of several nodes. Thread-safe.

    Args:
        nodes: their addresses, or addresses with weights (a node of weight 2 gets twice as many keys).
        strategy: who gets a key: ``consistent_hash``, ``rendezvous``, ``range`` (with ``ranges``), ``random``, or the
            name of a balancer (``p2c``, ``peak_ewma``, ``least_outstanding``, ``round_robin``, a plugin's).
        replication: how many nodes a key's list has: so many are tried, one after the other. No job is copied. 2 by
            default, if there are as many.
        ranges: for ``range``: the key with which each node's range begins, by its address; one of them is empty.
        caller: as in ``Client``.
        connect_timeout: seconds to wait until the first node answers, before Unreachable is raised.
        lost_after: seconds of silence after which a node counts as lost.

    Raises:
        ConfigError: no node, one twice, more replication than nodes, an unknown strategy, ranges that don't fit.
    """

    def __init__(
        self,
        nodes: Iterable[str] | Mapping[str, float],
        *,
        strategy: str = "consistent_hash",
        replication: int | None = None,
        ranges: Mapping[str, Key] | None = None,
        caller: str = "",
        connect_timeout: float = 5.0,
        lost_after: float = 1.0,
    ) -> None:
        connect = partial(Client, caller=caller, connect_timeout=lost_after)
        self._nodes = Nodes(nodes, connect, strategy, replication, ranges or {}, lost_after)
        self._guard = threading.Lock()
        self._jobs: list[ClusterHandle] = []
        """Those in hand, and some that were answered a moment ago."""
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="toolring-cluster", daemon=True)
        try:
            self._nodes.wait_for_one(connect_timeout)
        except BaseException:
            self._nodes.close()
            raise
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all sessions: calls that are still waited for are cancelled by their nodes."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._watcher.join()
        self._nodes.close()

    # ---- calling

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        key: str | None = None,
        partition: str = "",
        priority: str = "normal",
        queue_timeout: float | None = None,
        route: Key | None = None,
    ) -> Any:
        """Run a tool at one of its key's nodes and return its result; see ``Client.call``.

        Args:
            route: the key that decides about the node; by default the tool's affine argument, else all arguments.

        Raises:
            ToolringError: whatever it ended in; OutcomeUnknown if its node was lost while it had it, and it may not be
                repeated; Unreachable if no node takes it.
        """
        handle = self._submit(name, arguments, timeout, key, CALL, partition, priority, queue_timeout, route, True)
        try:
            return handle.result()
        except BaseException:
            if not handle.job.settled:
                handle.cancel()
            raise

    def submit(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        key: str | None = None,
        partition: str = "",
        priority: str = "normal",
        queue_timeout: float | None = None,
        route: Key | None = None,
    ) -> ClusterHandle:
        """Start a tool and return a handle at once; see ``Client.submit``. If its node is lost, and it may be repeated,
        another takes it over."""
        return self._submit(name, arguments, timeout, key, KEEP, partition, priority, queue_timeout, route, False)

    def stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        window: int = WINDOW,
        on_progress: OnProgress | None = None,
        route: Key | None = None,
    ) -> Stream:
        """Run a generator at one of its key's nodes; see ``Client.stream``. No other node goes on with it."""
        point, tried = self._nodes.point(name, arguments, route), list[str]()
        while (node := self._nodes.choose(point, tried)) is not None:
            try:
                return node.client.stream(name, arguments, timeout=timeout, window=window, on_progress=on_progress)
            except Unreachable:
                tried.append(node.address)
            finally:
                self._nodes.ended(node, 0.0, node.address in tried or None)
        raise Unreachable(f"{name}: no node takes it (tried: {', '.join(tried)})", tool=name, tried=tried)

    def map(
        self,
        name: str,
        arguments: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        window: int = 256,
        errors: str = "raise",
        partition: str = "",
        priority: str = "normal",
    ) -> Iterator[Any]:
        """Run a tool over many arguments, each at its key's node; an iterator of results, in order. At most ``window``
        calls are under way. ``errors="return"`` gives an error in place of its result, else the first is raised."""
        if window < 1 or errors not in ("raise", "return"):
            text = f"window={window!r} must be at least 1, and errors={errors!r} either 'raise' or 'return'"
            raise InvalidArguments(text, argument="window" if window < 1 else "errors")
        source, under_way = iter(arguments), deque[ClusterHandle]()
        try:
            while True:
                while len(under_way) < window and (call := next(source, None)) is not None:
                    under_way.append(
                        self._submit(name, call, timeout, None, CALL, partition, priority, None, None, False)
                    )
                if not under_way:
                    return
                try:
                    yield under_way.popleft().result()
                except ToolringError as error:
                    if errors == "raise":
                        raise
                    yield error
        finally:
            for handle in under_way:
                handle.cancel()

    # ---- looking

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Of each node, by its address: ``state`` (up, ejected, probing, down), ``weight``, ``in_flight`` (calls that
        this client has there), and ``local``."""
        return {
            node.address: {
                "state": state.name.lower(),
                "weight": node.weight,
                "in_flight": node.in_flight,
                "local": self.is_local(node.address),
            }
            for node, state in self._nodes.all()
        }

    def preference(self, route: Key) -> list[str]:
        """The nodes of a key, as many as ``replication``, in the order in which they are tried. A tool's calls have the
        value of its affine argument for a key."""
        return self._nodes.preference(route)

    @staticmethod
    def is_local(node: str) -> bool:
        """Does an address belong to this machine?"""
        if not node.startswith("tcp://"):
            return True
        host = node.removeprefix("tcp://").rpartition(":")[0].strip("[]")
        try:
            there = {found[4][0] for found in socket.getaddrinfo(host, None)}
        except OSError:
            return False
        here = {one.address.partition("%")[0] for some in psutil.net_if_addrs().values() for one in some}
        return bool(there & here)

    def status(self) -> dict[str, dict[str, Any]]:
        """What each node tells of itself, by its address; or ``error`` if it doesn't."""
        found: dict[str, dict[str, Any]] = {}
        for node, _ in self._nodes.all():
            try:
                found[node.address] = node.client.status()
            except ToolringError as error:
                found[node.address] = {"error": error.to_wire()}
        return found

    def tools(self) -> list[ToolSpec]:
        """What the nodes serve."""
        return self._nodes.specs()

    def add(self, node: str, weight: float = 1.0) -> None:
        """Use another node. Only its share of the keys moves, and only once it has answered. Raises ConfigError, and
        then nothing has changed; so does ``remove``."""
        self._nodes.add(node, weight)

    def remove(self, node: str) -> None:
        """Send nothing more to a node. What it has it answers; then its session ends. Raises ConfigError."""
        self._nodes.remove(node)

    # ---- inside

    def _submit(
        self,
        name: str,
        arguments: Mapping[str, Any] | None,
        timeout: float | None,
        key: str | None,
        mode: int,
        partition: str,
        priority: str,
        queue_timeout: float | None,
        route: Key | None,
        now: bool,
    ) -> ClusterHandle:
        handle = ClusterHandle(
            self._nodes,
            name,
            arguments,
            self._nodes.point(name, arguments, route),
            timeout=timeout,
            key=key,
            mode=mode,
            partition=partition,
            priority=priority,
            queue_timeout=queue_timeout,
            now=now,
        )
        handle.start()
        with self._guard:
            self._jobs.append(handle)
        return handle

    def _watch(self) -> None:
        """Ask for signs of life, and let others go on with what a lost node had."""
        pause = self._nodes.lost_after / LOOKS
        last = time.monotonic()
        while not self._stop.wait(pause):
            now = time.monotonic()
            if now - last > 2 * pause + 0.1:
                self._nodes.forgive()
            last = now
            self._nodes.look()
            with self._guard:
                jobs, self._jobs = self._jobs, []
            for handle in jobs:
                if handle.job.settled:
                    handle.goes_on(handle.job, handle.job.run_seconds)
            with self._guard:
                self._jobs += [handle for handle in jobs if not handle.over]
