"""A node in one thread: the real core, watch, ledger and lanes; workers and clients simulated step by step.

A simulated worker does to its lane, in the same order, what ``workers/runner.py``, ``workers/loop.py`` and
``workers/journal.py`` do, one store at a time, so that it can be killed, stopped or overtaken between any two.
"""

from __future__ import annotations

import random
import signal
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw

from tests.model.sim_workers import CACHED_TOOLS, TAG, WATCHED, Run, SimAsyncWorker, SimProcess, SimWorker
from toolring import protocol
from toolring.errors import LoadError
from toolring.lane import ACK, CANCEL, Lanes
from toolring.policy.balance import SECONDS, Balancer, Members, PeakEWMA, RingOverflow, RoundRobin
from toolring.policy.breaker import BreakerPolicy
from toolring.policy.breaker import State as CircuitState
from toolring.policy.groups import Bounds, Group
from toolring.policy.guarded import Guarded
from toolring.policy.limits import Fixed
from toolring.policy.restart import RestartBudget
from toolring.policy.scaling import Scaling
from toolring.policy.series import Window
from toolring.protocol import (
    CACHED,
    OK,
    PART_BYTES,
    REPLAYED,
    Answer,
    Batch,
    Done,
    Follow,
    Job,
    Leaving,
    Part,
    Parts,
    Stop,
    Work,
)
from toolring.spec import ToolSpec
from toolring.stamps import ALL, Stamps, of_tool, place
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.core import Core, Limits
from toolring.supervisor.endings import ZYGOTE_LOST, Endings, Grace
from toolring.supervisor.figures import Figures
from toolring.supervisor.fleet import BUSY_SECONDS, Fleet, Life, Worker
from toolring.supervisor.history import History
from toolring.supervisor.ledger import Entry, Session, State
from toolring.supervisor.reloads import Stage
from toolring.supervisor.renewals import Renewals
from toolring.supervisor.restarts import Restarts
from toolring.supervisor.sharing import Flight
from toolring.supervisor.valves import Valve
from toolring.supervisor.watch import SCAN_SECONDS, Watch

encode = protocol.encode
decode = protocol.decode_value

SLOTS = 3
GRACE = Grace(interrupt=0.2, terminate=0.2, shield=1.0, start=5.0, cooperate=0.1, neighbours=0.5)
ONE = [Group("default", SLOTS)]
GROUPS = [*ONE, Group("heavy", 2, 0, Bounds(memory=1000, backlog=8)), Group("async", 2, 4)]
SCALED = [
    *ONE,
    GROUPS[1]._replace(scaling=Scaling(0, 2, 0.05, 0.5)),
    GROUPS[2]._replace(scaling=Scaling(1, 2, 0.05, 1.0)),
]
MEMBERS = Members(("0", "1", "2"), unit=SECONDS, floor=BUSY_SECONDS)
BREAKER = BreakerPolicy(window=6, minimum=3, wait=0.5, probes=2)
WINDOW = 100
"""Bytes of parts: one is always on its way."""
KEPT = 50
"""Jobs that are over."""
LIMITS = Limits(backlog=20, backlog_bytes=300_000, per_client=12, deaths=2, keep_seconds=1e9, keep_bytes=1 << 30)


def tool(name: str, balancer: Balancer | None = None, **policy: Any) -> ServedTool:
    guarded = None if balancer is None else Guarded(name, balancer, lambda _name, _facts: None)
    return ServedTool(ToolSpec(name=name, **policy), guarded)


def tools() -> dict[str, ServedTool]:
    """Every combination that the core treats differently."""
    made = [
        tool("read", read_only=True),
        tool("write"),
        tool("near", RingOverflow(MEMBERS), idempotent=True, affinity="n"),
        tool("push", RoundRobin(MEMBERS)),
        tool("brief", timeout=0.5),
        tool("few", concurrency=2, backlog=6),
        tool("brittle", PeakEWMA(MEMBERS._replace(random=random.Random(1).random, clock=lambda: 0.0)), breaker=BREAKER),
        tool("slow", RoundRobin(MEMBERS), read_only=True, rate=5.0, burst=2, queue_timeout=1.0),
        tool("polite", asks=True, concurrency=2),
        tool("again", idempotent=True, retries=2, concurrency=1, breaker=BREAKER),
        tool("supple", adaptive=True, concurrency=4),
        tool("cached", RingOverflow(MEMBERS), read_only=True, cache=60.0, tags=("t",)),
    ]
    return {one.name: one for one in made}


