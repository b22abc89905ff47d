"""A client's side of the wire without I/O: what to send, what an arriving message means, what to send again.

Both clients drive it; neither knows the protocol.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.client.arguments import check_key, check_text, encoded, encoded_chunk, priority_of, route_of, seconds
from toolring.client.feed import Feed, Progress
from toolring.context import remaining
from toolring.errors import (
    Busy,
    Cancelled,
    Expired,
    HelloRequired,
    OutcomeUnknown,
    ProtocolError,
    TooLarge,
    ToolringError,
    Unreachable,
    from_wire,
)
from toolring.protocol import (
    CACHED,
    CALL,
    INLINE,
    NIL,
    OK,
    REPLAYED,
    Answer,
    Answers,
    Bye,
    Cancel,
    Follow,
    Hello,
    Job,
    More,
    Part,
    Parts,
    Ping,
    Refused,
    Submit,
    Told,
    Tools,
    Welcome,
)
from toolring.spec import ToolSpec
from toolring.tracing import current

_encode = protocol.encode
BEAT_SECONDS: Final = 1.0
"""How often a client that waits asks whether the node still knows it."""
GRACE_SECONDS: Final = 2.0
"""How long after a job's own timeout a client still waits for the node's word on it."""
_EMPTY: Final = Raw(b"\x80")

Message = tuple[bytes, Any]
"""A head, and a body of its own or None."""


class Pending(msgspec.Struct, eq=False, weakref=True):
    """One job that has no answer yet, and where the answer goes. Subclassed by the clients' handles.

    A struct, since it is made for every call and a struct is made in a quarter of the time.
    """

    job: Job
    session: str
    deadline: float
    """When its caller stops waiting, in seconds of ``time.monotonic()``."""
    answer: Answer | None = None
    error: ToolringError | None = None
    cancelled: bool = False
    decode: Callable[[Any], Any] = protocol.decode_value
    """Decodes its result."""
    feed: Feed | None = None
    """What it tells before its answer; None: nobody wants to hear."""

    @property
    def id(self) -> str:
        """The job's id, as logs, ``toolring status`` and ``job()`` of the clients know it."""
        return f"{self.session}-{self.job.id}"

    @property
    def cached(self) -> bool:
        """Did the answer come from a cache?"""
        return self.answer is not None and bool(self.answer.flags & CACHED)

    @property
    def replayed(self) -> bool:
        """Did the answer come from another submission under the same key?"""
        return self.answer is not None and bool(self.answer.flags & REPLAYED)

    @property
    def run_seconds(self) -> float | None:
        """How long the worker took; None without an answer from one."""
        return None if self.answer is None else self.answer.run_us * 1e-6

    @property
    def progress(self) -> Progress | None:
        """The last that its tool has said of its progress, of a job whose caller wanted to hear of it."""
        return None if self.feed is None else self.feed.progress

    @property
    def settled(self) -> bool:
        return self.answer is not None or self.error is not None

    @property
    def refusal(self) -> Busy | None:
        """Why its node did not even accept it; None: it did, or there is no answer. A tool may itself raise Busy, but
        only after it has begun, and one that failed, or that a worker died of, may be refused another run: these are
        answers like any other."""
        answer = self.answer
        if answer is None or answer.status == OK or answer.run_us:
            return None
        error = from_wire(protocol.decode_value(answer.value))
        ran = error.facts.keys() & {"worker", "earlier", "deaths"}
        return error if isinstance(error, Busy) and not ran else None

    def cancel(self) -> None:
        """Ask the node to end the job, wherever it is; ``result`` then raises Cancelled (or had come before)."""
        raise NotImplementedError

    def outcome(self) -> Any:
        """The decoded result. Raises what the job ended in."""
        answer = self.answer
        if answer is not None and answer.status == OK:
            return self.decode(answer.value)
        if answer is not None:
            raise from_wire(protocol.decode_value(answer.value))
        assert self.error is not None
        raise self.error


