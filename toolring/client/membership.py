"""What clusters tell of their nodes, and change of them, for threads and event loops alike: nothing of it waits."""

from __future__ import annotations

import socket
from typing import Any, Generic

import psutil

from toolring.client.nodes import C, Nodes
from toolring.client.routes import Key


class Membership(Generic[C]):
    """The nodes of a cluster, as its user sees them."""

    _nodes: Nodes[C]

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Of each node, by its address: ``state`` (up, ejected, probing, down), ``weight``, ``in_flight`` (calls that
        this client has there), and ``local``. All are down once the cluster is closed."""
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

    def add(self, node: str, weight: float = 1.0) -> None:
        """Use another node. Only its share of the keys moves, and only once it has answered. Raises ConfigError, and
        then nothing has changed; so does ``remove``."""
        self._nodes.add(node, weight)

    def remove(self, node: str) -> None:
        """Send nothing more to a node. What it has it answers; then its session ends. Raises ConfigError."""
        self._nodes.remove(node)
