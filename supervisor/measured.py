"""What tools' own code counts and times, of all workers together: counts and times add up, gauges stand by worker."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Final, NamedTuple

from toolring.metrics import Kind
from toolring.policy.histogram import Histogram
from toolring.protocol import Counted
from toolring.supervisor.families import Family
from toolring.supervisor.families import Kind as Exposed

MOST_SERIES: Final = 2_000
PREFIX: Final = "toolring_user_"
_EXPOSED: Final = {Kind.COUNTER: Exposed.COUNTER, Kind.GAUGE: Exposed.GAUGE, Kind.TIMER: Exposed.HISTOGRAM}


class _Shape(NamedTuple):
    kind: Kind
    labels: tuple[str, ...]


class Measured:
    """By name, and then by the values of the labels."""

    def __init__(self, most: int = MOST_SERIES) -> None:
        self._most = most
        self._shapes: dict[str, _Shape] = {}
        self._before: set[str] = set()
        """Names whose shape was told by code that another has taken over from."""
        self._values: dict[str, dict[tuple[str, ...], float | Histogram]] = {}
        self._tellers: dict[tuple[str, tuple[str, ...]], int] = {}
        """Which generation of a slot's workers has told of a gauge, by its name and labels."""
        self._size = 0
        self.left_out = 0
        """Observations for which there were too many names and labels, or that were something else elsewhere."""

    def heard(self, slot: int, told: Counted, generation: int = 0) -> None:
        """What a worker tells; of a gauge its slot's latest. Raises ValueError for what no worker of ours would."""
        self.left_out += told.left_out
        for kind_name, name, labels, amount, buckets in told.series:
            kind = Kind(kind_name)
            if not isfinite(amount):
                raise ValueError(f"{name}: {amount!r} is not an amount")
            shape = _Shape(kind, tuple(label for label, _ in labels))
            values = tuple(value for _, value in labels)
            if kind is Kind.GAUGE:
                shape, values = shape._replace(labels=(*shape.labels, "worker")), (*values, str(slot))
                if self._tellers.get((name, values), 0) > generation:
                    continue
            if not self._fits(name, shape) or not self._room(name, shape, values):
                self.left_out += sum(buckets.values()) or 1
            elif kind is Kind.TIMER:
                self._time(name, values, Histogram(buckets, int(amount)))
            else:
                self._count(name, values, amount, kind)
                if kind is Kind.GAUGE:
                    self._tellers[name, values] = generation

    def gone(self, slot: int, generation: int) -> None:
        """A worker has ended: its gauges stand for nothing any more."""
        told = [key for key, by in self._tellers.items() if key[1][-1] == str(slot) and by == generation]
        for name, values in told:
            self._leaves(name, values)

    def forget_workers(self, slots: Iterable[int]) -> None:
        """There are only these slots any more: the others' gauges stand for nothing."""
        there = {str(slot) for slot in slots}
        for name, values in [key for key in self._tellers if key[1][-1] not in there]:
            self._leaves(name, values)

    def _leaves(self, name: str, values: tuple[str, ...]) -> None:
        del self._values[name][values], self._tellers[name, values]
        self._size -= 1
        if not self._values[name]:
            self._forget(name)

    def turned_over(self) -> None:
        """Other code serves from now on: to it, a name may be another kind, or have other labels."""
        self._before = set(self._shapes)

    def families(self) -> list[tuple[Family, dict[tuple[str, ...], float | Histogram]]]:
        """For the page, and what each holds."""
        found = []
        for name, values in sorted(self._values.items()):
            kind, labels = self._shapes[name]
            unit = "_seconds" if kind is Kind.TIMER else ""
            family = Family(f"{PREFIX}{name}{unit}", _EXPOSED[kind], labels, "Measured by tools.")
            found.append((family, values))
        return found

    def _time(self, name: str, values: tuple[str, ...], more: Histogram) -> None:
        known = self._values[name].setdefault(values, Histogram())
        assert isinstance(known, Histogram)
        known.add(more)

    def _count(self, name: str, values: tuple[str, ...], amount: float, kind: Kind) -> None:
        known = self._values[name].get(values, 0.0)
        assert not isinstance(known, Histogram)
        self._values[name][values] = amount if kind is Kind.GAUGE else known + amount

    def _fits(self, name: str, shape: _Shape) -> bool:
        """Is the name nothing else already? What other code has made of it gives way."""
        known = self._shapes.get(name, shape)
        if known == shape:
            return True
        if name not in self._before:
            return False
        self._forget(name)
        return True

    def _forget(self, name: str) -> None:
        self._before.discard(name)
        del self._shapes[name]
        gone = self._values.pop(name)
        self._size -= len(gone)
        for values in gone:
            self._tellers.pop((name, values), None)

    def _room(self, name: str, shape: _Shape, values: tuple[str, ...]) -> bool:
        if values in self._values.get(name, ()):
            return True
        if self._size >= self._most:
            return False
        self._size += 1
        self._shapes[name] = shape
        self._values.setdefault(name, {})
        return True
