"""Balancers of a node, which may be anybody's code: one that fails is given up, and what is placed by nobody waits in
the line for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from toolring.policy.balance import Balancer


class Guarded:
    """One balancer, until it fails."""

    __slots__ = ("_balancer", "_tell", "_took", "broken", "keyed", "name")

    def __init__(self, name: str, balancer: Balancer, tell: Callable[[str, dict[str, Any]], None]) -> None:
        """``tell`` takes a note for the log."""
        self.name = name
        self.keyed = balancer.keyed
        self.broken = False
        self._balancer = balancer
        self._took: Callable[[int, float], None] | None = getattr(balancer, "took", None)
        self._tell = tell

    @property
    def learns(self) -> bool:
        return self._took is not None

    def place(self, point: int, loads: Sequence[float | None]) -> int | None:
        """The member for a job; None: nobody in particular."""
        if self.broken:
            return None
        try:
            at = self._balancer.place(point, loads)
            if type(at) is int and 0 <= at < len(loads) and loads[at] is not None:
                return at
            self._fail(f"it placed a job with member {at!r} of {len(loads)}, which can't take any")
        except BaseException as error:  # whatever it is, the node goes on
            self._fail(f"{type(error).__name__}: {error}")
        return None

    def took(self, member: int, seconds: float) -> None:
        if self.broken or self._took is None:
            return
        try:
            self._took(member, seconds)
        except BaseException as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, why: str) -> None:
        self.broken = True
        self._tell("balancer_failed", {"balancer": self.name, "reason": why})
