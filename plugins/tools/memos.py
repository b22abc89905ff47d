"""What was computed from files, kept in the worker's memory for as long as the files stay the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from toolring.plugins.tools.roots import SourceFile

T = TypeVar("T")


class FileMemo(Generic[T]):
    """Memoizes ``compute(file)`` by the file's stamp; the least recently used go first when the budget is
    exceeded.

    The memory belongs to one process, hence ``affinity`` on the tools: equal paths meet a worker that knows
    them. Exceptions aren't kept. The stamp is taken before the file is read, so a write in between is noticed
    next time.
    """

    def __init__(self, compute: Callable[[SourceFile], T], weigh: Callable[[T], int], budget: int) -> None:
        self._compute = compute
        self._weigh = weigh
        self._budget = budget
        self._weight = 0
        self._kept: OrderedDict[tuple[str, str], tuple[tuple[int, int, int], T, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def weight(self) -> int:
        """The sum of what is kept, in units of ``weigh`` plus one for each file."""
        return self._weight

    def get(self, file: SourceFile) -> T:
        """The value for the file as it is now."""
        key = (file.path, file.shown)  # values may show the path
        kept = self._kept.get(key)
        if kept is not None and kept[0] == file.stamp:
            self._kept.move_to_end(key)
            return kept[1]
        self._forget(key)
        value = self._compute(file)
        self._keep(key, file.stamp, value)
        return value

    def _keep(self, key: tuple[str, str], stamp: tuple[int, int, int], value: T) -> None:
        weight = 1 + self._weigh(value)
        if weight > self._budget:
            return
        self._kept[key] = (stamp, value, weight)
        self._weight += weight
        while self._weight > self._budget:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._weight -= kept[2]
