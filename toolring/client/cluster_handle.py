"""What a cluster gives for a job, for threads: a handle to wait by, wherever the job is, or a stream to read."""

from __future__ import annotations

import time
from typing import Any

from toolring.client.feed import OnProgress
from toolring.client.handles import Handle, Stream
from toolring.client.journey import Journey
from toolring.client.nodes import WAIT_SECONDS
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
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self.adrift:
                job = self.job
                job._owner._wait(job, left)
            elif left == 0.0:
                raise TimeoutError(f"job {self.id} has no answer after {timeout} s; it goes on")
            else:
                self._rest(left)

    def _rest(self, patience: float | None = None) -> None:
        """No node has it: see whether one is there a moment later."""
        time.sleep(WAIT_SECONDS if patience is None else min(patience, WAIT_SECONDS))
        self._nodes.glance()


class ClusterStream(Stream):
    """One that moves on as long as the nodes of its list refuse it, and stays where it has begun."""

    def __init__(self, way: ClusterHandle, on_progress: OnProgress | None) -> None:
        super().__init__(way.job._owner, way.job, on_progress)
        self._way = way

    def __next__(self) -> Any:
        """Wait for the next part. Raises what the job ended in, after all parts before it."""
        way = self._way
        while way.under_way:
            self._handle = job = way.job
            self._client = job._owner
            if way.has_begun(job):
                way.stay()
            elif job.settled:
                if way.goes_on(job) and way.adrift:
                    way._rest()
            else:
                self._client._hear(job, None)
        return super().__next__()

    def close(self) -> None:
        """End the job, if it isn't over."""
        self._way.cancel()

    def _outcome(self) -> Any:
        return self._way.outcome()
