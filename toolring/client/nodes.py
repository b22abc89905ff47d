"""The nodes of a cluster as one client knows them: who gets a key, who is there, who comes and goes.

Silence is judged here: each node is asked for a sign of life several times within the time after which it counts as
lost. Its client is closed then, so that what it had is settled, and another one waits for its return.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final

from toolring import address as addresses
from toolring.client.arguments import encoded, route_of
from toolring.client.sync import Client
from toolring.errors import ConfigError, InvalidArguments, Unreachable
from toolring.plugins.registry import load_plugins
from toolring.policy.balance import Random, Rendezvous, RingOverflow
from toolring.policy.health import HealthPolicy
from toolring.policy.health import State as Health
from toolring.policy.pool import Factory, Pool
from toolring.policy.ranges import Ranges, in_order
from toolring.policy.ring import hash64
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
REPLICATION: Final = 2
"""Nodes of a key's list, if there are so many and nobody says otherwise."""
RENEW_SECONDS: Final = 5.0
"""After so long another client is made for a node that was never there: one that waits anew from the beginning."""
NODES: Final = HealthPolicy(errors=3, eject=2.0, longest=30.0, panic=0.0, fall=1, rise=1)
Key = str | bytes | int


class Node:
    """One of them."""

    __slots__ = ("address", "client", "drains", "since", "weight")

    def __init__(self, address: str, weight: float, client: Client) -> None:
        self.address = address
        self.weight = weight
        self.client = client
        self.since = time.monotonic()
        """From when on its silence counts."""
        self.drains = ""
        """The life of it that is about to end, as it said."""

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


class Nodes:
    """All of them. Raises ConfigError for what doesn't fit; see ``Cluster``."""

    def __init__(
        self,
        nodes: Iterable[str] | Mapping[str, float],
        connect: Callable[[str], Client],
        strategy: str,
        replication: int | None,
        ranges: Mapping[str, Key],
        lost_after: float,
    ) -> None:
        weights = _weights(nodes)
        if replication is not None and (type(replication) is not int or replication < 1):
            raise ConfigError(f"replication={replication!r} is not a whole number of nodes", key="replication")
        if not 0 < lost_after < inf:
            raise ConfigError(f"lost_after={lost_after!r} is not a positive number of seconds", key="lost_after")
        self._replication = replication
        self.lost_after = lost_after
        self.closed = False
        self._connect = connect
        self._in_order = strategy == "range"
        self._factory = _factory(strategy, {address: key_bytes(key) for address, key in ranges.items()})
        self._lock = threading.RLock()
        self._specs: dict[str, ToolSpec] = {}
        self._leaving: list[Node] = []
        self._nodes: dict[str, Node] = {}
        try:
            for address, weight in weights.items():
                self._nodes[address] = Node(address, weight, connect(address))
            self._pool = self._made(self._nodes)
        except BaseException:
            self.close()
            raise
        for index in range(len(self._nodes)):
            self._pool.health.checked(index, False)  # until they have said something

    @property
    def replication(self) -> int:
        return self._replication or min(REPLICATION, len(self._nodes))

    def close(self) -> None:
        self.closed = True
        for node in [*self._nodes.values(), *self._leaving]:
            node.client.close()

    # ---- who gets a call

    def choose(self, point: int, tried: Sequence[str]) -> Node | None:
        """The next node for a key; None if all were tried."""
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

    def ended(self, node: Node, seconds: float, failed: bool | None) -> None:
        """A call there is over; ``failed`` is None if that says nothing of the node."""
        with self._lock:
            if node.address in self._nodes:
                self._pool.ended(self._pool.names.index(node.address), seconds, failed)

    def drains(self, node: Node) -> None:
        """It refuses what is new, since it is about to end: nothing more goes there until another life of it is up."""
        with self._lock:
            node.drains = node.client._conversation.node
            if node.address in self._nodes:
                self._pool.health.checked(self._pool.names.index(node.address), False)

    def point(self, name: str, arguments: Mapping[str, Any] | None, route: Key | None) -> int:
        """Where among all keys a call stands."""
        if not self._pool.keyed:
            return 0
        if route is not None:
            return self.place(route)
        spec = self._specs.get(name)
        if self._in_order:
            value = (arguments or {}).get(spec.affinity or "") if spec is not None else None
            if value is None:
                raise InvalidArguments(f"{name}: a range needs route=, or a tool with affinity", tool=name)
            return self.place(value)
        if spec is not None and spec.affinity is not None and arguments:
            value = arguments.get(spec.affinity)
            if isinstance(value, str | bytes | int) and not isinstance(value, bool):
                return self.place(value)
            return hash64(route_of(spec.affinity, arguments))
        return hash64(memoryview(encoded(name, arguments))) if arguments else 0

    def place(self, key: Key) -> int:
        data = key_bytes(key)
        return in_order(data) if self._in_order else hash64(data)

    def preference(self, key: Key) -> list[str]:
        with self._lock:
            pool = self._pool
        return [pool.names[index] for index in pool.preference(self.place(key), self.replication)]

    def repeatable(self, name: str) -> bool:
        """May a tool run again although it had begun? Not as far as nobody knows."""
        spec = self._specs.get(name)
        return spec is not None and spec.repeatable

    def specs(self) -> list[ToolSpec]:
        return sorted(self._specs.values(), key=lambda spec: spec.name)

    # ---- who is there

    def all(self) -> list[tuple[Node, Health]]:
        with self._lock:
            members = self._pool.health.members
            return [(node, member.state) for node, member in zip(self._nodes.values(), members, strict=True)]

    def add(self, address: str, weight: float) -> None:
        weight = _weight(address, weight)
        client = self._connect(address)
        with self._lock:
            if address in self._nodes:
                client.close()
                raise ConfigError(f"the cluster has the node {address} already", key="nodes")
            try:
                self._change({**self._nodes, address: Node(address, weight, client)})
            except ConfigError:
                client.close()
                raise
            self._pool.health.checked(self._pool.names.index(address), False)

    def remove(self, address: str) -> None:
        with self._lock:
            if address not in self._nodes:
                known = ", ".join(self._nodes)
                raise ConfigError(f"the cluster has no node {address}; there is {known}", key="nodes")
            leaves = self._nodes[address]
            self._change({name: node for name, node in self._nodes.items() if node is not leaves})
            self._leaving.append(leaves)

    def _change(self, nodes: dict[str, Node]) -> None:
        """Another pool for other members, or ConfigError and no change; what is known of those who stay is kept. Under
        the lock."""
        before, self._pool = self._pool, self._made(nodes)
        self._nodes = nodes
        for index, name in enumerate(self._pool.names):
            if name in before.names:
                self._pool.health.adopt(index, before.health.members[before.names.index(name)])

    def _made(self, nodes: dict[str, Node]) -> Pool:
        if len(nodes) < (self._replication or 1):
            text = f"replication={self._replication or 1} needs as many nodes, and there would be {len(nodes)}"
            raise ConfigError(text, key="replication")
        try:
            weights = {node.address: node.weight for node in nodes.values()}
            return Pool(weights, _Loads(list(nodes.values())), self._factory, NODES, FLOOR)
        except ValueError as error:
            raise ConfigError(f"the nodes can't be used: {error}", key="nodes") from None

    # ---- signs of life

    def wait_for_one(self, patience: float) -> None:
        """Until a node has answered. Raises Unreachable."""
        end = time.monotonic() + patience
        self.look()
        while not any(state is Health.UP for _, state in self.all()):
            if time.monotonic() > end:
                raise Unreachable(f"no node answers: {', '.join(self._nodes)}")
            time.sleep(0.005)
            self.look()

    def forgive(self) -> None:
        """This process was held up: their silence may be its own."""
        now = time.monotonic()
        with self._lock:
            for node in self._nodes.values():
                node.since = now

    def look(self) -> None:
        """Ask all for a sign of life, give up who gives none, and leave who was removed and has nothing in hand."""
        with self._lock:
            done = [node for node in self._leaving if not node.in_flight]
            self._leaving = [node for node in self._leaving if node.in_flight]
            gone = [node for node in self._nodes.values() if not self._answers(node)]
        for node in done:
            node.client.close()
        for node in gone:
            lost, node.client = node.client, self._connect(node.address)
            node.since = time.monotonic()
            lost._end(f"the node {node.address} gives no sign of life")

    def _answers(self, node: Node) -> bool:
        """Ask a node, and judge it by the last that it said. False: its client is of no use any more."""
        client, now = node.client, time.monotonic()
        conversation = client._conversation
        heard = client._knock() if conversation.node else client._listen()
        known = bool(conversation.node)
        quiet = now - max(heard, node.since)
        up = known and quiet <= self.lost_after and conversation.node != node.drains
        if up:
            self._specs.update(conversation.tools)
        self._pool.health.checked(self._pool.names.index(node.address), up)
        return quiet <= (self.lost_after if known else RENEW_SECONDS)


