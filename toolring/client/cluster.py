"""A client of several nodes: who gets a call is decided here, so no router stands between callers and nodes.

Each node is a whole supervisor with its workers, and the one that accepted a job owns it to the end. A key's nodes are
a list: the first runs its calls, so that caches stay warm, and the next take over while it is gone. Nothing is copied.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import psutil

from toolring import address as addresses
from toolring.client.arguments import encoded, route_of
from toolring.client.feed import WINDOW, OnProgress
from toolring.client.handles import Handle, Stream
from toolring.client.sync import Client
from toolring.errors import Busy, ConfigError, InvalidArguments, OutcomeUnknown, ToolringError, Unreachable
from toolring.plugins.registry import load_plugins
from toolring.policy.balance import Random, Rendezvous, RingOverflow
from toolring.policy.health import HealthPolicy
from toolring.policy.pool import Factory, Pool
from toolring.policy.ranges import Ranges, in_order
from toolring.policy.ring import hash64
from toolring.protocol import CALL, KEEP
from toolring.spec import ToolSpec

STRATEGIES: Final[Mapping[str, Factory]] = {
    "consistent_hash": RingOverflow,
    "rendezvous": Rendezvous,
    "random": Random,
}
"""By name, beside ``range``, which has to be told the ranges."""
FLOOR: Final = 64.0
"""Calls under way up to which a node is never too busy for the keys that belong to it."""
LOOKS: Final = 5
"""How often a node is asked for a sign of life in the time after which it counts as lost."""
NODES: Final = HealthPolicy(errors=3, eject=2.0, longest=30.0, panic=0.0, fall=1, rise=1)
Key = str | bytes | int


class Node:
    """One node, as this client knows it."""

    __slots__ = ("address", "client", "since", "weight")

    def __init__(self, address: str, weight: float, client: Client) -> None:
        self.address = address
        self.weight = weight
        self.client = client
        self.since = time.monotonic()
        """From when on its silence counts."""

    @property
    def in_flight(self) -> int:
        return len(self.client._conversation.pending)


class _Loads(Sequence[float]):
    """Calls that each node has under way, looked up only for those that somebody asks for."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, index: Any) -> Any:
        return self._nodes[index].in_flight

    def __iter__(self) -> Iterator[float]:
        return iter([node.in_flight for node in self._nodes])


