"""Does something that goes up and down grow, how fast, and how sure is that?

Memory falls when garbage is collected, so its peaks say nothing: a leak raises the floor, which it comes back to. Of
floors, the slope is the median of those of all pairs (Theil 1950), so that outliers don't move it; its bounds are the
ranks among these that chance would not reach (Sen 1968, Estimates of the Regression Coefficient Based on Kendall's Tau,
JASA 63, 1379-1389). Nothing is assumed of the noise but that it is independent from point to point.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf, sqrt
from statistics import median
from typing import Final, NamedTuple

PARTS: Final = 24
"""Of a window; of each the least is kept."""
WINDOWS: Final = 6
"""Of so many windows these are kept."""
_Z: Final = 2.326
"""Of the normal distribution: one in a hundred lies above it. Each bound is passed by chance as often."""
_TOGETHER: Final = (1, 2, 3, 4)
"""Parts that make one floor: what rises and falls within so many leaves no trace in it."""
_COLLECTED: Final = 6
"""Parts with a collection that are enough to look at these alone."""
_ENOUGH: Final = 0.75
"""Of a window before there is a trend."""
_EVENLY: Final = 0.35
"""Of the slope: what its lower bound, the slope of each half and the rise from end to end come up to, at least, if it
is a steady one. The largest with which simulated leaks were found, the smallest with which steps were not."""

Points = Sequence[tuple[float, float]]


class Slope(NamedTuple):
    """Units of y for each unit of x, and its bounds; infinite ones if the points are too few to have any."""

    middle: float
    lower: float
    upper: float

    @property
    def doubt(self) -> float:
        return self.upper - self.lower


def slope(points: Points) -> Slope:
    """That of points whose x all differ. It sorts n * n / 2 numbers, so it is for tens of points."""
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, later in enumerate(points)
        for earlier in points[:index]
    )
    count = len(points)
    chance = _Z * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    if len(slopes) <= chance:
        return Slope(median(slopes) if slopes else 0.0, -inf, inf)
    rank = max(1, int((len(slopes) - chance) / 2))
    return Slope(median(slopes), slopes[rank - 1], slopes[-rank])


class Floor(NamedTuple):
    """The least of one part of a window."""

    when: float
    value: float
    collected: bool
    """Garbage was collected within it."""


class Trend(NamedTuple):
    """Of the floors of a window."""

    slope: Slope
    """Units a second."""
    seconds: float
    """From the first floor to the last."""
    steady: bool
    """It rises for sure, and did so all the time: it was no step, and it is not over."""
    collected: bool
    """Garbage was collected within the last quarter: what has grown is in use, or lost."""

    @property
    def least(self) -> float:
        """What it grew by within these seconds, at least."""
        return self.slope.lower * self.seconds


class Floors:
    """The floors of what is added. Of each of the 24 parts of a window the least value is kept, for six windows: of an
    hour, if a window is ten minutes."""

    __slots__ = ("_kept", "_part", "window")

    def __init__(self, window: float = 600.0) -> None:
        self.window = window
        self._part = window / PARTS
        self._kept: deque[tuple[int, Floor]] = deque(maxlen=PARTS * WINDOWS)
        """With the number of its part."""

    def add(self, when: float, value: float, collected: bool = False) -> bool:
        """True if it was the first of its part, so that the one before is complete."""
        number, kept = int(when // self._part), self._kept
        if not kept or number > kept[-1][0]:
            kept.append((number, Floor(when, value, collected)))
            return True
        number, newest = kept[-1]
        if value < newest.value:
            newest = Floor(max(when, newest.when), value, newest.collected)  # the clock may have gone back
        kept[-1] = number, newest._replace(collected=collected or newest.collected)
        return False

    def all(self) -> list[Floor]:
        """From the oldest to the one that is not complete yet."""
        return [floor for _, floor in self._kept]

    def trend(self) -> Trend | None:
        """Of the window up to the last complete part; None while too little is known.

        How long one rise and fall takes is not known either. If it is within a part, it leaves no trace in the floors;
        if it is longer, their slope is in doubt, and that of some parts taken together, or of those in which garbage
        was collected, is less so. The least doubtful one counts.
        """
        kept = list(self._kept)[:-1]
        aged = [(kept[-1][0] - number, floor) for number, floor in kept if number > kept[-1][0] - PARTS]
        floors = [floor for _, floor in aged]
        seconds = floors[-1].when - floors[0].when if floors else 0.0
        if seconds < _ENOUGH * self.window:
            return None
        choices = [_together(aged, parts) for parts in _TOGETHER]
        collected = [(floor.when, floor.value) for floor in floors if floor.collected]
        if len(collected) >= _COLLECTED:
            choices.append(collected)
        whole, points = min(((slope(points), points) for points in choices), key=lambda choice: choice[0].doubt)
        first, last = (
            [floor for floor in floors if abs(floor.when - end.when) <= seconds / 4] for end in (floors[0], floors[-1])
        )
        risen = (min(floor.value for floor in last) - min(floor.value for floor in first)) / seconds
        steady = min(whole.lower, risen, *_halves(points, floors[0].when, seconds)) >= _EVENLY * whole.middle > 0
        return Trend(whole, seconds, steady, any(floor.collected for floor in last))


def _together(aged: list[tuple[int, Floor]], parts: int) -> Points:
    """The least of each so many parts, with its time; the oldest first."""
    least: dict[int, Floor] = {}
    for age, floor in aged:
        known = least.setdefault(age // parts, floor)
        if floor.value < known.value:
            least[age // parts] = floor
    return [(floor.when, floor.value) for floor in least.values()]


def _halves(points: Points, begin: float, seconds: float) -> list[float]:
    """The slopes of the first half, of the one in the middle and of the last."""
    shares = (0.0, 0.25, 0.5)
    return [slope([p for p in points if share <= (p[0] - begin) / seconds <= share + 0.5]).middle for share in shares]
