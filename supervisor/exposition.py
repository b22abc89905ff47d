"""The page that Prometheus reads, as its text format or as OpenMetrics: written in steps, between which jobs go on.

``prometheus_client`` writes the same from the same figures, but a sample at a time and in one go: ten times slower, and
nothing else would happen meanwhile. docs/metrics-benchmarks.md shows both.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from operator import is_
from typing import Final, NamedTuple

from toolring.plugins.specs import Buckets, MetricFamily
from toolring.policy.histogram import Coarse, Histogram
from toolring.supervisor.collector import Sample, Samples
from toolring.supervisor.families import Family, Kind

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

BOUNDS: Final = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)
"""Of a histogram's buckets, in seconds. A fine bucket counts below a bound if all of it lies there."""
STEP: Final = 20
"""Numbers, or histograms that stand as they did, that are written in one step; a histogram anew takes as long as ten.
"""

_NOTHING: Final = [0] * (len(BOUNDS) + 1)
LE: Final = (*(repr(bound) for bound in BOUNDS), "+Inf")
_COARSE: Final = Coarse(tuple(round(bound * 1e6) for bound in BOUNDS))


class Book:
    """Writes pages, and remembers what it wrote of each histogram: most have not changed since the last page."""

    def __init__(self) -> None:
        self._written: dict[tuple[str, tuple[str, ...]], Written] = {}

    def page(self, families: Iterable[Samples], open_metrics: bool) -> Iterator[str]:
        """A page in pieces. Each takes a fraction of a millisecond to make; pages may be made at the same time."""
        written: dict[tuple[str, tuple[str, ...]], Written] = {}
        for family, samples in families:
            yield _heading(family, open_metrics)
            if family.kind is Kind.HISTOGRAM:
                yield from self._histograms(family, samples, written)
            else:
                yield from _numbers(family, samples)
        if open_metrics:
            yield "# EOF\n"
        self._written = written  # without what is gone

    def _histograms(
        self, family: Family, samples: Iterable[Sample | None], written: dict[tuple[str, tuple[str, ...]], Written]
    ) -> Iterator[str]:
        name = family.name
        lines: list[str] = []
        step = 0
        for sample in samples:
            if sample is None:
                yield ""
                continue
            labels, parts = sample
            if not isinstance(parts, tuple):
                raise TypeError(f"{name}: a histogram is wanted, not {parts!r}")
            marks = _marks(parts)
            before = self._written.get((name, labels))
            if before is None or not before.tells(marks):
                step += 9
                before = Written(marks, _lines(name, _labels(family.labels, labels), parts, marks))
            written[name, labels] = before
            lines.append(before.text)
            step += 1
            if step >= STEP:
                yield "".join(lines)
                lines.clear()
                step = 0
        yield "".join(lines)


class Written(NamedTuple):
    """A histogram's lines, and from what they were made."""

    marks: list[list[int]]
    text: str

    def tells(self, marks: list[list[int]]) -> bool:
        """Are these the very same? Whatever changes is worked out anew."""
        return len(marks) == len(self.marks) and all(map(is_, marks, self.marks))


def as_data(families: Iterable[Samples]) -> Generator[None, None, list[MetricFamily]]:
    """What is on the page as plain data, for sinks; made in steps as well."""
    found: list[MetricFamily] = []
    for family, samples in families:
        step = STEP // 5 if family.kind is Kind.HISTOGRAM else STEP
        told: list[tuple[tuple[str, ...], float | Buckets]] = []
        for number, sample in enumerate(samples, 1):
            if sample is not None:
                labels, value = sample
                told.append((labels, buckets_of(value) if isinstance(value, tuple) else value))
            if sample is None or number % step == 0:
                yield
        found.append(MetricFamily(family.name, family.kind.value, family.unit, family.help, family.labels, told))
        yield
    return found


def buckets_of(parts: tuple[Histogram, ...]) -> Buckets:
    marks = _marks(parts)
    return Buckets(BOUNDS, tuple(_together(marks)), sum(part.total for part in parts) / 1e6)


def _heading(family: Family, open_metrics: bool) -> str:
    name = family.name
    if family.kind is Kind.COUNTER and not open_metrics:
        name += "_total"
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    unit = f"# UNIT {name} {family.unit}\n" if open_metrics and family.unit else ""
    return f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n{unit}"


def _numbers(family: Family, samples: Iterable[Sample | None]) -> Iterator[str]:
    name = f"{family.name}_total" if family.kind is Kind.COUNTER else family.name
    lines: list[str] = []
    for sample in samples:
        if sample is None:
            yield ""
            continue
        labels, value = sample
        inner = _labels(family.labels, labels)
        lines.append(f"{name}{{{inner}}} {value}\n" if inner else f"{name} {value}\n")
        if len(lines) == STEP:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines)


def _lines(name: str, inner: str, parts: Iterable[Histogram], marks: list[list[int]]) -> str:
    comma = "," if inner else ""
    head = f"{name}_bucket{{{inner}{comma}le="
    running = list(accumulate(_together(marks)))
    seconds = sum(part.total for part in parts) / 1e6
    buckets = "".join([f'{head}"{bound}"}} {count}\n' for bound, count in zip(LE, running, strict=True)])
    of = f"{{{inner}}}" if inner else ""
    return f"{buckets}{name}_count{of} {running[-1]}\n{name}_sum{of} {seconds}\n"


def _marks(parts: Iterable[Histogram]) -> list[list[int]]:
    """Counts by bucket of the page, of each part. Most have not changed since the last page."""
    found = []
    for part in parts:
        if part.counts:
            if part.marks is None:
                part.marks = _COARSE.counts(part)
            found.append(part.marks)
    return found


def _together(marks: list[list[int]]) -> list[int]:
    """Counts by bucket of the page, of all parts."""
    return list(map(sum, zip(*marks, strict=True))) if len(marks) > 1 else marks[0] if marks else _NOTHING


@lru_cache(8192)
def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])


def _escaped(value: str) -> str:
    if value.isalnum():
        return value
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