class ClusterHandle:
    """A job that was submitted to a cluster, wherever it is now."""

    def __init__(
        self, cluster: Cluster, tool: str, arguments: Mapping[str, Any] | None, point: int, **how: Any
    ) -> None:
        self._cluster = cluster
        self._tool = tool
        self._arguments = arguments
        self._point = point
        self._how = how
        timeout = how.pop("timeout")
        self._until = None if timeout is None else time.monotonic() + timeout
        self._moving = threading.RLock()
        self._tried: list[str] = []
        self._began = 0.0
        self._node: Node | None = None
        self._handle: Handle | None = None
        self._error: ToolringError | None = None
        self._over = False

    @property
    def node(self) -> str:
        """The address of the node that has it."""
        assert self._node is not None
        return self._node.address

    @property
    def tried(self) -> list[str]:
        """The nodes that had it before, and were lost or refused it."""
        return list(self._tried)

    @property
    def id(self) -> str:
        """The job's id at the node that has it."""
        return self._job.id

    @property
    def _job(self) -> Handle:
        assert self._handle is not None
        return self._handle

    def done(self) -> bool:
        """Is there an answer? Never waits."""
        return self._error is not None or (self._job.done() and not self._goes_on(self._job))

    def cancel(self) -> None:
        """Ask its node to end the job; ``result`` then raises Cancelled (or had come before)."""
        self._job.cancel()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Raises the job's error, or TimeoutError after ``timeout`` seconds (the job goes on)."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            handle = self._job
            if not handle.settled:
                handle._owner._wait(handle, None if end is None else max(0.0, end - time.monotonic()))
            if self._goes_on(handle):
                continue
            if self._error is not None:
                raise self._error
            return handle.outcome()

    def exception(self, timeout: float | None = None) -> ToolringError | None:
        """Wait, and return the job's error; None if it succeeded."""
        try:
            self.result(timeout)
        except ToolringError as error:
            return error
        return None

    # ---- from node to node

    def _start(self) -> None:
        """Send it to the next node of its list that takes it. Raises Unreachable, or what its arguments are refused
        for."""
        cluster = self._cluster
        while True:
            node = cluster._choose(self._point, self._tried)
            if node is None:
                tried = ", ".join(self._tried) or "none"
                raise Unreachable(f"{self._tool}: no node takes it (tried: {tried})", tool=self._tool, tried=self.tried)
            timeout = None if self._until is None else max(0.001, self._until - time.monotonic())
            self._began = time.monotonic()
            try:
                self._handle = node.client._submit(self._tool, self._arguments, timeout, **self._how)
            except Unreachable:
                cluster._ended(node, 0.0, True)
                self._tried.append(node.address)
                continue
            except BaseException:
                cluster._ended(node, 0.0, None)
                raise
            self._node = node
            return

    def _goes_on(self, handle: Handle, took: float | None = None) -> bool:
        """It is settled at one node: has another taken it over, or does one now? False: that is its answer. ``took``:
        what that was, if nobody waited for it."""
        cluster = self._cluster
        with self._moving:
            if self._handle is not handle:
                return True
            if self._over or self._node is None:
                return False
            self._over = True
            node, lost = self._node, isinstance(handle.error, Unreachable)
            refused = not lost and _refused(handle)
            seconds = time.monotonic() - self._began if took is None else took
            cluster._ended(node, seconds, None if refused else lost)
            if cluster.closed or not (lost or refused):
                return False
            if lost and _was_sent(handle) and not cluster._repeatable(self._tool):
                text = f"{self._tool}: the node {node.address} was lost while it had it, and it may not be repeated"
                self._error = OutcomeUnknown(text, tool=self._tool, node=node.address, job=handle.id)
                return False
            self._tried.append(node.address)
            if len(self._tried) >= cluster.replication:
                return False
            try:
                self._start()
            except ToolringError as error:
                self._error = error if lost else None  # a refusal says more than that nobody else is there
                return False
            self._over = False
            return True


def _was_sent(handle: Handle) -> bool:
    return handle.error is None or bool(handle.error.facts.get("sent", True))


def _refused(handle: Handle) -> bool:
    """Did its node not even accept it?"""
    if handle.answer is None or handle.answer.status == 0:
        return False
    try:
        handle.outcome()
    except Busy:
        return True
    except ToolringError:
        pass
    return False