def grouped_tools() -> dict[str, ServedTool]:
    """Those of all groups."""
    made = [
        tool("large", group="heavy", memory=700),
        tool("small", group="heavy", memory=300, read_only=True, concurrency=2),
        tool("flow", streams=True, read_only=True),
        tool("quiet", asks=True, idle_timeout=0.4),
        tool("bulk", batch=3, batch_delay=0.01, read_only=True, retries=1, concurrency=2, breaker=BREAKER),
        tool("bulk_write", batch=4, batch_delay=0.0),
        tool("wait", group="async", concurrent=True),
        tool("look", group="async", concurrent=True, read_only=True, concurrency=5),
        tool(
            "near_look",
            RingOverflow(Members(("0", "1"), unit=SECONDS, floor=BUSY_SECONDS)),
            group="async",
            concurrent=True,
            idempotent=True,
            affinity="n",
            breaker=BREAKER,
        ),
        tool("brisk", group="async", concurrent=True, timeout=0.5, invalidates=("t",), breaker=BREAKER),
        tool("stubborn", group="async", concurrent=True, timeout=1.0, concurrency=1),
        tool("async_flow", group="async", concurrent=True, streams=True, idle_timeout=1.0),
        tool("async_bulk", group="async", concurrent=True, batch=3, read_only=True),
    ]
    return {**tools(), **{one.name: one for one in made}}


def sharing_tools() -> dict[str, ServedTool]:
    """Those that share results with some, and those that invalidate them."""
    made = [
        tool("mine", RingOverflow(MEMBERS), read_only=True, cache=60.0, cache_scope="partition", tags=("t",)),
        tool("own", read_only=True, cache=60.0, cache_scope="caller", tags=("t",)),
        tool("change", invalidates=("t",), asks=True),
        tool("swap", idempotent=True, invalidates=("t",)),
    ]
    return {**grouped_tools(), **{one.name: one for one in made}}


def sharers(spec: ToolSpec, caller: str, partition: str) -> str | None:
    """Who may share a call's result; None: nobody. Said once more, so as not to believe the core."""
    return {"public": "", "caller": caller or None, "partition": partition or None}[spec.cache_scope]


VARIED: dict[str, dict[str, Any]] = {
    "few": {"concurrency": 1},
    "small": {"group": "default"},
    "large": {"memory": 900},
    "supple": {"adaptive": False, "concurrency": None},
    "push": {"rate": 50.0},
    "bulk": {"batch": 2},
    "again": {"version": "2"},
    "look": {"concurrency": None},
    "wait": {"concurrency": 2},
    "polite": {"group": "heavy"},
    "swap": {"idempotent": False, "version": "2"},
    "change": {"idempotent": True, "invalidates": ()},
    "brief": {"timeout": None, "idempotent": True},
    "brisk": {"timeout": 0.2, "version": "2"},
    "mine": {"cache": None},
    "own": {"cache_scope": "partition", "version": "2"},
}
"""What other code of the tools declares."""


class SimLineup:
    """As ``supervisor/lineup.py``, with the balancers that the tools were made with."""

    def __init__(self, groups: Sequence[Group], tools: dict[str, ServedTool]) -> None:
        self.groups = list(groups)
        self._balancers = {name: served.balancer for name, served in tools.items()}

    def plans(self, specs: Sequence[ToolSpec]) -> list[Group]:
        if not specs:
            raise LoadError("they don't fit")
        self.coming = {spec.name: spec for spec in specs}
        return self.groups

    def balancer(self, spec: ToolSpec, group: Any) -> Guarded | None:
        return self._balancers.get(spec.name)

    def forget(self, groups: Any) -> None:
        """They keep their members' names, so they may stay."""


