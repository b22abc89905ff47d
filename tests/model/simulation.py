"""A node in one thread: the real core, watch, ledger and lanes; workers and clients simulated step by step.

A simulated worker does to its lane, in the same order, what ``workers/runner.py``, ``workers/loop.py`` and
``workers/journal.py`` do, one store at a time, so that it can be killed, stopped or overtaken between any two.
"""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.errors import Cancelled, Retry, ToolError, ToolringError
from toolring.lane import ACK, AT, CANCEL, DONE, RECALL, STARTED, TAKEN, Lanes
from toolring.policy.balance import Balancer, RingOverflow, RoundRobin
from toolring.policy.groups import Bounds, Group
from toolring.policy.limits import Fixed
from toolring.policy.restart import RestartBudget
from toolring.protocol import (
    CACHED,
    ERROR,
    INLINE,
    LAYER_SHIFT,
    NIL,
    OK,
    REFRESH,
    REPLAYED,
    SKIPPED,
    STALE,
    Answer,
    Batch,
    Done,
    Job,
    Leaving,
    Stop,
    Work,
)
from toolring.spec import ToolSpec
from toolring.stamps import ALL, BYTES, SOME_TAG, Stamps, of_tool, place, some_key
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.core import Core, Limits
from toolring.supervisor.endings import Endings, Grace
from toolring.supervisor.fleet import Fleet, Life, Worker
from toolring.supervisor.ledger import Entry, Session, State
from toolring.supervisor.sharing import Flight
from toolring.supervisor.valves import Valve
from toolring.supervisor.watch import SCAN_SECONDS, Watch
from toolring.workers.cache import tags
from toolring.workers.journal import LARGEST, Journal

encode = protocol.encode
decode = protocol.decode_value

SLOTS = 3
GRACE = Grace(interrupt=0.2, terminate=0.2, shield=1.0, start=5.0, cooperate=0.1, neighbours=0.5)
ONE = [Group("default", SLOTS)]
GROUPS = [*ONE, Group("heavy", 2, 0, Bounds(memory=1000, backlog=8))]
LIMITS = Limits(backlog=20, backlog_bytes=300_000, per_client=12, deaths=2, keep_seconds=1e9, keep_bytes=1 << 30)


def tool(name: str, balancer: Balancer | None = None, **policy: Any) -> ServedTool:
    return ServedTool(ToolSpec(name=name, **policy), balancer)


def tools() -> dict[str, ServedTool]:
    """Every combination that the core treats differently."""
    made = [
        tool("read", read_only=True),
        tool("write"),
        tool("near", RingOverflow(SLOTS), idempotent=True, affinity="n"),
        tool("push", RoundRobin(SLOTS)),
        tool("brief", timeout=0.5),
        tool("few", concurrency=2, backlog=6),
        tool("slow", RoundRobin(SLOTS), read_only=True, rate=5.0, burst=2, queue_timeout=1.0),
        tool("polite", asks=True, concurrency=2),
        tool("again", idempotent=True, retries=2, concurrency=1),
        tool("cached", RingOverflow(SLOTS), read_only=True, cache=60.0, tags=("t",)),
    ]
    return {one.name: one for one in made}


def grouped_tools() -> dict[str, ServedTool]:
    """Those of all groups."""
    made = [
        tool("large", group="heavy", memory=700),
        tool("small", group="heavy", memory=300, read_only=True, concurrency=2),
    ]
    return {**tools(), **{one.name: one for one in made}}


def sharing_tools() -> dict[str, ServedTool]:
    """Those that share results with some, and those that invalidate them."""
    made = [
        tool("mine", RingOverflow(SLOTS), read_only=True, cache=60.0, cache_scope="partition", tags=("t",)),
        tool("own", read_only=True, cache=60.0, cache_scope="caller", tags=("t",)),
        tool("change", invalidates=("t",), asks=True),
        tool("swap", idempotent=True, invalidates=("t",)),
    ]
    return {**grouped_tools(), **{one.name: one for one in made}}


TAG = tags.named("t")
CACHED_TOOLS = ("cached", "mine", "own")
WATCHED = [ALL, place(SOME_TAG), *(place(word(name)) for name in CACHED_TOOLS for word in (of_tool, some_key))]
"""Where an invalidation shows that concerns what the supervisor shares."""


