"""What was counted of one thing: since the start, and in the last minute and five. Slices of time, no clock.

What happens is written into one tally. When its slice of five seconds is over, that is added to the sum since the start
and to a slice of half a minute, and another begins. So a window costs nothing while jobs are counted, and few additions
when somebody looks. It holds whole slices: that of a minute the last 55 to 60 seconds.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Final

from toolring.policy.histogram import Histogram

SLICE_SECONDS: Final = 5
_FINE: Final = 12
_PER_COARSE: Final = 6
_COARSE: Final = 10


class Window(IntEnum):
    """Seconds; 0: since the start."""

    START = 0
    MINUTE = 60
    FIVE_MINUTES = 300


class Tally:
    """Counts and times of jobs. Two of them add up exactly."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "errors",
        "hits",
        "jobs",
        "lost",
        "operations",
        "overhead",
        "queue",
        "response",
        "retried",
        "run",
    )

    def __init__(self) -> None:
        self.jobs = 0
        """Final answers."""
        self.operations = 0
        """Calls that they consist of: several of a chunk."""
        self.hits: dict[int, int] = {}
        """Answers from a cache, by its layer: 0 the supervisor, 1 a worker's memory, then the stores."""
        self.retried = 0
        """Runs that failed and were followed by another."""
        self.lost = 0
        """Runs that ended with their worker."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.errors: dict[str, int] = {}
        """Calls that failed, by their errors' codes: of a chunk each."""
        self.response = Histogram()
        """From acceptance to the answer."""
        self.queue = Histogram()
        """Until it was sent to a worker, or ended before: from acceptance, or since it might run again."""
        self.run = Histogram()
        """What the worker measured: arguments checked, tool called, result encoded. Of a run that did not come to its
        end, until that was noticed."""
        self.overhead = Histogram()
        """From being sent to the answer, less the run: on the way, and in the worker's line."""

    def add(self, other: Tally) -> None:
        self.jobs += other.jobs
        self.operations += other.operations
        self.retried += other.retried
        self.lost += other.lost
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        for layer, count in other.hits.items():
            self.hits[layer] = self.hits.get(layer, 0) + count
        self.response.add(other.response)
        self.queue.add(other.queue)
        self.run.add(other.run)
        self.overhead.add(other.overhead)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def cached(self) -> int:
        return sum(self.hits.values())


class Series:
    """One thing's tallies over time. ``now`` is in seconds of the monotonic clock, and never goes back."""

    __slots__ = ("_coarse", "_fine", "_fresh", "_slice", "_told", "_total", "began", "changes")

    def __init__(self, now: float) -> None:
        self.began = now
        self.changes = 0
        """How often it was written to: who remembers it knows whether there is anything new."""
        self._told = 0
        """Changes that are in slices which are over."""
        self._slice = int(now // SLICE_SECONDS)
        self._fresh = Tally()
        self._total = Tally()
        self._fine: deque[tuple[int, Tally]] = deque()
        self._coarse: deque[tuple[int, Tally]] = deque()

    def at(self, now: float) -> Tally:
        """Where to write what happens now."""
        if now // SLICE_SECONDS > self._slice:
            self._turn(int(now // SLICE_SECONDS))
        self.changes += 1
        return self._fresh

    def _turn(self, slice_: int) -> None:
        """The present slice is over. One in which nothing happened leaves nothing behind."""
        if self.changes != self._told:
            self._told = self.changes
            over, self._fresh = self._fresh, Tally()
            self._total.add(over)
            self._fine.append((self._slice, over))
            coarse = self._slice // _PER_COARSE
            if not self._coarse or self._coarse[-1][0] != coarse:
                self._coarse.append((coarse, Tally()))
            self._coarse[-1][1].add(over)
        self._slice = slice_
        while self._fine and self._fine[0][0] <= slice_ - _FINE:
            self._fine.popleft()
        while self._coarse and self._coarse[0][0] <= slice_ // _PER_COARSE - _COARSE:
            self._coarse.popleft()

    @property
    def since_start(self) -> tuple[Tally, Tally]:
        """What together is all since the start; only until it is written to again."""
        return self._total, self._fresh

    def slice(self, number: int) -> Tally | None:
        """What was counted in a slice of the last minute, by its number on the clock; None: nothing that is known."""
        if number == self._slice:
            return self._fresh
        return next((tally for at, tally in reversed(self._fine) if at == number), None)

    def parts(self, window: Window, now: float) -> tuple[list[Tally], float]:
        """The tallies that together are what a window holds, and the seconds that it spans."""
        slice_ = int(now // SLICE_SECONDS)
        if slice_ > self._slice:
            self._turn(slice_)
        if window is Window.START:
            return [self._total, self._fresh], max(0.0, now - self.began)
        if window is Window.MINUTE:
            first = (slice_ - _FINE + 1) * SLICE_SECONDS
            found = [tally for _, tally in self._fine]
        else:
            first = (slice_ // _PER_COARSE - _COARSE + 1) * _PER_COARSE * SLICE_SECONDS
            found = [tally for _, tally in self._coarse]
        return [*found, self._fresh], max(0.0, now - max(first, self.began))

    def window(self, window: Window, now: float) -> tuple[Tally, float]:
        """What a window holds, added up, and the seconds that it spans."""
        parts, seconds = self.parts(window, now)
        whole = Tally()
        for part in parts:
            whole.add(part)
        return whole, seconds
