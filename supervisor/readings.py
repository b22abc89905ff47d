"""What the figures that alerts watch are now, read off the node in steps: nothing here is on a job's way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Final, TypeVar

from toolring.policy.alerts import EACH, AlertRule
from toolring.policy.histogram import Histogram
from toolring.policy.series import Series, Tally, Window
from toolring.supervisor.circuits import CALLERS_FAULT
from toolring.supervisor.core import Core
from toolring.supervisor.figures import Of
from toolring.supervisor.fleet import Group
from toolring.supervisor.ledger import State
from toolring.supervisor.services import UNASKED, Standing
from toolring.supervisor.usage import Usage
from toolring.supervisor.waiting import queues

T = TypeVar("T")
Values = Mapping[str, float | None]
"""By the tool, group or service that they are of; of the node, by an empty name. None, or nothing: it tells nothing."""

STEP: Final = 8
"""Tools whose answers are added up in one step; their times take one each."""
NAMES: Final = 250
"""Tools that are looked for in one step,"""
JOBS: Final = 500
"""or jobs that wait."""
_SECONDS: Final = {"1m": Window.MINUTE, "5m": Window.FIVE_MINUTES}


class Readings:
    """Of one node. ``usage`` is None where figures aren't counted; ``services`` tells of those that there are."""

    def __init__(
        self, core: Core, usage: Usage | None, services: Callable[[], Mapping[str, Standing]] = lambda: {}
    ) -> None:
        self._core = core
        self._usage = usage
        self._services = services
        self._asked: deque[tuple[float, Mapping[str, Standing]]] = deque([(0.0, {})])
        """What had been asked of services, and when that was so."""
        self._deaths: deque[tuple[float, int]] = deque([(0.0, 0)])
        """How many workers had ended by themselves, and when that was so."""
        self._started = False
        """Whether its workers have once been ready, or one of them didn't come to that."""
        self._gauges: dict[str, Callable[[AlertRule, float], Values]] = {
            "refusals": self._refusals,
            "restarts": self._restarts,
            "workers_ready": self._workers_ready,
            "memory": self._memory,
            "memory_total": self._memory,
            "circuit_open": self._circuit_open,
            "service_errors": self._service_errors,
            "unhealthy": self._unhealthy,
        }

    def look(self, now: float) -> None:
        """Take down what is known only as a sum since the start. Before each round of readings."""
        core = self._core
        self._started |= core.broken or core.fleet.whole or any(slot.generation > 1 for slot in core.fleet.slots)
        figures = core.figures
        if figures is not None:
            _keep(self._deaths, figures.deaths, now)
        if services := self._services():
            _keep(self._asked, services, now)

    def of(self, rule: AlertRule, now: float) -> Generator[None, None, Values]:
        """What a rule watches, now."""
        gauge = self._gauges.get(rule.figure)
        if gauge is not None:
            return gauge(rule, now)
        if rule.figure == "backlog" and not rule.group:
            return {"": float(self._core.backlog.count)}
        if rule.figure.startswith("backlog"):
            return (yield from self._waiting(rule, now))
        return (yield from self._of_jobs(rule, now))

    # ---- jobs

    def _of_jobs(self, rule: AlertRule, now: float) -> Generator[None, None, Values]:
        figures, window = self._core.figures, _SECONDS[rule.window]
        chosen: dict[str, list[Series]] = {}
        for number, (key, series) in enumerate([] if figures is None else list(figures.tools.items())):
            subject = self._subject(rule, key)
            if subject is not None:
                chosen.setdefault(subject, []).append(series)
            if number % NAMES == NAMES - 1:
                yield
        if rule.figure == "throughput" and rule.of != EACH:
            chosen.setdefault(rule.of, [])  # nothing at all is little, too
        values: dict[str, float | None] = {}
        step = STEP if rule.figure in _OF_COUNTS else 1
        for number, (subject, several) in enumerate(chosen.items(), 1):
            parts = [series.parts(window, now) for series in several]
            seconds = max((seconds for _, seconds in parts), default=0.0)
            value = _value(rule, list(chain.from_iterable(tallies for tallies, _ in parts)), seconds)
            if value is not None:
                values[subject] = value
            if number % step == 0:
                yield
        return values

    def _subject(self, rule: AlertRule, of: Of) -> str | None:
        """Under which name these figures count for a rule; None: they don't."""
        if rule.figure == "cache_hit_ratio":
            tool = self._core.tools.get(of.tool)
            if tool is None or not tool.spec.cache:
                return None
        for wanted, there in ((rule.tool, of.tool), (rule.group, of.group)):
            if wanted:
                return there if wanted in (EACH, there) else None
        return ""

    def _refusals(self, rule: AlertRule, now: float) -> Values:
        figures = self._core.figures
        if figures is None:
            return {}
        parts, seconds = figures.door.parts(_SECONDS[rule.window], now)
        return {"": sum(tally.failed for tally in parts) / seconds if seconds > 0 else 0.0}

    # ---- workers

    def _restarts(self, rule: AlertRule, now: float) -> Values:
        seconds = _SECONDS[rule.window]
        return {"": (self._deaths[-1][1] - _before(self._deaths, now - seconds)) * 60 / seconds}

    def _workers_ready(self, rule: AlertRule, _now: float) -> Values:
        if not self._started:
            return {}
        ready: dict[str, int] = {}
        wanted: dict[str, int] = {}
        for name, group in self._groups(rule):
            ready[name] = ready.get(name, 0) + len(group.ready)
            wanted[name] = wanted.get(name, 0) + len(group.open)
        return {name: min(1.0, ready[name] / most) if most else None for name, most in wanted.items()}

    def _unhealthy(self, rule: AlertRule, _now: float) -> Values:
        if not rule.group:
            return {"": float(not self._core.healthy)}
        return {name: float(group.failing) for name, group in self._groups(rule)}

    def _memory(self, rule: AlertRule, _now: float) -> Values:
        add = max if rule.figure == "memory" else sum
        found: dict[str, list[int]] = {}
        processes = {} if self._usage is None else self._usage.figures()
        if not rule.group:
            found[""] = [used.resident_bytes for used in processes.values()]
        else:
            for name, group in self._groups(rule):
                slots = [processes[key] for slot in group.slots if (key := str(slot.index)) in processes]
                found[name] = [used.resident_bytes for used in slots]
        return {name: float(add(sizes)) if sizes else None for name, sizes in found.items()}

    def _groups(self, rule: AlertRule) -> Iterator[tuple[str, Group]]:
        """Those that a rule is about, by the subject that they count for."""
        for group in self._core.fleet.groups:
            if not rule.group:
                yield "", group
            elif rule.group in (EACH, group.name):
                yield group.name, group

    # ---- what waits

    def _waiting(self, rule: AlertRule, now: float) -> Generator[None, None, Values]:
        """How many there are in the lines, or how long the oldest of them has waited."""
        aged = rule.figure == "backlog_age"
        found = {name: 0.0 for name, _ in self._groups(rule)}
        for queue in list(queues(self._core)):
            name = queue.group.name if rule.group else ""
            everybody = queue.line.snapshot() if name in found and queue.line.size else []
            for at in range(0, len(everybody), JOBS):
                waiting = [one.accepted for one in everybody[at : at + JOBS] if one.state is State.QUEUED]
                if not aged:
                    found[name] += len(waiting)
                elif waiting:
                    found[name] = max(found[name], now - min(waiting))
                yield
        return found

    # ---- tools and services

    def _circuit_open(self, rule: AlertRule, now: float) -> Values:
        services = self._chosen(rule)
        if rule.service:
            return {name: float(one.shut) for name, one in services.items()}
        served = (tool for tool in self._core.tools.values() if not tool.spec.internal)
        opened = [tool.name for tool in served if tool.circuit.breaker.shut(now)]
        if rule.tool == EACH:
            return dict.fromkeys(opened, 1.0)
        if rule.tool:
            return {rule.tool: float(rule.tool in opened)}
        return {"": float(len(opened) + sum(one.shut for one in services.values()))}

    def _service_errors(self, rule: AlertRule, now: float) -> Values:
        before = _before(self._asked, now - _SECONDS[rule.window])
        asked: dict[str, float] = {}
        failed: dict[str, float] = {}
        for name, one in self._chosen(rule).items():
            earlier, subject = before.get(name, UNASKED), name if rule.service else ""
            asked[subject] = asked.get(subject, 0) + one.asked - earlier.asked
            failed[subject] = failed.get(subject, 0) + one.failed - earlier.failed
        return {subject: failed[subject] / count for subject, count in asked.items() if count >= rule.minimum}

    def _chosen(self, rule: AlertRule) -> Mapping[str, Standing]:
        """The services that a rule is about, as they stand."""
        return {name: one for name, one in self._asked[-1][1].items() if rule.service in ("", EACH, name)}