def sharers(served: ServedTool, caller: str, partition: str) -> str | None:
    """Who may share a call's result; None: nobody. Said once more, so as not to believe the core."""
    return {"public": "", "caller": caller or None, "partition": partition or None}[served.spec.cache_scope]


def writes(names: Iterable[bytes]) -> list[tuple[int, int]]:
    """The stores of an invalidation in their order, so that others can come between any two."""
    stamps, made = Stamps(bytearray(BYTES)), dict[int, int]()
    stamps.words = made  # type: ignore[assignment]
    stamps.invalidate(names)
    return list(made.items())


class Run:
    """One start of a tool in one process."""

    def __init__(self, job: str, tool: str, worker: SimWorker) -> None:
        self.job = job
        self.tool = tool
        self.worker = worker
        self.ended = False
        self.entry: Entry | None = None
        self.altered = 0
        """The version of the world that it made, if it has made one."""
        self.asks_again = False
        """It ended with an error that may pass."""


class SimWorker:
    """A worker process, one store or message at a time."""

    def __init__(self, node: Node, record: Worker, pid: int) -> None:
        self.node = node
        self.record = record
        self.pid = pid
        self.words = record.lane.words
        self.journal = Journal(record.lane)
        self.inbox: deque[tuple[bytes, Any]] = deque()
        self.sent: deque[tuple[bytes, bytes]] = deque()
        self.parts: list[bytes] = []
        self.todo: deque[tuple[int, Work]] = deque()
        self.phase = self.boot
        self.answer = Answer(0, SKIPPED, NIL)
        self.version = 0
        """How the world was when the tool at hand began to look at it."""
        self.seen: tuple[int, ...] = ()
        self.memory: dict[tuple[str, str, bytes], tuple[int, tuple[int, ...]]] = {}
        """Its own cache: the version that a result tells of, and the stamps from before it was made."""
        self.hold = 0.5
        """For how long the supervisor may give a result without asking (seconds)."""
        self.error: ToolringError | None = None
        self.untold: list[tuple[int, int]] = []
        """The stamps that tell of what the tool at hand did, and are not written yet."""
        self.run: Run | None = None
        self.retired = False
        self.interrupted = False
        self.asked_to_end = False
        self.deaf = False
        """Holds the GIL in C: the interrupt isn't handled."""
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
        return True

    def running(self) -> bool:
        assert self.run is not None
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
        kind, micros, size = self.outcome
        until = flags = 0
        if work.tool in CACHED_TOOLS and work.partition is not None:
            # what is given from the cache may be due for renewal, and is not to be held then
            due = hit and (micros > 10 or kind == "stale")
            if hit:
                flags = CACHED | 1 << LAYER_SHIFT | (REFRESH if due else 0) | (STALE if kind == "stale" else 0)
            else:
                self.memory[self.key(work)] = self.version, self.seen
            until = 0 if due or not self.hold else int((self.node.now + self.hold) * 1e6)
        value = {
            "n": decode(work.args)["n"],
            "version": self.version,
            "pad": b"x" * size,
            "by": f"{work.session}-{work.id}",
            "for": work.partition,
            "until": until,
        }
        self.answer = Answer(seq, OK, Raw(encode(value)), micros, flags, until)
        self.phase = self.add
        if self.run is not None:
            self.run.ended = True

    def end(self, error: ToolringError) -> None:
        self.answer = Answer(self.todo[0][0], ERROR, Raw(encode(error.to_wire())), self.outcome[1])
        self.phase = self.add
        if self.run is not None:
            self.run.ended = True
            self.run.asks_again = isinstance(error, Retry)

    def add(self) -> bool:
        answer, value = self.answer, self.answer.value
        if len(value) > INLINE:
            self.flush()
            self.sent.append(
                (
                    encode(Done([Answer(answer.id, answer.status, NIL, answer.run_us, answer.flags, answer.until_us)])),
                    bytes(value),
                )
            )
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


