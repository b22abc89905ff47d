"""Gathers the node's figures of this moment for whoever shows them, family by family."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, Final, NamedTuple

from toolring.errors import Busy, CircuitOpen, Draining, Unhealthy
from toolring.policy.histogram import Histogram
from toolring.policy.series import Series, Window
from toolring.supervisor.alerts import Alerts
from toolring.supervisor.circuits import CALLERS_FAULT
from toolring.supervisor.core import Core
from toolring.supervisor.families import BY_NAME, Family
from toolring.supervisor.figures import MOST_TOOLS, Figures, Of
from toolring.supervisor.metrics import Exporter
from toolring.supervisor.reports import Reports
from toolring.supervisor.services import Services
from toolring.supervisor.usage import Usage, Used

_SIMPLE: Final = {
    "toolring_jobs": "jobs",
    "toolring_operations": "operations",
    "toolring_job_retries": "retried",
    "toolring_job_losses": "lost",
    "toolring_argument_bytes": "bytes_in",
    "toolring_result_bytes": "bytes_out",
}
_DOOR: Final = (Busy.code, CircuitOpen.code, Draining.code, Unhealthy.code)
"""Refusals that are counted from the start: whoever reads counters now and then doesn't see one that is born at 20."""
_IDLE: Final = Series(0.0)
"""Of a tool that has had no job."""
_TIMES: Final = ("queue", "run", "overhead")
_SPARSE: Final = 100
"""Series that are looked at in one step where few have anything to tell."""
_POOL_COUNTS: Final = {
    "toolring_pool_created": "created",
    "toolring_pool_create_errors": "create_errors",
    "toolring_pool_timeouts": "timeouts",
}
_SERVICE_COUNTS: Final = {
    "toolring_service_requests": "requests",
    "toolring_service_errors": "failed",
    "toolring_service_seconds": "seconds",
    "toolring_service_refused": "refused",
    "toolring_service_under_way": "under_way",
}


class Sample(NamedTuple):
    """``value`` is a number, or the parts of a histogram."""

    labels: tuple[str, ...]
    value: float | tuple[Histogram, ...]


