"""Workers, simulated step by step: those that run one job at a time, and those that run many in an event loop.

They do to their lane, in the same order, what ``workers/runner.py``, ``workers/loop.py``, ``workers/async_loop.py`` and
``workers/journal.py`` do, one store at a time, so that they can be killed, stopped or overtaken between any two.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.errors import Cancelled, Retry, ToolError, ToolringError
from toolring.lane import ACK, AT, CANCEL, DONE, RECALL, STARTED, STEP, TAKEN, TURNED
from toolring.protocol import (
    CACHED,
    ERROR,
    INLINE,
    LAYER_SHIFT,
    NIL,
    OK,
    PART_BYTES,
    PROGRESS,
    REFRESH,
    SKIPPED,
    STALE,
    STREAMED,
    Answer,
    Batch,
    Done,
    Halt,
    Leaving,
    More,
    Part,
    Parts,
    Work,
)
from toolring.stamps import ALL, BYTES, SOME_TAG, Stamps, of_tool, place, some_key
from toolring.supervisor.fleet import Worker
from toolring.supervisor.ledger import Entry
from toolring.workers.cache import tags
from toolring.workers.journal import LARGEST, Journal

if TYPE_CHECKING:
    from tests.model.simulation import Node

encode = protocol.encode
decode = protocol.decode_value

TAG = tags.named("t")
CACHED_TOOLS = ("cached", "mine", "own")
WATCHED = [ALL, place(SOME_TAG), *(place(word(name)) for name in CACHED_TOOLS for word in (of_tool, some_key))]
"""Where an invalidation shows that concerns what the supervisor shares."""


def writes(names: Iterable[bytes]) -> list[tuple[int, int]]:
    """The stores of an invalidation in their order, so that others can come between any two."""
    stamps, made = Stamps(bytearray(BYTES)), dict[int, int]()
    stamps.words = made  # type: ignore[assignment]
    stamps.invalidate(names)
    return list(made.items())


class Run:
    """One start of a tool in one process, for one job or for some that are run together."""

    def __init__(self, jobs: list[str], tool: str, worker: SimProcess) -> None:
        self.jobs = jobs
        self.tool = tool
        self.worker = worker
        self.ended = False
        self.trace = ""
        self.repeatable = False
        """As the code says that it is of."""
        self.entry: Entry | None = None
        self.altered = 0
        """The version of the world that it made, if it has made one."""
        self.asks_again = False
        """It ended with an error that may pass."""
        self.given_up = False
        """Its worker was to be ended, for another's sake."""

    @property
    def job(self) -> str:
        return self.jobs[0]


class SimProcess:
    """What both kinds of workers are: a process that messages and signals reach, and that may die at any moment."""

    def __init__(self, node: Node, record: Worker, pid: int) -> None:
        self.node = node
        self.record = record
        self.pid = pid
        self.words = record.lane.words
        self.journal = Journal(record.lane)
        self.inbox: deque[tuple[bytes, Any]] = deque()
        self.sent: deque[tuple[bytes, bytes]] = deque()
        self.hold = 0.5
        """For how long the supervisor may give a result without asking (seconds)."""
        self.run: Run | None = None
        self.interrupted = False
        self.asked_to_end = False
        self.deaf = False
        """Holds the GIL in C, or blocks the event loop: no interrupt is handled."""
        self.stopped = False
        self.status: int | None = None
        self.outcome: tuple[str, int, int] = ("ok", 10, 0)
        """How the tool at hand ends: its kind, microseconds, bytes of its result."""
        self.flush_now = False

    @property
    def alive(self) -> bool:
        return self.status is None

    def die(self, status: int) -> None:
        if self.alive:
            self.status = status
            self.node.exits.append((self.record.identity, status))

    def signal(self, number: int) -> None:
        assert number != signal.SIGTERM or self.asked_to_end, "TERM before any interrupt"
        self.asked_to_end = True
        if number == signal.SIGKILL or (number == signal.SIGTERM and not self.stopped):
            self.die(-number)
        else:
            self.interrupted = True

    def step(self) -> bool:
        """Do one thing; False if there is nothing to do."""
        raise NotImplementedError

    def value(self, work: Work, version: int, until: int = 0) -> Raw:
        """What a tool returns: of which call, of which world, for whom."""
        size = self.outcome[2]

        def one(arguments: dict[str, Any]) -> dict[str, Any]:
            return {
                "n": arguments["n"],
                "version": version,
                "pad": b"x" * size,
                "by": f"{work.session}-{work.id}",
                "for": work.partition,
                "until": until,
            }

        if not work.chunk:
            return Raw(encode(one(decode(work.args))))
        return Raw(encode([self._of_many(one, arguments) for arguments in decode(work.args)]))

    def _of_many(self, one: Callable[[dict[str, Any]], dict[str, Any]], arguments: dict[str, Any]) -> list[Any]:
        """Of some that run together every third fails by itself, if any do."""
        error = {"partly": ToolError("not this one"), "later": Retry("not yet")}.get(self.outcome[0])
        return [0, one(arguments)] if error is None or arguments["n"] % 3 else [1, error.to_wire()]

    def send_part(self, seq: int, number: int, value: Any) -> int:
        """What it costs of what was granted."""
        body = encode(value)
        self.sent.append((encode(Parts([Part(seq, number, Raw(body))])), b""))
        return len(body) + PART_BYTES