class Asked:
    """A job as its client sees it."""

    def __init__(self, job: Job, n: int, now: float, deadline: float) -> None:
        self.job = job
        self.n = n
        self.version = 0
        """No cached answer may tell of an earlier world than this one."""
        self.asked = now
        self.deadline = deadline
        self.answer: Answer | None = None
        self.cancelled = False
        self.resent = 0

    @property
    def code(self) -> str:
        """Empty for a success."""
        assert self.answer is not None
        return "" if self.answer.status == OK else str(decode(self.answer.value)["code"])


class SimClient:
    """Submits, reads answers when it likes, reconnects, goes away and comes back."""

    def __init__(self, node: Node, number: int, caller: str) -> None:
        self.node = node
        self.caller = caller
        self.token = bytes([number]) * 16
        self.numbers = 0
        self.asked: dict[int, Asked] = {}
        self.unread: deque[Answer] = deque()
        self.session: Session | None = None
        self.connect()

    @property
    def name(self) -> str:
        return self.token.hex()

    def connect(self) -> None:
        self.session = Session(self.token, self.token[:4], self.caller)
        self.node.core.sessions[self.token] = self.session

    def submit(self, jobs: Iterable[tuple[str, int, int, float | None, str, int, bytes]], partition: str = "") -> None:
        made = []
        for name, n, size, timeout, key, mode, route in jobs:
            self.numbers += 1
            number = self.numbers
            args = Raw(encode({"n": n, "pad": b"a" * size}))
            job = Job(number, name, args, timeout, route, key, mode, partition)
            limit = self.node.core.limits.default_timeout if timeout is None else timeout
            self.asked[number] = Asked(job, n, self.node.now, self.node.now + limit)
            self.asked[number].version = self.node.known
            made.append(job)
        self.node.submit(self, made)

    def cancel(self, number: int) -> None:
        asked = self.asked[number]
        if asked.answer is None:
            asked.cancelled = True
            self.node.cancel(self, number)

    def unanswered(self) -> list[Asked]:
        return [asked for asked in self.asked.values() if asked.answer is None]

    def resend(self) -> None:
        """The connection was lost and is back: what has no answer yet is sent again to the same session."""
        again = self.unanswered()
        for asked in again:
            asked.resent += 1
            limit = self.node.core.limits.default_timeout if asked.job.timeout is None else asked.job.timeout
            asked.deadline = max(asked.deadline, self.node.now + limit)
        self.node.submit(self, [asked.job for asked in again])

    def leave(self) -> None:
        """Forgotten by the node; what it waits for is nobody's."""
        assert self.session is not None
        self.node.watch.endings.leave(self.session, self.node.now)
        self.node.core.sessions.pop(self.token, None)
        self.session = None
        self.unread.clear()
        self.node.turn()

    def come_back(self) -> None:
        """The node doesn't know the session any more: only what may run twice, or has a name, is sent again."""
        self.connect()
        for asked in self.unanswered():
            if not (self.node.core.tools[asked.job.tool].repeatable or asked.job.key or asked.job.mode):
                del self.asked[asked.job.id]
        self.resend()

    def read(self) -> None:
        while self.unread:
            answer = self.unread.popleft()
            asked = self.asked[answer.id]
            if asked.answer is not None:
                assert asked.resent, f"a second answer to job {answer.id} of {self.name}"
                continue
            asked.answer = answer
            self.node.check_answer(self, asked)


