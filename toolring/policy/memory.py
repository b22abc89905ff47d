"""What a worker's memory calls for: an alert, a smaller cache, a collection, a new worker. Pure: snapshots come in.

One warden a process. It climbs a ladder: trim the caches, collect and give back, recycle after the current job, kill. A
rung is taken only once the one below was done, and did not help for long; only what is about to break the node skips
some. What leaks is told, and recycled when it has grown to a threshold, not before.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, StrEnum, auto
from math import inf
from typing import Final, NamedTuple

import msgspec

from toolring.policy.trend import Floors, Trend

SNAPSHOTS: Final = 100
"""The last so many are kept as they are; of older ones, the floors."""


class Snapshot(NamedTuple):
    """Bytes and seconds. What is not known is None."""

    when: float
    """Of a monotonic clock."""
    rss: int
    uss: int | None = None
    """What would come back if the process ended: without the pages that it shares."""
    children: int = 0
    """Resident bytes of the processes that it has started."""
    collections: int = 0
    """Of any generation, since it began."""
    full: int = 0
    """Those of the oldest generation among them."""
    pauses: float = 0.0
    """Seconds that all of them took."""
    floor: int | None = None
    """The least ``rss`` right after a full collection since the snapshot before."""
    limit: int | None = None
    """What the control group, else the machine, allows all processes in it."""
    used: int | None = None
    """What these use of it."""
    processes: int = 1
    """How many share it."""
    pressure: float | None = None
    """Share of the last 10 s in which some of them waited for memory."""


class Action(StrEnum):
    TRIM = auto()
    """Make the caches smaller."""
    COLLECT = auto()
    """Collect garbage, and give what is free back to the system."""
    RECYCLE = auto()
    """Replace the process after its current job."""
    KILL = auto()


class State(Enum):
    CALM = auto()
    CHECKED = auto()
    """It grows: a collection shows whether that is garbage."""
    TRIMMED = auto()
    COLLECTED = auto()
    RECYCLED = auto()
    KILLED = auto()


class Event(Enum):
    EASED = auto()
    """Well below every threshold, for long enough."""
    SUSPECT = auto()
    """It seems to leak, but no garbage was collected lately."""
    HIGH = auto()
    CRITICAL = auto()


S, E = State, Event
TABLE: Final[dict[State, dict[Event, State]]] = {
    S.CALM: {E.SUSPECT: S.CHECKED, E.HIGH: S.TRIMMED, E.CRITICAL: S.RECYCLED},
    S.CHECKED: {E.EASED: S.CALM, E.HIGH: S.TRIMMED, E.CRITICAL: S.RECYCLED},
    S.TRIMMED: {E.EASED: S.CALM, E.HIGH: S.COLLECTED, E.CRITICAL: S.RECYCLED},
    S.COLLECTED: {E.EASED: S.CALM, E.HIGH: S.RECYCLED, E.CRITICAL: S.RECYCLED},
    S.RECYCLED: {E.CRITICAL: S.KILLED},
    S.KILLED: {},
}
"""Anything may be seen in any state; what isn't here changes nothing."""
ACTIONS: Final = {
    S.CHECKED: Action.COLLECT,
    S.TRIMMED: Action.TRIM,
    S.COLLECTED: Action.COLLECT,
    S.RECYCLED: Action.RECYCLE,
    S.KILLED: Action.KILL,
}
"""What is due once a state is entered."""

ADVICE: Final = {
    "rss": "lower cache.max_bytes, have its tools keep less, or raise the threshold if they need as much",
    "share": "lower node.workers or cache.max_bytes, or raise the memory limit of the container or service",
    "children": "have the tool wait for the processes that it starts, and limit what they read at once",
    "pressure": "what runs on this machine needs more memory than there is: lower node.workers, or move something",
    "kill_rss": "have the tool take less at once, or raise the threshold if it needs as much",
    "kill_share": "lower node.workers or cache.max_bytes, or raise the memory limit of the container or service",
    "leak": "trace the allocations to see which grow; look for a list, dict or cache that is never emptied",
}


class Alert(NamedTuple):
    """``value`` and ``threshold`` are bytes, shares, or (leak) bytes a second."""

    kind: str
    value: float
    threshold: float
    advice: str
    when: float


class MemoryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When memory calls for something. Bytes, seconds and shares; a threshold of 0 is none.

    Raises ValueError for what makes no sense.
    """

    rss: int = 1 << 30
    """Resident bytes of the process."""
    share: float = 0.8
    """Used of the limit, by all that share it. Who has less than his part of it leaves it to the others to act."""
    children: int = 100 << 20
    """Resident bytes of the processes that it has started. An alert only."""
    pressure: float = 0.2
    """Share of the time in which somebody waited for memory. An alert only."""
    kill_rss: int = 0
    """Beyond this it is recycled at once, and killed if its job goes on."""
    kill_share: float = 0.95
    """As ``kill_rss``: better one process than whichever the kernel chooses."""
    growth: int = 3 << 20
    """Bytes that a leak has lost within a window, at least, before it is worth an alert."""
    window: float = 600.0
    """What a leak is looked for in."""
    ease: float = 0.1
    """It has eased if it is so far, as a share, below each threshold."""
    settle: float = 5.0
    """How long an action that was done may take to show."""
    grace: float = 5.0
    """How long the current job of one that is beyond ``kill_rss`` or ``kill_share`` may take to end."""
    cooldown: float = 300.0
    """Between two alerts of a kind; and it must have eased for so long before the ladder is climbed anew."""

    def __post_init__(self) -> None:
        for name in ("rss", "children", "kill_rss", "growth"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a number of bytes")
        for name in ("share", "pressure", "kill_share", "ease"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a share: 0 to 1")
        for name in ("window", "settle", "grace", "cooldown"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a positive number of seconds")
        for soft, hard in (("rss", "kill_rss"), ("share", "kill_share")):
            if 0 < getattr(self, hard) <= getattr(self, soft):
                raise ValueError(f"{hard}={getattr(self, hard)!r} must be more than {soft}={getattr(self, soft)!r}")


class Verdict(NamedTuple):
    """``action`` is given once, when it becomes due; it takes the place of one that was not done yet."""

    action: Action | None
    alerts: tuple[Alert, ...]


class Warden:
    """Watches over the memory of one process."""

    __slots__ = ("_alerted", "_collected", "_settled", "_since", "due", "floors", "policy", "recent", "state", "trend")

    def __init__(self, policy: MemoryPolicy) -> None:
        self.policy = policy
        self.state = State.CALM
        self.recent: deque[Snapshot] = deque(maxlen=SNAPSHOTS)
        self.floors = Floors(policy.window)
        self.trend: Trend | None = None
        self.due: Action | None = None
        """What was asked for, and is not done."""
        self._since = -inf
        """When it came into its state."""
        self._settled = -inf
        """When what was done shows."""
        self._collected = False
        """Garbage was collected since the last snapshot, on its behalf."""
        self._alerted: dict[str, float] = {}
        """When each kind of alert was given last."""

    def look(self, now: Snapshot) -> Verdict:
        """Take in a snapshot. Some each minute will do; one a second finds a leak earlier."""
        self._keep(now)
        event = self._event(now)
        action = self._step(event, now.when) if event is not None and self._may(event, now.when) else None
        return Verdict(action, tuple(self._alerts(now)))

    def done(self, when: float) -> None:
        """What was due has been done. Nothing more is asked for until it had time to show."""
        self._collected = self.due is Action.COLLECT
        self._settled = when + self.policy.settle
        self.due = None

    # ---- what is known

    def _keep(self, now: Snapshot) -> None:
        collected = self._collected or bool(self.recent and now.full > self.recent[-1].full)
        self._collected = False
        self.recent.append(now)
        if self.floors.add(now.when, now.rss if now.floor is None else min(now.rss, now.floor), collected):
            self.trend = self.floors.trend()

    @property
    def grows(self) -> bool:
        """So steadily and so much that it leaks, unless it is all garbage."""
        return self.trend is not None and self.trend.steady and self.trend.least >= self.policy.growth

    @property
    def leaks(self) -> bool:
        return self.grows and self.trend is not None and self.trend.collected

    # ---- deciding

    def _event(self, now: Snapshot) -> Event | None:
        policy = self.policy
        if load_of(now, policy.kill_rss, policy.kill_share) >= 1:
            return Event.CRITICAL
        load = load_of(now, policy.rss, policy.share)
        if load >= 1:
            return Event.HIGH
        if self.grows and not self.leaks:
            return Event.SUSPECT
        eased = load < 1 - policy.ease and now.when - self._since >= policy.cooldown
        return Event.EASED if eased else None

    def _may(self, event: Event, when: float) -> bool:
        """One thing after the other; but nobody waits for a trim while the node is about to break."""
        if event is Event.CRITICAL:
            return self.state is not State.RECYCLED or when - self._since >= self.policy.grace
        return self.due is None and when >= self._settled

    def _step(self, event: Event, when: float) -> Action | None:
        after = TABLE[self.state].get(event, self.state)
        if after is self.state:
            return None
        self.state, self._since = after, when
        self.due = ACTIONS.get(after)
        return self.due

    def _alerts(self, now: Snapshot) -> list[Alert]:
        policy = self.policy
        seen = [
            ("rss", now.rss, policy.rss),
            ("share", _share(now), policy.share),
            ("children", now.children, policy.children),
            ("pressure", now.pressure or 0.0, policy.pressure),
        ]
        if self.leaks and self.trend is not None:
            seen.append(("leak", self.trend.slope.middle, policy.growth / policy.window))
        return [
            Alert(kind, value, threshold, ADVICE[kind], now.when)
            for kind, value, threshold in seen
            if value >= threshold > 0 and self._is_news(kind, now.when)
        ]

    def _is_news(self, kind: str, when: float) -> bool:
        news = when - self._alerted.get(kind, -inf) >= self.policy.cooldown
        if news:
            self._alerted[kind] = when
        return news


def _share(now: Snapshot) -> float:
    """Used of the limit, by all; 0 if there is none."""
    return (now.rss + now.children if now.used is None else now.used) / now.limit if now.limit else 0.0


def load_of(now: Snapshot, rss: int, share: float) -> float:
    """How near it is to these thresholds: 1 is there.

    Somebody always has his part or more of what all use; so the one who has less may wait for those.
    """
    own = now.rss / rss if rss else 0.0
    if not share or not now.limit:
        return own
    part = share * now.limit / now.processes
    return max(own, min(_share(now) / share, (now.rss + now.children) / part))
