"""Gathers the node's figures of this moment for whoever shows them, family by family."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from toolring.policy.breaker import State as CircuitState
from toolring.policy.histogram import Histogram
from toolring.policy.series import Series, Window
from toolring.supervisor.alerts import Alerts
from toolring.supervisor.core import Core
from toolring.supervisor.families import BY_NAME, Family
from toolring.supervisor.figures import Figures
from toolring.supervisor.metrics import Exporter
from toolring.supervisor.usage import Usage, Used

_OPEN: Final = frozenset({CircuitState.OPEN, CircuitState.FORCED_OPEN})
_SIMPLE: Final = {
    "toolring_jobs": "jobs",
    "toolring_operations": "operations",
    "toolring_job_retries": "retried",
    "toolring_argument_bytes": "bytes_in",
    "toolring_result_bytes": "bytes_out",
}
_TIMES: Final = ("queue", "run", "overhead")
_POOL_COUNTS: Final = {
    "toolring_pool_created": "created",
    "toolring_pool_create_errors": "create_errors",
    "toolring_pool_timeouts": "timeouts",
}


class Sample(NamedTuple):
    """``value`` is a number, or the parts of a histogram."""

    labels: tuple[str, ...]
    value: float | tuple[Histogram, ...]


Samples = tuple[Family, Iterable[Sample]]
There = Mapping[tuple[str, ...], Series]
"""By the values of their labels. Each is read when its turn comes: it may go on meanwhile."""


class About(NamedTuple):
    """What doesn't change."""

    version: str
    started: float
    """Unix time."""
    layers: tuple[str, ...]
    """Of the cache: the supervisor, a worker's memory, then the stores."""


class Collector:
    """Of one node. Call from the loop's thread only; ``loads`` is what the workers told last."""

    def __init__(
        self,
        about: About,
        core: Core,
        figures: Figures,
        usage: Usage,
        loads: Mapping[bytes, Mapping[str, Any]],
        renewals: Callable[[], int],
        exporters: Sequence[Exporter],
    ) -> None:
        self._about = about
        self._core = core
        self.figures = figures
        self.usage = usage
        self._loads = loads
        self._renewals = renewals
        self._exporters = exporters
        self._grown = Grown()
        self.alerts: Alerts | None = None
        """None: none is watched."""

    def families(self, now: float) -> Iterator[Samples]:
        """All of them, in their order; what a family holds is looked up when it is iterated over."""
        self.figures.forget_workers(slot.index for slot in self._core.fleet.slots)
        yield from self._of_node()
        yield from self._of_tools()
        yield from self._of_workers(now)
        yield from self._of_caches()
        yield from self._of_pools()
        yield from self._of_machine()
        yield from self._of_tools_own()

    # ---- the node

    def _of_node(self) -> Iterator[Samples]:
        core, figures, about = self._core, self.figures, self._about
        held = sum(len(worker.line) for worker in core.fleet.workers.values())
        yield _one("build_info", 1, about.version)
        yield _one("start_time_seconds", about.started)
        yield _one("healthy", int(core.healthy))
        yield _one("draining", int(core.draining))
        yield _one("clients", len(core.sessions))
        yield _one("jobs_accepted", core.accepted)
        yield _by("jobs_refused", core.refused)
        yield _one("backlog_jobs", core.backlog.count)
        yield _one("running_jobs", held)
        yield _one("in_hand_bytes", core.bytes)
        yield _family("workers"), self._workers()
        yield _family("worker_exits"), [Sample(key, count) for key, count in figures.exits.items()]
        yield _one("renewals", self._renewals())
        yield _one("code_generation", core.fleet.code)
        yield _family("alerts_firing"), self._alerts()
        yield _by("alert_commands", {} if self.alerts is None else self.alerts.commands())
        yield _family("sink_emits"), self._sinks()
        yield _one("series_passed_over", figures.passed_over)
        yield _one("measured_left_out", figures.measured.left_out)

    def _workers(self) -> Iterator[Sample]:
        counts: dict[tuple[str, str], int] = {}
        for worker in self._core.fleet.workers.values():
            key = (worker.slot.group.name, worker.life.name.lower())
            counts[key] = counts.get(key, 0) + 1
        return (Sample(key, count) for key, count in counts.items())

    def _alerts(self) -> Iterator[Sample]:
        for name, severity, count in () if self.alerts is None else self.alerts.firing():
            yield Sample((name, severity), count)

    def _sinks(self) -> Iterator[Sample]:
        for one in self._exporters:
            for outcome in ("sent", "dropped", "failed"):
                yield Sample((one.name, outcome), getattr(one, outcome))

    # ---- tools and workers

    def _of_tools(self) -> Iterator[Samples]:
        there: There = {tuple(key): one for key, one in self.figures.tools.items()}
        for name, attribute in _SIMPLE.items():
            if name == "toolring_job_retries":
                yield _family("job_errors"), _counts(there, "errors")
            yield BY_NAME[name], _numbers(there, attribute)
        yield _family("cache_hits"), self._hits(there)
        for what in ("response", *_TIMES):
            yield _family(f"job_{what}_seconds"), _histograms(there, what)
        circuits = ((tool.name, tool.circuit) for tool in self._core.tools.values() if not tool.spec.internal)
        yield (
            _family("breaker_open"),
            [Sample((name,), int(one.breaker.state in _OPEN)) for name, one in circuits if one.armed],
        )

    def _hits(self, there: There) -> Iterator[Sample]:
        layers = self._about.layers
        for key, one in there.items():
            counts: dict[int, int] = {}
            for tally in one.since_start:
                for layer, count in tally.hits.items():
                    counts[layer] = counts.get(layer, 0) + count
            for layer, count in counts.items():
                yield Sample((*key, layers[layer] if layer < len(layers) else str(layer)), count)

    def _of_workers(self, now: float) -> Iterator[Samples]:
        groups = {slot.index: slot.group.name for slot in self._core.fleet.slots}
        mine = self.figures.workers.items()
        there: There = {(str(index), groups[index]): one for index, one in mine if index in groups}
        yield _family("worker_jobs"), _numbers(there, "jobs")
        yield _family("worker_errors"), _counts(there, "errors")
        for what in _TIMES:
            yield _family(f"worker_{what}_seconds"), _histograms(there, what)
        yield _family("group_spread"), self._spread(now)

    def _spread(self, now: float) -> Iterator[Sample]:
        for group in self._core.fleet.groups:
            series = [self.figures.workers.get(slot.index) for slot in group.open]
            counts = [_recent(one, now) if one is not None else 0 for one in series]
            if sum(counts):
                yield Sample((group.name,), max(counts) * len(counts) / sum(counts))

    # ---- what workers tell

    def _of_caches(self) -> Iterator[Samples]:
        sharing = self._core.joining.sharing
        sizes: dict[tuple[str], list[int]] = {("supervisor",): [len(sharing), sharing.bytes]}
        evictions: dict[tuple[str, ...], float] = {("supervisor",): sharing.evictions}
        for identity, load in self._loads.items():
            for strategy, memory in load.get("cache", {}).items():
                size = sizes.setdefault(("memory",), [0, 0])
                size[0], size[1] = size[0] + memory["entries"], size[1] + memory["bytes"]
                self._grown.saw("cache_evictions", identity, strategy, ("memory",), memory["evictions"])
            for name, store in load.get("stores", {}).items():
                size = sizes.setdefault((name,), [0, 0])  # one file, of which each worker tells
                size[:] = max(size[0], store.get("entries", 0)), max(size[1], store.get("bytes", 0))
        self._grown.forget(self._loads)
        evictions.update(self._grown.of("cache_evictions"))
        yield _family("cache_entries"), [Sample(key, size[0]) for key, size in sizes.items()]
        yield _family("cache_bytes"), [Sample(key, size[1]) for key, size in sizes.items()]
        yield _family("cache_evictions"), [Sample(key, count) for key, count in evictions.items()]

    def _of_pools(self) -> Iterator[Samples]:
        states: dict[tuple[str, ...], float] = {}
        waiting: dict[tuple[str, ...], float] = {}
        for identity, load in self._loads.items():
            for pool, one in load.get("resources", {}).items():
                for state in ("active", "idle"):
                    states[pool, state] = states.get((pool, state), 0) + one[state]
                waiting[pool,] = waiting.get((pool,), 0) + one["waiting"]
                for name, count in _POOL_COUNTS.items():
                    self._grown.saw(name, identity, pool, (pool,), one[count])
        yield _family("pool_resources"), [Sample(key, count) for key, count in states.items()]
        yield _family("pool_waiting"), [Sample(key, count) for key, count in waiting.items()]
        for name in _POOL_COUNTS:
            yield BY_NAME[name], [Sample(key, count) for key, count in self._grown.of(name).items()]

    def _of_tools_own(self) -> Iterator[Samples]:
        for family, values in self.figures.measured.families():
            yield (
                family,
                [Sample(key, (one,) if isinstance(one, Histogram) else one) for key, one in list(values.items())],
            )

    # ---- the machine

    def _of_machine(self) -> Iterator[Samples]:
        processes, network = self.usage.figures(), self.usage.network
        for field in Used._fields:
            yield _family(f"process_{field}"), [Sample((name,), getattr(one, field)) for name, one in processes.items()]
        for field, count in network._asdict().items():
            yield _one(f"network_{field}", count)


