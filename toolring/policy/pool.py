"""A pool of members that are reached over a network: who gets the next call, and what is learnt from how it went.

What services and clusters share: a balancer, the calls that each member has under way, and each member's health. Pure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from toolring.policy.balance import Balancer, Members
from toolring.policy.health import Health, HealthPolicy

Factory = Callable[[Members], Balancer]


class Pool:
    """Members by index, in the order of their names.

    Args:
        weights: of each, by its name; in the order in which they are numbered.
        loads: calls that each has under way, read whenever somebody is chosen.
        factory: makes the balancer.
        policy: when a member is left alone.
        floor: calls under way up to which a member is not too busy for the keys that belong to it.
    """

    __slots__ = ("_balancer", "_loads", "_took", "health", "keyed", "names")

    def __init__(
        self,
        weights: Mapping[str, float],
        loads: Sequence[float],
        factory: Factory,
        policy: HealthPolicy,
        floor: float = 1.0,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.names = tuple(weights)
        self.health = Health(len(self.names), policy, clock)
        self._loads = loads
        self._balancer = factory(Members(self.names, tuple(weights.values()), floor=floor, random=draw, clock=clock))
        self._took: Callable[[int, float], None] | None = getattr(self._balancer, "took", None)
        self.keyed = self._balancer.keyed

    def choose(self, point: int = 0, avoid: Collection[int] = ()) -> int | None:
        """The member for a call; None if all are to be avoided. Who isn't able gets one only if nobody else is left."""
        if not self.health.unwell and not avoid:
            return self._balancer.place(point, self._loads)
        left = [load if index not in avoid else None for index, load in enumerate(self._loads)]
        able = self.health.able()
        loads = [load if able[index] else None for index, load in enumerate(left)]
        if all(load is None for load in loads):
            loads = left
            if all(load is None for load in loads):
                return None
        return self._balancer.place(point, loads)

    def preference(self, point: int, count: int) -> list[int]:
        """The first so many members for a key, each of which would get it if those before it were gone, whatever they
        have to do now. Raises ValueError if there are not so many."""
        if not 0 < count <= len(self.names):
            raise ValueError(f"{count} of {len(self.names)} members")
        loads: list[float | None] = [0.0] * len(self.names)
        found: list[int] = []
        for _ in range(count):
            found.append(self._balancer.place(point, loads))
            loads[found[-1]] = None
        return found

    def began(self, index: int) -> None:
        """A call goes there."""
        if self.health.unwell:
            self.health.began(index)

    def ended(self, index: int, seconds: float, failed: bool | None) -> None:
        """It is over. ``failed`` is None if that says nothing of the member."""
        if failed is None:
            self.health.gave_up(index)
            return
        if self._took is not None:
            self._took(index, seconds)
        if failed:
            self.health.failed(index)
        else:
            self.health.succeeded(index, seconds)
