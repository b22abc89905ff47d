"""The bare brokers' clients: as little as can be between a caller and the socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from time import perf_counter
from typing import Any, ClassVar

import zmq
from msgspec import Raw

from benchmarks.brokers import (
    PACK,
    Job,
    decode,
    decode_done,
    encode,
    open_socket,
    pack_plain,
    unpack_plain,
)
from benchmarks.peers.base import Arguments, System
from benchmarks.processes import end, line_of, python


class Brokered(System):
    """A broker and two workers, each an interpreter of its own."""

    distributions = ("pyzmq", "msgspec")
    broker: ClassVar[str]
    worker: ClassVar[str]

    def start(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="bench-")
        front, back = f"ipc://{self._directory}/f", f"ipc://{self._directory}/b"
        self._broker = self._run(self.broker, front, back)
        line_of(self._broker)
        self._workers = [self._run(self.worker, back) for _ in range(2)]
        self.socket = open_socket(zmq.DEALER)
        self.socket.connect(front)
        for worker in self._workers:
            line_of(worker)

    def _run(self, *arguments: str) -> subprocess.Popen[str]:
        return python("-m", "benchmarks.brokers", *arguments)

    def stop(self) -> None:
        self.socket.close()
        end([self._broker, *self._workers])
        shutil.rmtree(self._directory, ignore_errors=True)

    def roles(self) -> dict[str, list[int]]:
        workers = [process.pid for process in self._workers]
        return {"client": [os.getpid()], "broker": [self._broker.pid], "workers": workers}


class Draining(Brokered):
    broker = "draining"
    worker = "worker"
    copy: ClassVar[bool] = True

    def call(self, job: str, argument: Any) -> Any:
        socket = self.socket
        if self.copy or job != "big":
            socket.send(pack_plain(job, argument))
            return unpack_plain(socket.recv())
        socket.send(argument, copy=False)
        return socket.recv(copy=False).buffer

    def many(self, job: str, arguments: Arguments, window: int) -> float:
        send, recv, again = self.socket.send, self.socket.recv, zmq.Again
        total = len(arguments)
        began = perf_counter()
        sent = got = 0
        while got < total:
            while sent < total and sent - got < window:
                send(pack_plain(job, arguments[sent]))
                sent += 1
            unpack_plain(recv())
            got += 1
            try:
                while got < sent:
                    unpack_plain(recv(zmq.NOBLOCK))
                    got += 1
            except again:
                pass
        return perf_counter() - began


class NoCopy(Draining):
    broker = "nocopy"
    worker = "worker-nocopy"
    copy = False


class Proxy(Draining):
    broker = "proxy"
    worker = "worker-proxied"


class Packed(Brokered):
    broker = "packed"
    worker = "worker-packed"
    takes_megabytes = False

    _number = 0

    def _job(self, job: str, argument: Any) -> Job:
        self._number += 1
        return Job(self._number, job, "session-0123456789", 1234567890.5, b"", Raw(encode({"text": argument})))

    def call(self, job: str, argument: Any) -> Any:
        self.socket.send(encode([self._job(job, argument)]))
        return decode(decode_done(self.socket.recv())[0].value)

    def many(self, job: str, arguments: Arguments, window: int) -> float:
        send, recv, again, make = self.socket.send, self.socket.recv, zmq.Again, self._job
        waiting: dict[int, None] = {}
        total = len(arguments)
        began = perf_counter()
        sent = got = 0
        while got < total:
            while sent < total and sent - got < window:
                count = min(PACK, total - sent, window - (sent - got))
                jobs = [make(job, argument) for argument in arguments[sent : sent + count]]
                for one in jobs:
                    waiting[one.id] = None
                send(encode(jobs))
                sent += count
            blob = recv()
            try:
                while True:
                    for done in decode_done(blob):
                        del waiting[done.id]
                        decode(done.value)
                        got += 1
                    if got >= sent:
                        break
                    blob = recv(zmq.NOBLOCK)
            except again:
                pass
        return perf_counter() - began