class SimWorker(SimProcess):
    """A worker process that runs one job at a time, one store or message at a time."""

    def __init__(self, node: Node, record: Worker, pid: int) -> None:
        super().__init__(node, record, pid)
        self.parts: list[bytes] = []
        self.todo: deque[tuple[int, Work]] = deque()
        self.phase = self.boot
        self.answer = Answer(0, SKIPPED, NIL)
        self.version = 0
        """How the world was when the tool at hand began to look at it."""
        self.seen: tuple[int, ...] = ()
        self.memory: dict[tuple[str, str, bytes], tuple[int, tuple[int, ...]]] = {}
        """Its own cache: the version that a result tells of, and the stamps from before it was made."""
        self.error: ToolringError | None = None
        self.untold: list[tuple[int, int]] = []
        """The stamps that tell of what the tool at hand did, and are not written yet."""
        self.retired = False
        self.given = self.given_bytes = self.granted = 0
        """Parts of the stream at hand."""

    def step(self) -> bool:
        if not self.alive or self.stopped:
            return False
        if self.interrupted and not self.deaf:
            self.interrupted = False
            if self.phase == self.running and self.words[CANCEL] == self.todo[0][0]:
                self.retired = True
                self.conclude(Cancelled("interrupted"))
                return True
        return self.phase()

    # ---- phases, each as far as the next point at which somebody else could look or strike

    def boot(self) -> bool:
        self.phase = self.receive
        self.node.ready(self)
        return True

    def receive(self) -> bool:
        if not self.inbox:
            return False
        head, body = self.inbox.popleft()
        message = protocol.decode_from_supervisor(head)
        if isinstance(message, More):
            return True  # of a job that is over
        if not isinstance(message, Batch):
            self.die(0)
            return True
        if body is not None:
            message.work[0].args = Raw(bytes(memoryview(body)))
        self.todo.extend(enumerate(message.work, message.first))
        self.phase = self.take
        return True

    def take(self) -> bool:
        self.words[AT] = self.todo[0][0] << 2 | TAKEN
        self.phase = self.check
        return True

    def check(self) -> bool:
        seq, work = self.todo[0]
        if self.words[RECALL] >= seq or self.retired or self.node.now >= work.deadline:
            self.answer = Answer(seq, SKIPPED, NIL)
            self.phase = self.add
            return True
        if shared := work.tool in CACHED_TOOLS and work.partition is not None:
            self.seen = self.node.stamps(work.tool)
        if shared and not work.renew and self.outcome[0] in ("hit", "stale"):
            self.remember(work)
            self.succeed(seq, work, hit=True)
        else:
            self.phase = self.start
        return True

    def remember(self, work: Work) -> None:
        """What is in its memory, as long as that is true; else what another worker has just put into a store."""
        version, seen = self.memory.get(self.key(work), (0, ()))
        self.version = version if seen == self.seen else self.node.version

    def key(self, work: Work) -> tuple[str, str, bytes]:
        return work.tool, work.partition or "", bytes(work.args)

    def start(self) -> bool:
        seq, work = self.todo[0]
        self.words[AT] = seq << 2 | STARTED
        self.version = self.node.version
        self.run = self.node.started(self, seq, work)
        self.phase = self.running
        self.given = self.given_bytes = 0
        self.granted = work.stream
        return True

    def give(self, seq: int) -> bool:
        """The next part of a stream, unless its caller has to take in others first."""
        if self.given_bytes < self.granted:
            self.given += 1
            self.given_bytes += self.send_part(seq, self.given, self.given)
            return True
        for head, body in list(self.inbox):  # what else comes has its turn later
            message = protocol.decode_from_supervisor(head)
            if isinstance(message, More) and message.id == seq:
                self.granted = message.granted
                self.inbox.remove((head, body))
                return True
        return False

    def running(self) -> bool:
        assert self.run is not None
        seq, work = self.todo[0]
        if work.progress and not self.given:
            self.send_part(seq, PROGRESS, [1, 2, "half"])
        if work.stream and self.given < 3 and self.outcome[0] != "error":
            return self.give(seq)
        if self.run.tool == "polite" and self.words[CANCEL] == self.todo[0][0] and self.outcome[1] == 10:
            self.conclude(Cancelled("it noticed"))
            return True
        if self.outcome[0] == "hang":
            return False
        if self.run.tool in ("change", "swap") and not self.run.altered:
            self.run.altered = self.node.alter()
        else:
            self.conclude({"error": ToolError("it raised"), "retry": Retry("not now")}.get(self.outcome[0]))
        return True

    def conclude(self, error: ToolringError | None) -> None:
        """The tool has returned, has raised, or was interrupted: no signal reaches it any more."""
        self.error = error
        self.untold = writes([TAG, SOME_TAG]) if self.todo[0][1].tool in ("change", "swap") else []
        if self.untold:
            self.phase = self.tell
        else:
            self.conclude_told()

    def tell(self) -> bool:
        """One word after the other, as they are written."""
        at, stamp = self.untold.pop(0)
        self.node.words[at] = stamp
        self.node.note_entries()
        if not self.untold:
            assert self.run is not None
            self.node.known = max(self.node.known, self.run.altered)
            self.conclude_told()
        return True

    def conclude_told(self) -> None:
        if self.error is not None:
            self.end(self.error)
        else:
            self.succeed(*self.todo[0])

    def succeed(self, seq: int, work: Work, hit: bool = False) -> None:
        kind, micros, _ = self.outcome
        until = flags = 0
        if work.tool in CACHED_TOOLS and work.partition is not None:
            # what is given from the cache may be due for renewal, and is not to be held then
            due = hit and (micros > 10 or kind == "stale")
            if hit:
                flags = CACHED | 1 << LAYER_SHIFT | (REFRESH if due else 0) | (STALE if kind == "stale" else 0)
            else:
                self.memory[self.key(work)] = self.version, self.seen
            until = 0 if due or not self.hold else int((self.node.now + self.hold) * 1e6)
        value = self.value(work, self.version, until)
        self.answer = Answer(seq, OK, value, micros, flags, until)
        self.end_stream(work)
        self.phase = self.add
        if self.run is not None:
            self.run.ended = True

    def end(self, error: ToolringError) -> None:
        seq, work = self.todo[0]
        self.answer = Answer(seq, ERROR, Raw(encode(error.to_wire())), self.outcome[1])
        self.end_stream(work)
        self.phase = self.add
        if self.run is not None:
            self.run.ended = True
            self.run.asks_again = isinstance(error, Retry)

    def end_stream(self, work: Work) -> None:
        if work.stream:
            self.answer.flags |= STREAMED
            self.answer.parts = self.given

    def add(self) -> bool:
        answer, value = self.answer, self.answer.value
        if len(value) > INLINE:
            self.flush()
            self.sent.append((encode(Done([msgspec.structs.replace(answer, value=NIL)])), bytes(value)))
            self.phase = self.wait
            return True
        encoded = encode(answer)
        if len(encoded) <= LARGEST and self.journal.append(answer.id, encoded):
            self.parts.append(encoded)
            self.phase = self.done
        else:
            self.flush()
            self.parts.append(encoded)
            self.flush()
            self.phase = self.wait
        return True

    def wait(self) -> bool:
        if self.words[ACK] < self.answer.id:
            return False
        self.journal.reclaim()
        self.phase = self.done
        return True

    def done(self) -> bool:
        self.words[AT] = self.answer.id << 2 | DONE
        self.run = None
        self.todo.popleft()
        if self.flush_now or not self.todo:
            self.flush()
        if self.todo:
            self.phase = self.take
        elif self.retired:
            self.sent.append((encode(Leaving()), b""))
            self.phase = self.leave
        else:
            self.phase = self.receive
        return True

    def leave(self) -> bool:
        self.die(0)
        return True

    def flush(self) -> None:
        if self.parts:
            answers = b"\x92\xa4done\xdd" + len(self.parts).to_bytes(4, "big") + b"".join(self.parts)
            self.sent.append((answers, b""))
            self.parts = []
        self.journal.reclaim()


