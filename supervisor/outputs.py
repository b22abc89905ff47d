"""What tools write, as their workers spool it: part of the record of each job, and lines of the node's log.

It is read when an answer says that there is something, when a worker is lost, when somebody asks, and otherwise a few
times a second.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from toolring import protocol
from toolring.spool import Spool
from toolring.supervisor.history import Past, past_of

if TYPE_CHECKING:
    from toolring.supervisor.core import Core
    from toolring.supervisor.fleet import Worker
    from toolring.supervisor.ledger import Entry

LOOK_SECONDS: Final = 0.25
_COST: Final = 120
"""Bytes of a line that is kept, beside its text."""


class Line(NamedTuple):
    """Something that a tool wrote."""

    at: float
    attempt: int
    stream: str
    """stdout, stderr, warnings, logging, log (of toolring's own loggers), dropped."""
    level: str
    text: str


class Outputs:
    """Of one core. As much as ``most`` bytes are kept in all, the latest."""

    __slots__ = ("_core", "_kept", "_most", "_next", "bytes")

    def __init__(self, core: Core, most: int) -> None:
        self._core = core
        self._most = most
        self._next = 0.0
        self._kept: deque[tuple[Past, int, int]] = deque()
        self.bytes = 0

    def look(self, now: float) -> None:
        """Now and then take what is there."""
        if now >= self._next:
            self._next = now + LOOK_SECONDS
            self.drain_all()

    def drain_all(self) -> None:
        for worker in self._core.fleet.workers.values():
            self.drain(worker)

    def drain(self, worker: Worker, seq: int = 0, entry: Entry | None = None) -> None:
        """Take what a worker has spooled; ``entry`` is the job of that number, which it doesn't hold any more."""
        spool = Spool(worker.lane)
        if not spool.waiting:
            return
        try:
            records = [protocol.decode_value(record) for record in spool.take()]
            lines = [(int(number), Line(float(at), 0, *map(str, rest))) for number, at, *rest in records]
        except (ValueError, TypeError, RecursionError) as error:  # a tool wrote to memory that isn't its own
            self._core.faulty.append((worker, f"its spool can't be read: {error}"))
            return
        told: list[Line] = []
        last = 0
        for number, line in lines:
            if told and (number != last or (line.stream, line.level) != (told[0].stream, told[0].level)):
                self._tell(worker, entry if last == seq else worker.line.get(last), told)
                told = []
            told.append(line)
            last = number
        self._tell(worker, entry if last == seq else worker.line.get(last), told)

    def _tell(self, worker: Worker, entry: Entry | None, lines: list[Line]) -> None:
        """Lines of one job and stream, that follow each other."""
        facts: dict[str, Any] = {"worker": worker.pid}
        if entry is not None:
            facts |= {"tool": entry.tool.name, "job": entry.name, "attempt": entry.attempt}
            self._keep(past_of(entry), [line._replace(attempt=entry.attempt) for line in lines])
        first = lines[0]
        if first.stream == "log":
            return  # it stands in the log already
        if first.level:
            facts["severity"] = first.level
        text = "\n".join(line.text for line in lines)
        self._core.notes.append(("tool_output", {**facts, "stream": first.stream, "text": text}))

    def _keep(self, past: Past, lines: list[Line]) -> None:
        past.output += lines
        size = sum(len(line.text) + _COST for line in lines)
        self._kept.append((past, len(lines), size))
        self.bytes += size
        while self.bytes > self._most:
            oldest, count, size = self._kept.popleft()
            self.bytes -= size
            oldest.forgotten += count
            del oldest.output[:count]