class Conversation:
    """One session with a node. ``settle`` is called for each job that got its answer."""

    def __init__(self, caller: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        token = secrets.token_bytes(16)
        self.name = token.hex()
        """The first part of all its jobs' ids."""
        self._hello = _encode(Hello(protocol.VERSION, token, caller))
        self._next_id = 0
        self._welcomed = False
        self.node = ""
        self.tools: dict[str, ToolSpec] = {}
        self._once: set[str] = set()
        """Tools that could not be repeated as far as the node said, when jobs were sent that have no answer yet."""
        self.limits: dict[str, Any] = {}
        self.pending: dict[int, Pending] = {}
        self.settled: list[Pending] = []
        """Those that got their answer since the client last looked here."""
        self.told: list[Pending] = []
        """Those that told something before their answer, since the client last looked here."""
        self.asked: dict[int, Any] = {}
        self._questions: dict[int, protocol.Ask] = {}
        self.refusal: ToolringError | None = None
        self._queue: list[Job] = []
        self._queue_bytes = 0
        self._out: list[Message] = [(self._hello, None)]

    @property
    def welcomed(self) -> bool:
        return self._welcomed

    # ---- out

    def job(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None,
        timeout: float | None,
        key: str | None,
        mode: int,
        partition: str = "",
        priority: str = "normal",
        queue_timeout: float | None = None,
        follow: Follow | None = None,
    ) -> Job:
        """Make a job of a call. Raises InvalidArguments, TooLarge or TooDeep for what would be refused anyway."""
        spec = self.tools.get(tool) if type(tool) is str else None
        if spec is None:
            check_text("the name of a tool", tool, "name")
        if key is not None:
            check_key(key)
        if partition != "":
            check_text("a partition", partition, "partition")
        if timeout is not None:
            timeout = seconds(tool, timeout)
        if (left := remaining()) is not None:
            timeout = self._within(tool, timeout, left)
        args = encoded(tool, arguments) if arguments else _EMPTY
        limit = self.limits.get("max_body", protocol.MAX_HEAD)
        if len(args) > limit:
            raise TooLarge(
                f"{tool}: the arguments have {len(args)} bytes, the limit is {limit}", size=len(args), limit=limit
            )
        route = b""
        if spec is not None and spec.affinity is not None and arguments:
            route = route_of(spec.affinity, arguments)
        self._next_id = number = self._next_id + 1
        job = Job(number, tool, args, timeout, route, key or "", mode, partition)
        if priority != "normal":
            job.priority = priority_of(tool, priority)
        if queue_timeout is not None:
            job.queue_timeout = seconds(tool, queue_timeout, "queue_timeout")
        if follow is not None:
            if follow.idle is not None:
                follow.idle = seconds(tool, follow.idle, "idle_timeout")
            job.follow = follow
        if trace := current():
            job.trace = trace
        return job

    def _within(self, tool: str, timeout: float | None, left: float) -> float:
        """The timeout of a call that a tool makes: its own time is the most. Raises Expired if that is over."""
        if left <= 0:
            raise Expired(f"{tool}: not called, the deadline of the job that calls it has passed", tool=tool)
        return min(left, self.limits.get("default_timeout", left) if timeout is None else timeout)

    def chunk(
        self, tool: str, calls: list[Mapping[str, Any]], timeout: float | None, partition: str, priority: str
    ) -> Job:
        """Make one job of many calls. Raises what ``job`` raises."""
        job = self.job(tool, None, timeout, None, CALL, partition, priority)
        args = encoded_chunk(tool, calls)
        limit = self.limits.get("max_body", protocol.MAX_HEAD)
        if len(args) > limit:
            text = f"{tool}: the arguments of {len(calls)} calls have {len(args)} bytes, the limit is {limit}"
            raise TooLarge(text, size=len(args), limit=limit)
        job.args, job.chunk = args, len(calls)
        return job

    def add(self, pending: Pending) -> None:
        """Queue a job; it leaves with the next messages."""
        job = pending.job
        self.pending[job.id] = pending
        self._queue.append(job)
        self._queue_bytes += len(job.args)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def cancel(self, pending: Pending) -> None:
        """Queue a cancellation; a job that hasn't left yet ends here and now."""
        job = pending.job
        pending.cancelled = True
        if any(queued is job for queued in self._queue):
            self._queue = [queued for queued in self._queue if queued is not job]
            self.pending.pop(job.id, None)
            pending.error = Cancelled(f"{job.tool}: cancelled by its caller", tool=job.tool)
            self.settled.append(pending)
        elif job.id in self.pending:
            self._say(Cancel([job.id]))

    def lose(self, why: str) -> None:
        """Nobody answers any more: all that is pending ends so. What had not left is known not to run."""
        waiting = {job.id for job in self._queue}
        for pending in self.pending.values():
            follow, sent = pending.job.follow, pending.job.id not in waiting
            if sent and follow is not None and follow.stream:
                pending.error = broken(pending, why)
            else:
                pending.error = Unreachable(why, tool=pending.job.tool, sent=sent)
            self.settled.append(pending)
        self.pending.clear()
        self._queue.clear()
        self._queue_bytes = 0

    def more(self, pending: Pending) -> None:
        """Let the node send more of a job's parts, if enough of them were taken."""
        feed = pending.feed
        if feed is not None and not pending.settled and feed.more():
            self._say(More(pending.job.id, feed.granted))

    def _say(self, message: Any) -> None:
        """Queue a message behind the jobs that were submitted before it."""
        if self._welcomed and self._queue:
            self._flush()
        self._out.append((_encode(message), None))

    def ping(self) -> None:
        """Ask whether the node still knows this session; without a welcome, introduce it (again)."""
        if self._welcomed:
            self._say(Ping())
        else:
            self._out.append((self._hello, None))

    def refused(self) -> ToolringError | None:
        """Why the node refused the hello, told once; the next attempt begins with another hello."""
        refusal, self.refusal = self.refusal, None
        if refusal is not None and not self._welcomed:
            self.hello_again()
        return refusal

    def bye(self) -> None:
        """Queue the end of the session; a node that never said welcome needs none."""
        if self._welcomed:
            self._say(Bye())

    def deadline(self, timeout: float | None, now: float) -> float:
        """When a job that is submitted now must have its answer, by its own timeout or the node's default."""
        return now + (self.limits.get("default_timeout", math.inf) if timeout is None else timeout)

    def ask(self, what: str, params: dict[str, Any] | None = None) -> int:
        """Queue a question; its answer will be in ``asked`` under the returned number."""
        self._next_id = number = self._next_id + 1
        self.asked[number] = None
        self._questions[number] = question = protocol.Ask(number, what, params or {})
        if self._welcomed:
            self._say(question)
        return number

    @property
    def has_messages(self) -> bool:
        """Is there anything to be sent now?"""
        return bool(self._out or (self._queue and self._welcomed))

    def messages(self) -> list[Message]:
        """Everything that is to be sent now, in order. Jobs are held until the node has said welcome."""
        if self._welcomed and self._queue:
            self._flush()
        out, self._out = self._out, []
        return out

    def _flush(self) -> None:
        queue, self._queue = self._queue, []
        total, self._queue_bytes = self._queue_bytes, 0
        if total <= INLINE and len(queue) <= protocol.MAX_JOBS:  # nothing in it can be too large
            self._out.append((_encode(Submit(queue)), None))
            return
        batch: list[Job] = []
        size = 0
        for job in queue:
            args = job.args
            if len(args) > INLINE:
                alone = msgspec.structs.replace(job, args=NIL)
                self._out.append((_encode(Submit([alone])), memoryview(args)))
                continue
            batch.append(job)
            size += len(args)
            if len(batch) == protocol.MAX_JOBS or size > protocol.MAX_HEAD // 4:
                self._out.append((_encode(Submit(batch)), None))
                batch, size = [], 0
        if batch:
            self._out.append((_encode(Submit(batch)), None))

    # ---- in

    def receive(self, head: bytes, body: Any = None) -> None:
        """Take in one message. Raises ProtocolError if it can't be understood."""
        try:
            message = protocol.decode_from_node(head)
        except msgspec.ValidationError as error:
            if str(error).startswith("Invalid value") and str(error).endswith("`$[0]`"):
                return  # a verb of a later version
            raise ProtocolError(f"the node sent a malformed message: {error}") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(f"the node sent a malformed message: {error}") from None
        if type(message) is Answers:
            answers = message.answers
            if body is not None and len(body) and len(answers) == 1:
                answers[0].value = Raw(body)
            pop, settled = self.pending.pop, self.settled.append
            for answer in answers:
                pending = pop(answer.id, None)
                if pending is not None:
                    pending.answer = answer
                    settled(pending)
        elif type(message) is Parts:
            self._on_parts(message.parts, body)
        elif isinstance(message, Welcome):
            self._on_welcome(message)
        elif isinstance(message, Tools):
            self._serves(message.tools)
        elif isinstance(message, Told):
            if self._questions.pop(message.request, None) is not None:
                self.asked[message.request] = message.value
        elif isinstance(message, Refused):
            self._on_refusal(from_wire(message.error))

    def _on_parts(self, parts: list[Part], body: Any) -> None:
        if body is not None and len(body) and len(parts) == 1:
            parts[0].value = Raw(body)
        for part in parts:
            pending = self.pending.get(part.id)
            if pending is not None and pending.feed is not None:
                pending.feed.arrived(part)
                self.told.append(pending)

    def repeatable(self, name: str) -> bool:
        """May a tool run again although it may have begun? Not as far as nobody knows, and not if that was otherwise
        when a job was sent."""
        spec = self.tools.get(name)
        return spec is not None and spec.repeatable and name not in self._once

    def _serves(self, specs: Iterable[ToolSpec]) -> None:
        """The node tells what it serves."""
        if not self.pending:
            self._once.clear()
        self._once.update(name for name, spec in self.tools.items() if not spec.repeatable)
        self.tools = {spec.name: spec for spec in specs}

    def hello_again(self) -> None:
        """Introduce this session anew; jobs wait until the node has answered."""
        self._welcomed = False
        self._out.insert(0, (self._hello, None))

    def _on_welcome(self, welcome: Welcome) -> None:
        first = not self.node
        self._welcomed = True
        self._serves(welcome.tools)
        self.limits = welcome.limits
        same, self.node = welcome.node == self.node, welcome.node
        queued = {job.id for job in self._queue}
        cancelled = {pending.job.id for pending in self.pending.values() if pending.cancelled}
        for pending in list(self.pending.values()):
            if pending.job.id not in queued and not first:
                self._send_again(pending, same, welcome.resumed)
                if same and pending.settled and pending.feed is not None and pending.feed.number:
                    cancelled.add(pending.job.id)  # a stream that is broken off
        self._queue.sort(key=lambda job: job.id)  # what the node sees must count up
        for question in self._questions.values():
            self._say(question)
        if cancelled:
            self._say(Cancel(sorted(cancelled)))

    def _send_again(self, pending: Pending, same: bool, resumed: bool) -> None:
        """After a reconnect. A node that resumes the session passes over what it has in hand, and the same node knows
        keyed and kept jobs; else what may have started and may not be repeated is told as such."""
        job = pending.job
        if pending.feed is not None and pending.feed.number:
            del self.pending[job.id]
            pending.error = broken(pending, "the connection was lost")
            self.settled.append(pending)
            return
        known = same and (resumed or bool(job.key) or bool(job.mode))
        left = pending.deadline - self._clock()
        repeatable = self.repeatable(job.tool)
        if known or (repeatable and left > 0):
            job = pending.job = msgspec.structs.replace(job, timeout=None if left == math.inf else max(left, 0.001))
            self._queue.append(job)
            self._queue_bytes += len(job.args)
            return
        del self.pending[job.id]
        if repeatable:
            pending.error = Expired(f"{job.tool}: the deadline passed while no node could be reached", tool=job.tool)
        else:
            text = f"{job.tool}: the node was lost after it had been sent there, and it may not be repeated"
            pending.error = OutcomeUnknown(text, tool=job.tool, cause="node lost")
        self.settled.append(pending)

    def _on_refusal(self, error: ToolringError) -> None:
        if isinstance(error, HelloRequired):
            if self._welcomed:
                self.hello_again()
            return
        self.refusal = error

    def abandon(self, pending: Pending) -> None:
        """Forget a job whose caller has given up."""
        self.pending.pop(pending.job.id, None)


def broken(pending: Pending, why: str) -> OutcomeUnknown:
    """What a stream ended in that can't be gone on with."""
    parts = 0 if pending.feed is None else pending.feed.number
    count = "1 part" if parts == 1 else f"{parts} parts"
    text = f"{pending.job.tool}: {why} after {count} of it had come"
    return OutcomeUnknown(text, tool=pending.job.tool, job=pending.id, parts=parts, cause="connection lost")


def silence(conversation: Conversation, pending: Pending, address: str) -> ToolringError:
    """What a job ended in whose deadline is long past and whose node has not spoken: it is gone."""
    tool = pending.job.tool
    text = f"{tool}: the deadline passed, and {address} has not spoken since"
    kind = Expired if conversation.repeatable(tool) else OutcomeUnknown
    return kind(text, tool=tool, job=pending.id, cause="node lost")


def unreachable(address: str) -> Unreachable:
    """No node has answered in time."""
    text = f"no node answers at {address}; is one running there? (toolring serve --bind {address})"
    return Unreachable(text, address=address)