class Cluster:
    """Calls the tools of several nodes. Thread-safe.

    Args:
        nodes: their addresses, or addresses with weights (a node of weight 2 gets twice as many keys).
        strategy: who gets a key: ``consistent_hash``, ``rendezvous``, ``range`` (with ``ranges``), ``random``, or the
            name of a balancer (``p2c``, ``peak_ewma``, ``least_outstanding``, ``round_robin``, a plugin's).
        replication: how many nodes a key's list has: so many are tried, one after the other. No job is copied.
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
        replication: int = 2,
        ranges: Mapping[str, Key] | None = None,
        caller: str = "",
        connect_timeout: float = 5.0,
        lost_after: float = 1.0,
    ) -> None:
        weights = dict(nodes) if isinstance(nodes, Mapping) else _once(nodes)
        self.replication = replication
        self.strategy = strategy
        self._lost_after = lost_after
        self._open = partial(Client, caller=caller, connect_timeout=connect_timeout)
        self._ranges = {address: _bytes(key) for address, key in (ranges or {}).items()}
        self._factory = self._find(strategy)
        self._lock = threading.RLock()
        self._jobs: list[ClusterHandle] = []
        """Those in hand, and some that were answered a moment ago."""
        self._leaving: list[Node] = []
        self._nodes: dict[str, Node] = {}
        self.closed = False
        try:
            for address, weight in weights.items():
                self._nodes[address] = Node(address, weight, self._open(address))
            self._pool = self._made()
        except BaseException:
            self._close_all()
            raise
        for index in range(len(self._nodes)):
            self._pool.health.checked(index, False)  # until they have said something
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="toolring-cluster", daemon=True)
        self._watcher.start()
        self._connect(connect_timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all sessions: calls that are still waited for are cancelled by their nodes."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self._stop.set()
        self._watcher.join()
        self._close_all()

    def _close_all(self) -> None:
        for node in [*self._nodes.values(), *self._leaving]:
            node.client.close()

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
            if handle._handle is not None and not handle._handle.settled:
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
        point, tried = self._point(name, arguments, route), list[str]()
        while (node := self._choose(point, tried)) is not None:
            try:
                return node.client.stream(name, arguments, timeout=timeout, window=window, on_progress=on_progress)
            except Unreachable:
                tried.append(node.address)
            finally:
                self._ended(node, 0.0, node.address in tried or None)
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
            raise InvalidArguments(f"map(window={window!r}, errors={errors!r}): at least 1; raise or return")
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
        with self._lock:
            found = zip(self._nodes.values(), self._pool.health.members, strict=True)
            return {
                node.address: {
                    "state": member.state.name.lower(),
                    "weight": node.weight,
                    "in_flight": node.in_flight,
                    "local": self.is_local(node.address),
                }
                for node, member in found
            }

    def preference(self, route: Key) -> list[str]:
        """The nodes of a key, as many as ``replication``, in the order in which they are tried."""
        with self._lock:
            pool = self._pool
        return [pool.names[index] for index in pool.preference(self._place(_bytes(route)), self.replication)]

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
        for node in list(self._nodes.values()):
            try:
                found[node.address] = node.client.status()
            except ToolringError as error:
                found[node.address] = {"error": error.to_wire()}
        return found

    def tools(self) -> list[ToolSpec]:
        """What the nodes serve."""
        specs = {name: spec for node in self._nodes.values() for name, spec in node.client._conversation.tools.items()}
        return sorted(specs.values(), key=lambda spec: spec.name)

    # ---- members

    def add(self, node: str, weight: float = 1.0) -> None:
        """Use another node. Only its share of the keys moves, and only once it has answered. Raises ConfigError."""
        client = self._open(node)
        with self._lock:
            if node in self._nodes:
                client.close()
                raise ConfigError(f"the cluster has the node {node} already", key="nodes")
            self._nodes[node] = Node(node, weight, client)
            self._change()
            self._pool.health.checked(self._pool.names.index(node), False)

    def remove(self, node: str) -> None:
        """Send nothing more to a node. What it has it answers; then its session ends. Raises ConfigError."""
        with self._lock:
            if node not in self._nodes:
                raise ConfigError(f"the cluster has no node {node}; there is {', '.join(self._nodes)}", key="nodes")
            if len(self._nodes) <= self.replication:
                raise ConfigError(f"{len(self._nodes)} nodes can't be less with replication={self.replication}")
            self._leaving.append(self._nodes.pop(node))
            self._change()

    def _change(self) -> None:
        """Another pool for other members; what is known of those who stay is kept. Under the lock."""
        before, self._pool = self._pool, self._made()
        for index, name in enumerate(self._pool.names):
            if name in before.names:
                self._pool.health.adopt(index, before.health.members[before.names.index(name)])

    def _made(self) -> Pool:
        nodes = list(self._nodes.values())
        if not 0 < self.replication <= len(nodes):
            raise ConfigError(f"replication={self.replication}, with {len(nodes)} nodes", key="replication")
        try:
            weights = {node.address: node.weight for node in nodes}
            return Pool(weights, _Loads(nodes), self._factory, NODES, FLOOR)
        except ValueError as error:
            raise ConfigError(f"the nodes can't be used: {error}", key="nodes") from None

    def _find(self, strategy: str) -> Factory:
        if strategy == "range":
            return lambda members: Ranges(members, self._ranges)
        if self._ranges:
            raise ConfigError(f"ranges= does nothing with strategy={strategy!r}", key="ranges")
        if strategy in STRATEGIES:
            return STRATEGIES[strategy]
        found = load_plugins().balancers
        if strategy not in found:
            known = ", ".join(sorted({*STRATEGIES, "range", *found}))
            raise ConfigError(f"no strategy {strategy!r}; there is {known}", key="strategy")
        factory: Factory = found[strategy]
        return factory

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
            self,
            name,
            arguments,
            self._point(name, arguments, route),
            timeout=timeout,
            key=key,
            mode=mode,
            partition=partition,
            priority=priority,
            queue_timeout=queue_timeout,
            now=now,
        )
        handle._start()
        with self._lock:
            self._jobs.append(handle)
        return handle

    def _point(self, name: str, arguments: Mapping[str, Any] | None, route: Key | None) -> int:
        """Where among all keys a call stands."""
        if not self._pool.keyed:
            return 0
        if route is not None:
            return self._place(_bytes(route))
        spec = self._spec(name)
        if self.strategy == "range":
            value = (arguments or {}).get(spec.affinity or "") if spec is not None else None
            if value is None:
                raise InvalidArguments(f"{name}: a range needs route=, or a tool with affinity", tool=name)
            return self._place(_bytes(value))
        if spec is not None and spec.affinity is not None and arguments:
            return hash64(route_of(spec.affinity, arguments))
        return hash64(memoryview(encoded(name, arguments))) if arguments else 0

    def _place(self, key: bytes) -> int:
        return in_order(key) if self.strategy == "range" else hash64(key)

    def _spec(self, name: str) -> ToolSpec | None:
        for node in self._nodes.values():
            spec = node.client._conversation.tools.get(name)
            if spec is not None:
                return spec
        return None

    def _repeatable(self, name: str) -> bool:
        spec = self._spec(name)
        return spec is not None and spec.repeatable

    def _choose(self, point: int, tried: Sequence[str]) -> Node | None:
        with self._lock:
            if self.closed:
                raise Unreachable("the cluster's client is closed")
            pool = self._pool
            avoid = {index for index, name in enumerate(pool.names) if name in tried} if tried else ()
            index = pool.choose(point, avoid)
            if index is None:
                return None
            pool.began(index)
            return self._nodes[pool.names[index]]

    def _ended(self, node: Node, seconds: float, failed: bool | None) -> None:
        with self._lock:
            if node.address in self._nodes:
                self._pool.ended(self._pool.names.index(node.address), seconds, failed)

    # ---- watching

    def _connect(self, patience: float) -> None:
        end = time.monotonic() + patience
        while not any(node.client._conversation.node for node in self._nodes.values()):
            if time.monotonic() > end:
                self.close()
                raise Unreachable(f"no node answers: {', '.join(self._nodes)}")
            self._look()
            time.sleep(0.005)
        self._look()

    def _watch(self) -> None:
        """Ask for signs of life, give up who gives none, and let others go on with what it had."""
        pause = self._lost_after / LOOKS
        last = time.monotonic()
        while not self._stop.wait(pause):
            now = time.monotonic()
            if now - last > 2 * pause + 0.1:  # this process was held up: their silence may be its own
                for node in self._nodes.values():
                    node.since = now
            last = now
            self._look()
            with self._lock:
                jobs, self._jobs = self._jobs, []
            for handle in jobs:
                if handle._job.settled:
                    handle._goes_on(handle._job, handle._job.run_seconds)
            with self._lock:
                self._jobs += [handle for handle in jobs if not handle._over]

    def _look(self) -> None:
        with self._lock:
            done = [node for node in self._leaving if not node.in_flight]
            self._leaving = [node for node in self._leaving if node.in_flight]
            gone = [node for node in self._nodes.values() if not self._answers(node)]
        for node in done:
            node.client.close()
        for node in gone:
            lost, node.client = node.client, self._open(node.address)
            node.since = time.monotonic()
            lost._end(f"the node {node.address} gives no sign of life")

    def _answers(self, node: Node) -> bool:
        """Ask a node for a sign of life, and judge it by the last that it gave. False: it is lost. Under the lock."""
        client, now = node.client, time.monotonic()
        heard = client._knock()
        known = bool(client._conversation.node)
        quiet = now - max(heard, node.since)
        up = known and quiet <= self._lost_after
        self._pool.health.checked(self._pool.names.index(node.address), up)
        return up or not known


def _once(nodes: Iterable[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for address in nodes:
        if addresses.check(address, any_port=False) in found:
            raise ConfigError(f"the node {address} is there twice", key="nodes")
        found[address] = 1.0
    return found


def _bytes(key: Key) -> bytes:
    """A key's bytes, in an order that is that of the keys."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    if isinstance(key, int) and not isinstance(key, bool) and -(2**63) <= key < 2**63:
        return (key + 2**63).to_bytes(8, "big")
    raise InvalidArguments(f"{key!r} is no key: a text, bytes or a whole number is wanted", argument="route")
