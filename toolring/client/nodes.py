"""The nodes of a cluster as one caller knows them: who gets a key, who is there, who comes and goes.

Silence is judged here: each node is asked for a sign of life several times within the time after which it counts as
lost. Its client is closed then, so that what it had is settled, and another one waits for its return. Nothing of it
waits, so that it serves threads and event loops alike.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final, Generic, Protocol, TypeVar

from toolring.client.arguments import encoded, route_of
from toolring.client.routes import Key, factory_of, key_bytes, weight_of, weights_of
from toolring.client.session import Conversation
from toolring.errors import ConfigError, InvalidArguments, ResultGone, Unreachable
from toolring.policy.health import HealthPolicy
from toolring.policy.health import State as Health
from toolring.policy.pool import Pool
from toolring.policy.ranges import in_order
from toolring.policy.ring import hash64
from toolring.spec import ToolSpec

FLOOR: Final = 64.0
"""Calls under way up to which a node is never too busy for the keys that belong to it."""
LOOKS: Final = 5
"""How often a node is asked for a sign of life in the time after which it counts as lost."""
REPLICATION: Final = 2
"""Nodes of a key's list, if there are so many and nobody says otherwise."""
RENEW_SECONDS: Final = 5.0
"""After so long another client is made for a node that was never there: one that waits anew from the beginning."""
NODES: Final = HealthPolicy(errors=3, eject=2.0, longest=30.0, panic=0.0, fall=1, rise=1)
WAIT_SECONDS: Final = 0.005
"""Between two looks, while somebody waits for the first node to answer."""


class Peer(Protocol):
    """A client of one node, as far as its cluster looks after it."""

    @property
    def _conversation(self) -> Conversation: ...

    def _knock(self) -> float:
        """Ask the node for a sign of life. Gives when the last was heard."""

    def _listen(self) -> float:
        """Take in what has arrived. Gives when the last was heard."""

    def _end(self, why: str, lost: bool = False) -> None:
        """Settle all that is pending, and close. ``lost``: the node is not there to hear of it."""


C = TypeVar("C", bound=Peer)


class Node(Generic[C]):
    """One of them."""

    __slots__ = ("address", "client", "drains", "lost", "since", "weight")

    def __init__(self, address: str, weight: float, client: C, since: float) -> None:
        self.address = address
        self.weight = weight
        self.client = client
        self.since = since
        """From when on its silence counts."""
        self.drains = ""
        """The life of it that is about to end, as it said."""
        self.lost = False
        """Its client was ended, and there is no other yet."""

    @property
    def in_flight(self) -> int:
        return len(self.client._conversation.pending)


class _Loads(Sequence[float]):
    """Calls that each node has under way, looked up only for those that somebody asks for."""

    def __init__(self, nodes: list[Node[Any]]) -> None:
        self._nodes = nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, index: Any) -> Any:
        return self._nodes[index].in_flight

    def __iter__(self) -> Iterator[float]:
        return iter([node.in_flight for node in self._nodes])


