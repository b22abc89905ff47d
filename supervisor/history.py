"""What is kept of jobs that are over: the entries themselves, the last so many, and failures beside them, so that what
goes well doesn't push them out.

What always happens to a job stands in its entry already. What happens rarely is written down when it does, here; the
story is told from both when somebody asks (``story.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from toolring import protocol
from toolring.protocol import ERROR, NIL, Answer

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.ledger import Entry, Session
    from toolring.supervisor.outputs import Line

MOST_EVENTS: Final = 50
"""Of one job; further ones are counted."""
ERROR_BYTES: Final = 4096
"""Of an error that are kept; of a longer one its code and message, and no traceback."""
_TEXT: Final = 500


class Happened(NamedTuple):
    """Something that happens to few jobs."""

    what: str
    facts: dict[str, Any]


class Past:
    """What happened to one job beyond what happens to all."""

    __slots__ = ("error", "events", "forgotten", "more", "output")

    def __init__(self) -> None:
        self.events: list[Happened] = []
        self.more = 0
        """Events that found no room."""
        self.error = b""
        self.output: list[Line] = []
        """What its tool wrote."""
        self.forgotten = 0
        """Lines that have left to make room."""


class Held(NamedTuple):
    """A call whose result the supervisor held: it never was a job that waited."""

    session: Session
    id: int
    tool: ServedTool
    ended: float

    @property
    def name(self) -> str:
        return f"{self.session.name}-{self.id}"


class History:
    """The last jobs of one core, and the last that failed."""

    __slots__ = ("done", "failed", "remember")

    def __init__(self, keep: int, failures: int) -> None:
        self.done: deque[Entry | Held] = deque(maxlen=keep)
        self.failed: deque[Entry] = deque(maxlen=failures)
        self.remember = self.done.append

    def settled(self, entry: Entry, answer: Answer, now: float, house: bool) -> None:
        """An entry is over, whose answer didn't take the short way. What ran for others isn't kept for itself, but by
        those whom it ran for."""
        entry.ended, entry.run_us, entry.flags = now, answer.run_us, answer.flags
        entry.args = NIL
        entry.record = None
        if house:
            return
        if answer.status == ERROR:
            past_of(entry).error = _shortened(answer.value)
            self.failed.append(entry)
        else:
            self.done.append(entry)

    def find(self, session: str, number: int) -> Entry | Held | None:
        """The latest of that name."""
        for one in self.latest():
            if one.id == number and one.session.name == session:
                return one
        return None

    def latest(self, failed: bool = False) -> Iterator[Entry | Held]:
        """The failed ones, and then, unless only those are wanted, the others, the latest first."""
        yield from reversed(self.failed)
        if not failed:
            yield from reversed(self.done)


def past_of(entry: Entry) -> Past:
    if entry.past is None:
        entry.past = Past()
    return entry.past


def note(entry: Entry, what: str, **facts: Any) -> None:
    """Write down what happens to a job, for whoever will ask."""
    past = past_of(entry)
    if len(past.events) < MOST_EVENTS:
        past.events.append(Happened(what, facts))
    else:
        past.more += 1


def note_attempt(entry: Entry, what: str, **facts: Any) -> None:
    """The same, of the attempt that is over now."""
    worker = entry.worker
    if worker is not None:
        facts |= {"worker": worker.pid, "slot": worker.slot.index}
    note(entry, what, attempt=entry.attempt, sent=entry.sent, **facts)


def _shortened(value: Any) -> bytes:
    if len(value) <= ERROR_BYTES:
        return bytes(value)
    try:
        error = protocol.decode_value(value)
        kept = {name: str(error.get(name, ""))[:_TEXT] for name in ("code", "message", "type") if name in error}
    except (ValueError, RecursionError, AttributeError):
        kept = {"code": "ERROR", "message": "it can't be read"}
    return protocol.encode(kept)
