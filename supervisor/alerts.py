"""Alerts: a node's rules are looked at now and then, in steps between the loop's turns, and what is news is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nsmallest
from typing import Any

from toolring.plugins.specs import AlertEvent
from toolring.policy.alerts import DEFAULTS, EACH, FIGURES, Alert, AlertRule, Board, News, State
from toolring.supervisor.errands import Errands
from toolring.supervisor.notifier import Notifier
from toolring.supervisor.readings import Readings


def rules(own: Mapping[str, AlertRule], defaults: bool, counted: bool, services: bool) -> dict[str, AlertRule]:
    """All that are watched: of those that ship, those that there are figures for, unless one's own replaces them."""
    shipped = {
        name: rule
        for name, rule in DEFAULTS.items()
        if (counted or not FIGURES[rule.figure].counted) and (services or not rule.service)
    }
    return {**(shipped if defaults else {}), **own}


class Alerts:
    """Of one node. ``tell`` is told of each that fires or is over."""

    def __init__(
        self,
        watched: Mapping[str, AlertRule],
        own: Mapping[str, AlertRule],
        interval: float,
        readings: Readings,
        tell: Sequence[Callable[[AlertEvent], None]],
        notifier: Notifier | None,
    ) -> None:
        self._boards = [Board(name, rule) for name, rule in watched.items()]
        self._own = own
        self._interval = interval
        self._readings = readings
        self._tell = (*tell, notifier.offer) if notifier is not None else tuple(tell)
        self._notifier = notifier
        self._next = 0.0
        self._looking = False

    def look(self, errands: Errands, now: float) -> None:
        """Look at all rules, if it is time and the last look is over."""
        if now < self._next or self._looking:
            return
        self._next = now + self._interval
        self._looking = True
        errands.add(self._round(now))

    def _round(self, now: float) -> Iterator[None]:
        try:
            self._readings.look(now)
            for board in self._boards:
                values = yield from self._readings.of(board.rule, now)
                for subject, alert, news in (yield from board.see(values, now)):
                    event = told(board.name, subject, alert, news, now)
                    for tell in self._tell:
                        tell(event)
                    yield
                yield
        finally:
            self._looking = False

    def close(self) -> None:
        if self._notifier is not None:
            self._notifier.close()

    # ---- for who asks

    def report(self, now: float) -> list[dict[str, Any]]:
        """Each rule about each of its subjects; of those that are each by themselves, where there is something."""
        found = []
        for board in self._boards:
            about: dict[str, Alert | None] = dict(board.alerts)
            if not about or board.rule.of != EACH:
                about.setdefault(board.rule.of, None)
            found += [self._row(board, subject, alert, now) for subject, alert in about.items()]
        return found

    def _row(self, board: Board, subject: str, alert: Alert | None, now: float) -> dict[str, Any]:
        rule = board.rule
        return {
            "alert": board.name,
            "state": "ok" if alert is None else alert.state.name.lower(),
            "seconds": None if alert is None else round(now - alert.since, 1),
            "severity": rule.severity,
            "figure": rule.figure,
            "unit": FIGURES[rule.figure].unit,
            **_about(rule, subject),
            "value": board.values.get(subject),
            "sense": rule.sense,
            "threshold": rule.threshold,
            "for": rule.holds,
            "window": rule.window if FIGURES[rule.figure].windowed else None,
            "own": board.name in self._own,
            "text": _text(board.name, rule, subject, board.values.get(subject), alert),
        }

    def lit(self, now: float, most: int) -> tuple[list[dict[str, Any]], int]:
        """What fires or may soon, of each rule about each of its subjects: what fires first, the worst of that, the
        latest of those; and how many more there are than so many."""
        found = [
            (alert.state is State.PENDING, board.rule.severity != "critical", -alert.since, board, subject, alert)
            for board in self._boards
            for subject, alert in board.alerts.items()
            if alert.fires or alert.state is State.PENDING
        ]
        first = nsmallest(most, found, key=lambda one: one[:3])
        return [self._row(board, subject, alert, now) for *_, board, subject, alert in first], len(found) - len(first)

    def counts(self) -> dict[str, Any]:
        """How many fire, and how many may soon; what became of the command's runs."""
        alerts = [alert for board in self._boards for alert in board.alerts.values()]
        firing = sum(alert.fires for alert in alerts)
        return {
            "rules": len(self._boards),
            "firing": firing,
            "pending": sum(alert.state is State.PENDING for alert in alerts),
            "passed_over": sum(board.passed_over for board in self._boards),
            "command": self.commands(),
        }

    def commands(self) -> dict[str, int]:
        """What became of the command's runs; nothing if there is none."""
        return {} if self._notifier is None else self._notifier.figures()

    def firing(self) -> Iterator[tuple[str, str, int]]:
        """Each rule with its severity and how many of its subjects it fires for."""
        for board in self._boards:
            yield board.name, board.rule.severity, sum(alert.fires for alert in board.alerts.values())


def told(name: str, subject: str, alert: Alert, news: News, now: float) -> AlertEvent:
    """What is said of it."""
    rule = alert.rule
    about = _about(rule, subject)
    return AlertEvent(
        alert=name,
        state=news.value,
        severity=rule.severity,
        figure=rule.figure,
        tool=about["tool"],
        group=about["group"],
        service=about["service"],
        value=alert.value,
        sense=rule.sense,
        threshold=rule.threshold,
        seconds=round(now - alert.fired, 3),
        text=_text(name, rule, subject, alert.value, alert),
    )


def _text(name: str, rule: AlertRule, subject: str, value: float | None, alert: Alert | None) -> str:
    """What the figure is, and how that is to the threshold: also while an alert goes on firing that has eased."""
    fired = alert is not None and (alert.fires or alert.state is State.RESOLVED)
    threshold = f"{rule.sense} {_number(rule.threshold)}"
    kind = next((kind for kind, name in _about(rule, subject).items() if name), "")
    of = "" if not kind else f" of each {kind}" if subject == EACH else f" of {kind} {subject}"
    if value is None:
        return f"{name}: {rule.figure}{of} is unknown" + (f" now; it was {threshold}" if fired else "")
    beyond = "" if rule.beyond(value) else "no longer " if fired else "not "
    return f"{name}: {rule.figure}{of} is {_amount(value, FIGURES[rule.figure].unit)}, {beyond}{threshold}"


def _amount(value: float, unit: str) -> str:
    return _number(value) if unit in ("share", "bool") else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _about(rule: AlertRule, subject: str) -> dict[str, str]:
    return {kind: subject if getattr(rule, kind) else "" for kind in ("tool", "group", "service")}