def _keep(past: deque[tuple[float, T]], what: T, now: float) -> None:
    """For as long as the longest window looks back."""
    past.append((now, what))
    while len(past) > 1 and past[1][0] <= now - Window.FIVE_MINUTES:
        past.popleft()


def _before(past: deque[tuple[float, T]], when: float) -> T:
    """What was so then; if nobody had looked yet, at the first look."""
    return next((what for at, what in reversed(past) if at <= when), past[0][1])


def _value(rule: AlertRule, tallies: list[Tally], seconds: float) -> float | None:
    name = rule.figure
    jobs = sum(tally.jobs for tally in tallies)
    if name == "throughput":
        return jobs / seconds if seconds > 0 else 0.0
    if name == "error_rate":
        calls = sum(tally.operations for tally in tallies)
        return _failed(tallies) / calls if calls >= rule.minimum else None
    if name in _SHARES:
        return _SHARES[name](tallies) / jobs if jobs >= rule.minimum else None
    what, _, share = name.rpartition("_p")
    times = Histogram()
    for one in map(attrgetter(what), tallies):
        times.add(one)
    micros = times.quantiles((int(share) / 100,))[0] if times.n >= rule.minimum else None
    return None if micros is None else micros / 1e6


def _failed(tallies: Iterable[Tally]) -> int:
    return sum(n for tally in tallies for code, n in tally.errors.items() if code not in CALLERS_FAULT)


_SHARES: Final[Mapping[str, Callable[[list[Tally]], int]]] = {
    "retry_rate": lambda tallies: sum(tally.retried for tally in tallies),
    "cache_hit_ratio": lambda tallies: sum(tally.cached for tally in tallies),
}
_OF_COUNTS: Final = frozenset({"throughput", "error_rate", *_SHARES})
