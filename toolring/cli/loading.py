"""A process of its own that loads the tools as a node would, and says what came of it: their modules may do anything.

``python -m toolring.cli.loading`` reads WorkerSettings from standard input and writes a Loading, both in msgpack.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec
import psutil

from toolring import stamps
from toolring.errors import ToolringError
from toolring.process import ProcessLimits
from toolring.settings import WorkerSettings
from toolring.spec import ToolSpec
from toolring.workers.loop import connected


class Loading(NamedTuple):
    specs: tuple[ToolSpec, ...] = ()
    threads: int = 1
    """Of the process, once all is loaded."""
    error: str = ""
    key: str = ""
    """Of the configuration, if that is what is wrong."""
    limits: Mapping[str, str] = {}
    """Groups in which no worker can live under the limits of its processes, each with what happens."""

    @classmethod
    def failed(cls, error: ToolringError) -> Loading:
        return cls(error=str(error), key=str(error.facts.get("key", "")))


def load(settings: WorkerSettings, patience: float, lanes: int = 0) -> Loading:
    """In a child, which ends with all that it started. ``patience``: seconds that it may take; ``lanes``: bytes that
    each worker maps."""
    try:
        starting = subprocess.Popen(
            [sys.executable, "-m", __name__, str(lanes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return Loading(error=f"there can be no process to load them: {error.strerror}")
    with starting as child:
        try:
            told, _ = child.communicate(msgspec.msgpack.encode(settings), patience)
        except subprocess.TimeoutExpired:
            return Loading(error=f"they were not loaded after {patience:g} s")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if not told:
        status = child.returncode
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return Loading(error=f"the process {how} while it imported {', '.join(settings.targets)}")
    return msgspec.msgpack.decode(told, type=Loading)


def _loaded(settings: WorkerSettings, lanes: int) -> Loading:
    from toolring.workers.main import Kit
    from toolring.workers.zygote import load_all

    try:
        tools, registry = load_all(settings)
        specs = Kit(settings, tools, registry, stamps.Stamps(bytearray(stamps.BYTES))).specs()
    except ToolringError as error:
        return Loading.failed(error)
    tried = {name: _tried(limits, lanes) for name, limits in settings.processes.items()}
    threads = psutil.Process().num_threads()
    return Loading(tuple(specs), threads, limits={name: problem for name, problem in tried.items() if problem})


def _tried(limits: ProcessLimits, lanes: int) -> str:
    """What becomes of a process with these limits that has loaded the tools and opens a socket, as a worker does."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            kept = mmap.mmap(-1, lanes) if lanes else None
            limits.apply()
            with connected("tcp://127.0.0.1:1", b"tried"):
                del kept
        except BaseException as error:
            os.write(theirs, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        os._exit(0)
    os.close(theirs)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(ours, "rb") as told:
        why = told.read().decode(errors="replace")
    ended = os.waitstatus_to_exitcode(status)
    return why or ("" if ended == 0 else f"it is killed by {signal.Signals(-ended).name}" if ended < 0 else "it ends")


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a module prints must not mix with the answer
    loading = _loaded(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=WorkerSettings), int(sys.argv[1]))
    with out:
        out.write(msgspec.msgpack.encode(loading))


if __name__ == "__main__":
    main()
