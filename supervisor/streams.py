"""What jobs tell before their answers: parts of a result, and progress; and how long one may tell nothing."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from toolring.protocol import PROGRESS, Follow, More, Part
from toolring.supervisor.fleet import Worker
from toolring.supervisor.ledger import Entry, Session, State

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.core import Core


class Live:
    """What is known of a job while it runs, for those few of which anybody wants to know."""

    __slots__ = ("granted", "heard", "idle", "over", "parts", "progress")

    def __init__(self) -> None:
        self.granted = 0
        """Bytes of parts that its caller takes, in all; 0: none are sent."""
        self.parts = 0
        """Those that its caller was given."""
        self.progress = False
        """Its caller wants to hear of it."""
        self.idle = inf
        """Seconds that it may tell nothing."""
        self.heard = inf
        """When it was begun, or last told something."""
        self.over = inf
        """When its run must be over; known here for workers that run many at once."""

    @property
    def due(self) -> float:
        """When it will have run too long, or told nothing for too long."""
        return min(self.over, self.heard + self.idle)


def live_of(follow: Follow | None, tool: ServedTool) -> Live:
    live = Live()
    idle = tool.spec.idle_timeout
    if follow is not None:
        live.granted, live.progress = follow.stream, follow.progress
        idle = follow.idle if follow.idle is not None else idle
    live.idle = inf if idle is None else idle
    return live


class Streams:
    """Hands on what the jobs of one core tell."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def told(self, worker: Worker, parts: list[Part], now: float) -> None:
        """What a worker's jobs tell goes to those who follow them; of what was answered meanwhile nobody wants it."""
        for part in parts:
            entry = worker.line.get(part.id)
            live = None if entry is None else entry.live
            if entry is None or live is None:
                continue
            live.heard = now
            if part.number > PROGRESS:
                live.parts += 1
                if self._core.figures is not None:
                    self._core.figures.told(entry, worker, len(part.value), now)
                self._tell(entry, part)
            elif part.number == PROGRESS:
                for caller in _callers(entry):
                    if caller.live is not None and caller.live.progress:
                        self._tell(caller, Part(0, PROGRESS, part.value))

    def more(self, session: Session, job_id: int, granted: int) -> None:
        """A client takes further parts in."""
        entry = session.jobs.get(job_id)
        live = None if entry is None else entry.live
        if entry is None or live is None or not live.granted or granted <= live.granted:
            return
        live.granted = granted
        worker = entry.worker
        if entry.state is State.DISPATCHED and worker is not None:
            self._core.says.append((worker, More(worker.number_of(entry), granted)))

    def _tell(self, entry: Entry, part: Part) -> None:
        session = entry.session
        part.id = entry.id
        if not session.out and not session.parts:
            self._core.dirty.append(session)
        session.parts.append(part)


def _callers(entry: Entry) -> list[Entry]:
    """Those whom an entry runs for."""
    if entry.members is not None:
        left = (member for member in entry.members if member.state is State.BATCHED)
        return [caller for member in left for caller in _callers(member)]
    return [entry] if entry.record is None else entry.record.waiting
