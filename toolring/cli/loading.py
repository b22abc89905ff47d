"""A process of its own that loads the tools as a node would, and says what came of it: their modules may do anything.

``python -m toolring.cli.loading`` reads WorkerSettings from standard input and writes a Loading, both in msgpack.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import NamedTuple

import msgspec
import psutil

from toolring import stamps
from toolring.errors import ConfigError, ToolringError
from toolring.settings import WorkerSettings
from toolring.spec import ToolSpec


class Loading(NamedTuple):
    specs: tuple[ToolSpec, ...] = ()
    threads: int = 1
    """Of the process, once all is loaded."""
    error: str = ""
    key: str = ""
    """Of the configuration, if that is what is wrong."""

    @classmethod
    def failed(cls, error: ToolringError) -> Loading:
        return cls(error=str(error), key=str(error.facts.get("key", "")) if isinstance(error, ConfigError) else "")


def load(settings: WorkerSettings, patience: float) -> Loading:
    """In a child, which ends with all that it started. ``patience``: seconds that it may take."""
    try:
        starting = subprocess.Popen(
            [sys.executable, "-m", __name__],
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


def _loaded(settings: WorkerSettings) -> Loading:
    from toolring.workers.main import Kit
    from toolring.workers.zygote import load_all

    try:
        tools, registry = load_all(settings)
        specs = Kit(settings, tools, registry, stamps.Stamps(bytearray(stamps.BYTES))).specs()
    except ToolringError as error:
        return Loading.failed(error)
    return Loading(tuple(specs), psutil.Process().num_threads())


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a module prints must not mix with the answer
    loading = _loaded(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=WorkerSettings))
    with out:
        out.write(msgspec.msgpack.encode(loading))


if __name__ == "__main__":
    main()
