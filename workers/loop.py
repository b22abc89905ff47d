"""The worker's loop: receive a batch, run it, hand the answers over. One tool at a time, in the main thread."""

from __future__ import annotations

import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, Final, Protocol

import zmq
from msgspec import Raw

from toolring import protocol
from toolring.lane import AT, DONE, Lane
from toolring.protocol import (
    INLINE,
    NIL,
    Answer,
    Batch,
    Collect,
    Counted,
    Done,
    Leaving,
    Loads,
    More,
    Part,
    Parts,
    Ready,
    Report,
    Trace,
)
from toolring.workers.journal import LARGEST, Journal
from toolring.workers.output import Output
from toolring.workers.runner import Runner

FLUSH_SECONDS: Final = 0.001
"""Finished answers wait at most this long for company while further jobs of a batch run."""
REPORT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.05
CONNECT_SECONDS: Final = 5

_encode = protocol.encode
_send = zmq.backend.Socket.send  # without the sugar: two thirds of the price
_get: Any = zmq.backend.Socket.get
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
Socket = zmq.Socket[bytes]
_HEAD: Final = b"\x92\xa4done\xdd"
"""A ``Done`` up to the number of its answers, which are encoded one by one for the journal's sake."""


@contextmanager
def connected(address: str, identity: bytes, at_once: bool = False) -> Iterator[Socket]:
    """The socket to the supervisor. Sending never blocks: the supervisor bounds what is under way.

    ``at_once``: the connection stands when this returns, for a process that is about to lose the right to make it.
    """
    context = zmq.Context()
    socket: Socket = context.socket(zmq.DEALER)
    socket.linger = 1000
    socket.sndhwm = socket.rcvhwm = 0
    socket.routing_id = identity
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) if at_once else None
    socket.connect(address)
    if monitor is not None:
        if not monitor.poll(CONNECT_SECONDS * 1000):
            raise OSError(f"no connection to the supervisor within {CONNECT_SECONDS} s")
        socket.disable_monitor()
        monitor.close()
    try:
        yield socket
    finally:
        socket.close()
        context.term()


def descriptor(socket: Socket) -> int:
    """Readable when something may have arrived; edge-triggered, so look after each send and receipt."""
    return int(socket.getsockopt(zmq.FD))


def has_arrived(socket: Socket) -> bool:
    return bool(_get(socket, _EVENTS) & _POLLIN)


def say(socket: Socket, message: Any, body: Any = None) -> None:
    """Send a message, with a large value of it in a frame of its own."""
    _send(socket, _encode(message), zmq.SNDMORE)
    if body is None:
        _send(socket, b"")
    else:
        socket.send(memoryview(body), copy=False)


def receive(socket: Socket) -> tuple[protocol.FromSupervisor, Any]:
    """Wait for a message, with its body."""
    head = socket.recv()
    try:
        message = protocol.decode_from_supervisor(head)
    except RecursionError:
        message = _decode_deep(head)
    return message, socket.recv(copy=False)


class Reports(Protocol):
    """What a worker tells of itself, and is asked to do between its jobs."""

    @property
    def again(self) -> float:
        """Seconds after which there is something to be seen although it does nothing; inf: there isn't."""
        ...

    def figures(self) -> dict[str, Any]: ...

    def rest(self) -> None:
        """It has had nothing to do for a while."""
        ...

    def counted(self) -> Counted | None:
        """What tools' own code counted since the last time; None: nothing."""
        ...

    def tend(self, message: Collect | Trace | Report) -> None: ...

    def leave(self) -> bool:
        """The worker is about to: is there anything in its figures that must be told before?"""
        ...


def report(socket: Socket, reports: Reports) -> None:
    """Tell the figures."""
    say(socket, Loads(reports.figures()))
    report_counted(socket, reports)


def report_counted(socket: Socket, reports: Reports) -> None:
    """Tell what must not be lost when this worker ends."""
    counted = reports.counted()
    if counted is not None:
        say(socket, counted)


def report_last(socket: Socket, reports: Reports) -> None:
    """Tell what would be lost with this worker, which leaves."""
    (report if reports.leave() else report_counted)(socket, reports)


