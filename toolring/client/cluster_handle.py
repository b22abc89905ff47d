"""What a cluster gives for a job, for threads: a handle to wait by, wherever the job is now."""

from __future__ import annotations

import time
from typing import Any

from toolring.client.handles import Handle
from toolring.client.journey import Journey
from toolring.client.sync import Client
from toolring.errors import ToolringError


class ClusterHandle(Journey[Client, Handle]):
    """A job that was submitted to a cluster, wherever it is now."""

    def done(self) -> bool:
        """Is there an answer? Never waits."""
        self.job.done()
        return self.settled

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Raises the job's error, or TimeoutError after ``timeout`` seconds (the job goes on)."""
        self._wait(timeout)
        return self.outcome()

    def exception(self, timeout: float | None = None) -> ToolringError | None:
        """Wait, and return the job's error; None if it succeeded."""
        try:
            self.result(timeout)
        except ToolringError as error:
            return error
        return None

    def _wait(self, timeout: float | None) -> None:
        """Wait for the answer that is the last. Raises TimeoutError."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.settled:
            job = self.job
            job._owner._wait(job, None if end is None else max(0.0, end - time.monotonic()))
