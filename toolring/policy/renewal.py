"""When a worker has served long enough and is replaced, before it is unwell. Pure.

Each worker has its own luck, so that those which started together don't leave together.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LEAST_LUCK: Final = 0.8
"""A worker is replaced somewhere from this share of a limit on."""


class Renewal(NamedTuple):
    """What a worker of a group may come to; 0: any amount."""

    jobs: int = 0
    """Jobs that it has answered."""
    age: float = 0.0
    """Seconds since it was ready."""
    idle: float = 0.0
    """Seconds without anything to do."""
    memory: int = 0
    """Bytes of resident memory."""

    @property
    def wanted(self) -> bool:
        return self != Renewal()

    def outgrown(self, jobs: int, memory: int) -> bool:
        """Has a worker more memory than it may, of which its successor would have less?"""
        return 0 < self.memory < memory and jobs > 0

    def reason(self, jobs: int, age: float, idle: float, memory: int, luck: float) -> str:
        """Why a worker of that sort is to be replaced now; empty if it isn't. ``luck`` is its own, from 0 to 1: of
        jobs and age it is granted so much less."""
        share = 1.0 - luck * (1.0 - LEAST_LUCK)
        if self.outgrown(jobs, memory):
            return f"it has {memory} bytes of memory; max_memory is {self.memory}"
        if self.jobs and jobs >= self.jobs * share:
            return f"it has answered {jobs} jobs; max_jobs is {self.jobs}"
        if self.age and age >= self.age * share:
            return f"it is {age:.0f} s old; max_age is {self.age:g} s"
        if self.idle and idle >= self.idle and jobs:
            return f"it had nothing to do for {idle:.0f} s; max_idle is {self.idle:g} s"
        return ""
