"""The bare way of a body: client, broker and worker with nothing around it, so that ways to carry bytes compare.

A message is a head, ``[way, size]``, and a body. ``arguments``: the body goes to the worker, which decodes it and
answers its size; ``results``: the worker answers with a body of so many bytes. The ways: ``copy`` (frames are copied
in each process), ``frames`` (they are not), ``shared`` (the body is in memory that all three have mapped, again and
again the same; only the head travels).
"""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
from typing import Any, Final

import msgspec
import zmq

from benchmarks.processes import end, line_of, python

WAYS: Final = ("copy", "frames", "shared")
MOST: Final = 80 << 20

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


class Chain:
    """A broker and a worker, each an interpreter of its own, and their client."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="bench-")
        self._shared = os.path.join("/dev/shm", os.path.basename(self._directory))
        with open(self._shared, "wb") as file:
            file.truncate(MOST)
        self._memory = mapped(self._shared)
        front, back = f"ipc://{self._directory}/f", f"ipc://{self._directory}/b"
        self._processes = [python("-m", "benchmarks.body_chain", "broker", front, back)]
        line_of(self._processes[0])
        self._socket = dealer()
        self._socket.connect(front)
        self._processes.append(python("-m", "benchmarks.body_chain", "worker", back, self._shared))
        line_of(self._processes[1])

    def close(self) -> None:
        self._socket.close(0)
        end(self._processes)
        shutil.rmtree(self._directory, ignore_errors=True)
        os.unlink(self._shared)

    def arguments(self, way: str, data: bytes) -> int:
        body = encode({"data": data})
        send(self._socket, [way, "arguments", len(body)], body, way, self._memory)
        return int(decode(receive(self._socket, self._memory)[1]))

    def results(self, way: str, size: int) -> bytes:
        send(self._socket, [way, "results", size], b"", "copy", self._memory)
        return bytes(decode(receive(self._socket, self._memory)[1]))


def mapped(path: str) -> mmap.mmap:
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), MOST)


def send(socket: Any, head: list[Any], body: bytes, way: str, memory: mmap.mmap) -> None:
    if way == "shared":
        memory[: len(body)] = body
        body = b""
    socket.send(encode([*head[:2], head[2], way]), zmq.SNDMORE)
    socket.send(body, copy=way != "frames")


def receive(socket: Any, memory: mmap.mmap) -> tuple[list[Any], Any]:
    """The head, and the body wherever it is."""
    head = decode(socket.recv())
    if head[3] == "shared":
        socket.recv()
        return head, memoryview(memory)[: head[2]]
    if head[3] == "frames":
        return head, socket.recv(copy=False).buffer
    return head, socket.recv()


def dealer() -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    return socket


def broker(front_at: str, back_at: str) -> None:
    """Passes on what comes, as it comes."""
    front, back = dealer(), dealer()
    front.bind(front_at)
    back.bind(back_at)
    print("ready", flush=True)
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(back, zmq.POLLIN)
    while True:
        for source, _ in poller.poll():
            to = back if source is front else front
            head = source.recv()
            copy = decode(head)[3] != "frames"
            to.send(head, zmq.SNDMORE)
            to.send(source.recv(copy=copy), copy=copy)


def worker(at: str, path: str) -> None:
    socket = dealer()
    socket.connect(at)
    memory = mapped(path)
    made: dict[int, bytes] = {}
    print("ready", flush=True)
    while True:
        (way, what, size, _), body = receive(socket, memory)
        if what == "arguments":
            answer = encode(len(decode(body)["data"]))
            send(socket, ["copy", what, len(answer)], answer, "copy", memory)
            continue
        if size not in made:
            made[size] = os.urandom(size)
        answer = encode(made[size])
        send(socket, [way, what, len(answer)], answer, way, memory)


if __name__ == "__main__":
    {"broker": broker, "worker": worker}[sys.argv[1]](*sys.argv[2:])
