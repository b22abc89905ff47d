"""Calls a tool again and again for `toolring bench`, and writes down how long each answer took.

In a closed loop, so many callers each wait for their answer before they ask again. In an open loop, calls begin at a
rate, whether or not there were answers; each is timed from when it was meant to begin. Who times from when it did begin
leaves out the wait of those that the system held up: coordinated omission (Gil Tene, "How NOT to Measure Latency").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

from toolring.errors import ToolringError
from toolring.policy.histogram import Histogram

SLICES: Final = 10
"""Parts of a run, by which one sees how much the figures vary by themselves."""
_AT_ONCE: Final = 64
"""Calls that are begun before answers are looked at, by a loop that is late."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    tool: str
    arguments: Sequence[Arguments]
    seconds: float
    concurrency: int = 1
    rate: float | None = None
    """By second, in an open loop; None: a closed one."""
    warmup: float = 0.0
    """Seconds before, which aren't counted."""
    at_random: bool = False

    def drawn(self) -> Iterator[Arguments]:
        """Without end; at random the same in every run."""
        if not self.at_random:
            return cycle(self.arguments)
        rng = random.Random(0)
        return iter(lambda: rng.choice(self.arguments), None)


class Record:
    """What the calls came to that were meant to begin in the time that is measured."""

    def __init__(self, began: float, seconds: float) -> None:
        self.began = began
        self.ends = began + seconds
        self.times = Histogram()
        """Of those that succeeded."""
        self.longest = 0
        self.errors: Counter[str] = Counter()
        self.slices = [Histogram() for _ in range(SLICES)]
        """By when they began."""
        self.answers = [0] * SLICES
        """Successes by when they came; those that came after the end are in none."""

    def add(self, meant: float, ended: float, code: str = "") -> None:
        """A call that was meant to begin then, and has ended; ``code`` of its error."""
        if not code and (place := self._slice(ended)) is not None:
            self.answers[place] += 1
        place = self._slice(meant)
        if place is None:
            return
        if code:
            self.errors[code] += 1
            return
        micros = round((ended - meant) * 1e6)
        self.times.record(micros)
        self.slices[place].record(micros)
        self.longest = max(self.longest, micros)

    def _slice(self, moment: float) -> int | None:
        if not self.began <= moment < self.ends:
            return None
        return min(SLICES - 1, int((moment - self.began) * SLICES / (self.ends - self.began)))


class Drive:
    """One run. ``call`` runs the tool, and raises what it ended in."""

    def __init__(
        self,
        plan: Plan,
        call: Callable[[Arguments], Awaitable[Any]],
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.plan = plan
        self._call = call
        self._clock = clock
        self._sleep = sleep
        self._arguments = plan.drawn()
        self._stopped = False
        self._start = clock()
        self.record = Record(self._start + plan.warmup, plan.seconds)

    def stop(self) -> None:
        """Begin no more calls."""
        self._stopped = True

    async def run(self) -> None:
        """Until all calls are answered. Cancelling it cancels those that are under way."""
        async with asyncio.TaskGroup() as calls:
            if self.plan.rate is not None:
                await self._open(calls, self.plan.rate)
            else:
                for _ in range(self.plan.concurrency):
                    calls.create_task(self._closed())

    @property
    def left(self) -> float:
        """Seconds until no more calls begin."""
        return 0.0 if self._stopped else max(0.0, self.record.ends - self._clock())

    async def _closed(self) -> None:
        while self.left:
            await self._one(self._clock())

    async def _open(self, calls: asyncio.TaskGroup, rate: float) -> None:
        number = 0
        while not self._stopped:
            due = self._start + number / rate
            if due >= self.record.ends:
                return
            wait = due - self._clock()
            if wait > 0:
                await self._sleep(wait)
            elif number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            calls.create_task(self._one(due))
            number += 1

    async def _one(self, meant: float) -> None:
        code = ""
        try:
            await self._call(next(self._arguments))
        except ToolringError as error:
            code = error.code
        self.record.add(meant, self._clock(), code)
