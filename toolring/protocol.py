"""The wire: verbs, frozen headers, the frame codec and its limits. docs/protocol.md is its specification.

A message is one msgpack frame, the head, and at most one more, a body that is too large to be copied twice. A
head is an array that begins with its verb. Unknown trailing elements of an array are ignored, so that fields may
be added; anything else that doesn't fit is refused.

Arguments and values stay ``Raw``: only the worker and the client look inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from toolring.errors import ProtocolError, TooDeep
from toolring.spec import ToolSpec

VERSION: Final = 1

MAX_FRAMES: Final = 2
MAX_HEAD: Final = 8 << 20
"""Bytes of a head; many small jobs may share one."""
MAX_JOBS: Final = 4096
"""Jobs in one submit message."""
MAX_CHUNK: Final = 65_536
"""Calls in one chunk."""
MAX_NAME: Final = 256
"""Characters of a tool name or an idempotency key; bytes of a route."""
MAX_TRACE: Final = 600
"""Characters of a trace context."""
INLINE: Final = 64 << 10
"""Bodies of more bytes than this travel in a frame of their own, without a copy."""
PACK: Final = 32
"""Jobs or answers that toolring itself puts in one message."""

NIL: Final = Raw(b"\xc0")

# Answer.status
OK: Final = 0
ERROR: Final = 1
SKIPPED: Final = 2
"""From worker to supervisor only: taken back or past its deadline, so never run."""

# Answer.flags
CACHED: Final = 1
REPLAYED: Final = 2
STALE: Final = 4
"""Cached and past its time; it is being renewed."""
REFRESH: Final = 8
"""From worker to supervisor only: run the tool again, for the cache's sake."""
LAYER_SHIFT: Final = 4
"""The bits from here on name the layer of a cached answer: 0 the supervisor, 1 a worker's memory, then the stores."""
TOLD: Final = 1 << 14
"""From worker to supervisor only: the tool wrote something, which is in the spool."""
STREAMED: Final = 1 << 12
"""It ends a stream, and tells in ``parts`` how many came before."""

# Job.mode
CALL: Final = 0
"""The job is cancelled when its client vanishes."""
KEEP: Final = 1
"""The job goes on without its client, and its result is kept for a while."""


# Job.priority: which of one caller's jobs go first
LOW: Final = -1
NORMAL: Final = 0
HIGH: Final = 1


class Follow(msgspec.Struct, array_like=True, gc=False):
    """What a caller wants to hear before a job's answer."""

    stream: int = 0
    """Bytes of parts that it takes before it says ``more``; 0: no parts, a generator's values are collected."""
    progress: bool = False
    """It wants to hear what the tool says of its progress."""
    idle: float | None = None
    """Seconds without a part or a word of progress after which the run is ended."""


class Job(msgspec.Struct, array_like=True, gc=False):
    """One call, from client to supervisor. ``id`` is the client's own, unique in its session."""

    id: int
    tool: str
    args: Raw
    timeout: float | None = None
    """Seconds from now to the final answer, relative: the clocks of two machines are never compared."""
    route: bytes = b""
    """A hint for placement, never identity."""
    key: str = ""
    """The caller's idempotency key."""
    mode: int = CALL
    partition: str = ""
    """Who shares its cached result, for tools whose scope is ``partition``."""
    priority: int = NORMAL
    queue_timeout: float | None = None
    """Seconds from now until its tool must have been started."""
    chunk: int = 0
    """The arguments are an array of so many calls, run one after the other as one job; 0: one call."""
    follow: Follow | None = None
    trace: str = ""
    """The W3C trace context that it belongs to: traceparent, and after a space tracestate, if there is one."""


class Answer(msgspec.Struct, array_like=True, gc=False):
    """The one final answer of a job. ``value`` is the result, or the error's map where status is ERROR."""

    id: int
    status: int
    value: Raw
    run_us: int = 0
    flags: int = 0
    until_us: int = 0
    """From worker to supervisor: until then (microseconds of CLOCK_MONOTONIC) the result may be given to equal calls.
    Nothing to a client."""
    parts: int = 0
    failed: dict[str, int] | None = None
    """From worker to supervisor only: of many calls as one job, how many failed, by their errors' codes."""


class Part(msgspec.Struct, array_like=True, gc=False):
    """What a job tells before its answer: a value that its generator yielded, or how far it is."""

    id: int
    number: int
    """Counts a job's parts from 1, or is one of the two below."""
    value: Raw