class Node:
    """What ``supervisor/loop.py`` does, with queues for sockets and a clock that only moves when told to."""

    def __init__(
        self,
        clients: int = 3,
        served: dict[str, ServedTool] | None = None,
        callers: Sequence[str] = ("other", "caller", "caller"),
        limits: Limits = LIMITS,
        groups: Sequence[Group] = ONE,
    ) -> None:
        self.now = 1000.0
        self.version = 0
        """Counts the changes of what the cached tools look at."""
        self.known = 0
        """The last change of which the node knows: no call from now on may hear of an earlier world."""
        self.lanes = Lanes(SLOTS * 2 + 6)
        self.words = Stamps(self.lanes.memory).words
        self.epoch = 0
        """Counts the moments at which something was invalidated that the supervisor may share."""
        self.watched = self.look()
        self.begun: dict[Entry, int] = {}
        """The epoch in which an entry was accepted."""
        self.core = Core(served or tools(), Fleet(groups, self.lanes.all), limits, Stamps(self.lanes.memory))
        self.watch = Watch(self.core, Endings(self.core, GRACE), RestartBudget(5, 10.0), self._is_stopped)
        self.workers: dict[bytes, SimWorker] = {}
        self.exits: deque[tuple[bytes, int]] = deque()
        self.clients = [SimClient(self, number, callers[number % len(callers)]) for number in range(1, clients + 1)]
        self.runs: list[Run] = []
        self.pids = 0
        self.shut = False
        self.key_cancelled: set[str] = set()
        self.tick()

    def close(self) -> None:
        self.words.release()
        for lane in self.lanes.all:
            lane.words.release()
            lane.bytes.release()
        self.lanes.close()

    def _is_stopped(self, pid: int) -> bool:
        return any(worker.pid == pid and worker.stopped for worker in self.workers.values())

    # ---- what arrives

    def submit(self, client: SimClient, jobs: list[Job]) -> None:
        assert client.session is not None
        self.core.door.submit(client.session, jobs, self.now)
        self.turn()

    def cancel(self, client: SimClient, number: int) -> None:
        assert client.session is not None
        entry = client.session.jobs.get(number)
        if entry is not None:
            self.watch.endings.cancel(entry, self.now)
        self.turn()

    def ready(self, worker: SimWorker) -> None:
        self.watch.ready(worker.record, worker.pid, self.now)
        self.turn()

    def deliver(self, worker: SimWorker) -> None:
        """One message of a worker arrives, unless the node has heard of its end."""
        head, body = worker.sent.popleft()
        if worker.record.identity in self.core.fleet.workers:
            message = protocol.decode_from_worker(head)
            if isinstance(message, Leaving):
                self.watch.leaving(worker.record, self.now)
            else:
                assert isinstance(message, Done)
                if body:
                    message.answers[0].value = Raw(body)
                self.core.returns.answers(worker.record, message.answers, self.now)
        self.turn()

    def hear_exit(self) -> None:
        identity, status = self.exits.popleft()
        record = self.core.fleet.workers.get(identity)
        if record is not None:
            self.watch.exited(record, status, self.now)
            altered = [run.altered for run in self.runs if run.worker.record is record]
            self.known = max([self.known, *altered])
        self.turn()

    # ---- what is decided

    def tick(self) -> None:
        self.watch.tick(self.now)
        for kill in self.watch.kills:
            if kill.worker.identity in self.workers:
                self.workers[kill.worker.identity].signal(kill.signal)
        self.watch.kills.clear()
        for slot in self.watch.due(self.now):
            record = self.core.fleet.hire(slot, self.now)
            if record is not None:
                self.pids += 1
                record.pid = self.pids
                self.workers[record.identity] = SimWorker(self, record, self.pids)
        self.turn()
        for entry in self.entries():
            assert entry.deadline > self.now - SCAN_SECONDS, f"{entry.name} is past its deadline"

    def turn(self) -> None:
        self.note_entries()
        if not self.shut:
            self.core.placing.dispatch(self.now)
            for send in self.core.sends:
                assert send.worker.life is Life.READY, "work for a worker that isn't ready"
                for at, work in enumerate(send.work, send.first - send.worker.head):
                    entry = send.worker.line[at]
                    if entry is not None and type(entry.record) is Flight:
                        assert work.renew == entry.record.renews, "a renewal that the cache would answer"
            self.check_idle()
        self.perform()

    def perform(self) -> None:
        core = self.core
        for send in core.sends:
            worker = self.workers[send.worker.identity]
            worker.inbox.append((encode(Batch(send.first, send.work)), send.body))
        core.sends.clear()
        for session in core.dirty:
            self.tell(session)
        core.dirty.clear()
        for record in core.signals:
            found = self.workers.get(record.identity)
            if found is not None:
                if record.endings == 0:
                    found.inbox.append((encode(Stop()), None))
                found.signal(signal.SIGUSR1)
        core.signals.clear()
        core.notes.clear()

    def tell(self, session: Session) -> None:
        """A session's answers go to its client."""
        out, session.out = session.out, []
        for answer in out:
            if answer.flags == CACHED:
                until = decode(answer.value)["until"] * 1e-6
                assert until > self.now, "the supervisor gives what it should ask for again"
        for client in self.clients:
            if client.session is session:
                client.unread.extend(decode_answers(out))

    # ---- what must hold

    def entries(self) -> list[Entry]:
        core = self.core
        return [entry for session in [core.house, *core.sessions.values()] for entry in session.jobs.values()]

    def started(self, worker: SimWorker, seq: int, work: Work) -> Run:
        """A worker has written STARTED and calls the tool."""
        record, name = worker.record, f"{work.session}-{work.id}"
        run = Run(name, work.tool, worker)
        if record.identity in self.core.fleet.workers and not self.shut:
            entry = record.line[seq - record.head]
            assert entry is not None or worker.words[CANCEL] == seq, f"{name} was taken back and runs all the same"
            run.entry = entry
        if not self.core.tools[work.tool].repeatable:
            assert not [r for r in self.runs if r.job == name], f"{name} may not be repeated and starts again"
        self.runs.append(run)
        self.check_run(run)
        return run

    def check_run(self, run: Run) -> None:
        """Is it for more than one caller, then no other like it may be under way, but for another reason."""
        mine = self.flown(run)
        if mine is not None:
            others = [other for other in self.runs if other is not run and self.flown(other) == mine]
            assert not others, f"{run.job} runs while {others[0].job} does the same"

    def flown(self, run: Run) -> tuple[Any, ...] | None:
        """What a run that is under way does for whoever asks: equal for two that should have been one."""
        entry = run.entry
        if run.ended or entry is None or entry.final or not run.worker.alive or entry.worker is not run.worker.record:
            return None
        if type(entry.record) is not Flight:
            return None
        return run.tool, entry.partition, bytes(entry.args), "again" if entry.renew else self.begun[entry]

    # ---- what is invalidated, by whom and when

    def change(self) -> None:
        """What the cached tools look at changes; whoever did it invalidates their results."""
        self.known = self.alter()
        self.invalidate([of_tool(name) for name in CACHED_TOOLS])

    def alter(self) -> int:
        """The world changes, and nobody knows yet."""
        self.version += 1
        return self.version

    def invalidate(self, names: Iterable[bytes]) -> None:
        Stamps(self.lanes.memory).invalidate(names)
        self.note_entries()

    def stamps(self, name: str) -> tuple[int, ...]:
        """What a worker's memory compares."""
        return tuple(self.words[at] for at in (ALL, place(of_tool(name)), place(TAG)))

    def look(self) -> tuple[int, ...]:
        return tuple(self.words[at] for at in WATCHED)

    def note_entries(self) -> None:
        """What was accepted since the last look belongs to this epoch, unless that is over."""
        now = self.look()
        if now != self.watched:
            self.watched = now
            self.epoch += 1
        for entry in self.entries():
            self.begun.setdefault(entry, self.epoch)

    def check_idle(self) -> None:
        """Nobody idles beside work that is theirs."""
        core = self.core
        idle = [worker for worker in core.fleet.ready if not worker.line]
        for worker in idle:
            waits = [*worker.slot.group.line, *worker.slot.waiting]
            assert not waits, f"worker {worker.name} idles while {len(waits)} jobs wait"

    def check_answer(self, client: SimClient, asked: Asked) -> None:
        """A client got a final answer: may it be this one?"""
        job, code = asked.job, asked.code
        served = self.core.tools[job.tool]
        runs = [run for run in self.runs if run.job == f"{client.name}-{job.id}"]
        if code == "":
            assert asked.answer is not None
            value = decode(asked.answer.value)
            assert value["n"] == asked.n, "the result of another job"
            if job.tool in CACHED_TOOLS:
                replayed = asked.answer.flags & REPLAYED
                assert replayed or value["version"] >= asked.version, "it was invalidated before it was asked for"
                group = sharers(served, client.caller, job.partition)
                assert value["for"] == group, "another's result"
                if group is None:
                    assert not asked.answer.flags & CACHED
                    assert job.key or value["by"] == f"{client.name}-{job.id}", "a nameless result was shared"
        elif code == "OUTCOME_UNKNOWN":
            assert not served.repeatable
            lost = any(not run.worker.alive for run in runs) or bool(job.key)
            assert lost or self.shut or asked.resent, "OUTCOME_UNKNOWN though no worker was lost with it"
        elif code == "POISONED":
            assert served.repeatable or not runs
        elif code == "CANCELLED":
            assert asked.cancelled or self.shut or job.key, "cancelled by nobody"
        elif code == "EXPIRED":
            limits = [limit for limit in (served.timeout, served.queue_timeout) if limit is not None]
            due = min([asked.deadline, *(asked.asked + limit for limit in limits)])
            assert job.key or self.now >= due or asked.resent, "expired before its time"
        elif code == "CONFLICT":
            assert job.key
        elif code == "DRAINING":
            assert self.core.draining
        else:
            assert code in ("BUSY", "UNHEALTHY", "TOOL_ERROR", "RETRY"), code
            assert code != "RETRY" or not served.spec.retries or len(runs) <= served.spec.retries + 1

    def check_books(self) -> None:
        """The core's sums and places agree with its jobs."""
        core = self.core
        entries = self.entries()
        assert core.bytes == sum(len(entry.args) for entry in entries)
        assert core.in_hand() == len(entries)
        lines = [group.line for group in core.fleet.groups] + [valve.line for valve in core.valves]
        lines += [slot.waiting for slot in core.fleet.slots]
        places = Counter(id(entry) for line in lines for entry in line)
        for line in lines:
            assert line.pending >= 0
            assert line.size >= sum(1 for _ in line)
            if not line.size:
                assert line.pending < 1e-9
        waiting = [entry for entry in entries if entry.state is State.QUEUED]
        delayed = [entry for entry in entries if entry.state is State.DELAYED]
        assert core.backlog.count == len(waiting) + len(delayed)
        accounts = Counter(id(entry.account) for entry in [*waiting, *delayed])
        assert all(entry.account.waiting == accounts[id(entry.account)] for entry in entries)
        to_retry = {id(entry) for _, _, entry in core.retries.delayed if entry.state is State.DELAYED}
        assert to_retry == {id(entry) for entry in delayed}
        self.check_valves(entries)
        for entry in waiting:
            assert places[id(entry)] == 1, f"{entry.name} waits in {places[id(entry)]} lines"
        held = Counter(id(entry) for worker in core.fleet.workers.values() for entry in worker.line if entry)
        for entry in entries:
            assert not entry.final
            assert held[id(entry)] == (entry.state is State.DISPATCHED), f"{entry.name} is held {held[id(entry)]} times"
            if entry.state is State.DISPATCHED:
                assert entry.worker is not None
                assert entry in entry.worker.line
            if entry.state is State.JOINED:
                assert entry.record is not None
                assert entry in entry.record.waiting
                assert entry.record.entry is not None
        for worker in core.fleet.workers.values():
            assert worker.load > -1e-9
            if not worker.line:
                assert worker.load == 0
        self.check_sharing(entries)

    def check_valves(self, entries: list[Entry]) -> None:
        """Permits are out for what runs or will run next, and for what was answered and still runs."""
        left = [left for worker in self.core.fleet.workers.values() for left in worker.leftovers.values()]
        for valve in self.core.valves:
            holders = [(one.tool, one.tool.valves[: one.passed]) for one in entries]
            holders += [(one.tool, one.tool.valves[: one.passed]) for one in left]
            permits = [tool for tool, passed in holders if valve in passed]
            assert valve.running == len(permits)
            assert valve.used == sum(tool.memory for tool in permits)
            assert not valve.memory or valve.used <= valve.memory
            mine = [entry for entry in entries if valve in entry.tool.valves]
            assert valve.waiting == sum(entry.state is State.QUEUED for entry in mine)
            self.check_limit(valve)

    def check_limit(self, valve: Valve) -> None:
        """What really runs at once, whatever the books say."""
        names = [tool.name for tool in self.core.tools.values() if valve in tool.valves]
        runs = [run for run in self.runs if run.tool in names and not run.ended and run.worker.alive]
        if isinstance(valve.limit, Fixed):
            assert valve.running <= valve.limit.limit
            assert len(runs) <= valve.limit.limit, f"{len(runs)} runs of {valve.of} at once"
        if valve.memory:
            assert sum(self.core.tools[run.tool].memory for run in runs) <= valve.memory
        if valve.backlog is not None:
            assert valve.waiting <= valve.backlog + SLOTS  # those that were given back were accepted before

    def check_sharing(self, entries: list[Entry]) -> None:
        core = self.core
        sharing = core.joining.sharing
        assert 0 <= sharing.bytes <= core.limits.hot_bytes
        assert sharing.bytes == sum(held.size for held in sharing._held.values())
        if not entries:
            assert core.bytes == 0
            assert not sharing.flights
            assert not sharing.renewals
        for flight in [*sharing.flights.values(), *sharing.renewals.values()]:
            assert flight.entry is not None
            assert flight.entry.record is flight
        under_way = Counter((e.record.name, e.record.seen) for e in entries if e.first and type(e.record) is Flight)
        assert not under_way or max(under_way.values()) == 1, "equal calls run twice"
        waits: dict[Any, Any] = {}
        for entry in entries:
            record = entry.record
            if type(record) is Flight and entry.session is not core.house and entry.name not in record.names:
                assert entry.partition is not None, "a nameless call shares"
                equal = entry.tool.name, entry.partition, bytes(entry.args), self.begun[entry]
                assert waits.setdefault(equal, record) is record, "equal calls wait for two runs"
        self.check_runs()

    def check_runs(self) -> None:
        """A job runs once, and once more for each worker that it was lost with or each time that it was sent again."""
        resent = {
            f"{client.name}-{number}": asked.resent for client in self.clients for number, asked in client.asked.items()
        }
        for name in {run.job for run in self.runs}:
            runs = [run for run in self.runs if run.job == name]
            lost = sum(not run.worker.alive for run in runs)
            again = sum(run.asks_again for run in runs) if self.core.tools[runs[0].tool].spec.retries else 0
            most = 1 + lost + again + resent.get(name, 0)
            assert len(runs) <= most, f"{name} ran {len(runs)} times, {lost} workers were lost with it"
            killed = sum(not run.worker.alive and not run.ended for run in runs)
            assert killed <= self.core.limits.deaths * (1 + resent.get(name, 0)), f"{name} killed {killed} workers"

    # ---- the end

    def settle(self) -> None:
        """Let everything come to rest: every job must have its answer then. Nobody wakes those who are stopped."""
        for client in self.clients:
            if client.session is None:
                client.come_back()
        for _ in range(400):
            for worker in list(self.workers.values()):
                worker.outcome = ("ok", 10, 0)
                while worker.step():
                    pass
                while worker.sent:
                    self.deliver(worker)
            while self.exits:
                self.hear_exit()
            self.now += 0.05
            self.tick()
            if not self.core.in_hand() and len(self.core.fleet.workers) == len(self.core.fleet.ready):
                break
        for client in self.clients:
            client.read()
        core = self.core
        assert not [worker.name for worker in core.fleet.workers.values() if worker.life is Life.ENDING]
        assert not core.joining.sharing.flights
        assert not core.joining.sharing.renewals
        assert not self.entries(), [(entry.name, entry.state.name) for entry in self.entries()]
        for client in self.clients:
            assert not client.unanswered(), f"no answer for {[asked.job.id for asked in client.unanswered()]}"
        assert core.bytes == 0
        self.check_books()

    def shut_down(self) -> None:
        """The workers are about to be killed: everybody hears now."""
        self.shut = True
        self.watch.endings.shut_down(self.now)
        self.perform()
        told = {}
        for client in self.clients:
            if client.session is not None:
                client.read()
                assert not client.unanswered()
            told.update({f"{client.name}-{asked.job.id}": asked for asked in client.asked.values()})
        before = len(self.runs)
        for worker in self.workers.values():  # until the signal reaches them
            worker.stopped = False
            while worker.step():
                pass
        for run in self.runs[before:]:
            asked = told.get(run.job)
            if asked is not None and asked.answer is not None and not self.core.tools[run.tool].repeatable:
                assert asked.code != "CANCELLED" or asked.cancelled, f"{run.job} was told CANCELLED and then started"


def decode_answers(answers: list[Answer]) -> list[Answer]:
    """As they arrive: through the wire's own encoding."""
    return msgspec.msgpack.decode(encode(answers), type=list[Answer])
