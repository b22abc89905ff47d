"""The worker's loop: receive a batch, run it, hand the answers over. One tool at a time, in the main thread."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import zmq
from msgspec import Raw

from toolring import protocol
from toolring.lane import AT, DONE, Lane
from toolring.protocol import INLINE, NIL, Answer, Batch, Done, Leaving, Loads, Ready
from toolring.workers.journal import LARGEST, Journal
from toolring.workers.runner import Runner

FLUSH_SECONDS: Final = 0.001
"""Finished answers wait at most this long for company while further jobs of a batch run."""
REPORT_SECONDS: Final = 1.0

_encode = protocol.encode
_send = zmq.backend.Socket.send  # without the sugar: two thirds of the price
_HEAD: Final = b"\x92\xa4done\xdd"
"""A ``Done`` up to the number of its answers, which are encoded one by one for the journal's sake."""


@contextmanager
def connected(address: str, identity: bytes) -> Iterator[zmq.Socket[bytes]]:
    """The socket to the supervisor. Sending never blocks: the supervisor bounds what is under way."""
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.linger = 1000
    socket.sndhwm = socket.rcvhwm = 0
    socket.routing_id = identity
    socket.connect(address)
    try:
        yield socket
    finally:
        socket.close()
        context.term()


class Outbox:
    """Answers on their way out: each into the journal at once, then together to the supervisor."""

    __slots__ = ("_journal", "_parts", "_socket", "_words", "since")

    def __init__(self, socket: zmq.Socket[bytes], lane: Lane) -> None:
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
        _send(self._socket, _encode(Done([answer])), zmq.SNDMORE)
        self._socket.send(memoryview(body), copy=False)
        self._journal.wait_for(answer.id)
        self._journal.reclaim()


def serve(
    socket: zmq.Socket[bytes], lane: Lane, runner: Runner, pid: int, figures: Callable[[], dict[str, Any]] | None
) -> None:
    """Run batches until told to stop, or until this process must not run another tool.

    ``figures``, if there are any, are sent now and then after work: an idle worker's don't change.
    """
    outbox = Outbox(socket, lane)
    run, add, flush = runner.run, outbox.add, outbox.flush
    receive, monotonic = socket.recv, time.monotonic
    decode = protocol.decode_from_supervisor
    _send(socket, _encode(Ready(pid)), zmq.SNDMORE)
    _send(socket, b"")
    reported = 0.0
    stale = False
    while True:
        if figures is not None and stale and not socket.poll(int(REPORT_SECONDS * 1000)):
            reported, stale = monotonic(), False
            _report(socket, figures())
        head = receive()
        try:
            message = decode(head)
        except RecursionError:
            message = _decode_deep(head)
        body = receive(copy=False)
        if not isinstance(message, Batch):
            return
        seq, works = message.first, message.work
        if len(body):
            works[0].args = Raw(body.buffer)
        flushed = monotonic()
        for work in works:
            add(run(seq, work))
            seq += 1
            if (now := monotonic()) - flushed > FLUSH_SECONDS:
                flush()
                flushed = now
        flush()
        if runner.retired:
            _send(socket, _encode(Leaving()), zmq.SNDMORE)
            _send(socket, b"")
            return
        if figures is not None:
            stale = flushed - reported <= REPORT_SECONDS
            if not stale:
                reported = flushed
                _report(socket, figures())


def _report(socket: zmq.Socket[bytes], figures: dict[str, Any]) -> None:
    _send(socket, _encode(Loads(figures)), zmq.SNDMORE)
    _send(socket, b"")


def _decode_deep(head: bytes) -> protocol.FromSupervisor:
    """The supervisor stood higher on its stack when it let these arguments pass; their own job is to hear of it."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(2 * limit)
    try:
        return protocol.decode_from_supervisor(head)
    finally:
        sys.setrecursionlimit(limit)
