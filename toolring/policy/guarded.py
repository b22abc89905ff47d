"""Balancers, which may be anybody's code: one that fails is given up. What is then placed by nobody waits in a node's
line for all, and goes to whoever has the least under way where there is no such line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from toolring.policy.balance import Balancer, LeastOutstanding, Members
from toolring.policy.ring import Ring

Tell = Callable[[str, dict[str, Any]], None]
"""Takes a note for the log."""
Catches = type[BaseException] | tuple[type[BaseException], ...]
OF_ITS_OWN: Final[Catches] = (Exception, SystemExit)
"""What a balancer raises, and nobody else: a thread may be interrupted while it is asked, too."""


class Guarded:
    """One balancer, until it fails."""

    __slots__ = ("_balancer", "_catches", "_tell", "_took", "broken", "keyed", "name", "ring")

    def __init__(self, name: str, balancer: Balancer, tell: Tell, catches: Catches = BaseException) -> None:
        self.name = name
        self.keyed = balancer.keyed
        self.broken = False
        self.ring: Ring | None = getattr(balancer, "ring", None)
        """That keys stand on, if it places them by one."""
        self._balancer = balancer
        self._took: Callable[[int, float], None] | None = getattr(balancer, "took", None)
        self._tell = tell
        self._catches = catches

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
        except self._catches as error:  # whatever it is, the node goes on
            self._fail(f"{type(error).__name__}: {error}")
        return None

    def took(self, member: int, seconds: float) -> None:
        if self.broken or self._took is None:
            return
        try:
            self._took(member, seconds)
        except self._catches as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, why: str) -> None:
        self.broken = True
        self._tell("balancer_failed", {"balancer": self.name, "reason": why})


class Safe:
    """A balancer for a pool of members: the one that was asked for, until it fails, then the least outstanding."""

    __slots__ = ("_guarded", "_otherwise", "keyed")

    def __init__(self, name: str, factory: Callable[[Members], Balancer], tell: Tell, members: Members) -> None:
        self._guarded = Guarded(name, factory(members), tell, OF_ITS_OWN)
        self._otherwise = LeastOutstanding(members)
        self.keyed = self._guarded.keyed

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        at = self._guarded.place(point, loads)
        return self._otherwise.place(point, loads) if at is None else at

    def took(self, member: int, seconds: float) -> None:
        self._guarded.took(member, seconds)