PROGRESS: Final = 0
"""No part, but how far it is: [done, total or nil, message]."""
ALIVE: Final = -1
"""From worker to supervisor only: it has yielded something, which is collected."""
PART_BYTES: Final = 64
"""What a part costs of what its caller takes, beside the bytes of its value."""


class Hello(msgspec.Struct, array_like=True, tag="hello", frozen=True):
    version: int
    session: bytes
    """16 random bytes: the same session on a new connection gets its answers there."""
    caller: str = ""


class Submit(msgspec.Struct, array_like=True, tag="submit", gc=False):
    jobs: list[Job]


class Cancel(msgspec.Struct, array_like=True, tag="cancel"):
    ids: list[int]


class More(msgspec.Struct, array_like=True, tag="more"):
    """A caller has taken parts in: so many bytes of them may be sent in all, from the first one on. To a worker the
    supervisor names the job by its sequence number."""

    id: int
    granted: int


class Bye(msgspec.Struct, array_like=True, tag="bye"):
    """The session ends: its calls are cancelled at once, rather than when the client turns out to be gone."""


class Ping(msgspec.Struct, array_like=True, tag="ping"):
    token: int = 0


class Ask(msgspec.Struct, array_like=True, tag="ask"):
    """An administrative question: what = status, tools, job, ..."""

    request: int
    what: str
    params: dict[str, Any] = {}


class Welcome(msgspec.Struct, array_like=True, tag="welcome"):
    version: int
    node: str
    """Names this life of the supervisor: a new one has forgotten all that the old one had accepted."""
    tools: list[ToolSpec]
    limits: dict[str, Any]
    resumed: bool = False
    """The session was known: what was in hand still is."""


class Tools(msgspec.Struct, array_like=True, tag="tools"):
    """Other code is served from now on: what the welcome said of tools is outdated."""

    tools: list[ToolSpec]


class Answers(msgspec.Struct, array_like=True, tag="answers", gc=False):
    answers: list[Answer]


class Parts(msgspec.Struct, array_like=True, tag="parts", gc=False):
    """From worker to supervisor, and on to the client."""

    parts: list[Part]


class Pong(msgspec.Struct, array_like=True, tag="pong"):
    token: int = 0


class Told(msgspec.Struct, array_like=True, tag="told"):
    request: int
    value: Any


class Refused(msgspec.Struct, array_like=True, tag="refused"):
    """A whole message was refused; nothing in it was accepted."""

    error: dict[str, Any]


class Probe(msgspec.Struct, array_like=True, tag="probe"):
    """Asks the transport whether the client is still connected; to be ignored."""


class Work(msgspec.Struct, array_like=True, gc=False):
    """One attempt at a job, from supervisor to worker on the same machine; ``deadline`` is CLOCK_MONOTONIC."""

    tool: str
    args: Raw
    deadline: float
    session: str
    id: int
    attempt: int
    partition: str | None = ""
    """Who shares its cached result; None: nobody, and it is not cached."""
    renew: bool = False
    """Run the tool whatever the cache holds, and keep the new result."""
    chunk: int = 0
    """The arguments are an array of so many calls."""
    stream: int = 0
    """As in ``Follow``; ``progress`` too, also if it is the supervisor that wants to hear."""
    progress: bool = False
    gathered: bool = False
    """The calls are of different callers: each has a limit of its own, and all together none."""
    trace: str = ""


class Batch(msgspec.Struct, array_like=True, tag="batch", gc=False):
    """Work for one worker. Sequence numbers count up by one and are answered in order."""

    first: int
    work: list[Work]


class Stop(msgspec.Struct, array_like=True, tag="stop"):
    pass


class Collect(msgspec.Struct, array_like=True, tag="collect"):
    """To a worker: collect garbage between two jobs, and give back what is free."""


class Report(msgspec.Struct, array_like=True, tag="report"):
    """To a worker: look at your memory between two jobs, and tell your figures."""


class Trace(msgspec.Struct, array_like=True, tag="trace"):
    """To a worker: find out which allocations grow, for so many seconds; its figures tell so many lines of them. For 0
    seconds: the trace of that number ends now."""

    number: int
    """Of this request, for whoever waits for what comes of it."""
    seconds: float
    most: int
    native: bool = False
    """Those of C code too."""


class Halt(msgspec.Struct, array_like=True, tag="halt"):
    """To a worker that runs many at once: cancel these, by their sequence numbers."""

    ids: list[int]


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    pid: int


class Leaving(msgspec.Struct, array_like=True, tag="leaving"):
    """This worker runs nothing more and ends by itself."""