Samples = tuple[Family, Iterable[Sample | None]]
"""None: nothing, but some time has passed."""
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
    """Of one node. Call from the loop's thread only."""

    def __init__(
        self,
        about: About,
        core: Core,
        figures: Figures,
        usage: Usage,
        reports: Reports,
        services: Services,
        renewals: Callable[[], int],
        exporters: Sequence[Exporter],
    ) -> None:
        self._about = about
        self._core = core
        self.figures = figures
        self.usage = usage
        self._reports = reports
        self._services = services
        self._renewals = renewals
        self._exporters = exporters
        self._idle: dict[tuple[str, ...], Series] = {}
        self._idle_of: tuple[int, int, int] | None = None
        """The generation of the code, and how many tools there were, served and counted, when that was made."""
        self.alerts: Alerts | None = None
        """None: none is watched."""

    def families(self, now: float) -> Iterator[Samples]:
        """All of them, in their order; what a family holds is looked up when it is iterated over."""
        self.figures.forget_workers(slot.index for slot in self._core.fleet.slots)
        yield from self._of_node()
        yield from self._of_tools(now)
        yield from self._of_workers(now)
        yield from self._of_caches()
        yield from self._of_pools()
        yield from self._of_services()
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
        yield _by("jobs_refused", {**dict.fromkeys(_DOOR, 0), **core.refused})
        yield _one("backlog_jobs", core.backlog.count)
        yield _one("running_jobs", held)
        yield _one("in_hand_bytes", core.bytes)
        yield _family("workers"), self._workers()
        yield _family("worker_exits"), [Sample(key, count) for key, count in figures.exits.items()]
        yield _one("worker_deaths", figures.deaths)
        yield _one("renewals", self._renewals())
        yield _one("code_generation", core.fleet.code)
        yield _family("alerts_firing"), self._alerts()
        yield _by("alert_commands", {} if self.alerts is None else self.alerts.commands())
        yield _family("sink_emits"), self._sinks()
        spans = {} if core.spans is None else core.spans.report()
        yield (
            _family("span_emits"),
            [Sample((name, how), one[how]) for name, one in spans.items() for how in ("sent", "failed")],
        )
        yield _by("spans_dropped", {name: one["dropped"] for name, one in spans.items()})
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

    def _of_tools(self, now: float) -> Iterator[Samples]:
        there = dict[tuple[str, ...], Series](self.figures.tools.items())
        served: There = {**self._served(), **there}
        for name, attribute in _SIMPLE.items():
            if name == "toolring_job_retries":
                yield _family("job_errors"), _counts(there, "errors")
                yield _family("job_failures"), _failures(served)
            yield BY_NAME[name], _numbers(served, attribute)
        yield _family("cache_hits"), self._hits(there)
        for what in ("response", *_TIMES):
            yield _family(f"job_{what}_seconds"), _histograms(there, what)
        circuits = ((tool.name, tool.circuit) for tool in self._core.tools.values() if not tool.spec.internal)
        yield (
            _family("breaker_open"),
            [Sample((name,), int(one.breaker.shut(now))) for name, one in circuits if one.armed],
        )

    def _served(self) -> There:
        """The tools that have had no job, as far as there is room for their names. They change seldom."""
        core, counted = self._core, self.figures.tools
        of = (core.fleet.code, len(core.tools), len(counted))
        if of != self._idle_of:
            tools = (Of(tool.name, tool.group.name) for tool in core.tools.values() if not tool.spec.internal)
            room = max(0, MOST_TOOLS - len(counted))
            self._idle_of = of
            self._idle = dict.fromkeys(islice((key for key in tools if key not in counted), room), _IDLE)
        return self._idle

    def _hits(self, there: There) -> Iterator[Sample | None]:
        layers = self._about.layers
        for number, (key, one) in enumerate(there.items()):
            if number % _SPARSE == 0:
                yield None
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
        sharing, reports = self._core.joining.sharing, self._reports
        memory = reports.caches().values()
        sizes = {
            "supervisor": (len(sharing), sharing.bytes),
            **(
                {"memory": tuple(sum(one.get(size, 0) for one in memory) for size in ("entries", "bytes"))}
                if memory
                else {}
            ),
            **{name: (store.get("entries", 0), store.get("bytes", 0)) for name, store in reports.stores().items()},
        }
        evicted = {"supervisor": sharing.evictions}
        if reports.evictions.sums:
            evicted["memory"] = int(sum(reports.evictions.sums.values()))
        yield _by("cache_entries", {layer: size[0] for layer, size in sizes.items()})
        yield _by("cache_bytes", {layer: size[1] for layer, size in sizes.items()})
        yield _by("cache_evictions", evicted)

    def _of_pools(self) -> Iterator[Samples]:
        pools, sums = self._reports.resources(), self._reports.pools.sums
        states = [Sample((name, state), one[state]) for name, one in pools.items() for state in ("active", "idle")]
        yield _family("pool_resources"), states
        yield _by("pool_waiting", {name: one["waiting"] for name, one in pools.items()})
        for name, wanted in _POOL_COUNTS.items():
            yield BY_NAME[name], [Sample((pool,), total) for (pool, count), total in sums.items() if count == wanted]

    def _of_tools_own(self) -> Iterator[Samples]:
        for family, values in self.figures.measured.families():
            yield (
                family,
                [Sample(key, (one,) if isinstance(one, Histogram) else one) for key, one in list(values.items())],
            )

    def services(self) -> dict[str, Any]:
        """As the workers have told of them."""
        return self._services.figures(self._reports)

    def _of_services(self) -> Iterator[Samples]:
        services = self.services()
        endpoints = {(name, base): one for name, of in services.items() for base, one in of["endpoints"].items()}
        for name, count in _SERVICE_COUNTS.items():
            yield BY_NAME[name], [Sample(key, one[count]) for key, one in endpoints.items()]
        for name, states in (("service_health", "health"), ("service_circuits", "circuit")):
            held = [(key, one[states].items()) for key, one in endpoints.items()]
            yield _family(name), [Sample((*key, state), count) for key, counts in held for state, count in counts]
        yield _by("service_retries", {name: of["retried"] for name, of in services.items()})

    # ---- the machine

    def _of_machine(self) -> Iterator[Samples]:
        processes, network = self.usage.figures(), self.usage.network
        for field in Used._fields:
            yield _family(f"process_{field}"), [Sample((name,), getattr(one, field)) for name, one in processes.items()]
        for field, count in network._asdict().items():
            yield _one(f"network_{field}", count)


def _family(name: str) -> Family:
    return BY_NAME[f"toolring_{name}"]


def _one(name: str, value: float, *labels: str) -> Samples:
    return _family(name), [Sample(labels, value)]


def _by(name: str, counts: Mapping[str, float]) -> Samples:
    return _family(name), [Sample((key,), count) for key, count in counts.items()]


def _numbers(there: There, attribute: str) -> Iterator[Sample]:
    get = attrgetter(attribute)
    return (Sample(key, sum(map(get, one.since_start))) for key, one in there.items())


def _counts(there: There, attribute: str) -> Iterator[Sample | None]:
    for number, (key, one) in enumerate(there.items()):
        if number % _SPARSE == 0:
            yield None
        counts: dict[str, int] = {}
        for tally in one.since_start:
            for code, count in getattr(tally, attribute).items():
                counts[code] = counts.get(code, 0) + count
        for code, count in counts.items():
            yield Sample((*key, code), count)


def _failures(there: There) -> Iterator[Sample]:
    for key, one in there.items():
        tallies = one.since_start
        codes = [item for tally in tallies if tally.errors for item in tally.errors.items()]
        yield Sample(key, sum(count for code, count in codes if code not in CALLERS_FAULT))


def _histograms(there: There, attribute: str) -> Iterator[Sample]:
    get = attrgetter(attribute)
    return (Sample(key, tuple(map(get, one.since_start))) for key, one in there.items())


def _recent(series: Series, now: float) -> int:
    return sum(tally.jobs for tally in series.parts(Window.FIVE_MINUTES, now)[0])
