"""What takes longer than a turn of the loop may: done in steps, a little after each turn, so that no job waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

STEP_SECONDS: Final = 100e-6
"""For so long, and the rest of one step, the loop goes on with errands before it looks for events again."""


class Errands:
    """Of one loop, first come, first served."""

    def __init__(self, failed: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> None:
        """``failed`` hears of an errand that broke off, and why."""
        self._failed = failed
        self._clock = clock
        self._waiting: deque[Iterator[object]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, steps: Iterator[object]) -> None:
        """Run this to its end; what it yields is of no interest, only that it does so often."""
        self._waiting.append(steps)

    def go_on(self) -> None:
        """Do a little of the first."""
        until = self._clock() + STEP_SECONDS
        while self._waiting:
            try:
                next(self._waiting[0])
            except StopIteration:
                self._waiting.popleft()
            except Exception as error:  # nobody's question is a reason to serve nobody any more
                self._waiting.popleft()
                self._failed(f"{type(error).__name__}: {error}")
            if self._clock() >= until:
                break
