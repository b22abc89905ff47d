"""Which members of a pool may be used: those that keep failing, or are far slower than the others, are left alone.

Passive health is learnt from what is sent to them anyway (outlier detection, after Envoy's), active health from checks
that somebody makes. Pure: time comes in, nobody is called from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto
from math import inf
from statistics import median
from typing import Final

import msgspec


class State(Enum):
    UP = auto()
    EJECTED = auto()
    """It kept failing, or was slow: nothing is sent there for a while."""
    PROBING = auto()
    """One call at a time tries it out."""
    DOWN = auto()
    """Its checks fail."""


class Event(Enum):
    TOO_BAD = auto()
    WAITED = auto()
    SUCCEED = auto()
    FAIL = auto()
    CHECKS_FAIL = auto()
    CHECKS_PASS = auto()


S, E = State, Event
TABLE: Final[dict[State, dict[Event, State]]] = {
    S.UP: {E.TOO_BAD: S.EJECTED, E.CHECKS_FAIL: S.DOWN},
    S.EJECTED: {E.WAITED: S.PROBING, E.CHECKS_FAIL: S.DOWN},
    S.PROBING: {E.SUCCEED: S.UP, E.FAIL: S.EJECTED, E.CHECKS_FAIL: S.DOWN},
    S.DOWN: {E.CHECKS_PASS: S.UP},
}

_WEIGHT: Final = 0.2
"""Of the newest in a member's mean latency."""
_LEAST_CALLS: Final = 5
"""Calls of a member before its latency says anything."""


class IllegalEvent(Exception):
    """A bug: the event can't happen in this state. The member is unchanged."""


class HealthPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a member is left alone, and for how long. Shares are of all members, times seconds.

    Raises ValueError for what makes no sense.
    """

    errors: int = 5
    """Failures in a row after which it is ejected."""
    slower: float = 0.0
    """It is ejected if its calls take so many times what the median member's take; 0: slowness is no reason."""
    eject: float = 10.0
    """For how long, the first time; the second time twice as long, and so on."""
    longest: float = 300.0
    most: float = 0.5
    """No more than this share is ejected at once, so that a fault of all is not taken for one of each."""
    panic: float = 0.5
    """If less than this share may be used, all are: who is left would only be trampled."""
    fall: int = 2
    """Checks in a row that fail before it is down."""
    rise: int = 2
    """Checks in a row that pass before it is up again."""

    def __post_init__(self) -> None:
        for name in ("errors", "fall", "rise"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 1")
        for name in ("most", "panic"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a share: 0 to 1")
        for name in ("eject", "longest"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a positive number of seconds")
        if self.longest < self.eject:
            raise ValueError(f"longest={self.longest!r} is less than eject={self.eject!r}")
        if self.slower and not 1 < self.slower < inf:
            raise ValueError(f"slower={self.slower!r} must be more than 1, or 0")


class Member:
    """What is known of one."""

    __slots__ = ("calls", "checks", "errors", "latency", "state", "times", "trying", "until")

    def __init__(self) -> None:
        self.state = State.UP
        self.errors = 0
        """Failures in a row."""
        self.times = 0
        """How often it was ejected, less one for each success since it is up again."""
        self.until = 0.0
        """When its ejection ends."""
        self.trying = False
        """The one probe is under way."""
        self.checks = 0
        """Checks in a row that said otherwise than its state."""
        self.latency = 0.0
        """Seconds, a moving average over successes."""
        self.calls = 0


class Health:
    """That of all members of a pool, by their index."""

    __slots__ = ("_clock", "members", "policy", "unwell")

    def __init__(self, count: int, policy: HealthPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self._clock = clock
        self.members = [Member() for _ in range(count)]
        self.unwell = 0
        """Members that are not up; as long as there are none, nobody has to ask who is able."""

    # ---- may it be used?

    def able(self) -> list[bool]:
        """For each member, whether a call may go there now. True for all in a panic."""
        now = self._clock()
        found = [self._may(member, now) for member in self.members]
        used = sum(found)
        return found if used and used >= self.policy.panic * len(found) else [True] * len(found)

    def _may(self, member: Member, now: float) -> bool:
        if member.state is State.EJECTED and now >= member.until:
            self._step(member, Event.WAITED)
        return member.state is State.UP or (member.state is State.PROBING and not member.trying)

    # ---- what is learnt from calls

    def began(self, index: int) -> None:
        """A call goes there: it takes the probe, if that is what is wanted."""
        member = self.members[index]
        member.trying = member.state is State.PROBING

    def succeeded(self, index: int, seconds: float) -> None:
        member = self.members[index]
        member.errors = 0
        if member.state is State.PROBING:
            self._step(member, Event.SUCCEED)
        elif member.times:
            member.times -= 1
        member.calls += 1
        member.latency += (seconds - member.latency) * (_WEIGHT if member.calls > 1 else 1.0)
        if self.policy.slower and member.state is State.UP and self._is_slow(member):
            self._eject(member, Event.TOO_BAD)

    def failed(self, index: int) -> None:
        """A call failed, and it was the member's fault."""
        member = self.members[index]
        if member.state is State.PROBING:
            self._eject(member, Event.FAIL)
        elif member.state is State.UP:
            member.errors += 1
            if member.errors >= self.policy.errors:
                self._eject(member, Event.TOO_BAD)

    def gave_up(self, index: int) -> None:
        """A call ended in a way that says nothing of the member."""
        self.members[index].trying = False

    def adopt(self, index: int, member: Member) -> None:
        """What was known of a member elsewhere is known here."""
        self.unwell += (self.members[index].state is State.UP) - (member.state is State.UP)
        self.members[index] = member

    # ---- what is learnt from checks

    def checked(self, index: int, passed: bool) -> None:
        """A check of this member passed or failed. One that is ejected comes back by its probe, not by checks."""
        member = self.members[index]
        if passed is (member.state is not State.DOWN):
            member.checks = 0
            return
        member.checks += 1
        if member.checks >= (self.policy.rise if passed else self.policy.fall):
            self._step(member, Event.CHECKS_PASS if passed else Event.CHECKS_FAIL)
            member.times = 0

    # ---- deciding

    def _is_slow(self, member: Member) -> bool:
        others = [one.latency for one in self.members if one is not member and one.calls >= _LEAST_CALLS]
        return member.calls >= _LEAST_CALLS and bool(others) and member.latency > self.policy.slower * median(others)

    def _eject(self, member: Member, event: Event) -> None:
        """Unless so many are out already that it can't be them."""
        out = sum(one.state in (State.EJECTED, State.PROBING) for one in self.members if one is not member)
        if out + 1 > self.policy.most * len(self.members):
            member.errors, member.trying = 0, False
            return
        self._step(member, event)
        member.times += 1
        member.until = self._clock() + min(self.policy.longest, self.policy.eject * member.times)
        member.calls, member.latency = 0, 0.0

    def _step(self, member: Member, event: Event) -> None:
        before = member.state is State.UP
        try:
            member.state = TABLE[member.state][event]
        except KeyError:
            raise IllegalEvent(f"{event.name} in state {member.state.name}") from None
        self.unwell += before - (member.state is State.UP)
        member.errors = member.checks = 0
        member.trying = False
