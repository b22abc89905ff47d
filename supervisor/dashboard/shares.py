"""Which slot of a group owns which share of the keys, where a ring decides. Made in steps: a large group has many
points."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from toolring.policy.ring import Ring

CIRCLE: Final = 1 << 64
MOST_DRAWN: Final = 8
"""Up to so many members each arc is told; of more nobody could see them."""
_STEP: Final = 256


class Shares:
    """Of each group's ring; remembered as long as it has that one."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Ring, dict[str, Any]]] = {}

    def of(self, group: str, ring: Ring) -> Generator[None, None, dict[str, Any]]:
        """``shares`` by member, exact but for their rounding, and ``arcs``: member and share of the circle, in their
        order from its beginning, or none if there are too many."""
        known = self._known.get(group)
        if known is not None and known[0] is ring:
            return known[1]
        lengths = dict.fromkeys(ring.members, 0)
        arcs: list[tuple[str, int]] = []
        for number, (owner, length) in enumerate(ring.arcs()):
            lengths[owner] += length
            if len(lengths) <= MOST_DRAWN:
                if arcs and arcs[-1][0] == owner:
                    arcs[-1] = owner, arcs[-1][1] + length
                else:
                    arcs.append((owner, length))
            if number % _STEP == _STEP - 1:
                yield
        found = {
            "shares": {member: length / CIRCLE for member, length in lengths.items()},
            "arcs": [[member, round(length / CIRCLE, 7)] for member, length in arcs],
        }
        self._known[group] = (ring, found)
        return found

    def forget(self, groups: set[str]) -> None:
        """There are only these any more."""
        self._known = {name: known for name, known in self._known.items() if name in groups}
