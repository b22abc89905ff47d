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
from toolring.policy.breaker import Breaker, BreakerPolicy, State

BREAKER: Final = BreakerPolicy(window=5, minimum=3, wait=30.0, probes=1)
"""A sink that fails most of the time is tried again after half a minute, with one set of figures."""

MOST_ALERTS: Final = 64
"""That wait for a sink which is busy, or fails at alerts; the oldest leave for new ones."""

STUCK_SECONDS: Final = 30.0
"""What is at one thing for longer is stuck; three intervals, if that is more."""
_WORST: Final = (State.CLOSED, State.HALF_OPEN, State.OPEN)
_LOOK: Final = object()


class Sink(Protocol):
    """One of metrics or one of spans."""

    @property
    def emit(self) -> Callable[[Any], None]: ...
    def close(self) -> None: ...


class Exporter:
    """A sink with its thread and a queue of one: figures that come while it is busy are dropped, and counted. Alerts
    wait then, and have a circuit of their own, so that they get through where figures don't."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        on_error: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        size: Callable[[Any], int] = lambda _: 1,
        patience: float = STUCK_SECONDS,
    ) -> None:
        """``size`` says how many are dropped with something that is; it is stuck if one thing takes more than
        ``patience``."""
        self._size = size
        self._patience = patience
        self.name = name
        self.sent = 0
        self.dropped = 0
        self.failed = 0
        self._breaker, self._alert_breaker = Breaker(BREAKER), Breaker(BREAKER)
        self._clock = clock
        self._sink = sink
        self._on_error = on_error
        self._queue: queue.Queue[Any] = queue.Queue(1)
        self._alert: Callable[[AlertEvent], None] | None = getattr(sink, "alert", None)
        self._alerts: deque[AlertEvent] = deque(maxlen=MOST_ALERTS)
        self._since: float | None = None
        """When what it is at began; None while it is at nothing."""
        self._told = False
        """That it is stuck."""
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Would it take something now?"""
        return self._queue.empty()

    @property
    def state(self) -> str:
        """Of its circuits: closed, or open while it gets no figures, or no alerts, because it has kept failing. Or
        stuck: it doesn't come back from what it was given."""
        if self._stuck():
            return "stuck"
        return max(self._breaker.state, self._alert_breaker.state, key=_WORST.index).name.lower()

    @property
    def wants_families(self) -> bool:
        """Is it to get all metrics as well?"""
        return bool(getattr(self._sink, "families", False))

    def look(self) -> None:
        """Tell of it, once, if it is stuck."""
        if self._stuck() and not self._told:
            self._told = True
            why = f"it has been at one thing for more than {self._patience:g} s; the rest is dropped"
            self._on_error(self.name, why)

    def offer(self, figures: Any) -> None:
        self.look()
        try:
            self._queue.put_nowait(figures)
        except queue.Full:
            self.dropped += self._size(figures)

    def alert(self, event: AlertEvent) -> None:
        """For a sink that takes alerts: before the next figures, or at once if it is idle. They wait while it fails."""
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

    def _stuck(self) -> bool:
        since = self._since
        return since is not None and self._clock() - since > self._patience

    def _run(self) -> None:
        while True:
            figures = self._queue.get()
            self._give_alerts()
            if figures is None:
                self.dropped += len(self._alerts)
                self._guarded_close()
                return
            if figures is not _LOOK:
                self._give_figures(figures)

    def _give_alerts(self) -> None:
        while self._alert is not None and self._alerts:
            permit = self._alert_breaker.permit(self._clock())
            if permit is None:
                return
            self._guarded(self._alert_breaker, permit, self._alert, self._alerts.popleft())

    def _give_figures(self, figures: Any) -> None:
        permit = self._breaker.permit(self._clock())
        if permit is None:
            self.dropped += self._size(figures)
        else:
            self._guarded(self._breaker, permit, self._sink.emit, figures)

    def _guarded_close(self) -> None:
        try:
            self._sink.close()
        except BaseException as error:
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        self.failed += 1
        self._on_error(self.name, f"{type(error).__name__}: {error}")

    def _guarded(self, breaker: Breaker, permit: int, give: Callable[[Any], None], what: Any) -> None:
        """Whatever it raises, the thread goes on: sys.exit() ends no node, and no sink in silence."""
        began = self._clock()
        self._told, self._since = False, began
        try:
            give(what)
        except BaseException as error:
            self._done(breaker, permit, began, True)
            self._fault(error)
        else:
            self._done(breaker, permit, began, False)
            self.sent += 1

    def _done(self, breaker: Breaker, permit: int, began: float, failed: bool) -> None:
        self._since = None
        now = self._clock()
        breaker.record(permit, failed, now - began, now)


def exporters(
    kind: str,
    wanted: tuple[str, ...],
    offered: Mapping[str, Callable[[], Sink]],
    on_error: Callable[[str, str], None],
    size: Callable[[Any], int] = lambda _: 1,
    patience: float = STUCK_SECONDS,
) -> list[Exporter]:
    """Make the sinks that the configuration names. Raises PluginError for an unknown one or one that can't be made."""
    found = []
    for name in wanted:
        factory = offered.get(name)
        if factory is None:
            raise PluginError(f"no {kind} sink {name!r}; there is {', '.join(sorted(offered))}")
        try:
            sink = factory()
        except BaseException as error:
            raise PluginError(f"the {kind} sink {name!r} can't be made: {type(error).__name__}: {error}") from error
        found.append(Exporter(name, sink, on_error, size=size, patience=patience))
    return found