class Asked:
    """A job as its client sees it."""

    def __init__(self, job: Job, n: int, now: float, deadline: float, said: ToolSpec) -> None:
        self.job = job
        self.n = n
        self.version = 0
        """No cached answer may tell of an earlier world than this one."""
        self.asked = now
        self.deadline = deadline
        self.answer: Answer | None = None
        self.cancelled = False
        self.resent = 0
        self.parts = self.taken = 0
        self.reconnected = 0
        self.said = said
        """What the node had told of its tool then."""
        self.forgotten = False
        """The node didn't know it any more when it was sent again."""

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
        self.unread: deque[Answer | Part] = deque()
        self.session: Session | None = None
        self.trace = ""
        """That its jobs belong to."""
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
            job = Job(number, name, args, timeout, route, key, mode, partition, trace=self.trace)
            streams = self.node.core.tools[name].spec.streams
            if streams and not key and not mode and n % 4:
                job.follow = Follow(WINDOW, True)
            elif n % 5 == 1:
                job.follow = Follow(0, True)
            if n % 7 == 3 and self.node.impatient:
                job.queue_timeout = 0.3
            limit = self.node.core.limits.default_timeout if timeout is None else timeout
            self.asked[number] = Asked(job, n, self.node.now, self.node.now + limit, self.node.core.tools[name].spec)
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
        assert self.session is not None
        self.node.watch.endings.reconnected(self.session, self.node.now)
        for asked in self.unanswered():
            asked.reconnected += 1
            if asked.parts:  # what may be missing of it nobody knows
                self.node.cancel(self, asked.job.id)
                del self.asked[asked.job.id]
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
            said = [asked.said, self.node.core.tools[asked.job.tool].spec]
            if not (all(spec.repeatable for spec in said) or asked.job.key or asked.job.mode):
                del self.asked[asked.job.id]
            asked.forgotten = True
        self.resend()

    def read(self) -> None:
        while self.unread:
            answer = self.unread.popleft()
            asked = self.asked.get(answer.id)
            if asked is None:
                continue  # a stream that it gave up
            if isinstance(answer, Part):
                self.take(asked, answer)
                continue
            if asked.answer is not None:
                assert asked.resent, f"a second answer to job {answer.id} of {self.name}"
                continue
            asked.answer = answer
            self.node.check_answer(self, asked)

    def take(self, asked: Asked, part: Part) -> None:
        """A part, or a word of progress; the node may send more then."""
        assert asked.job.follow is not None, "nobody asked for it"
        assert asked.answer is None or asked.resent, "a part after the answer"
        if part.number:
            asked.parts += 1
            assert part.number == asked.parts or asked.resent, "a part is missing"
            assert decode(part.value) == part.number
            asked.taken += len(part.value) + PART_BYTES
            if self.session is not None:
                self.node.core.streams.more(self.session, asked.job.id, WINDOW + asked.taken)
                self.node.turn()


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
        self.lanes = Lanes(SLOTS * 2 + 12)
        self.words = Stamps(self.lanes.memory).words
        self.epoch = 0
        """Counts the moments at which something was invalidated that the supervisor may share."""
        self.watched = self.look()
        self.begun: dict[Entry, int] = {}
        """The epoch in which an entry was accepted."""
        self.core = Core(served or tools(), Fleet(groups, self.lanes.all), limits, Stamps(self.lanes.memory))
        self.core.figures = Figures(self.now)
        self.core.history = History(KEPT, KEPT)
        endings = Endings(self.core, GRACE)
        self.memory: dict[int, int] = {}
        """Of a process, by its pid."""
        renewals = Renewals(self.core, endings, lambda pid: self.memory.get(pid, 0), random.Random(1).random)
        self.lineup = SimLineup(groups, self.core.tools)
        self.specs = [served.spec for served in self.core.tools.values()]
        self.codes = {self.core.fleet.code: {spec.name: spec for spec in self.specs}}
        """What each generation of the code that has served declares, or the last before it that knew the tool."""
        self.plans = list(groups)
        self.turnovers = 0
        self.carried: dict[int, tuple[int, int, int]] = {}
        """Of a valve, what ran and waited at the last turnover: limits that are new find it there."""
        restarts = Restarts(self.core, endings, lambda: RestartBudget(5, 10.0))
        watch = Watch(self.core, endings, restarts, self._is_stopped, renewals, cast("Any", self.lineup))
        self.watch = watch
        self.workers: dict[bytes, Any] = {}
        """Each a SimWorker, or a SimAsyncWorker."""
        self.exits: deque[tuple[bytes, int]] = deque()
        self.clients = [SimClient(self, number, callers[number % len(callers)]) for number in range(1, clients + 1)]
        self.runs: list[Run] = []
        self.starts: dict[str, list[float]] = {}
        self.pids = 0
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.shut = False
        self.impatient = False
        """Some callers wait no longer than a moment until their jobs are begun."""
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

    def ready(self, worker: SimProcess) -> None:
        self.watch.ready(worker.record, worker.pid, self.now)
        self.turn()

    def deliver(self, worker: SimProcess) -> None:
        """One message of a worker arrives, unless the node has heard of its end."""
        head, body = worker.sent.popleft()
        if worker.record.identity in self.core.fleet.workers:
            message = protocol.decode_from_worker(head)
            if isinstance(message, Leaving):
                self.watch.leaving(worker.record, self.now)
            elif isinstance(message, Parts):
                self.core.streams.told(worker.record, message.parts, self.now)
            else:
                assert isinstance(message, Done)
                if body:
                    message.answers[0].value = Raw(body)
                self.core.returns.answers(worker.record, message.answers, self.now)
                if message.count:
                    worker.words[ACK] = message.count
        self.turn()

    def hear_exit(self) -> None:
        identity, status = self.exits.popleft()
        record = self.core.fleet.workers.get(identity)
        if record is not None:
            self.watch.exited(record, status, self.now)
            altered = [run.altered for run in self.runs if run.worker.record is record]
            self.known = max([self.known, *altered])
        self.turn()

    # ---- other code

    def load(self, how: int) -> None:
        """The zygote that loads other code tells of it: it can't (0), it doesn't fit (1), or here it is."""
        reloads = self.watch.reloads
        if reloads.stage is not Stage.LOADING:
            return
        if how == 0:
            reloads.failed(LoadError("it can't be imported"), self.now)
        else:
            varied = how % 2 == 0
            self.lineup.groups = [
                plan._replace(workers=1, scaling=None) if varied and plan.name == "heavy" and how % 4 == 0 else plan
                for plan in self.plans
            ]
            names = {plan.name for plan in self.plans}
            changes = {name: VARIED[name] for name in VARIED if varied and VARIED[name].get("group") in {None, *names}}
            specs = [msgspec.structs.replace(spec, **changes.get(spec.name, {})) for spec in self.specs]
            reloads.loaded([] if how == 1 else specs, self.now)
        self.turn()

    def lose_zygote(self) -> None:
        """It dies, and all its workers with it."""
        code = self.core.fleet.code
        lost = [record for record in self.core.fleet.workers.values() if record.code == code]
        for record in lost:
            if self.workers[record.identity].alive:
                self.workers[record.identity].die(-9)
        self.exits = deque(exit for exit in self.exits if exit[0] not in {record.identity for record in lost})
        self.watch.reloads.replace(self.now, 0.0)
        for record in lost:
            record.reason = record.reason or ZYGOTE_LOST
            self.exits.appendleft((record.identity, -9))
            self.hear_exit()

    # ---- what is decided

    def tick(self) -> None:
        before = self.core.fleet.code
        self.watch.tick(self.now)
        if self.core.fleet.code != before:
            self.turnovers += 1
            self.codes[self.core.fleet.code] = {**self.codes[before], **self.lineup.coming}
            self.carried = {id(one): (one.running, one.used, one.waiting) for one in self.core.valves}
        for kill in self.watch.kills:
            if kill.worker.identity in self.workers:
                self.workers[kill.worker.identity].signal(kill.signal)
        self.watch.kills.clear()
        for slot, code in self.watch.due(self.now):
            record = self.core.fleet.hire(slot, self.now, code)
            if record is not None:
                self.pids += 1
                record.pid = self.pids
                kind = SimAsyncWorker if record.many else SimWorker
                self.workers[record.identity] = kind(self, record, self.pids)
        self.turn()
        for entry in self.entries():
            assert entry.deadline > self.now - SCAN_SECONDS, f"{entry.name} is past its deadline"
            run = entry.worker if entry.state is State.DISPATCHED else None
            if run is not None and entry.live is not None and run.many:
                assert entry.live.due > self.now - SCAN_SECONDS, f"{entry.name} has run too long, or said nothing"

    def turn(self) -> None:
        self.note_entries()
        if not self.shut:
            self.core.placing.dispatch(self.now)
            for send in self.core.sends:
                assert send.worker.life is Life.READY, "work for a worker that isn't ready"
                assert send.worker.code == self.core.fleet.code, "work for a worker with other code"
                for seq, work in enumerate(send.work, send.first):
                    self.check_work(send.worker, send.worker.line.get(seq), work)
            self.check_idle()
        self.perform()

    def check_work(self, worker: Worker, entry: Entry | None, work: Work) -> None:
        """What leaves is for those who still want it, and in the company that it may have."""
        if entry is None:
            return
        if type(entry.record) is Flight:
            assert work.renew == entry.record.renews, "a renewal that the cache would answer"
        if entry.members is not None:
            assert all(member.state is State.BATCHED for member in entry.members), "it runs for one that was answered"
            assert all(member.deadline > self.now - SCAN_SECONDS for member in entry.members), "past its deadline"
            assert work.chunk == len(entry.members) == len(decode(entry.args))
            assert len(entry.members) <= (entry.tool.spec.batch or 0)
            assert len(entry.members) == 1 or not any(member.alone for member in entry.members), "one that kills"
        if worker.many and (entry.alone or any(member.alone for member in entry.members or ())):
            assert list(worker.line.values()) == [entry], "one that kills, among others"
        if worker.many:
            assert len(worker.line) <= worker.many

    def perform(self) -> None:
        core = self.core
        for send in core.sends:
            worker = self.workers[send.worker.identity]
            worker.inbox.append((encode(Batch(send.first, send.work)), send.body))
        core.sends.clear()
        for record, message in core.says:
            if record.identity in self.workers:
                self.workers[record.identity].inbox.append((encode(message), None))
        core.says.clear()
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
        self.notes += core.notes
        core.notes.clear()

    def tell(self, session: Session) -> None:
        """A session's answers go to its client."""
        parts, session.parts = session.parts, []
        out, session.out = session.out, []
        for answer in out:
            if answer.flags == CACHED:
                until = decode(answer.value)["until"] * 1e-6
                assert until > self.now, "the supervisor gives what it should ask for again"
        for client in self.clients:
            if client.session is session:
                client.unread.extend(parts)
                client.unread.extend(decode_answers(out))

    # ---- what must hold

    def entries(self) -> list[Entry]:
        core = self.core
        return [entry for session in [core.house, *core.sessions.values()] for entry in session.jobs.values()]

    def started(self, worker: SimProcess, seq: int, work: Work) -> Run:
        """A worker has written STARTED and calls the tool."""
        record, name = worker.record, f"{work.session}-{work.id}"
        run = Run([name], work.tool, worker)
        run.trace = work.trace
        run.repeatable = self.codes[record.code][work.tool].repeatable
        if record.identity in self.core.fleet.workers and not self.shut:
            entry = record.line.get(seq)
            wanted = seq in record.leftovers if record.many else worker.words[CANCEL] == seq
            assert entry is not None or wanted, f"{name} was taken back and runs all the same"
            run.entry = entry
            if entry is not None and entry.members is not None:
                run.jobs = [member.name for member in entry.members]
            self.check_wanted(run)
        forgotten = {f"{c.name}-{asked.job.id}" for c in self.clients for asked in c.asked.values() if asked.forgotten}
        others = [one for one in self.runs if not (one.repeatable and (run.repeatable or name in forgotten))]
        again = {job for other in others for job in other.jobs} & set(run.jobs)
        assert not again, f"{again} may not be repeated and start again"
        self.runs.append(run)
        self.check_run(run)
        self.check_rate(work.tool)
        return run

    def check_wanted(self, run: Run) -> None:
        """Nothing starts that its only caller was told had not been started in time."""
        entry = run.entry
        if entry is None or entry.members is not None:
            return
        if entry.record is not None and (entry.record.waiting or entry.record.keep):
            return
        for client in self.clients:
            for asked in client.asked.values():
                told = asked.answer is not None and not (asked.resent or asked.job.key)  # else it is for another, too
                if told and f"{client.name}-{asked.job.id}" == run.job:
                    assert asked.code != "EXPIRED", f"{run.job} starts although it had expired"

    def may_share(self, by: str, client: SimClient, job: Job, said: list[ToolSpec]) -> bool:
        """May a caller have what ran for that job, as any code says? Other code may have run it for nobody else."""
        for other in self.clients:
            asked = other.asked.get(int(by.rpartition("-")[2])) if by.startswith(other.name) else None
            if asked is not None:
                pairs = ((client.caller, job.partition), (other.caller, asked.job.partition))
                ours, theirs = ([sharers(spec, *pair) for spec in said if spec.cache] for pair in pairs)
                return any(one is not None and one == same for one, same in zip(ours, theirs, strict=True))
        return False

    def check_rate(self, name: str) -> None:
        """In no span of time are there more starts than rate and burst allow, but for those that workers held."""
        spec = self.core.tools[name].spec
        starts = self.starts.setdefault(name, [])
        starts.append(self.now)
        for first, since in enumerate(starts if spec.rate else ()):
            most = (spec.burst or 1) + (spec.rate or 0) * (self.now - since) + SLOTS
            assert len(starts) - first <= most, f"{len(starts) - first} starts of {name} in {self.now - since} s"

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
        idle = [worker for worker in core.fleet.ready if worker.idle]
        for worker in idle:
            waits = [*worker.slot.group.line, *worker.slot.group.apart, *worker.slot.waiting]
            assert not waits, f"worker {worker.name} idles while {len(waits)} jobs wait"
        for valve in core.valves:
            waits = list(valve.line)
            if not waits or not valve.open(self.now) or not all(valve.fits(entry) for entry in waits):
                continue
            assert valve.batch, f"{valve.of} is open while {len(waits)} jobs wait"
            ripe = len(waits) >= valve.batch or self.now >= valve.since + valve.delay
            assert valve.crowded() or not ripe, f"{len(waits)} wait for company at {valve.of}"

    def check_answer(self, client: SimClient, asked: Asked) -> None:
        """A client got a final answer: may it be this one?"""
        job, code = asked.job, asked.code
        served = self.core.tools[job.tool]
        runs = [run for run in self.runs if f"{client.name}-{job.id}" in run.jobs]
        said = [specs[job.tool] for specs in self.codes.values()]
        if code == "":
            assert asked.answer is not None
            assert asked.parts == asked.answer.parts or asked.resent, "parts are missing"
            value = decode(asked.answer.value)
            assert value["n"] == asked.n, "the result of another job"
            if job.tool in CACHED_TOOLS:
                replayed = asked.answer.flags & REPLAYED
                assert replayed or value["version"] >= asked.version, "it was invalidated before it was asked for"
                group = value["for"]
                groups = {sharers(spec, client.caller, job.partition) for spec in said if spec.cache}
                mine = job.key or value["by"] == f"{client.name}-{job.id}"
                shared = mine or self.may_share(value["by"], client, job, said)
                assert group in groups or (shared and len(self.codes) > 1), "another's result"
                if group is None:
                    assert not asked.answer.flags & CACHED
                    assert mine, "a nameless result was shared"
        elif code == "OUTCOME_UNKNOWN":
            once = not all(spec.repeatable for spec in said)
            assert once or (job.follow is not None and job.follow.stream)
            lost = any(not run.worker.alive or ended_for_another(run) for run in runs) or bool(job.key)
            lost = lost or (served.spec.streams and bool(asked.reconnected))
            assert lost or self.shut or asked.resent, "OUTCOME_UNKNOWN though no worker was lost with it"
        elif code == "POISONED":
            assert any(spec.repeatable for spec in said) or not runs
        elif code == "CANCELLED":
            assert asked.cancelled or self.shut or job.key, "cancelled by nobody"
        elif code == "EXPIRED":
            own = [(spec.timeout, spec.queue_timeout, spec.idle_timeout) for spec in said]
            limits = [limit for one in (*own, (job.queue_timeout,)) for limit in one if limit is not None]
            due = min([asked.deadline, *(asked.asked + limit for limit in limits)])
            assert job.key or self.now >= due or asked.resent, "expired before its time"
        elif code == "CONFLICT":
            assert job.key
        elif code == "DRAINING":
            assert self.core.draining
        elif code == "CIRCUIT_OPEN":
            assert served.circuit.breaker.generation or self.turnovers, "its circuit was never open"
        else:
            assert code in ("BUSY", "UNHEALTHY", "TOOL_ERROR", "RETRY"), code
            retries = served.spec.retries
            assert code != "RETRY" or not retries or asked.resent or len(runs) <= retries + 1

    def check_books(self) -> None:
        """The core's sums and places agree with its jobs."""
        core = self.core
        entries = self.entries()
        assert core.bytes == sum(len(entry.args) for entry in entries)
        assert core.in_hand() == len(entries)
        lines = [line for group in core.fleet.groups for line in (group.line, group.apart)] + [
            valve.line for valve in core.valves
        ]
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
        assert not any(entry.passed for entry in delayed), "it keeps a permit while it waits to be tried again"
        self.check_valves(entries)
        self.check_circuits(entries)
        for entry in waiting:
            assert places[id(entry)] == 1, f"{entry.name} waits in {places[id(entry)]} lines"
        held = Counter(id(entry) for worker in core.fleet.workers.values() for entry in worker.line.values())
        for entry in entries:
            assert not entry.final
            assert held[id(entry)] == (entry.state is State.DISPATCHED), f"{entry.name} is held {held[id(entry)]} times"
            if entry.state is State.DISPATCHED:
                assert entry.worker is not None
                assert entry in entry.worker.line.values()
            if entry.state is State.BATCHED:
                carrier = entry.carrier
                assert carrier is not None
                assert carrier.members is not None
                assert entry in carrier.members
                assert core.house.jobs[carrier.id] is carrier
            if entry.members is not None:
                assert any(member.state is State.BATCHED for member in entry.members)
            if entry.state is State.JOINED:
                assert entry.record is not None
                assert entry in entry.record.waiting
                assert entry.record.entry is not None
        for worker in core.fleet.workers.values():
            assert worker.load > -1e-9
            if worker.idle:
                assert worker.load == 0
        self.check_sharing(entries)
        self.check_figures()

    def check_figures(self) -> None:
        """Each job that was accepted is counted once, as soon as it is answered."""
        core, figures = self.core, self.core.figures
        assert figures is not None
        figures.fold_all()
        whole = [series.window(Window.START, self.now)[0] for series in figures.tools.values()]
        in_hand = sum(len(session.jobs) for session in core.sessions.values())
        assert sum(tally.jobs for tally in whole) == core.accepted - in_hand
        for tally in whole:
            assert tally.response.n == tally.jobs >= tally.failed + tally.cached
            assert tally.queue.n >= tally.run.n == tally.overhead.n
        ran = sum(tally.run.n for tally in whole)
        assert sum(series.window(Window.START, self.now)[0].run.n for series in figures.workers.values()) == ran

    def check_valves(self, entries: list[Entry]) -> None:
        """Permits are out for what runs or will run next, and for what was answered and still runs."""
        left = [left for worker in self.core.fleet.workers.values() for left in worker.leftovers.values()]
        for valve in self.core.valves:
            holders = [(one.tool, one.tool.valves[: one.passed]) for one in entries]
            holders += [(one.tool, one.tool.valves[: one.passed]) for one in left]
            permits = [tool for tool, passed in holders if valve in passed]
            assert valve.running == len(permits)
            assert valve.used == sum(tool.memory for tool in permits)
            assert not valve.memory or valve.used <= max(valve.memory, self.carried.get(id(valve), (0, 0, 0))[1])
            mine = [entry for entry in entries if valve in entry.tool.valves]
            assert valve.waiting == sum(entry.state is State.QUEUED for entry in mine)
            self.check_limit(valve)

    def check_circuits(self, entries: list[Entry]) -> None:
        """A permit is out for each probe that runs, and for nothing else."""
        for served in self.core.tools.values():
            breaker = served.circuit.breaker
            assert served.circuit.armed is (served.circuit.declared or breaker.state is not CircuitState.CLOSED)
            mine = [entry for entry in entries if entry.tool is served]
            assert all(entry.state is State.DISPATCHED for entry in mine if entry.permit >= 0)
            if breaker.state is CircuitState.HALF_OPEN:
                out = sum(entry.permit == breaker.generation for entry in mine)
                assert breaker._free + breaker.counts(self.now).calls + out == breaker.policy.probes

    def check_limit(self, valve: Valve) -> None:
        """What really runs at once, whatever the books say."""
        names = [tool.name for tool in self.core.tools.values() if valve in tool.valves]
        runs = [run for run in self.runs if run.tool in names and not run.ended and run.worker.alive]
        running, used, waiting = self.carried.get(id(valve), (0, 0, 0))
        if isinstance(valve.limit, Fixed):
            most = max(running, valve.limit.limit)
            assert valve.running <= most
            assert len(runs) <= most, f"{len(runs)} runs of {valve.of} at once"
        if valve.memory:
            assert sum(self.core.tools[run.tool].memory for run in runs) <= max(used, valve.memory)
        if valve.backlog is not None:
            assert (
                valve.waiting <= max(waiting, valve.backlog) + SLOTS
            )  # those that were given back were accepted before

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
        by_name: dict[str, list[Run]] = {}
        for run in self.runs:
            for name in run.jobs:
                by_name.setdefault(name, []).append(run)
        for name, runs in by_name.items():
            lost = sum(not run.worker.alive or ended_for_another(run) for run in runs)
            spec = self.codes[self.core.fleet.code][runs[0].tool]
            again = spec.retries if spec.batch else sum(run.asks_again for run in runs) if spec.retries else 0
            most = 1 + lost + again + resent.get(name, 0)
            assert len(runs) <= most, f"{name} ran {len(runs)} times, {lost} workers were lost with it"
            killed = sum(not run.worker.alive and not run.ended and not ended_for_another(run) for run in runs)
            deaths = self.core.limits.deaths * (2 if runs[0].worker.record.many else 1)  # others' are not its own
            assert killed <= deaths * (1 + resent.get(name, 0)), f"{name} killed {killed} workers"

    # ---- the end

    def settle(self) -> None:
        """Let everything come to rest: every job must have its answer then. Nobody wakes those who are stopped; what
        blocks an event loop is over."""
        for client in self.clients:
            if client.session is None:
                client.come_back()
        for _ in range(400):
            self.load(3)
            for worker in list(self.workers.values()):
                worker.outcome, worker.deaf = ("ok", 10, 0), worker.deaf and not worker.record.many
                while worker.step():
                    pass
                while worker.sent:
                    self.deliver(worker)
            while self.exits:
                self.hear_exit()
            for client in self.clients:
                client.read()
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
            if asked is not None and asked.answer is not None and not run.repeatable:
                assert asked.code != "CANCELLED" or asked.cancelled, f"{run.job} was told CANCELLED and then started"


def ended_for_another(run: Run) -> bool:
    """Its worker had many under way, and had to be ended because of one of them."""
    record = run.worker.record
    return bool(record.many) and record.reason is not None


def decode_answers(answers: list[Answer]) -> list[Answer]:
    """As they arrive: through the wire's own encoding."""
    return msgspec.msgpack.decode(encode(answers), type=list[Answer])