class SimTask:
    """One job of many in an event loop."""

    def __init__(self, seq: int, work: Work, run: Run, version: int) -> None:
        self.seq = seq
        self.work = work
        self.run = run
        self.version = version
        self.halted = False
        self.given = self.given_bytes = 0
        self.granted = work.stream


class SimAsyncWorker(SimProcess):
    """A worker process whose event loop has many jobs under way: one message, beginning or end of a job at a time."""

    def __init__(self, node: Node, record: Worker, pid: int) -> None:
        super().__init__(node, record, pid)
        self.todo: deque[tuple[int, Work]] = deque()
        self.taken = False
        self.tasks: dict[int, SimTask] = {}
        self.answers: list[Answer] = []
        self.count = 0
        self.ready = False
        self.told = False
        """To end once nothing is under way."""
        self.turns = 0

    def step(self) -> bool:
        if not self.alive or self.stopped or (self.deaf and self.ready):
            return False
        self.run = next((task.run for task in self.tasks.values()), None)
        if not self.ready:
            self.ready = True
            self.node.ready(self)
            return True
        if self.tasks:
            self.words[TURNED] = int(self.node.now * 1e6)
        self.turns += 1
        return self.hear() or self.begin() or self.go_on() or self.flush() or self.leave()

    def hear(self) -> bool:
        if not self.inbox or self.todo:
            return False
        head, body = self.inbox.popleft()
        message = protocol.decode_from_supervisor(head)
        if isinstance(message, Batch):
            if body is not None:
                message.work[0].args = Raw(bytes(memoryview(body)))
            self.todo.extend(enumerate(message.work, message.first))
        elif isinstance(message, Halt):
            for seq in message.ids:
                if seq in self.tasks:
                    self.tasks[seq].halted = True
        elif isinstance(message, More):
            if message.id in self.tasks:
                self.tasks[message.id].granted = message.granted
        else:
            self.told = True
            for task in self.tasks.values():
                task.halted = True
        return True

    def begin(self) -> bool:
        if not self.todo:
            return False
        seq, work = self.todo[0]
        if not self.taken:
            self.taken = True
            self.words[AT] = seq << 2 | TAKEN
            return True
        self.taken = False
        self.todo.popleft()
        if self.words[RECALL] >= seq or self.told or self.node.now >= work.deadline:
            self.keep(Answer(seq, SKIPPED, NIL))
            return True
        self.words[AT] = seq << 2 | STARTED
        run = self.node.started(self, seq, work)
        self.words[TURNED] = int(self.node.now * 1e6)
        self.tasks[seq] = SimTask(seq, work, run, self.node.version)
        if work.progress:
            self.send_part(seq, PROGRESS, [1, 2, "half"])
        return True

    def go_on(self) -> bool:
        """One of those that are under way comes further, by turns."""
        tasks = list(self.tasks.values())
        self.words[STEP] = tasks[self.turns % len(tasks)].seq if tasks and self.turns % 3 else 0
        for task in tasks[self.turns % len(tasks) :] + tasks[: self.turns % len(tasks)] if tasks else ():
            if task.halted and task.run.tool != "stubborn":
                self.end(task, Cancelled("cancelled"))
                return True
            if self.outcome[0] == "hang" or task.run.tool == "stubborn":
                continue
            if task.work.stream and task.given < 3 and self.outcome[0] != "error":
                if task.given_bytes < task.granted:
                    task.given += 1
                    task.given_bytes += self.send_part(task.seq, task.given, task.given)
                    return True
                continue
            self.end(task, {"error": ToolError("it raised"), "retry": Retry("not now")}.get(self.outcome[0]))
            return True
        return False

    def end(self, task: SimTask, error: ToolringError | None) -> None:
        micros = self.outcome[1]
        if error is None:
            answer = Answer(task.seq, OK, self.value(task.work, task.version), micros)
        else:
            answer = Answer(task.seq, ERROR, Raw(encode(error.to_wire())), micros)
        if task.work.stream:
            answer.flags |= STREAMED
            answer.parts = task.given
        task.run.ended = True
        task.run.asks_again = isinstance(error, Retry)
        del self.tasks[task.seq]
        self.keep(answer)

    def keep(self, answer: Answer) -> None:
        """Into the journal, if there is room, and on its way with the next turn."""
        self.count += 1
        self.journal.reclaim()
        encoded = encode(answer)
        if len(encoded) <= LARGEST:
            self.journal.append(self.count, encoded)
        self.answers.append(answer)
        if self.flush_now or len(answer.value) > INLINE:
            self.flush()

    def flush(self) -> bool:
        if not self.answers:
            return False
        answers, self.answers = self.answers, []
        count = self.count - len(answers)
        for answer in answers:
            count += 1
            large = len(answer.value) > INLINE
            body = bytes(answer.value) if large else b""
            sent = msgspec.structs.replace(answer, value=NIL) if large else answer
            self.sent.append((encode(Done([sent], count)), body))
        return True

    def leave(self) -> bool:
        if not self.told or self.tasks or self.todo:
            return False
        self.sent.append((encode(Leaving()), b""))
        self.die(0)
        return True