class Nodes(Generic[C]):
    """All of them. Raises ConfigError for what doesn't fit; see ``Cluster``."""

    def __init__(
        self,
        nodes: Iterable[str] | Mapping[str, float],
        connect: Callable[[str], C],
        strategy: str,
        replication: int | None,
        ranges: Mapping[str, Key],
        lost_after: float,
        connect_timeout: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        weights = weights_of(nodes)
        if replication is not None and (type(replication) is not int or replication < 1):
            raise ConfigError(f"replication={replication!r} is not a whole number of nodes", key="replication")
        if not 0 < lost_after < inf:
            raise ConfigError(f"lost_after={lost_after!r} is not a positive number of seconds", key="lost_after")
        if not 0 <= connect_timeout < inf:
            text = f"connect_timeout={connect_timeout!r} is not a number of seconds"
            raise ConfigError(text, key="connect_timeout")
        self._replication = replication
        self.patience = connect_timeout
        """Seconds that anybody waits for a node that may have a call."""
        self.lost_after = lost_after
        self.pause = lost_after / LOOKS
        """Seconds from one look to the next."""
        self.closed = False
        self.why_closed = "the cluster was closed"
        self._connect = connect
        self._clock = clock
        self._looked = clock()
        self._in_order = strategy == "range"
        self._factory = factory_of(strategy, ranges)
        self._lock = threading.RLock()
        self._specs: dict[str, ToolSpec] = {}
        self._once: set[str] = set()
        """Tools of which a node has ever said that they may not be repeated."""
        self._leaving: list[Node[C]] = []
        self._nodes: dict[str, Node[C]] = {}
        self._new: set[str] = set()
        """Those of the beginning that have not answered yet, and have time for it: ``lost_after``, or the patience."""
        _all.add(self)
        try:
            for address, weight in weights.items():
                self._nodes[address] = Node(address, weight, connect(address), self._looked)
            self._pool = self._made(self._nodes)
            self._new.update(self._nodes)
        except BaseException:
            self.close()
            raise
        for index in range(len(self._nodes)):
            self._pool.health.checked(index, False)  # until they have said something

    @property
    def replication(self) -> int:
        return self._replication or min(REPLICATION, len(self._nodes))

    def close(self) -> None:
        with self._lock:
            self.closed = True
        for node in [*self._nodes.values(), *self._leaving]:
            _end(node.client, self.why_closed, lost=not node.client._conversation.node)

    # ---- who gets a call

    def choose(self, point: int, tried: Sequence[str], among: Collection[str] | None = None) -> Node[C] | None:
        """The next node for a key, if need be one of some; None if all were tried, or are not there. Raises Unreachable
        if all is over."""
        with self._lock:
            if self.closed:
                raise Unreachable(self.why_closed)
            pool = self._pool
            limited = tried or among is not None or pool.health.unwell
            index = pool.choose(point, self._avoid(tried, among) if limited else ())
            if index is None:
                return None
            pool.began(index)
            return self._nodes[pool.names[index]]

    def _avoid(self, tried: Sequence[str], among: Collection[str] | None) -> set[int]:
        members = enumerate(zip(self._pool.names, self._pool.health.members, strict=True))
        return {
            index
            for index, (name, member) in members
            if name in tried or member.state is Health.DOWN or (among is not None and name not in among)
        }

    def ended(self, node: Node[C], seconds: float, failed: bool | None) -> None:
        """A call there is over; ``failed`` is None if that says nothing of the node."""
        with self._lock:
            if node.address in self._nodes:
                self._pool.ended(self._pool.names.index(node.address), seconds, failed)

    def drains(self, node: Node[C]) -> None:
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
        """May a tool run again although it had begun? Not if nobody knows, or if one node has ever said otherwise."""
        spec = self._specs.get(name)
        return spec is not None and spec.repeatable and name not in self._once

    def specs(self) -> list[ToolSpec]:
        return sorted(self._specs.values(), key=lambda spec: spec.name)

    # ---- who is there

    def all(self) -> list[tuple[Node[C], Health]]:
        with self._lock:
            states = [Health.DOWN if self.closed else member.state for member in self._pool.health.members]
            return list(zip(self._nodes.values(), states, strict=True))

    def unheard(self, life: str) -> Iterator[float]:
        """Seconds to sleep, again and again, until the node that calls its present life so is known, or all are."""
        end = self._clock() + self.patience
        while self._clock() < end:
            known = [node.client._conversation.node for node, _ in self.all()]
            if life in known or all(known):
                return
            self.look()
            yield WAIT_SECONDS

    def of_life(self, life: str) -> Node[C]:
        """The node that calls its present life so. Raises ResultGone; Unreachable if one isn't there that may be it."""
        with self._lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            if node.client._conversation.node == life:
                return node
        if missing := [node.address for node in nodes if not node.client._conversation.node]:
            raise Unreachable(f"no node that is there has stored it; {', '.join(missing)} can't be asked")
        raise ResultGone("none of the nodes has stored it, or the one that had was started anew")

    @property
    def there(self) -> bool:
        """Has any node answered lately?"""
        health = self._pool.health
        return health.unwell < len(health.members) or any(one.state is not Health.DOWN for one in health.members)

    def add(self, address: str, weight: float) -> None:
        weight = weight_of(address, weight)
        client = self._connect(address)
        with self._lock:
            try:
                if address in self._nodes:
                    raise ConfigError(f"the cluster has the node {address} already", key="nodes")
                self._change({**self._nodes, address: Node(address, weight, client, self._clock())})
            except BaseException:
                client._end("it is not used", lost=True)
                raise
            self._pool.health.checked(self._pool.names.index(address), False)

    def remove(self, address: str) -> None:
        with self._lock:
            if address not in self._nodes:
                known = ", ".join(self._nodes)
                raise ConfigError(f"the cluster has no node {address}; there is {known}", key="nodes")
            leaves = self._nodes[address]
            self._change({name: node for name, node in self._nodes.items() if node is not leaves})
            self._new.discard(address)
            self._leaving.append(leaves)

    def _change(self, nodes: dict[str, Node[C]]) -> None:
        """Another pool for other members, or ConfigError and no change; what is known of those who stay is kept. Under
        the lock."""
        if self.closed:
            raise Unreachable(self.why_closed)
        before, self._pool = self._pool, self._made(nodes)
        self._nodes = nodes
        for index, name in enumerate(self._pool.names):
            if name in before.names:
                self._pool.health.adopt(index, before.health.members[before.names.index(name)])

    def _made(self, nodes: dict[str, Node[C]]) -> Pool:
        if len(nodes) < (self._replication or 1):
            text = f"replication={self._replication or 1} needs as many nodes, and there would be {len(nodes)}"
            raise ConfigError(text, key="replication")
        try:
            weights = {node.address: node.weight for node in nodes.values()}
            return Pool(weights, _Loads(list(nodes.values())), self._factory, NODES, FLOOR)
        except ValueError as error:
            raise ConfigError(f"the nodes can't be used: {error}", key="nodes") from None

    # ---- signs of life

    def missing(self, until: float | None = None) -> Iterator[float]:
        """Seconds to sleep, again and again, until a node is there. Raises Unreachable when that was long enough, or at
        a moment before that."""
        if self.there:
            return
        end = min(self._clock() + self.patience, inf if until is None else until)
        while True:
            self.look()
            if self.closed:
                raise Unreachable(self.why_closed)
            if self.there:
                return
            if self._clock() >= end:
                raise Unreachable(f"no node answers: {', '.join(self._nodes)}")
            yield WAIT_SECONDS

    def coming(self, point: int | None = None, until: float | None = None) -> Iterator[float]:
        """Seconds to sleep, again and again, as long as a key's turn is that of a node that is only about to answer for
        the first time: else it would go elsewhere at the beginning, and home later. Without a key: of any node."""
        if not self._new:
            return
        end = min(self._clock() + self.patience, inf if until is None else until)
        while not self.closed and self._clock() < end:
            self.glance()
            if not self._turn_of_new(point):
                return
            yield WAIT_SECONDS

    def _turn_of_new(self, point: int | None) -> bool:
        with self._lock:
            pool = self._pool
            if point is None or not pool.keyed or not self._new:
                return bool(self._new)
            for index in pool.preference(point, len(pool.names)):
                if pool.names[index] in self._new:
                    return True
                if pool.health.members[index].state is not Health.DOWN:
                    return False
            return False

    def glance(self) -> None:
        """A look, for those who wait: however many they are, there is one at a time."""
        with self._lock:
            due = self._clock() - self._looked >= WAIT_SECONDS / 2
        if due:
            self.look()

    def look(self) -> None:
        """Ask all for a sign of life, give up who gives none, and leave who was removed and has nothing in hand.

        What ends is ended whatever becomes of the others, and before anybody is connected to anew.
        """
        with self._lock:
            if self.closed:
                return
            now, before = self._clock(), self._looked
            self._looked = now
            if now - before > 2 * self.pause + 0.1:  # this process was held up: their silence may be its own
                for node in [*self._nodes.values(), *self._leaving]:
                    node.since = now
            leaving = [(node, self._quiet(node, now)) for node in self._leaving]
            done = [(node, quiet) for node, quiet in leaving if not node.in_flight]
            idle = [node for node, _ in done]
            lost = [node for node, quiet in leaving if node not in idle and quiet > self.lost_after]
            self._leaving = [node for node in self._leaving if node not in idle and node not in lost]
            for node in self._nodes.values():
                if not self._answers(node, now):
                    node.lost = True
                    lost.append(node)
            ended = [(node, node.client) for node in lost]
        for node, quiet in done:  # one that is not there would be waited for
            gone = quiet > 2 * self.pause or not node.client._conversation.node
            _end(node.client, "the node was removed", lost=gone)
        for node, client in ended:
            _end(client, f"the node {node.address} gives no sign of life", lost=True)
        for node in lost:
            self._renew(node)

    def _renew(self, node: Node[C]) -> None:
        """Another client for a node whose last was ended. If there can't be one now, the next look tries again."""
        with self._lock:
            if self.closed or not node.lost or self._nodes.get(node.address) is not node:
                return
            with suppress(Exception):  # whatever this process is short of: the others must be looked after
                node.client, node.since, node.lost = self._connect(node.address), self._clock(), False

    def _quiet(self, node: Node[C], now: float) -> float:
        """Ask a node for a sign of life. Gives the seconds since its last; inf if nothing can be had from it."""
        client = node.client
        if node.lost:
            return inf
        try:
            heard = client._knock() if client._conversation.node else client._listen()
        except Exception:  # what it says can't be understood, or there is no socket to hear it by
            return inf
        return now - max(heard, node.since)

    def _answers(self, node: Node[C], now: float) -> bool:
        """Judge a node by the last that it said. False: its client is of no use any more."""
        quiet, conversation = self._quiet(node, now), node.client._conversation
        known = bool(conversation.node)
        up = known and quiet <= self.lost_after and conversation.node != node.drains
        if up:
            self._specs.update(conversation.tools)
            self._once.update(name for name, spec in conversation.tools.items() if not spec.repeatable)
        if known or quiet > min(self.lost_after, self.patience):
            self._new.discard(node.address)
        self._pool.health.checked(self._pool.names.index(node.address), up)
        return quiet <= (self.lost_after if known else RENEW_SECONDS)


def _end(client: Peer, why: str, lost: bool) -> None:
    """Of several: a fault of one is no reason to keep the others."""
    with suppress(Exception):
        client._end(why, lost=lost)


_all: weakref.WeakSet[Nodes[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child the connections are its parent's, and the lock may be held by a thread that isn't here."""
    for nodes in _all:
        nodes._lock = threading.RLock()
        nodes.closed = True
        nodes.why_closed = "this cluster was made before a fork; make one in each process"


os.register_at_fork(after_in_child=_after_fork)
