"""How many workers a group has, between a least and a most: more as soon as jobs wait too long, fewer once the most
that was needed in a while needs fewer. Pure.

Up and down are judged by different things, and the way down is slow, so the number doesn't swing: waiting says that
workers are missing, however busy they are, and what they are busy with says how many could go.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final, NamedTuple

USE: Final = 0.75
"""The share of its time that a worker is to be busy, where some may go."""
PARTS: Final = 20
"""The time that is looked back on has so many; in each the mean of what was busy counts."""
GAP_SECONDS: Final = 1.0
"""Where nobody asked for so much longer than is looked back on, nothing is known of what was needed."""


class Scaling(NamedTuple):
    """A group's. Seconds."""

    least: int
    most: int
    wait: float = 0.1
    """Jobs that wait for longer call for more workers."""
    after: float = 30.0
    """Workers that weren't needed for so long leave."""


class Seen(NamedTuple):
    """A group at one moment."""

    serving: int
    """Workers that can take jobs."""
    starting: int
    """Those that will."""
    busy: float
    """Workers' worth of what is under way."""
    waiting: float
    """Workers' worth of what waits for one."""
    waits: float
    """Seconds since the next to be served was accepted. It may have waited elsewhere; what counts begins when somebody
    was first seen to wait here."""


class Scaler:
    """Decides for one group. It is to be asked several times a second."""

    def __init__(self, policy: Scaling, now: float) -> None:
        self._policy = policy
        self._past: deque[tuple[float, float]] = deque()
        """Parts of the time that is looked back on: when each ended, and how many were needed in it on average."""
        self._since = self._asked = now
        """From when on it is known what was needed."""
        self._waits: float | None = None
        """Since when somebody has waited at each look."""
        self._sum = self._seconds = 0.0
        """What was needed in this part, by time."""
        self._ends = now + policy.after / PARTS

    def wanted(self, seen: Seen, now: float) -> int:
        """How many workers the group should have now."""
        policy = self._policy
        self._note(seen.busy + seen.waiting, now)
        if not seen.waiting:
            self._waits = None
        elif self._waits is None:
            self._waits = now
        have = seen.serving + seen.starting
        waits = min(seen.waits, now - (now if self._waits is None else self._waits))
        missing = min(ceil(seen.waiting), max(1, seen.serving)) - seen.starting  # at most twice as many at once
        if missing > 0 and (not have or waits > policy.wait):
            return min(policy.most, have + missing)
        if now - self._since < policy.after:
            return max(policy.least, have)
        needed = max((mean for _, mean in self._past), default=0.0)
        least = max(policy.least, 1) if seen.waiting else policy.least  # who has just come isn't left with nobody
        return max(least, min(have, ceil(needed / USE - 1e-9)))

    def _note(self, needed: float, now: float) -> None:
        after = self._policy.after
        elapsed, self._asked = now - self._asked, now
        if elapsed > after + GAP_SECONDS:
            self._since, elapsed, self._sum, self._seconds = now, 0.0, 0.0, 0.0
        self._sum += needed * elapsed
        self._seconds += elapsed
        if now >= self._ends:
            self._past.append((now, self._sum / self._seconds if self._seconds else needed))
            self._sum, self._seconds, self._ends = 0.0, 0.0, now + after / PARTS
        while self._past and self._past[0][0] < now - after:
            self._past.popleft()
