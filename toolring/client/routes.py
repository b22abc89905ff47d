"""What a cluster is told of its nodes, and of keys: addresses, weights, strategy and ranges, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from math import inf
from typing import Any, Final

from toolring import address as addresses
from toolring import logs
from toolring.errors import ConfigError, InvalidArguments
from toolring.plugins.registry import load_plugins
from toolring.policy.balance import Random, Rendezvous, RingOverflow
from toolring.policy.guarded import Safe
from toolring.policy.pool import Factory
from toolring.policy.ranges import Ranges

Key = str | bytes | int
STRATEGIES: Final[Mapping[str, Factory]] = {
    "consistent_hash": RingOverflow,
    "rendezvous": Rendezvous,
    "random": Random,
}
"""By name, beside ``range``, which has to be told the ranges."""


def factory_of(strategy: str, ranges: Mapping[str, Key]) -> Factory:
    """What makes the balancer of a strategy. Raises ConfigError."""
    starts = {address: key_bytes(key) for address, key in ranges.items()}
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
    return partial(Safe, strategy, found[strategy], _tell)


def _tell(name: str, facts: dict[str, Any]) -> None:
    logs.bound().warning(name, **facts)


def weights_of(nodes: Any) -> dict[str, float]:
    """Of each node, by its address. Raises ConfigError."""
    if isinstance(nodes, str) or not isinstance(nodes, Iterable):
        raise ConfigError(f"nodes={nodes!r} is not a list of addresses", key="nodes")
    pairs = nodes.items() if isinstance(nodes, Mapping) else [(address, 1.0) for address in nodes]
    found: dict[str, float] = {}
    for address, weight in pairs:
        if not isinstance(address, str):
            raise ConfigError(f"{address!r} is not the address of a node", key="nodes")
        if addresses.check(address, any_port=False) in found:
            raise ConfigError(f"the node {address} is there twice", key="nodes")
        found[address] = weight_of(address, weight)
    return found


def weight_of(address: str, weight: Any) -> float:
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < inf:
        raise ConfigError(f"the weight {weight!r} of {address} is not a positive number", key="nodes")
    return float(weight)


def key_bytes(key: Key) -> bytes:
    """A key's bytes, in an order that is that of the keys. Raises InvalidArguments."""
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError:
            raise InvalidArguments(f"route {key!a:.100} can't be encoded as UTF-8", argument="route") from None
    if isinstance(key, bytes):
        return key
    if isinstance(key, int) and not isinstance(key, bool) and -(2**63) <= key < 2**63:
        return (key + 2**63).to_bytes(8, "big")
    raise InvalidArguments(f"{key!r} is no key: a text, bytes or a whole number is wanted", argument="route")
