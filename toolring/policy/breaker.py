"""A circuit breaker: what keeps failing is not called for a while, and then tried with a few calls first.

Pure: time comes in. ``permit`` before a call, and ``record`` or ``cancel`` after it; no lock is held while the call
runs. After resilience4j's CircuitBreaker (sliding windows, slow calls, permits of the half-open state); the pattern is
Nygard's (Release It!, 2007).
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from math import inf
from typing import Final, NamedTuple

import msgspec


class State(Enum):
    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()
    FORCED_OPEN = auto()
    FORCED_CLOSED = auto()
    """Everything goes through, and nothing is counted."""
    METRICS_ONLY = auto()
    """Everything goes through, and is counted."""


class Event(Enum):
    TRIP = auto()
    """Too many of the calls in the window failed, or were slow."""
    WAITED = auto()
    """It was open for long enough."""
    RECOVER = auto()
    """Enough of the probes went well."""
    RELAPSE = auto()
    FORCE_OPEN = auto()
    FORCE_CLOSE = auto()
    OBSERVE = auto()
    AUTO = auto()
    """Back to what its policy says: deciding by itself, or only counting."""


S, E = State, Event
_ORDERED = {
    E.FORCE_OPEN: S.FORCED_OPEN,
    E.FORCE_CLOSE: S.FORCED_CLOSED,
    E.OBSERVE: S.METRICS_ONLY,
    E.AUTO: S.CLOSED,
}
TABLE: Final[dict[State, dict[Event, State]]] = {
    S.CLOSED: {E.TRIP: S.OPEN, **_ORDERED},
    S.OPEN: {E.WAITED: S.HALF_OPEN, **_ORDERED},
    S.HALF_OPEN: {E.RECOVER: S.CLOSED, E.RELAPSE: S.OPEN, **_ORDERED},
    S.FORCED_OPEN: dict(_ORDERED),
    S.FORCED_CLOSED: dict(_ORDERED),
    S.METRICS_ONLY: dict(_ORDERED),
}

ORDERS: Final = {"auto": E.AUTO, "open": E.FORCE_OPEN, "close": E.FORCE_CLOSE, "watch": E.OBSERVE}
"""What an operator may say, by the words that he says it with. Where an order is a number, it is its place here."""
MOST_CALLS: Final = 100_000
_BUCKETS: Final = 10
"""Of a window of time: what is forgotten at once is a tenth of it."""


class IllegalEvent(Exception):
    """A bug of the caller: the event can't happen in this state. The breaker is unchanged."""


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a circuit opens, and how it closes again. Rates are shares (0 to 1], times seconds.

    Raises ValueError for what makes no sense.
    """

    failure_rate: float = 0.5
    """It opens when so large a share of the calls in the window failed."""
    slow_rate: float = 1.0
    slow: float | None = None
    """Calls that take longer are slow; it opens as well when ``slow_rate`` of them are. None: no call is slow."""
    window: int = 100
    """Calls that it looks back at."""
    window_seconds: float = 0.0
    """Seconds that it looks back over instead; 0: a number of calls."""
    minimum: int = 20
    """Calls in the window before it may open."""
    wait: float = 30.0
    """Seconds that it stays open."""
    probes: int = 5
    """Calls that are let through then; how they go decides."""
    ignore: tuple[str, ...] = ()
    """Errors that are as good as answers: names of exceptions or codes."""
    observe: bool = False
    """It counts, and lets everything through, unless somebody orders otherwise."""

    @property
    def begins(self) -> State:
        """Where a circuit begins, and returns to when it is to decide by itself again."""
        return State.METRICS_ONLY if self.observe else State.CLOSED

    def __post_init__(self) -> None:
        for name in ("failure_rate", "slow_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a share: more than 0, at most 1")
        for name in ("window", "minimum", "probes"):
            if not 1 <= getattr(self, name) <= MOST_CALLS:
                raise ValueError(f"{name}={getattr(self, name)!r} is not from 1 to {MOST_CALLS} calls")
        for name in ("slow", "wait"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a positive number of seconds")
        if not 0 <= self.window_seconds < inf:
            raise ValueError(f"window_seconds={self.window_seconds!r} is not a number of seconds")
        if self.slow is None and self.slow_rate != 1:
            raise ValueError(f"slow_rate={self.slow_rate!r} does nothing without slow=, the seconds of a slow call")
        if not self.window_seconds and self.minimum > self.window:
            raise ValueError(f"minimum={self.minimum} is more than the window's {self.window} calls, so it never opens")


class Counts(NamedTuple):
    calls: int
    failed: int
    slow: int


class CountWindow:
    """The last so many calls."""

    __slots__ = ("_calls", "_failed", "_kept", "_most", "_slow")

    def __init__(self, most: int) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        self._calls: deque[tuple[bool, bool]] = deque()
        self._failed = self._slow = 0

    def add(self, failed: bool, slow: bool, now: float) -> None:
        calls = self._calls
        if len(calls) >= self._most:
            old_failed, old_slow = calls.popleft()
            self._failed -= old_failed
            self._slow -= old_slow
        calls.append((failed, slow))
        self._failed += failed
        self._slow += slow

    def counts(self, now: float) -> Counts:
        return Counts(len(self._calls), self._failed, self._slow)


class TimeWindow:
    """The calls of the last so many seconds, in ten parts: it reaches back between nine and ten tenths of that."""

    __slots__ = ("_part", "_parts")

    def __init__(self, seconds: float) -> None:
        self._part = seconds / _BUCKETS
        self.clear()

    def clear(self) -> None:
        self._parts: deque[list[int]] = deque()
        """Number of the part, calls, failed, slow."""

    def add(self, failed: bool, slow: bool, now: float) -> None:
        number = self._forget(now)
        parts = self._parts
        if not parts or parts[-1][0] < number:  # a clock that went back adds to the newest
            parts.append([number, 0, 0, 0])
        part = parts[-1]
        part[1] += 1
        part[2] += failed
        part[3] += slow

    def counts(self, now: float) -> Counts:
        self._forget(now)
        parts = self._parts
        return Counts(sum(p[1] for p in parts), sum(p[2] for p in parts), sum(p[3] for p in parts))

    def _forget(self, now: float) -> int:
        number = int(now // self._part)
        parts = self._parts
        while parts and parts[0][0] <= number - _BUCKETS:
            parts.popleft()
        return number


class Breaker:
    """One circuit. A permit is the number of the generation that it was given in: what is recorded of a call of an
    earlier generation changes nothing, since it tells of a state that is over."""

    __slots__ = ("_free", "_probed", "_until", "_why", "_window", "generation", "opened", "policy", "refused", "state")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = policy.begins
        self.generation = 0
        self.opened = 0
        """How often it opened by itself."""
        self.refused = 0
        """Calls that it let not through."""
        self._window = TimeWindow(policy.window_seconds) if policy.window_seconds else CountWindow(policy.window)
        self._until = 0.0
        """When it has been open for long enough."""
        self._free = 0
        """Permits of the half-open state that are left."""
        self._probed = Counts(0, 0, 0)
        self._why = Counts(0, 0, 0)
        """What it had counted when it opened."""

    # ---- around a call

    def permit(self, now: float) -> int | None:
        """May a call go through? None if not. A permit must come back, by ``record`` or ``cancel``."""
        state = self.state
        if state is State.OPEN and now >= self._until:
            self._step(Event.WAITED)
            state = self.state
        if state is State.HALF_OPEN and self._free:
            self._free -= 1
        elif not self._passes:
            self.refused += 1
            return None
        return self.generation

    def record(self, permit: int, failed: bool, seconds: float, now: float) -> None:
        """How a call went that was let through."""
        if permit != self.generation:
            return
        slow = self.policy.slow is not None and seconds > self.policy.slow
        if self.state is State.FORCED_CLOSED:
            return
        if self.state is State.HALF_OPEN:
            calls, failures, slows = self._probed
            self._probed = Counts(calls + 1, failures + failed, slows + slow)
            self._judge_probes(now)
            return
        self._window.add(failed, slow, now)
        if self.state is State.CLOSED and (failed or slow):
            counts = self._window.counts(now)
            if counts.calls >= self.policy.minimum and self._too_bad(counts, counts.calls):
                self._open(Event.TRIP, counts, now)

    def cancel(self, permit: int) -> None:
        """A call that was let through told nothing: it didn't run, or its caller ended it."""
        if permit == self.generation and self.state is State.HALF_OPEN:
            self._free += 1

    # ---- looking at it

    def refuses(self, now: float) -> bool:
        """Would it let nothing through now? Takes no permit."""
        if self.state is State.OPEN:
            return now < self._until
        return not (self._passes or self._free)

    def shut(self, now: float) -> bool:
        """Is it open, and its wait not over? Afterwards it is open until somebody calls, who will be let through."""
        return self.state is State.FORCED_OPEN or (self.state is State.OPEN and now < self._until)

    def retry_after(self, now: float) -> float:
        """Seconds after which it may let something through: the rest of its wait, else (probes are under way, or
        somebody forced it open) a whole one."""
        return max(0.0, self._until - now) if self.state is State.OPEN else self.policy.wait

    def counts(self, now: float) -> Counts:
        """Of the window; of the probes in the half-open state; of what made it open while it is open."""
        if self.state is State.OPEN:
            return self._why
        return self._probed if self.state is State.HALF_OPEN else self._window.counts(now)

    # ---- orders

    def order(self, event: Event) -> None:
        """FORCE_OPEN, FORCE_CLOSE, OBSERVE or AUTO: what somebody wants of it. It begins to count anew."""
        if event not in _ORDERED:
            raise IllegalEvent(f"{event.name} is no order")
        self._step(Event.OBSERVE if event is Event.AUTO and self.policy.observe else event)

    # ---- deciding

    @property
    def _passes(self) -> bool:
        return self.state in (State.CLOSED, State.FORCED_CLOSED, State.METRICS_ONLY)

    def _too_bad(self, counts: Counts, of: int) -> bool:
        policy = self.policy
        return counts.failed >= policy.failure_rate * of or counts.slow >= policy.slow_rate * of

    def _judge_probes(self, now: float) -> None:
        """As soon as it is certain how they go."""
        probed, probes = self._probed, self.policy.probes
        if self._too_bad(probed, probes):
            self._open(Event.RELAPSE, probed, now)
        elif probed.calls == probes:
            self._step(Event.RECOVER)

    def _open(self, event: Event, why: Counts, now: float) -> None:
        self._step(event)
        self._why = why
        self.opened += 1
        self._until = now + self.policy.wait

    def _step(self, event: Event) -> None:
        try:
            self.state = TABLE[self.state][event]
        except KeyError:
            raise IllegalEvent(f"{event.name} in state {self.state.name}") from None
        self.generation += 1
        self._window.clear()
        self._free = self.policy.probes if self.state is State.HALF_OPEN else 0
        self._probed = Counts(0, 0, 0)
