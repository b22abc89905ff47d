"""What a system under measurement has to offer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, ClassVar

from benchmarks.processes import descendants

Arguments = Sequence[Any]


class System:
    """Two workers and one client, this process. ``job`` is a name in ``work.FUNCTIONS``."""

    distributions: ClassVar[tuple[str, ...]] = ()
    """Whose versions are reported."""
    takes_megabytes: ClassVar[bool] = True

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def call(self, job: str, argument: Any) -> Any:
        """Run one job and return its result."""
        raise NotImplementedError

    def many(self, job: str, arguments: Arguments, window: int) -> float:
        """Run a job for each argument with ``window`` of them under way; the seconds that it took."""
        raise NotImplementedError

    def extras(self, arguments: Callable[[int], Arguments], seconds: float) -> dict[str, float]:
        """Further ways to run many jobs, each with its figure in jobs/s."""
        return {}

    def figures_after(self, quick: bool) -> dict[str, float]:
        """What is measured once the system has stopped."""
        return {}

    def roles(self) -> dict[str, list[int]]:
        """Process ids by role."""
        return {"client": [os.getpid()], "service": descendants()}


class Futures(System):
    """Systems with a handle for each job: they give ``submit`` and ``wait``."""

    def submit(self, job: str, argument: Any) -> Any:
        raise NotImplementedError

    def wait(self, handle: Any) -> Any:
        raise NotImplementedError

    def call(self, job: str, argument: Any) -> Any:
        return self.wait(self.submit(job, argument))

    def many(self, job: str, arguments: Arguments, window: int) -> float:
        submit, wait = self.submit, self.wait
        under_way: deque[Any] = deque()
        began = perf_counter()
        for argument in arguments:
            if len(under_way) >= window:
                wait(under_way.popleft())
            under_way.append(submit(job, argument))
        while under_way:
            wait(under_way.popleft())
        return perf_counter() - began
