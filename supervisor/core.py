"""What a node's decisions share: sessions, tools, workers, what is to be performed, and the one way to an answer.

The brain of a node, without I/O or a clock of its own. The loop calls its parts with what arrived and ``now``
(seconds, monotonic), and then performs what was decided: ``sends`` to workers, ``dirty`` sessions that have answers,
``says`` and ``signals`` to workers, and ``notes`` for the log. Door, placing and returns are the hot path: nothing is
added to them unmeasured (``make bench``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Raw

from toolring import protocol
from toolring.config import CallerSection
from toolring.errors import Busy, ToolringError
from toolring.protocol import ERROR, Answer
from toolring.stamps import Stamps
from toolring.supervisor.accounts import Accounts
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.circuits import Circuits
from toolring.supervisor.door import Door
from toolring.supervisor.figures import Figures
from toolring.supervisor.fleet import Fleet, Group, Worker
from toolring.supervisor.gathering import Gathering
from toolring.supervisor.history import History
from toolring.supervisor.joining import Joining
from toolring.supervisor.ledger import Entry, Event, Session, State, step
from toolring.supervisor.outputs import Outputs
from toolring.supervisor.placing import Placing, Send
from toolring.supervisor.retries import Retries
from toolring.supervisor.returns import Returns
from toolring.supervisor.spans import Spans
from toolring.supervisor.streams import Streams
from toolring.supervisor.valves import Valve, valve_of

_RAN = State.DISPATCHED
_WAITED = frozenset({State.QUEUED, State.BATCHED})
_CUT = frozenset({Event.CANCEL, Event.EXPIRE, Event.LOSE, Event.POISON})
"""Ends of a run that its worker doesn't tell of; perhaps it hadn't begun."""


class Limits(NamedTuple):
    """What one node takes on. Seconds and bytes."""

    default_timeout: float = 60.0
    backlog: int = 20_000
    backlog_bytes: int = 256 << 20
    per_client: int = 10_000
    clients: int = 10_000
    deaths: int = 3
    keep_seconds: float = 300.0
    keep_bytes: int = 64 << 20
    hot_bytes: int = 64 << 20
    output_bytes: int = 16 << 20
    max_body: int = 64 << 20
    callers: Mapping[str, CallerSection] = {}


class Core:
    """Everything that changes an entry's state is here, or in one of its parts."""

    def __init__(self, tools: dict[str, ServedTool], fleet: Fleet, limits: Limits, stamps: Stamps) -> None:
        self.tools = tools
        self.gone: dict[str, ServedTool] = {}
        """Those that the code has no more while runs of theirs go on."""
        self.removed: dict[str, float] = {}
        """Tools that a reload took away: when it may be told again that somebody still calls them."""
        self.fleet = fleet
        self.limits = limits
        self.sessions: dict[bytes, Session] = {}
        self.house = Session(b"", b"", "")
        """Holds the entries that run for a record; their callers wait beside them."""
        self.accounts = Accounts(limits.callers)
        self.backlog = fleet.backlog
        self.bytes = 0
        self.next_deadline = float("inf")
        self.draining = False
        self.broken = False
        """The code that is to serve can't be loaded."""
        self.accepted = 0
        self.refused: dict[str, int] = {}
        self.sends: list[Send] = []
        self.dirty: list[Session] = []
        self.says: list[tuple[Worker, Any]] = []
        """Messages to workers that are not work."""
        self.signals: list[Worker] = []
        self.faulty: list[tuple[Worker, str]] = []
        """Workers that can't be trusted any more, and why; for the watch."""
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.figures: Figures | None = None
        """None: nothing is counted beyond what decisions need."""
        self.history: History | None = None
        """None: nothing is kept of jobs that are over."""
        self.on_finished: Callable[[Entry, Answer], None] | None = None
        """Bound once, when somebody listens."""
        self.spans: Spans | None = None
        """Set once, if traces are exported."""
        for tool in tools.values():
            self.join(tool, fleet.group_of(tool.spec))
        self.gather_valves()
        self.joining = Joining(self, stamps)
        self.gathering = Gathering(self)
        self.placing = Placing(self)
        self.retries = Retries(self)
        self.returns = Returns(self)
        self.streams = Streams(self)
        self.outputs = Outputs(self, limits.output_bytes)
        self.circuits = Circuits(self)
        self.door = Door(self)

    def join(self, tool: ServedTool, group: Group) -> None:
        """It is one of this group's, with its own valve, if it needs one, before that of the group."""
        own = valve_of(tool.spec, group, self.backlog)
        tool.group = group
        tool.valves = tuple(valve for valve in (own, group.valve) if valve is not None)
        tool.guard()

    def gather_valves(self) -> None:
        """All there are, those of groups last, since a job passes its tool's first."""
        own = [valve for tool in self.tools.values() for valve in tool.valves if valve is not tool.group.valve]
        self.valves: list[Valve] = own + [group.valve for group in self.fleet.groups if group.valve is not None]

    @property
    def healthy(self) -> bool:
        """Can any of its groups work?"""
        return not self.broken and any(group.healthy for group in self.fleet.groups)

    @property
    def state(self) -> str:
        """draining, healthy, degraded (a group is failing), or unhealthy."""
        if self.draining:
            return "draining"
        if not self.healthy:
            return "unhealthy"
        return "degraded" if any(group.failing for group in self.fleet.groups) else "healthy"

    def left_behind(self) -> list[Entry]:
        """What runs on although its callers have left. What else the house has runs for jobs of theirs."""
        return [
            entry
            for entry in self.house.jobs.values()
            if entry.first is not None and entry.record is not None and not entry.record.waiting
        ]

    def in_hand(self) -> int:
        """Jobs that were accepted and have no answer yet."""
        return len(self.house.jobs) + sum(len(session.jobs) for session in self.sessions.values())

    # ---- the one way to an answer

    def refuse(self, session: Session, job_id: int, error: ToolringError) -> None:
        """What was not accepted is answered, too."""
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        if self.figures is not None:
            self.figures.refused(error.code)
        self.tell(session, Answer(job_id, ERROR, Raw(protocol.encode(error.to_wire()))))

    def error_answer(self, entry: Entry, error: ToolringError) -> Answer:
        tool = entry.tool
        error.facts.update(tool=tool.name, job=entry.name, attempt=entry.attempt)
        if entry.earlier is not None:
            error.facts["earlier"] = entry.earlier
        if entry.deaths and isinstance(error, Busy):
            error.facts["deaths"] = entry.deaths
        if entry.session is not self.house:
            tool.failed({"code": error.code}, entry.chunk or 1)
        if entry.state is not State.JOINED and entry.members is None:
            facts = {k: v for k, v in error.facts.items() if k != "traceback"}
            self.notes.append(("job_failed", {"code": error.code, "reason": error.message, **facts}))
        return Answer(entry.id, ERROR, Raw(protocol.encode(error.to_wire())))

    def settle(self, entry: Entry, event: Event, answer: Answer, now: float) -> None:
        """The final answer of an entry: to its caller, or to everybody who waits for its record."""
        before = entry.state
        step(entry, event)
        tool = entry.tool
        if entry.permit >= 0:
            self.circuits.settled(entry, event, answer, now)
        if before is State.QUEUED or before is State.DELAYED:
            self.backlog.count -= 1
            entry.account.waiting -= 1
        if tool.valves:
            self.placing.leave_valves(entry, before)
        session = entry.session
        answer.id = entry.id
        del session.jobs[entry.id]
        self.bytes -= len(entry.args)
        figures = self.figures
        if figures is not None:
            if before in _WAITED or (before is _RAN and event in _CUT):
                figures.waited(entry, now)
            if session is not self.house and (event is not Event.SUCCEED or before is not _RAN):
                figures.ended(entry, answer, now)  # else its worker's answer is counted with others
        if self.on_finished is not None and entry.first is None:
            self.on_finished(entry, answer)
        if self.spans is not None and entry.trace:
            self.spans.settled(entry, before, answer, now)
        house = session is self.house
        if not house:
            self.tell(session, answer)
        elif entry.members is not None:
            self.gathering.deal(entry, event, answer, now)
        else:
            self.joining.settled(entry, before, event, answer, now)
        if house:
            entry.first = None  # that holds this one by now; the garbage collector sees neither
        if self.history is not None:
            self.history.settled(entry, answer, now, house)

    def attempt_over(self, entry: Entry, outcome: str, now: float) -> None:
        """One attempt has ended, and there will be another."""
        if self.spans is not None and entry.trace:
            self.spans.attempt(entry, outcome, now)

    def tell(self, session: Session, answer: Answer) -> None:
        answer.failed = None  # that is not for its caller
        if not session.out and not session.parts:
            self.dirty.append(session)
        session.out.append(answer)
