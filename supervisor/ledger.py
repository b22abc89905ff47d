"""The ledger: one entry a job, from acceptance to its one final answer.

The states and what may happen in each are one table; an illegal event raises and changes nothing. STARTED is not
a state here: only the worker's lane knows it, and it matters only once the worker is gone.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec

from toolring.protocol import Answer, Part
from toolring.spec import ToolSpec

if TYPE_CHECKING:
    from toolring.supervisor.accounts import Account
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.fleet import Worker
    from toolring.supervisor.history import Past
    from toolring.supervisor.keyring import Record
    from toolring.supervisor.streams import Live


class State(IntEnum):
    QUEUED = 0
    DISPATCHED = 1
    JOINED = 2
    """Waits for another entry's answer: the same key, or a kept job."""
    DELAYED = 3
    """It failed, and waits until it is tried again."""
    BATCHED = 4
    """It goes where its carrier goes, with others."""
    DONE = 5
    FAILED = 6
    CANCELLED = 7
    EXPIRED = 8
    OUTCOME_UNKNOWN = 9
    POISONED = 10


class Event(IntEnum):
    DISPATCH = 0
    TAKE_BACK = 1
    """Not started: recalled, skipped, or its worker died before."""
    REPEAT = 2
    """Started when its worker died, and may be repeated."""
    SUCCEED = 3
    FAIL = 4
    CANCEL = 5
    EXPIRE = 6
    LOSE = 7
    POISON = 8
    DELAY = 9
    """It failed with an error that may pass."""
    RELEASE = 10
    """Its delay is over."""
    GATHER = 11
    """It becomes part of a batch."""


S, E = State, Event
_ENDS = {E.FAIL: S.FAILED, E.CANCEL: S.CANCELLED, E.EXPIRE: S.EXPIRED}
TABLE: dict[State, dict[Event, State]] = {
    S.QUEUED: {E.DISPATCH: S.DISPATCHED, E.GATHER: S.BATCHED, E.LOSE: S.OUTCOME_UNKNOWN, **_ENDS},
    S.DISPATCHED: {
        E.TAKE_BACK: S.QUEUED,
        E.REPEAT: S.QUEUED,
        E.SUCCEED: S.DONE,
        E.LOSE: S.OUTCOME_UNKNOWN,
        E.POISON: S.POISONED,
        E.DELAY: S.DELAYED,
        **_ENDS,
    },
    S.BATCHED: {
        E.TAKE_BACK: S.QUEUED,
        E.SUCCEED: S.DONE,
        E.LOSE: S.OUTCOME_UNKNOWN,
        E.POISON: S.POISONED,
        E.DELAY: S.DELAYED,
        **_ENDS,
    },
    S.DELAYED: {E.RELEASE: S.QUEUED, **_ENDS},
    S.JOINED: {E.SUCCEED: S.DONE, **_ENDS},
    S.DONE: {},
    S.FAILED: {},
    S.CANCELLED: {},
    S.EXPIRED: {},
    S.OUTCOME_UNKNOWN: {},
    S.POISONED: {},
}
FINAL = frozenset(state for state, events in TABLE.items() if not events)


class IllegalEvent(Exception):
    """A bug of the supervisor: the event can't happen in this state. The entry is unchanged."""


def step(entry: Entry, event: Event) -> None:
    """Move an entry on, or raise IllegalEvent."""
    try:
        entry.state = TABLE[entry.state][event]
    except KeyError:
        raise IllegalEvent(f"{event.name} in state {State(entry.state).name}: job {entry.name}") from None


class Session:
    """One client's connection, as the supervisor sees it. Survives a reconnect under the same token."""

    __slots__ = (
        "account",
        "caller",
        "earlier",
        "highest",
        "jobs",
        "name",
        "out",
        "outbox",
        "outbox_bytes",
        "parts",
        "route",
        "silent_since",
        "token",
    )

    def __init__(self, token: bytes, route: bytes, caller: str) -> None:
        self.token = token
        self.name = token.hex()
        self.route = route
        self.caller = caller
        self.account: Account | None = None
        """Whose share its jobs are; found at its first job."""
        self.jobs: dict[int, Entry] = {}
        self.earlier = -1
        """Its jobs up to this one were given to earlier code of the tools."""
        self.highest = -1
        """The highest id so far. A client's ids count up, so a lower one was sent before."""
        self.out: list[Answer] = []
        self.parts: list[Part] = []
        """What its jobs tell before their answers; leaves first."""
        self.outbox: deque[tuple[bytes, Any]] = deque()
        """Messages that the socket wouldn't take yet."""
        self.outbox_bytes = 0
        self.silent_since: float | None = None
        """When the transport said that nobody is there."""


