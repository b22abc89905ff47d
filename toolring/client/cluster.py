"""A client of several nodes: who gets a call is decided here, so no router stands between callers and nodes.

Each node is a whole supervisor with its workers, and the one that accepted a job owns it to the end. A key's nodes are
a list: the first runs its calls, so that caches stay warm, and the next take over while it is gone. Nothing is copied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Self

from toolring.client.batches import Call, Plan, Window
from toolring.client.cluster_handle import ClusterHandle, ClusterStream
from toolring.client.feed import WINDOW, Feed, OnProgress, checked
from toolring.client.handles import Handle, Stream
from toolring.client.journey import due
from toolring.client.mapping import mapped
from toolring.client.membership import Membership
from toolring.client.nodes import Nodes
from toolring.client.routes import Key
from toolring.client.session import BEAT_SECONDS
from toolring.client.stored import StoredResult, life_of
from toolring.client.sync import Client
from toolring.errors import ToolringError
from toolring.protocol import CALL, KEEP
from toolring.spec import ToolSpec

GLANCE_SECONDS: Final = 0.005
"""A thread waits at one node at a time; if answers of others are as welcome, it looks there so soon."""


class Cluster(Membership[Client]):
    """Calls the tools of several nodes. Thread-safe.

    Args:
        nodes: their addresses, or addresses with weights (a node of weight 2 gets twice as many keys).
        strategy: who gets a key: ``consistent_hash``, ``rendezvous``, ``range`` (with ``ranges``), ``random``, or the
            name of a balancer (``p2c``, ``peak_ewma``, ``least_outstanding``, ``round_robin``, a plugin's).
        replication: how many nodes a key's list has: so many are tried, one after the other. No job is copied. 2 by
            default, if there are as many.
        ranges: for ``range``: the key with which each node's range begins, by its address; one of them is empty.
        caller: as in ``Client``.
        connect_timeout: seconds to wait for a node to answer while none does, before Unreachable is raised.
        lost_after: seconds of silence after which a node counts as lost. So long each node has to answer for the first
            time, until its keys go elsewhere.

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
        self._nodes = Nodes(nodes, connect, strategy, replication, ranges or {}, lost_after, connect_timeout)
        self._guard = threading.Lock()
        self._jobs: list[ClusterHandle] = []
        """Those in hand, and some that were answered a moment ago."""
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="toolring-cluster", daemon=True)
        try:
            self._reach()
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
        if self._nodes.closed:
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

        def submit(client: Client, left: float | None) -> Handle:
            return client._submit(name, arguments, left, key, CALL, partition, priority, queue_timeout, now=True)

        handle = self._in_hand(self._start(name, arguments, timeout, route, submit))
        try:
            return handle.result()
        except BaseException:
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

        def submit(client: Client, left: float | None) -> Handle:
            return client._submit(name, arguments, left, key, KEEP, partition, priority, queue_timeout)

        return self._in_hand(self._start(name, arguments, timeout, route, submit))

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
        """Run a generator at one of its key's nodes; see ``Client.stream``. It is passed on while nodes
        refuse it; no other goes on with what has begun."""
        feed = Feed(checked(window))
        follow = feed.follow(on_progress is not None, None)

        def submit(client: Client, left: float | None) -> Handle:
            return client._submit(name, arguments, left, None, CALL, "", feed=feed, follow=follow, now=True)

        return ClusterStream(self._start(name, arguments, timeout, route, submit, measured=False), on_progress)

    def map(
        self,
        name: str,
        arguments: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        window: int | None = None,
        chunk: int = 1,
        ordered: bool = True,
        errors: str = "raise",
        progress: bool = False,
        partition: str = "",
        priority: str = "normal",
    ) -> Iterator[Any]:
        """Run a tool over many arguments, each call at its key's node; see ``Client.map``. A chunk goes as a whole to
        the node of its first call, and from there to the next, if it must."""
        plan = Plan(name, window, chunk, ordered, errors, timeout, priority)

        def send(calls: list[Call], timeout: float | None, chunk: bool) -> ClusterHandle:
            def submit(client: Client, left: float | None) -> Handle:
                return client._submit_piece(name, partition, priority, calls, left, chunk)

            return self._in_hand(self._start(name, calls[0], timeout, None, submit))

        def wait(under_way: Window[ClusterHandle]) -> None:
            self._wait_for(under_way, ordered)

        return mapped(plan, arguments, send, wait, progress, where=attrgetter("node"))

    # ---- looking

    def status(self) -> dict[str, dict[str, Any]]:
        """What each node tells of itself, by its address; or ``error`` if it doesn't."""
        found: dict[str, dict[str, Any]] = {}
        for node, _ in self._nodes.all():
            try:
                found[node.address] = node.client.status()
            except ToolringError as error:
                found[node.address] = {"error": error.to_wire()}
        return found

    def open_result(self, handle: str) -> StoredResult:
        """A stored result of one of the nodes, by its handle. Raises ResultGone."""
        life = life_of(handle)
        self._reach()
        for pause in self._nodes.unheard(life):
            time.sleep(pause)
        return self._nodes.of_life(life).client.open_result(handle)

    def tools(self) -> list[ToolSpec]:
        """What the nodes serve."""
        return self._nodes.specs()

    # ---- inside

    def _reach(self, until: float | None = None) -> None:
        """Wait until a node answers, if none does. Raises Unreachable."""
        for pause in self._nodes.missing(until):
            time.sleep(pause)

    def _start(
        self,
        name: str,
        arguments: Mapping[str, Any] | None,
        timeout: float | None,
        route: Key | None,
        submit: Callable[[Client, float | None], Handle],
        measured: bool = True,
    ) -> ClusterHandle:
        until = due(name, timeout)
        self._reach(until)
        point = self._nodes.point(name, arguments, route)
        for pause in self._nodes.coming(point, until):
            time.sleep(pause)
        handle = ClusterHandle(self._nodes, name, point, until, submit, measured=measured)
        handle.start()
        return handle

    def _in_hand(self, handle: ClusterHandle) -> ClusterHandle:
        """It is looked after even if nobody waits for it."""
        with self._guard:
            self._jobs.append(handle)
        return handle

    def _wait_for(self, window: Window[ClusterHandle], ordered: bool) -> None:
        """Until the first is answered, or one is to be sent again. If any will do, others are looked at soon."""
        patience = min(BEAT_SECONDS, max(0.0, window.next_look() - time.monotonic()))
        if not ordered or window.waits:
            patience = min(patience, GLANCE_SECONDS)
        first = next((piece.handle for piece in window.pieces if piece.out), None)
        if first is None:  # all were refused
            self._stop.wait(patience)
        else:
            with suppress(TimeoutError):
                first._wait(patience)
        for node, _ in self._nodes.all():
            node.client._listen()

    def _watch(self) -> None:
        """Ask for signs of life, and let others go on with what a lost node had."""
        while not self._stop.wait(self._nodes.pause):
            with suppress(Exception):  # whatever it is, the next look may go well
                self._nodes.look()
            with self._guard:
                jobs = list(self._jobs)
            for handle in jobs:
                job = handle.job
                if job.settled:
                    with suppress(Exception):  # it is that job's error: the others are to go on
                        handle.goes_on(job, job.run_seconds)
            left = [handle for handle in jobs if not handle.over]
            with self._guard:  # others have only added to them
                self._jobs[: len(jobs)] = left