class Outbox:
    """Answers on their way out: each into the journal at once, then together to the supervisor."""

    __slots__ = ("_journal", "_parts", "_socket", "_words", "since")

    def __init__(self, socket: Socket, lane: Lane) -> None:
        self._socket = socket
        self._words = lane.words
        self._journal = Journal(lane)
        self._parts: list[bytes] = []
        self.since = 0.0

    def add(self, answer: Answer) -> None:
        """Make an answer safe before the next job may start."""
        value = answer.value
        if len(value) > INLINE:
            self._send_large(answer)
        else:
            encoded = _encode(answer)
            if len(encoded) <= LARGEST and self._journal.append(answer.id, encoded):
                self._parts.append(encoded)
            else:
                self.flush()
                self._parts.append(encoded)
                self.flush()
                self._journal.wait_for(answer.id)
                self._journal.reclaim()
        self._words[AT] = answer.id << 2 | DONE

    def flush(self) -> None:
        parts = self._parts
        if parts:
            _send(self._socket, b"".join((_HEAD, len(parts).to_bytes(4, "big"), *parts)), zmq.SNDMORE)
            _send(self._socket, b"")
            parts.clear()
        self._journal.reclaim()

    def _send_large(self, answer: Answer) -> None:
        """Its bytes travel in a frame of their own, without a copy; the next job waits for the receipt."""
        self.flush()
        body, answer.value = answer.value, NIL
        say(self._socket, Done([answer]), body)
        self._journal.wait_for(answer.id)
        self._journal.reclaim()


class Messages:
    """What arrives from the supervisor, in order; and the channel of the job at hand, which hears only of itself.

    A tool's threads may post, too, as long as its job is open. Until then, and after it, the socket is the main
    thread's alone.
    """

    __slots__ = ("_descriptor", "_lock", "_open", "_socket", "held")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._descriptor = descriptor(socket)
        self._lock = threading.Lock()
        self._open = 0
        self.held: deque[tuple[protocol.FromSupervisor, Any]] = deque()

    def next(self) -> tuple[protocol.FromSupervisor, Any]:
        """Wait for a message, with its body."""
        return self.held.popleft() if self.held else receive(self._socket)

    def open(self, seq: int) -> None:
        """The job at hand may post."""
        self._open = seq

    def close(self) -> None:
        """It may not any more; a thread that is about to has done so before this returns."""
        with self._lock:
            self._open = 0

    def post(self, part: Part) -> None:
        body = None
        if len(part.value) > INLINE:
            body, part.value = part.value, NIL
        with self._lock:
            if part.id == self._open:
                say(self._socket, Parts([part]), body)

    def wait(self, seq: int) -> int:
        """Until the job's caller has taken in more of its parts; what else comes meanwhile has its turn later."""
        while True:
            with self._lock:
                message, body = receive(self._socket) if has_arrived(self._socket) else (None, None)
            if isinstance(message, More):
                if message.id == seq:
                    return message.granted
            elif message is not None:
                self.held.append((message, body))
            else:  # a thread that sends may take the descriptor's news away, so look again by and by
                select.select([self._descriptor], [], [], LOOK_SECONDS)


def serve(
    socket: Socket,
    messages: Messages,
    lane: Lane,
    runner: Runner,
    pid: int,
    reports: Reports,
    output: Output | None = None,
) -> None:
    """Run batches until told to stop, or until this process must not run another tool.

    Figures are sent now and then, and once there was nothing to do for a while: an idle worker's don't change, unless
    there is something to be seen again.
    """
    outbox = Outbox(socket, lane)
    told = {} if output is None else output.open
    run, add, flush = runner.run, outbox.add, outbox.flush
    monotonic = time.monotonic
    say(socket, Ready(pid))
    reported = 0.0
    stale = True
    while True:
        while not messages.held and (wait := min(REPORT_SECONDS if stale else inf, reports.again)) < inf:
            if socket.poll(int(wait * 1000)):
                break
            reports.rest()
            reported, stale = monotonic(), False
            report(socket, reports)
        message, body = messages.next()
        if isinstance(message, More):
            continue  # of a job that is over
        if isinstance(message, Collect | Trace | Report):
            reports.tend(message)
            report(socket, reports)
            continue
        if not isinstance(message, Batch):
            report_last(socket, reports)
            return
        seq, works = message.first, message.work
        if len(body):
            works[0].args = Raw(body.buffer)
        flushed = monotonic()
        for work in works:
            answer = run(seq, work)
            if told and output is not None:
                output.ended(answer)
            add(answer)
            seq += 1
            if (now := monotonic()) - flushed > FLUSH_SECONDS:
                flush()
                flushed = now
        flush()
        if runner.retired:
            report_last(socket, reports)
            say(socket, Leaving())
            return
        if flushed - reported > REPORT_SECONDS:
            reported = flushed
            report(socket, reports)
        stale = True
        del message, body, works, work, answer  # the last may be large, and the next late


def _decode_deep(head: bytes) -> protocol.FromSupervisor:
    """The supervisor stood higher on its stack when it let these arguments pass; their own job is to hear of it."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(2 * limit)
    try:
        return protocol.decode_from_supervisor(head)
    finally:
        sys.setrecursionlimit(limit)