class Done(msgspec.Struct, array_like=True, tag="done", gc=False):
    answers: list[Answer]
    count: int = 0
    """Of a worker that runs many at once, whose answers come in any order: how many it has sent in all."""


class Loads(msgspec.Struct, array_like=True, tag="loads"):
    """A worker's own figures, now and then: caches, memory."""

    figures: dict[str, Any]


class Counted(msgspec.Struct, array_like=True, tag="counted"):
    """What tools' own code counted and timed in a worker since the last time."""

    series: list[tuple[str, str, list[tuple[str, str]], float, dict[int, int]]]
    """Kind (counter, gauge, timer), name and labels of each; its amount, of a timer the microseconds in all; a timer's
    counts by bucket."""
    left_out: int = 0
    """Observations for which there were too many names and labels."""


FromClient = Hello | Submit | Cancel | More | Ping | Ask | Bye
FromNode = Welcome | Tools | Answers | Parts | Pong | Told | Refused | Probe
FromSupervisor = Batch | Halt | More | Collect | Report | Trace | Stop
FromWorker = Ready | Done | Parts | Loads | Counted | Leaving

encode = msgspec.msgpack.Encoder().encode
"""Bytes of any of the structs above, or of arguments and results."""

_from_client: Callable[[bytes], FromClient] = msgspec.msgpack.Decoder(FromClient).decode
decode_from_node: Callable[[bytes], FromNode] = msgspec.msgpack.Decoder(FromNode).decode
decode_from_supervisor: Callable[[bytes], FromSupervisor] = msgspec.msgpack.Decoder(FromSupervisor).decode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
_raw = msgspec.msgpack.Decoder(Raw).decode
decode_value = msgspec.msgpack.Decoder().decode
decode_answer_list = msgspec.msgpack.Decoder(list[Answer]).decode


def decode_from_client(head: bytes) -> FromClient:
    """Decode what anybody may have sent.

    Raises ProtocolError (malformed, unknown verb) or TooDeep; never anything else.
    """
    try:
        return _from_client(head)
    except RecursionError:
        raise TooDeep("the message nests too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"malformed message: {error}") from None


def check_value(body: Any) -> None:
    """Raise ProtocolError or TooDeep unless ``body`` is exactly one msgpack value."""
    try:
        _raw(body)
    except RecursionError:
        raise TooDeep("the value nests too deeply") from None
    except msgspec.DecodeError as error:
        raise ProtocolError(f"malformed value: {error}") from None


def refuse_jobs(jobs: list[Job]) -> ProtocolError | None:
    """Why this list of jobs is refused as a whole, if it is: what msgpack's types alone don't say."""
    if len(jobs) > MAX_JOBS:
        return ProtocolError(f"{len(jobs)} jobs in one message; the limit is {MAX_JOBS}")
    for job in jobs:
        if len(job.tool) > MAX_NAME:
            return ProtocolError(f"job {job.id}: a tool's name has at most {MAX_NAME} characters")
        if len(job.key) > MAX_NAME or len(job.route) > MAX_NAME or len(job.partition) > MAX_NAME:
            return ProtocolError(f"job {job.id}: key, route and partition are at most {MAX_NAME} long")
        for what, seconds in (("timeout", job.timeout), ("queue_timeout", job.queue_timeout)):
            if seconds is not None and not seconds > 0:
                return ProtocolError(f"job {job.id}: {what} {seconds} is not a positive number of seconds")
        if len(job.trace) > MAX_TRACE:
            return ProtocolError(f"job {job.id}: a trace context has at most {MAX_TRACE} characters")
        if not LOW <= job.priority <= HIGH:
            return ProtocolError(f"job {job.id}: priority {job.priority} is none of {LOW} to {HIGH}")
        if not 0 <= job.chunk <= MAX_CHUNK:
            return ProtocolError(f"job {job.id}: a chunk of {job.chunk} calls; the limit is {MAX_CHUNK}")
        if job.follow is not None and (wrong := _wrong_follow(job, job.follow)):
            return ProtocolError(f"job {job.id}: {wrong}")
    return None


def _wrong_follow(job: Job, follow: Follow) -> str:
    if follow.stream < 0:
        return f"{follow.stream} bytes of parts"
    if follow.stream and (job.key or job.mode or job.chunk):
        return "a stream is one call, without a key, and not kept"
    if follow.idle is not None and not follow.idle > 0:
        return f"idle {follow.idle} is not a positive number of seconds"
    return ""
