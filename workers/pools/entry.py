"""A resource's states, as one table, and the records that a pool keeps."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from math import inf
from typing import Any, Final, NamedTuple
from weakref import ref


class State(Enum):
    CREATING = auto()
    IDLE = auto()
    CHECKING = auto()
    OUT = auto()
    """Somebody has it, or it waits for him to wake up."""
    RETIRED = auto()
    """Nobody gets it any more; its teardown hasn't begun."""
    CLOSING = auto()
    GONE = auto()


S = State
TABLE: Final[dict[State, frozenset[State]]] = {
    S.CREATING: frozenset({S.IDLE, S.OUT, S.RETIRED, S.GONE}),
    S.IDLE: frozenset({S.OUT, S.CHECKING, S.RETIRED}),
    S.CHECKING: frozenset({S.IDLE, S.OUT, S.RETIRED}),
    S.OUT: frozenset({S.IDLE, S.OUT, S.RETIRED}),
    S.RETIRED: frozenset({S.CLOSING}),
    S.CLOSING: frozenset({S.GONE}),
    S.GONE: frozenset(),
}


class IllegalStep(Exception):
    """A bug: the entry can't go there from its state. It is unchanged."""


class Task(Enum):
    CREATE = auto()
    CHECK = auto()
    CLOSE = auto()
    REPORT = auto()


class Held(NamedTuple):
    """A resource that isn't at rest."""

    state: str
    """``out``, ``creating``, ``checking`` or ``closing``."""
    seconds: float
    where: str
    """The place that took it, if leaks are looked for."""


class Entry:
    """A place in the pool, and the resource in it."""

    __slots__ = ("end", "ends", "fresh", "good", "guard", "resource", "since", "state", "told", "used", "uses", "where")

    def __init__(self, now: float) -> None:
        self.state = State.CREATING
        self.since = now
        """When it came into this state, or into these hands."""
        self.resource: Any = None
        self.end: Callable[[], Any] | None = None
        """Tears it down."""
        self.ends = inf
        """Of its lifetime."""
        self.used = self.good = now
        """When it was last given back, and when it was last known to be in order."""
        self.fresh = now
        """Until then it is given out unchecked."""
        self.uses = 0
        self.guard: ref[Hold] | None = None
        """Tells if the claim of who has it is lost."""
        self.where = ""
        self.told = False
        """It was reported as a leak, or counted as a creation or a check that takes too long."""

    def go(self, state: State, now: float) -> None:
        if state not in TABLE[self.state]:
            raise IllegalStep(f"from {self.state.name} to {state.name}")
        self.state = state
        self.since = now


class Job(NamedTuple):
    task: Task
    entry: Entry
    held: Held | None = None
    """What to report."""


class Waiter:
    __slots__ = ("entry", "guard", "since", "wake", "where")

    def __init__(self, guard: ref[Hold], wake: Callable[[], Any], since: float, where: str) -> None:
        self.guard = guard
        self.wake = wake
        self.since = since
        self.where = where
        self.entry: Entry | None = None
        """What it was given, and hasn't accepted yet."""


class Hold:
    """One claim: in line while it has a waiter, on a resource while it has an entry."""

    __slots__ = ("__weakref__", "entry", "waiter")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.waiter: Waiter | None = None
