"""toolring as a user starts it: the command line, a client, no setting changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psutil

from benchmarks.peers.base import Arguments, System
from benchmarks.processes import descendants, end, environment, line_of, pss_mib, python
from toolring import Client

_NAMES = {"echo": "text", "spin": "text", "big": "data"}
_ASK = (
    "import sys; from toolring import Client; print(Client(sys.argv[1]).call('echo', {'text': 'x' * 100}), flush=True)"
)
_BARE = "import zmq, msgspec; print('ready', flush=True); input()"


class Node:
    """A ``toolring serve`` with two workers, in a directory of its own."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="bench-")
        self.address = f"ipc://{self._directory}/n"
        script = Path(sys.executable).with_name("toolring")
        command = [str(script)] if script.exists() else [sys.executable, "-m", "toolring"]
        target = ["serve", "benchmarks.tools", "--bind", self.address, "--workers", "2", "--log-level", "error"]
        self.process = subprocess.Popen(
            [*command, *target],
            env=environment(XDG_RUNTIME_DIR=self._directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        line_of(self.process)

    def stop(self) -> None:
        end([self.process])
        shutil.rmtree(self._directory, ignore_errors=True)


class Toolring(System):
    distributions = ("toolring", "pyzmq", "msgspec")

    def start(self) -> None:
        self._node = Node()
        self._node.wait()
        self._client = Client(self._node.address)

    def stop(self) -> None:
        self._processes = len(descendants())
        self._client.close()
        self._node.stop()

    def call(self, job: str, argument: Any) -> Any:
        return self._client.call(job, {_NAMES[job]: argument})

    def many(self, job: str, arguments: Arguments, window: int) -> float:
        name = _NAMES[job]
        began = perf_counter()
        for _ in self._client.map(job, ({name: argument} for argument in arguments), window=window):
            pass
        return perf_counter() - began

    def extras(self, arguments: Callable[[int], Arguments], seconds: float) -> dict[str, float]:
        """Jobs that are kept: their number is bounded, because the node holds each result for minutes."""
        given = arguments(min(40_000, int(20_000 * seconds)))
        submit = self._client.submit
        under_way: deque[Any] = deque()
        began = perf_counter()
        for argument in given:
            if len(under_way) >= 256:
                under_way.popleft().result()
            under_way.append(submit("echo", {"text": argument}))
        while under_way:
            under_way.popleft().result()
        return {"submit: kept, idempotent jobs": len(given) / (perf_counter() - began)}

    def figures_after(self, quick: bool) -> dict[str, float]:
        """Cold start; and what processes that only import zmq and msgspec take, as many as the node had."""
        times = 2 if quick else 5
        return {
            "cold_s": median(_cold_start() for _ in range(times)),
            "bare_start_s": median(_bare_start() for _ in range(times)),
            "bare_pss_mib": _bare_memory(self._processes),
        }

    def roles(self) -> dict[str, list[int]]:
        workers = [worker["pid"] for worker in self._client.status()["workers"]]
        others = {process.pid for process in psutil.Process(self._node.process.pid).children(recursive=True)}
        return {
            "client": [os.getpid()],
            "supervisor": [self._node.process.pid],
            "workers": workers,
            "zygote": sorted(others - set(workers)),
        }


def _cold_start() -> float:
    """From two command lines, started together, to the client's first result. What it leaves is awaited."""
    began = perf_counter()
    node = Node()
    client = python("-c", _ASK, node.address)
    try:
        line_of(client)
        return perf_counter() - began
    finally:
        end([client])
        node.stop()


def _bare_start() -> float:
    began = perf_counter()
    process = python("-c", _BARE)
    try:
        line_of(process)
        return perf_counter() - began
    finally:
        end([process])


def _bare_memory(count: int) -> float:
    processes = [python("-c", _BARE) for _ in range(count)]
    try:
        for process in processes:
            line_of(process)
        return pss_mib([process.pid for process in processes])
    finally:
        end(processes)
