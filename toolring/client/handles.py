"""What the synchronous client gives for a job: a handle to wait by, or a stream to read from."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from toolring.client.feed import OnProgress, Progress
from toolring.client.session import Pending, broken
from toolring.errors import ToolringError

if TYPE_CHECKING:
    from toolring.client.sync import Client


class Handle(Pending):
    """A submitted job."""

    client: Client | None = None

    @property
    def _owner(self) -> Client:
        assert self.client is not None
        return self.client

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Raises the job's error, or TimeoutError after ``timeout`` seconds (the job goes on)."""
        if not self.settled:
            self._owner._wait(self, timeout)
        return self.outcome()

    def exception(self, timeout: float | None = None) -> ToolringError | None:
        """Wait, and return the job's error; None if it succeeded."""
        try:
            self.result(timeout)
        except ToolringError as error:
            return error
        return None

    def done(self) -> bool:
        """Is there an answer? Never waits."""
        if not self.settled:
            self._owner._look()
        return self.settled

    def cancel(self) -> None:
        """Ask the node to end the job, wherever it is; ``result`` then raises Cancelled (or had come before)."""
        self._owner._cancel(self)

    def status(self) -> str:
        """What the node says of it: queued, dispatched, running, joined, done or failed."""
        if self.done():
            return "failed" if self.error is not None or (self.answer is not None and self.answer.status) else "done"
        return str(self._owner.job(self.id)["state"])

    def position(self) -> int | None:
        """How many jobs are before it, about; None once it doesn't wait in line any more."""
        return None if self.done() else self._owner.job(self.id).get("position")

    def estimated_wait(self) -> float | None:
        """Seconds until it starts, about; None once it doesn't wait any more."""
        return None if self.done() else self._owner.job(self.id).get("wait")


class Stream(Iterator[Any]):
    """What a generator yields, as it comes: ``for part in client.stream(...)``.

    The tool runs ahead of its caller by as many bytes as the stream's window holds, and then waits. Leaving early
    cancels the job: by the end of a loop, by ``close``, by the end of a ``with``, or when nobody holds the stream any
    more. ``next(stream)`` takes one part and goes on.
    """

    def __init__(self, client: Client, handle: Handle, on_progress: OnProgress | None) -> None:
        self._client = client
        self._handle = handle
        self._on_progress = on_progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """The parts that are left. Whoever leaves them, by ``break`` or by an error, wants no more."""
        try:
            while True:
                try:
                    part = next(self)
                except StopIteration:
                    return
                yield part
        finally:
            self._client._abandon(self._handle)  # not close(): it may be the collector that ends this generator

    def __next__(self) -> Any:
        """Wait for the next part. Raises what the job ended in, after all parts before it."""
        handle, feed = self._handle, self._handle.feed
        assert feed is not None
        while True:
            if feed.lost:
                self.close()
                raise broken(handle, "some were lost")
            if feed.parts:
                part = self._client._take(handle)
                if not isinstance(part, Progress):
                    return part
                if self._on_progress is not None:
                    self._on_progress(part)
                continue
            if handle.settled:
                if handle.answer is not None and handle.answer.parts > feed.number:
                    raise broken(handle, "some were lost")
                self._outcome()
                raise StopIteration
            self._client._hear(handle, None)

    @property
    def id(self) -> str:
        return self._handle.id

    @property
    def progress(self) -> Progress | None:
        """The last that the tool has said of its progress."""
        return self._handle.progress

    @property
    def value(self) -> Any:
        """What the generator returned, once it is done. Raises what the job ended in; ValueError if it goes on."""
        if not self._handle.settled:
            raise ValueError("the stream is not over")
        return self._outcome()

    def _outcome(self) -> Any:
        return self._handle.outcome()

    def close(self) -> None:
        """End the job, if it isn't over."""
        self._client._cancel(self._handle)

    def __del__(self) -> None:
        self._client._abandon(self._handle)
