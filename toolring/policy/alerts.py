"""When a figure of the node calls for somebody: rules, and what each is at. Pure: values and times come in.

A rule watches one figure of the node, of one tool, group or service, or of each by itself. It fires once the figure has
been beyond the threshold for long enough, and is over once it has been well within it for long enough. What it tells
between is limited by a cooldown, so that a figure that swings about the threshold tells once and not each time.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from enum import Enum, StrEnum, auto
from math import inf
from typing import Final, NamedTuple

import msgspec

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
EACH: Final = "*"
"""Each tool, group or service by itself."""
MOST_SUBJECTS: Final = 1_000
"""Of so many one rule remembers something at once."""
STEP: Final = 250
"""So many are looked at in one step."""
WINDOWS: Final = ("1m", "5m")
_WINDOW: Final = "5m"
_MINIMUM: Final = 20
SEVERITIES: Final = ("warning", "critical")


class Figure(NamedTuple):
    """What a rule may watch."""

    unit: str
    help: str
    tools: bool = False
    """May it be of one tool?"""
    groups: bool = False
    counted: bool = False
    """Is it known only where figures are counted?"""
    windowed: bool = False
    """Is it of what happened in a window?"""
    sampled: bool = False
    """Does it tell nothing if there are few answers?"""
    most: float = inf
    """What it can't exceed."""
    services: bool = False


_BY_BOTH: Final = (True, True, True, True)
_SAMPLED: Final = (*_BY_BOTH, True)


def _times() -> Iterator[tuple[str, Figure]]:
    for what in ("response", "queue", "run", "overhead"):
        for share in (50, 95, 99):
            text = f"The {what} that {share} of 100 jobs don't exceed."
            yield f"{what}_p{share}", Figure("seconds", text, *_SAMPLED)


FIGURES: Final[Mapping[str, Figure]] = {
    "error_rate": Figure("share", "Calls that fail, without the callers' own mistakes.", *_SAMPLED, most=1),
    "retry_rate": Figure("share", "Runs that failed and were tried again, for each answer.", *_SAMPLED),
    "cache_hit_ratio": Figure("share", "Answers from a cache, of tools that are cached.", *_SAMPLED, most=1),
    "throughput": Figure("jobs/s", "Final answers.", *_BY_BOTH),
    **dict(_times()),
    "refusals": Figure("jobs/s", "Jobs that were refused at the door.", counted=True, windowed=True),
    "restarts": Figure("workers/min", "Workers that ended without being asked to.", counted=True, windowed=True),
    "backlog": Figure("jobs", "Jobs that wait for a worker, or to be tried again.", groups=True),
    "backlog_age": Figure("seconds", "How long the oldest of those that wait for a worker has waited.", groups=True),
    "workers_ready": Figure("share", "Workers that can take jobs, of those that there should be.", groups=True, most=1),
    "memory": Figure("bytes", "Resident memory of the largest of the node's processes.", groups=True, counted=True),
    "memory_total": Figure("bytes", "Resident memory of all the node's processes.", groups=True, counted=True),
    "circuit_open": Figure(
        "circuits", "Circuits of tools, and of endpoints, that are open.", tools=True, services=True
    ),
    "service_errors": Figure(
        "share",
        "Requests to services that failed, or were refused since all circuits were open.",
        windowed=True,
        sampled=True,
        most=1,
        services=True,
    ),
    "unhealthy": Figure("bool", "1 while workers keep dying before they can do anything.", groups=True, most=1),
}


class AlertRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """Seconds throughout. Raises ValueError for what makes no sense."""

    figure: str = ""
    """One of FIGURES."""
    tool: str = ""
    """Of this tool only; "*": each by itself."""
    group: str = ""
    service: str = ""
    above: float | None = None
    """It is beyond the threshold if it is more than this,"""
    below: float | None = None
    """or less than this."""
    holds: float = msgspec.field(default=0.0, name="for")
    """For so long it must be beyond the threshold, before the alert fires."""
    window: str = _WINDOW
    """What jobs are looked at, where it is of jobs."""
    minimum: int = _MINIMUM
    """Jobs, or requests, that there must be in it for a share or a time to tell something."""
    ease: float = 0.1
    """It is well again if it is so far, as a share, within the threshold,"""
    resolve_after: float = 60.0
    """for so long."""
    cooldown: float = 300.0
    """After it was told, it isn't told again for so long if it comes back."""
    repeat: float = 3600.0
    """While it fires it is told again so often; 0: once."""
    severity: str = "warning"

    def __post_init__(self) -> None:
        figure = FIGURES.get(self.figure)
        if figure is None:
            raise ValueError(f"figure={self.figure!r} is none; there is {', '.join(FIGURES)}")
        if (self.above is None) == (self.below is None):
            raise ValueError("one of above= and below= is needed, and not both")
        if not -inf < self.threshold < inf:
            raise ValueError(f"{self.threshold!r} is not a threshold")
        if (self.below is not None and self.below <= 0) or (self.above is not None and self.above >= figure.most):
            raise ValueError(f"{self.figure} is never {self.sense} {self.threshold:g}")
        if (self.above is not None and self.above < 0) or (self.below is not None and self.below > figure.most):
            raise ValueError(f"{self.figure} is always {self.sense} {self.threshold:g}")
        if self.tool and not figure.tools:
            raise ValueError(f"{self.figure} is not counted by tool")
        if self.group and not figure.groups:
            raise ValueError(f"{self.figure} is not counted by group")
        if self.service and not figure.services:
            raise ValueError(f"{self.figure} is not counted by service")
        if bool(self.tool) + bool(self.group) + bool(self.service) > 1:
            raise ValueError("tool=, group= and service= exclude each other")
        if self.window not in WINDOWS:
            raise ValueError(f"window={self.window!r} is none; there is {', '.join(WINDOWS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity={self.severity!r} is none; there is {', '.join(SEVERITIES)}")
        if self.minimum < 1:
            raise ValueError(f"minimum={self.minimum!r} is not a number of jobs, from 1 on")
        if self.window != _WINDOW and not figure.windowed:
            raise ValueError(f"window= does nothing: {self.figure} is what it is at this moment")
        if self.minimum != _MINIMUM and not figure.sampled:
            raise ValueError(f"minimum= does nothing: {self.figure} is neither a share nor a time of answers")
        if not 0 <= self.ease < 1:
            raise ValueError(f"ease={self.ease!r} is not a share: 0 to less than 1")
        for name in ("resolve_after", "cooldown", "repeat"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a number of seconds")
        if not 0 <= self.holds < inf:
            raise ValueError(f"for={self.holds!r} is not a number of seconds")

    @property
    def of(self) -> str:
        """Whose figure it watches: one's name, or EACH; empty: the node's."""
        return self.tool or self.group or self.service

    @property
    def threshold(self) -> float:
        return self.above if self.above is not None else self.below if self.below is not None else inf

    @property
    def sense(self) -> str:
        return "below" if self.above is None else "above"

    @property
    def well(self) -> float:
        """Where it has eased: not out of reach, however near to its bounds the threshold is."""
        if self.above is not None:
            return self.above * (1 - self.ease) if self.above > 0 else self.above
        return min(self.threshold * (1 + self.ease), FIGURES[self.figure].most)

    def beyond(self, value: float) -> bool:
        return value > self.threshold if self.above is not None else value < self.threshold

    def eased(self, value: float) -> bool:
        return value <= self.well if self.above is not None else value >= self.well


DEFAULTS: Final[Mapping[str, AlertRule]] = {
    "node_unhealthy": AlertRule(figure="unhealthy", above=0, severity="critical"),
    "group_failing": AlertRule(figure="unhealthy", group=EACH, above=0),
    "workers_missing": AlertRule(figure="workers_ready", group=EACH, below=0.5, holds=30.0, severity="critical"),
    "workers_dying": AlertRule(figure="restarts", above=2.0),
    "backlog_old": AlertRule(figure="backlog_age", above=30.0, holds=30.0),
    "tool_failing": AlertRule(figure="error_rate", tool=EACH, above=0.5),
    "circuit_open": AlertRule(figure="circuit_open", tool=EACH, above=0),
    "service_circuit_open": AlertRule(figure="circuit_open", service=EACH, above=0),
    "service_failing": AlertRule(figure="service_errors", service=EACH, above=0.5),
}
"""Watched without being asked for: each says that callers are being hurt, on any node. A rule of the same name takes
its place."""


class State(Enum):
    OK = auto()
    PENDING = auto()
    """Beyond the threshold, not yet for long enough."""
    FIRING = auto()
    EASING = auto()
    """Fires, and has been well lately."""
    RESOLVED = auto()
    """Was firing, and is well."""


class Event(Enum):
    BEYOND = auto()
    HELD = auto()
    """Beyond for long enough."""
    BETWEEN = auto()
    """Within the threshold, but not by far."""
    EASED = auto()
    SETTLED = auto()
    """Well for long enough."""


S, E = State, Event
TABLE: Final[dict[State, dict[Event, State]]] = {
    S.OK: {E.BEYOND: S.PENDING, E.HELD: S.FIRING},
    S.PENDING: {E.HELD: S.FIRING, E.BETWEEN: S.OK, E.EASED: S.OK, E.SETTLED: S.OK},
    S.FIRING: {E.EASED: S.EASING, E.SETTLED: S.RESOLVED},
    S.EASING: {E.BEYOND: S.FIRING, E.HELD: S.FIRING, E.BETWEEN: S.FIRING, E.SETTLED: S.RESOLVED},
    S.RESOLVED: {E.BEYOND: S.PENDING, E.HELD: S.FIRING},
}
"""Anything may be seen in any state; what isn't here changes nothing."""
FIRES: Final = frozenset({S.FIRING, S.EASING})
WELL: Final = frozenset({S.OK, S.RESOLVED})


class News(StrEnum):
    """What is worth telling."""

    FIRING = auto()
    RESOLVED = auto()


class Alert:
    """One rule about one subject: the node, a tool or a group."""

    __slots__ = ("_beyond", "_eased", "_told", "_told_at", "fired", "rule", "since", "state", "value")

    def __init__(self, rule: AlertRule, now: float) -> None:
        self.rule = rule
        self.state = State.OK
        self.since = now
        """When it came into its state; while it fires, as ``fired``."""
        self.fired = now
        """When it last came to fire."""
        self.value: float | None = None
        """What was seen last; None: nothing that tells something."""
        self._beyond: float | None = None
        """Since when it has been beyond the threshold,"""
        self._eased: float | None = None
        """or well."""
        self._told = False
        """Has it been told that it fires?"""
        self._told_at = -inf

    @property
    def fires(self) -> bool:
        return self.state in FIRES

    def spent(self, now: float, there: bool) -> bool:
        """There is nothing about it that must be remembered. Of a subject that is there it is, that it was resolved."""
        well = self.state is State.OK or (self.state is State.RESOLVED and not there)
        return well and now - self._told_at >= self.rule.cooldown

    def see(self, value: float | None, now: float) -> News | None:
        """Take in what the figure is now. None of a figure that tells nothing: there is nothing to complain of."""
        self.value = value
        before = self.state
        self.state = TABLE[before].get(self._event(value, now), before)
        if self.state is not before and not (before in FIRES and self.state in FIRES):
            self.since = now
            if self.state in FIRES:
                self.fired = now
        return self._news(now)

    def _event(self, value: float | None, now: float) -> Event:
        rule = self.rule
        if value is not None and rule.beyond(value):
            self._eased = None
            self._beyond = now if self._beyond is None else self._beyond
            return Event.HELD if now - self._beyond >= rule.holds else Event.BEYOND
        self._beyond = None
        if value is not None and not rule.eased(value):
            self._eased = None
            return Event.BETWEEN
        self._eased = now if self._eased is None else self._eased
        return Event.SETTLED if now - self._eased >= rule.resolve_after else Event.EASED

    def _news(self, now: float) -> News | None:
        rule, ago = self.rule, now - self._told_at
        if self.fires:
            due = (0 < rule.repeat <= ago) if self._told else ago >= rule.cooldown
            if due:
                self._told, self._told_at = True, now
                return News.FIRING
        elif self._told:
            self._told = False
            return News.RESOLVED
        return None


class Board:
    """What one rule is at, about all its subjects. A subject is the name of a tool, group or service; of the node it is
    empty."""

    def __init__(self, name: str, rule: AlertRule) -> None:
        self.name = name
        self.rule = rule
        self.alerts: dict[str, Alert] = {}
        self.values: Mapping[str, float | None] = {}
        """What was seen last."""
        self.passed_over = 0
        """Times that a subject was beyond the threshold, and there was no room to remember it."""

    def see(
        self, values: Mapping[str, float | None], now: float
    ) -> Generator[None, None, list[tuple[str, Alert, News]]]:
        """Take in, in steps, what there is now of each subject; one that is missing has nothing to tell. Gives what is
        news."""
        rule, alerts = self.rule, self.alerts
        self.values = values
        news = []
        spare = self._spare()
        for number, subject in enumerate([*values, *(alerts.keys() - values.keys())], 1):
            if number % STEP == 0:
                yield
            value = values.get(subject)
            alert = alerts.get(subject)
            if alert is None:
                if value is None or not rule.beyond(value):
                    continue
                if len(alerts) >= MOST_SUBJECTS and next(spare, None) is None:
                    self.passed_over += 1
                    continue
                alert = alerts[subject] = Alert(rule, now)
            what = alert.see(value, now)
            if what is not None:
                news.append((subject, alert, what))
            if alert.spent(now, subject in values):
                del alerts[subject]
        return news

    def _spare(self) -> Iterator[str]:
        """Forget those that are well, one at a time, to make room. Looks at each once."""
        for subject, alert in list(self.alerts.items()):
            if alert.state in WELL and self.alerts.pop(subject, None) is not None:
                yield subject
