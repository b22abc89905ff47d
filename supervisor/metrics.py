"""Hands the node's figures to the sinks, each in a thread of its own: one that blocks or fails slows nobody."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from toolring.errors import PluginError
from toolring.plugins.specs import AlertEvent
from toolring.policy.breaker import Breaker, BreakerPolicy

BREAKER: Final = BreakerPolicy(window=5, minimum=3, wait=30.0, probes=1)
"""A sink that fails most of the time is tried again after half a minute, with one set of figures."""

MOST_ALERTS: Final = 64
"""That wait for a sink which is busy; the oldest leave for new ones."""
_LOOK: Final = object()


class Sink(Protocol):
    """One of metrics or one of spans."""

    @property
    def emit(self) -> Callable[[Any], None]: ...
    def close(self) -> None: ...


class Exporter:
    """A sink with its thread and a queue of one: figures that come while it is busy are dropped, and counted."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        on_error: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        size: Callable[[Any], int] = lambda _: 1,
    ) -> None:
        """``size`` says how many are dropped with something that is."""
        self._size = size
        self.name = name
        self.sent = 0
        self.dropped = 0
        self.failed = 0
        self._breaker = Breaker(BREAKER)
        self._clock = clock
        self._sink = sink
        self._on_error = on_error
        self._queue: queue.Queue[Any] = queue.Queue(1)
        self._alert: Callable[[AlertEvent], None] | None = getattr(sink, "alert", None)
        self._alerts: deque[AlertEvent] = deque(maxlen=MOST_ALERTS)
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Would it take something now?"""
        return self._queue.empty()

    @property
    def state(self) -> str:
        """Of its circuit: closed, or open while it gets nothing because it has kept failing."""
        return self._breaker.state.name.lower()

    @property
    def wants_families(self) -> bool:
        """Is it to get all metrics as well?"""
        return bool(getattr(self._sink, "families", False))

    def offer(self, figures: Any) -> None:
        try:
            self._queue.put_nowait(figures)
        except queue.Full:
            self.dropped += self._size(figures)

    def alert(self, event: AlertEvent) -> None:
        """For a sink that takes alerts: before the next figures, or at once if it is idle."""
        if self._alert is None:
            return
        if len(self._alerts) == MOST_ALERTS:
            self.dropped += 1
        self._alerts.append(event)
        try:
            self._queue.put_nowait(_LOOK)
        except queue.Full:
            pass  # it will look when it has done what it is at

    def close(self, patience: float = 1.0, last: Any = None) -> None:
        """Let it finish what it has, and a ``last`` of it, for at most ``patience`` seconds."""
        try:
            if last is not None:
                self._queue.put(last, timeout=patience)
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            figures = self._queue.get()
            while self._alert is not None and self._alerts:
                self._guarded(self._alert, self._alerts.popleft(), 1)
            if figures is None:
                self._guarded_close()
                return
            if figures is not _LOOK:
                self._guarded(self._sink.emit, figures, self._size(figures))

    def _guarded_close(self) -> None:
        try:
            self._sink.close()
        except Exception as error:
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        self.failed += 1
        self._on_error(self.name, f"{type(error).__name__}: {error}")

    def _guarded(self, give: Callable[[Any], None], what: Any, size: int) -> None:
        began = self._clock()
        permit = self._breaker.permit(began)
        if permit is None:
            self.dropped += size
            return
        failed = True
        try:
            give(what)
            self.sent += 1
            failed = False
        except Exception as error:
            self._fault(error)
        finally:
            now = self._clock()
            self._breaker.record(permit, failed, now - began, now)


def exporters(
    kind: str,
    wanted: tuple[str, ...],
    offered: Mapping[str, Callable[[], Sink]],
    on_error: Callable[[str, str], None],
    size: Callable[[Any], int] = lambda _: 1,
) -> list[Exporter]:
    """Make the sinks that the configuration names. Raises PluginError for an unknown one or one that can't be made."""
    found = []
    for name in wanted:
        factory = offered.get(name)
        if factory is None:
            raise PluginError(f"no {kind} sink {name!r}; there is {', '.join(sorted(offered))}")
        try:
            sink = factory()
        except Exception as error:
            raise PluginError(f"the {kind} sink {name!r} can't be made: {type(error).__name__}: {error}") from error
        found.append(Exporter(name, sink, on_error, size=size))
    return found