class Entry(msgspec.Struct, gc=False, eq=False):
    """One job. ``id`` is its client's; ``name`` is what people see."""

    session: Session
    id: int
    tool: ServedTool
    args: Any
    """Encoded: a Raw, or a large body as the transport gave it, which can be passed on without a copy."""
    deadline: float
    accepted: float
    account: Account
    """Whose share it is."""
    until: float
    """When it must have been started: its deadline, or earlier."""
    behind: int = 0
    """Jobs that waited in the node when it was accepted."""
    state: State = State.QUEUED
    attempt: int = 1
    earlier: dict[str, Any] | None = None
    """What its last attempt failed with, of one that is tried again: code, message and type."""
    deaths: int = 0
    """Workers that were lost with it, and perhaps by its fault."""
    losses: int = 0
    """Those, and others that were lost with it."""
    alone: bool = False
    """It was lost with others, perhaps by its own fault: it runs by itself, so that it will be known."""
    cost: float = 0.0
    """Seconds that it is expected to run: its share of the worker's load."""
    worker: Worker | None = None
    sent: float = 0.0
    """When it was last given to a worker."""
    ready: float = 0.0
    """Since when it may run again, of one that has begun before."""
    waited: bool = False
    """How long it waited for its present run has been counted."""
    ended: float = 0.0
    """When it was answered, as long as anybody may want to know."""
    run_us: int = 0
    """Of its answer, as its flags are."""
    flags: int = 0
    point: int = -1
    """Its key's place on the ring, if it was placed by that."""
    past: Past | None = None
    """What happened to it beyond what happens to all."""
    begun: bool = False
    """Its tool was running when it had to be ended."""
    resent: bool = False
    """It was sent before, and may have run then; its answer was lost."""
    record: Record | None = None
    """Set for jobs with a key and kept jobs, and for those who wait for one."""
    partition: str | None = ""
    """Who shares its cached result; None: nobody."""
    chunk: int = 0
    """Calls that it consists of, if it is several."""
    priority: int = 0
    route: bytes = b""
    """Kept while it waits for its tool's limits, or to be tried again."""
    passed: int = 0
    """Valves of its tool that have let it through, in their order."""
    odd: bool = False
    """More than one plain call: a chunk, one of which somebody wants to hear before its answer, one that needs a permit
    of its tool's circuit, or one that belongs to a trace."""
    trace: str = ""
    permit: int = -1
    """Of its tool's circuit, for the run that is under way; -1: none."""
    live: Live | None = None
    members: list[Entry] | None = None
    """Of a carrier: the jobs that it runs together."""
    carrier: Entry | None = None
    """What runs for it and others together; once it is answered, also what ran for it while it was joined."""
    renew: bool = False
    """It runs for the cache's sake, and nobody waits for it."""
    begun_as: ToolSpec | None = None
    """What the code that it began with declares, if other code is served by now."""
    first: Entry | None = None
    """Of an entry that runs for a record: the caller's entry that it began with, whose name it bears."""

    @property
    def invalidates(self) -> bool:
        """May its run make results untrue?"""
        return bool((self.begun_as or self.tool.spec).invalidates)

    @property
    def repeatable(self) -> bool:
        """May it run again although it had begun, if the next run is of other code, too?"""
        return self.tool.repeatable and (self.begun_as is None or self.begun_as.repeatable)

    @property
    def company(self) -> list[Entry]:
        """Those whom its run is of: itself, or the members that it still carries."""
        return [self] if self.members is None else [one for one in self.members if one.state is State.BATCHED]

    @property
    def waits_since(self) -> float:
        return self.ready or self.accepted

    @property
    def barred(self) -> bool:
        """Has it perhaps begun before, and other code of its tool has come since, which may not repeat it?"""
        return (self.attempt > 1 or self.resent) and not self.tool.repeatable

    @property
    def run(self) -> Entry:
        """The entry that runs for it: its own, that of the record for which it waits, or its carrier."""
        if self.state is State.JOINED and self.record is not None and self.record.entry is not None:
            return self.record.entry.run
        if self.state is State.BATCHED and self.carrier is not None:
            return self.carrier
        return self

    @property
    def name(self) -> str:
        owner = self if self.first is None else self.first
        return f"{owner.session.name}-{owner.id}"

    @property
    def final(self) -> bool:
        return self.state >= State.DONE
