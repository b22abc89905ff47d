"""Consistent hashing: a key keeps its member while others come and go.

Karger et al., "Consistent Hashing and Random Trees" (STOC 1997), with virtual nodes: each member owns many points
of a 64-bit circle, and a key belongs to the first point at or after its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from typing_extensions import Buffer

POINTS: Final = 150
"""Points of a member of weight 1: with 100 members the fullest has about 1.25 x the mean."""
MOST_POINTS: Final = 12_000
"""Points of all, or as many as members of weight 1 would have: larger weights have fewer points each."""
LEAST_POINTS: Final = 75
"""Points of a member on average: smaller weights have more each."""


def hash64(data: Buffer) -> int:
    """A point on the circle, by XXH3. Stable over processes, machines and versions: it is part of the routing contract.
    For placement only: whoever chooses keys can make some meet."""
    return xxh3_64_intdigest(data)


class Ring:
    """An immutable snapshot of members on the circle. Build a new one when the members change.

    Args:
        members: names, or names with weights (a member of weight 2 owns twice as many points).
        points: of a member of weight 1. All together have between ``LEAST_POINTS`` a member and ``MOST_POINTS``, or as
            many as without weights, so weights that are far above or below 1 are taken in relation to the others.

    Raises:
        ValueError: no member, a duplicate, or a weight that isn't a positive number.
    """

    __slots__ = ("_owners", "_points", "members")

    def __init__(self, members: Sequence[str] | Mapping[str, float], points: int = POINTS) -> None:
        weights = dict(members) if isinstance(members, Mapping) else dict.fromkeys(members, 1.0)
        if not weights:
            raise ValueError("a ring needs at least one member")
        if len(weights) != len(members):
            raise ValueError("a member is on the ring twice")
        for name, weight in weights.items():
            if not 0 < weight < inf:
                raise ValueError(f"member {name!r}: weight {weight} is not a positive number")
        owned: dict[int, str] = {}
        for name, count in zip(weights, _shares(list(weights.values()), points), strict=True):
            for number in range(max(1, round(count))):
                point = hash64(f"{name}:{number}".encode())
                owned[point] = min(name, owned.get(point, name))  # a collision goes to the same one in any order
        self.members = tuple(weights)
        self._points = sorted(owned)
        self._owners = [owned[point] for point in self._points]

    def find(self, point: int) -> str:
        """The member that owns a point of the circle."""
        index = bisect_left(self._points, point)
        return self._owners[index if index < len(self._owners) else 0]

    def arcs(self) -> Iterator[tuple[str, int]]:
        """Each stretch of the circle between two points, and who owns it, all around; together they are 2**64 long."""
        before = self._points[-1] - (1 << 64)
        for point, owner in zip(self._points, self._owners, strict=True):
            yield owner, point - before
            before = point

    def walk(self, point: int) -> Iterator[str]:
        """All members in the order in which they would inherit the point, each once."""
        owners = self._owners
        start = bisect_left(self._points, point)
        seen: set[str] = set()
        for index in range(start, start + len(owners)):
            owner = owners[index % len(owners)]
            if owner not in seen:
                seen.add(owner)
                yield owner
                if len(seen) == len(self.members):
                    return

    def preference(self, point: int, count: int) -> list[str]:
        """The first ``count`` distinct members for a point. Raises ValueError if there are not so many."""
        if not 0 < count <= len(self.members):
            raise ValueError(f"{count} of {len(self.members)} members")
        walk = self.walk(point)
        return [next(walk) for _ in range(count)]


def _shares(weights: Sequence[float], points: int) -> list[float]:
    """How many points each has: ``points`` for weight 1, if all together are then neither too many nor too few. Else
    the bound is shared in proportion, so another member takes from all, or gives them, little more than its share."""
    count, largest = len(weights), max(weights)
    relative = [weight / largest for weight in weights]  # the sum of the weights themselves may be infinite
    wanted = sum(relative) * points * largest
    most, least = max(MOST_POINTS, count * points), count * min(points, LEAST_POINTS)
    if least <= wanted <= most:
        return [weight * points for weight in weights]
    one = min(max(wanted, least), most) / sum(relative)
    return [weight * one for weight in relative]
