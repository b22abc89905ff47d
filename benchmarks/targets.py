"""What toolring holds itself to, as ratios to a peer's figure of the same repetition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

Figures = Mapping[str, Any]
Repetition = Mapping[str, Figures]
"""The figures of one repetition by system."""


class Target(NamedTuple):
    """``bound`` is a least ratio, or with ``most`` a largest one. ``other`` names a system's figure: by default the
    same figure as ours."""

    figure: str
    system: str
    bound: float
    most: bool = False
    other: str | None = None
    stretch: bool = False


TARGETS = (
    Target("jobs_per_s", "pool", 3),
    Target("jobs_per_s", "grpc", 12),
    Target("jobs_per_s", "packed", 0.25),
    Target("p50_us", "drain", 1.3, most=True),
    Target("p50_us", "grpc", 0.7, most=True),
    Target("p50_us", "pool", 1.0, most=True, stretch=True),
    Target("p99_us", "drain", 1.5, most=True),
    Target("spin_per_s", "packed", 0.95),
    Target("spin_per_s", "pebble", 0.9),
    Target("mb_per_s", "nocopy", 0.75),
    Target("mb_per_s", "executor", 2.5),
    Target("pss_mib", "toolring", 1.5, most=True, other="bare_pss_mib"),
    Target("cold_s", "toolring", 5, most=True, other="bare_start_s"),
)


class Verdict(NamedTuple):
    target: Target
    ratio: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        """By the median."""
        return self.ratio <= self.target.bound if self.target.most else self.ratio >= self.target.bound


def judge(target: Target, repetitions: Iterable[Repetition]) -> Verdict | None:
    """The ratio of each repetition, then their median and spread; None if a side was never measured."""
    ratios = []
    for repetition in repetitions:
        ours = repetition.get("toolring", {}).get(target.figure)
        theirs = repetition.get(target.system, {}).get(target.other or target.figure)
        if ours and theirs:
            ratios.append(ours / theirs)
    return Verdict(target, median(ratios), min(ratios), max(ratios)) if ratios else None