class Grown:
    """Counts that workers keep by themselves, added up over all that there ever were, so that no sum goes back."""

    def __init__(self) -> None:
        self._last: dict[bytes, dict[tuple[str, str], float]] = {}
        self._sums: dict[str, dict[tuple[str, ...], float]] = {}

    def saw(self, name: str, identity: bytes, key: str, labels: tuple[str, ...], count: float) -> None:
        """A worker's count, under a key of its own, stands there; it belongs to the sum with these labels."""
        last = self._last.setdefault(identity, {})
        sums = self._sums.setdefault(name, {})
        sums[labels] = sums.get(labels, 0) + max(0, count - last.get((name, key), 0))
        last[name, key] = count

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        return self._sums.get(name, {})

    def forget(self, there: Iterable[bytes]) -> None:
        """Workers that are gone have no counts any more."""
        for identity in self._last.keys() - set(there):
            del self._last[identity]


def _family(name: str) -> Family:
    return BY_NAME[f"toolring_{name}"]


def _one(name: str, value: float, *labels: str) -> Samples:
    return _family(name), [Sample(labels, value)]


def _by(name: str, counts: Mapping[str, float]) -> Samples:
    return _family(name), [Sample((key,), count) for key, count in counts.items()]


def _numbers(there: There, attribute: str) -> Iterator[Sample]:
    get = attrgetter(attribute)
    return (Sample(key, sum(map(get, one.since_start))) for key, one in there.items())


def _counts(there: There, attribute: str) -> Iterator[Sample]:
    for key, one in there.items():
        counts: dict[str, int] = {}
        for tally in one.since_start:
            for code, count in getattr(tally, attribute).items():
                counts[code] = counts.get(code, 0) + count
        for code, count in counts.items():
            yield Sample((*key, code), count)


def _histograms(there: There, attribute: str) -> Iterator[Sample]:
    get = attrgetter(attribute)
    return (Sample(key, tuple(map(get, one.since_start))) for key, one in there.items())


def _recent(series: Series, now: float) -> int:
    return sum(tally.jobs for tally in series.parts(Window.FIVE_MINUTES, now)[0])
