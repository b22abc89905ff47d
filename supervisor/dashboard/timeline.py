"""What the dashboard's charts show: a point for each five seconds of the last quarter of an hour, of all jobs together.

The slices that figures are counted in are added up once each is over, in steps between the loop's turns; nothing is
added to a job's way. A point is encoded once, and given as it is to whoever asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from toolring.policy.histogram import Coarse, Histogram
from toolring.policy.series import SLICE_SECONDS, Tally
from toolring.supervisor.core import Core
from toolring.supervisor.figures import Figures
from toolring.supervisor.usage import Usage

POINTS: Final = 180
LATE_SECONDS: Final = 1.0
"""So long after a slice's end it is added up: what has waited to be counted is there by then."""
BOUNDS: Final = (
    *(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 60.0),
)
"""Of the heat map's rows, in seconds; one more holds what took longer."""
MOST_PROCESSES: Final = 32
"""The largest, each by its name; the others are added up."""
OTHERS: Final = "(others)"
SHARES: Final = (0.5, 0.95, 0.99)
_ROWS: Final = Coarse(tuple(round(bound * 1e6) for bound in BOUNDS))
_KNOWN_SLICES: Final = 11
"""Slices that are over and can still be read."""
_STEP: Final = 64
"""Tools that did nothing, looked at in one step."""


class Timeline:
    """Of one node; ``clock`` tells the time of day, for people."""

    def __init__(self, core: Core, figures: Figures, usage: Usage, clock: Callable[[], float]) -> None:
        self._core = core
        self._figures = figures
        self._usage = usage
        self._clock = clock
        self._points: deque[tuple[int, bytes]] = deque(maxlen=POINTS)
        self._next = int(figures.now // SLICE_SECONDS)
        """The number of the first slice that isn't added up."""
        self._busy = False

    def due(self, now: float) -> Iterator[None] | None:
        """The steps to what is to be added; None: nothing is yet."""
        if self._busy or now < (self._next + 1) * SLICE_SECONDS + LATE_SECONDS:
            return None
        self._busy = True
        return self._steps(now)

    def after(self, number: int) -> list[bytes]:
        """The points of later slices than that, each a JSON object."""
        return [point for at, point in self._points if at > number]

    def _steps(self, now: float) -> Iterator[None]:
        try:
            over = int((now - LATE_SECONDS) // SLICE_SECONDS)
            day = self._clock() - now
            first = max(self._next, over - _KNOWN_SLICES)
            self._next = over
            yield from self._figures.folding()
            for number in range(first, over):
                yield from self._add(number, day)
        finally:
            self._busy = False

    def _add(self, number: int, day: float) -> Iterator[None]:
        whole = Tally()
        asked = quiet = 0
        for key, series in list(self._figures.tools.items()):
            tally = series.slice(number)
            if tally is None or not tally.jobs:
                quiet += 1
                if quiet % _STEP == 0:
                    yield
                continue
            _join(whole, tally)
            tool = self._core.tools.get(key.tool)
            if tool is not None and tool.spec.cache:
                asked += tally.jobs
            yield
        refused = self._figures.door.slice(number)
        core = self._core
        point = {
            "slice": number,
            "time": round((number + 1) * SLICE_SECONDS + day, 3),
            "jobs": whole.jobs,
            "operations": whole.operations,
            "errors": whole.errors,
            "refused": 0 if refused is None else refused.failed,
            "cached": whole.cached,
            "asked": asked,
            **_times(whole.response),
            "waiting": core.backlog.count,
            "running": sum(len(worker.line) for worker in core.fleet.workers.values()),
            "ready": len(core.fleet.ready),
            "processes": sum(one.resident_bytes > 0 for one in self._usage.figures().values()),
            "memory": self._memory(),
        }
        self._points.append((number, msgspec.json.encode(point)))

    def _memory(self) -> dict[str, int]:
        sizes = sorted(
            ((one.resident_bytes, name) for name, one in self._usage.figures().items() if one.resident_bytes),
            reverse=True,
        )
        found = {name: size for size, name in sizes[:MOST_PROCESSES]}
        if others := sum(size for size, _ in sizes[MOST_PROCESSES:]):
            found[OTHERS] = others
        return found


def _join(whole: Tally, tally: Tally) -> None:
    """What is shown of it."""
    whole.jobs += tally.jobs
    whole.operations += tally.operations
    for code, count in tally.errors.items():
        whole.errors[code] = whole.errors.get(code, 0) + count
    for layer, count in tally.hits.items():
        whole.hits[layer] = whole.hits.get(layer, 0) + count
    whole.response.add(tally.response)


def _times(times: Histogram) -> dict[str, Any]:
    """Quantiles in seconds, and how many fell into each row of the heat map."""
    p50, p95, p99 = (None if one is None else one / 1e6 for one in times.quantiles(SHARES))
    return {"p50": p50, "p95": p95, "p99": p99, "buckets": _ROWS.counts(times) if times.counts else []}
