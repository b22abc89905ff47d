"""ZeroMQ brokers without any feature, to see what the library and the machine allow.

    python -m benchmarks.brokers draining|nocopy|packed|proxy FRONT BACK                  the broker
    python -m benchmarks.brokers worker|worker-nocopy|worker-packed|worker-proxied BACK   one of its two workers

Plain brokers route frames without looking inside: one job is one letter for its kind and its msgpack. The packed
one decodes a typed header for each job and carries up to 32 in a message. None of them checks an argument, keeps
a deadline, or survives the loss of a worker.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import msgspec
import zmq
from msgspec import Raw

from benchmarks.work import FUNCTIONS

PACK = 32
CREDIT = 64
BURST = 64
LARGE = 64 << 10
"""Arguments of more bytes are carried as they are, not as msgpack."""

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode
Socket = zmq.Socket[bytes]


class Job(msgspec.Struct, array_like=True, gc=False):
    id: int
    tool: str
    session: str
    deadline: float
    key: bytes
    args: Raw


class Work(msgspec.Struct, array_like=True, gc=False):
    id: int
    tool: str
    args: Raw


class Done(msgspec.Struct, array_like=True, gc=False):
    id: int
    status: int
    value: Raw


decode_jobs = msgspec.msgpack.Decoder(list[Job]).decode
decode_work = msgspec.msgpack.Decoder(list[Work]).decode
decode_done = msgspec.msgpack.Decoder(list[Done]).decode


def open_socket(kind: int) -> Socket:
    socket: Socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = 0
    return socket


def routers(front: str, back: str) -> tuple[Socket, Socket]:
    pair = open_socket(zmq.ROUTER), open_socket(zmq.ROUTER)
    pair[0].bind(front)
    pair[1].bind(back)
    print("ready", flush=True)
    return pair


# ---- plain


def draining(front: str, back: str, copy: bool = True, credit: int = 1) -> None:
    """Drain both sockets without blocking; poll only when both are dry."""
    clients, workers = routers(front, back)
    again, none, more = zmq.Again, zmq.NOBLOCK, zmq.SNDMORE
    free: deque[bytes] = deque()
    both, backs = [(clients, zmq.POLLIN), (workers, zmq.POLLIN)], [(workers, zmq.POLLIN)]
    blob: Any
    while True:
        idle = True
        try:
            for _ in range(BURST):
                worker = workers.recv(none)
                client = workers.recv()
                blob = workers.recv(copy=copy)
                idle = False
                if client:
                    free.append(worker)
                    clients.send(client, more)
                    clients.send(blob, copy=copy)
                else:
                    free.extend([worker] * credit)
        except again:
            pass
        try:
            for _ in range(min(BURST, len(free))):
                client = clients.recv(none)
                blob = clients.recv(copy=copy)
                idle = False
                workers.send(free.popleft(), more)
                workers.send(client, more)
                workers.send(blob, copy=copy)
        except again:
            pass
        if idle:
            zmq.zmq_poll(both if free else backs, -1)


def proxy(front: str, back: str) -> None:
    """The library's own loop, in C: fair queuing, no decisions."""
    clients, workers = open_socket(zmq.ROUTER), open_socket(zmq.DEALER)
    clients.bind(front)
    workers.bind(back)
    print("ready", flush=True)
    zmq.proxy(clients, workers)


def pack_plain(job: str, argument: Any) -> bytes:
    if job == "big":
        return bytes(argument)  # begins with a "b", see measure.py
    return job[:1].encode() + encode({"text": argument})


def unpack_plain(blob: bytes) -> Any:
    return blob if blob[0] == ord("b") else decode(memoryview(blob)[1:])


def run_plain(blob: bytes) -> bytes:
    if blob[0] == ord("b"):
        return blob
    function = FUNCTIONS["spin" if blob[0] == ord("s") else "echo"]
    return blob[:1] + encode(function(**decode(memoryview(blob)[1:])))


def worker(back: str, copy: bool = True, ready: bool = True) -> None:
    socket = open_socket(zmq.DEALER)
    socket.connect(back)
    if ready:
        socket.send(b"", zmq.SNDMORE)
        socket.send(b"READY")
    print("ready", flush=True)
    while True:
        client = socket.recv()
        if copy:
            blob = socket.recv()
            socket.send(client, zmq.SNDMORE)
            socket.send(run_plain(blob))
        else:
            frame = socket.recv(copy=False)
            result: Any = run_plain(frame.bytes) if len(frame) < LARGE else frame
            socket.send(client, zmq.SNDMORE)
            socket.send(result, copy=False)


# ---- packed


def drained(socket: Socket) -> list[tuple[bytes, bytes]]:
    """(peer, message) of whatever has arrived, up to a burst."""
    found = []
    try:
        for _ in range(BURST):
            peer = socket.recv(zmq.NOBLOCK)
            found.append((peer, socket.recv()))
    except zmq.Again:
        pass
    return found


def packed(front: str, back: str) -> None:
    """Every job's header is decoded, numbered anew and queued; what waits for the same peer shares a message."""
    clients, workers = routers(front, back)
    both = [(clients, zmq.POLLIN), (workers, zmq.POLLIN)]
    queue: deque[Work] = deque()
    pending: dict[int, tuple[bytes, int]] = {}
    load: dict[bytes, int] = {}
    number = 0
    while True:
        idle = True
        replies: dict[bytes, list[Done]] = {}
        for name, blob in drained(workers):
            idle = False
            answers = decode_done(blob)
            load[name] = load.get(name, 0) - len(answers)
            for done in answers:
                client, done.id = pending.pop(done.id)
                replies.setdefault(client, []).append(done)
        for client, answers in replies.items():
            clients.send(client, zmq.SNDMORE)
            clients.send(encode(answers))
        for client, blob in drained(clients):
            idle = False
            for job in decode_jobs(blob):
                number += 1
                pending[number] = client, job.id
                queue.append(Work(number, job.tool, job.args))
        while queue and load:
            name = min(load, key=load.__getitem__)
            count = min(CREDIT - load[name], PACK, -(-len(queue) // len(load)))
            if count <= 0:
                break
            workers.send(name, zmq.SNDMORE)
            workers.send(encode([queue.popleft() for _ in range(count)]))
            load[name] += count
        if idle:
            zmq.zmq_poll(both, -1)


def worker_packed(back: str, flush_seconds: float = 0.001) -> None:
    socket = open_socket(zmq.DEALER)
    socket.connect(back)
    socket.send(encode([]))
    print("ready", flush=True)
    while True:
        out: list[Done] = []
        flushed = perf_counter()
        for work in decode_work(socket.recv()):
            value = FUNCTIONS[work.tool](**decode(work.args))
            out.append(Done(work.id, 0, Raw(encode(value))))
            if (now := perf_counter()) - flushed > flush_seconds:
                socket.send(encode(out))
                out, flushed = [], now
        if out:
            socket.send(encode(out))


ROLES: dict[str, Callable[..., None]] = {
    "draining": draining,
    "nocopy": partial(draining, copy=False, credit=CREDIT),
    "packed": packed,
    "proxy": proxy,
    "worker": worker,
    "worker-nocopy": partial(worker, copy=False),
    "worker-proxied": partial(worker, ready=False),
    "worker-packed": worker_packed,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