def _factory(strategy: str, starts: Mapping[str, bytes]) -> Factory:
    if strategy == "range":
        return lambda members: Ranges(members, starts)
    if starts:
        raise ConfigError(f"ranges= does nothing with strategy={strategy!r}", key="ranges")
    if strategy in STRATEGIES:
        return STRATEGIES[strategy]
    found = load_plugins().balancers
    if strategy not in found:
        known = ", ".join(sorted({*STRATEGIES, "range", *found}))
        raise ConfigError(f"no strategy {strategy!r}; there is {known}", key="strategy")
    factory: Factory = found[strategy]
    return factory


def _weights(nodes: Any) -> dict[str, float]:
    if isinstance(nodes, str) or not isinstance(nodes, Iterable):
        raise ConfigError(f"nodes={nodes!r} is not a list of addresses", key="nodes")
    pairs = nodes.items() if isinstance(nodes, Mapping) else [(address, 1.0) for address in nodes]
    found: dict[str, float] = {}
    for address, weight in pairs:
        if not isinstance(address, str):
            raise ConfigError(f"{address!r} is not the address of a node", key="nodes")
        if addresses.check(address, any_port=False) in found:
            raise ConfigError(f"the node {address} is there twice", key="nodes")
        found[address] = _weight(address, weight)
    return found


def _weight(address: str, weight: Any) -> float:
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < inf:
        raise ConfigError(f"the weight {weight!r} of {address} is not a positive number", key="nodes")
    return float(weight)


def key_bytes(key: Key) -> bytes:
    """A key's bytes, in an order that is that of the keys. Raises InvalidArguments."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    if isinstance(key, int) and not isinstance(key, bool) and -(2**63) <= key < 2**63:
        return (key + 2**63).to_bytes(8, "big")
    raise InvalidArguments(f"{key!r} is no key: a text, bytes or a whole number is wanted", argument="route")
