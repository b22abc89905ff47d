"""Starts the zygote, asks it for workers, hears of their ends, and sends signals. The only place that does.

The first zygote is forked, before any zmq context or thread exists; should it die, the next one is spawned.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple

import msgspec
from multiprocess import get_context
from multiprocess.connection import Connection

from toolring.errors import LoadError, PluginError, ToolringError, from_wire
from toolring.settings import WorkerSettings

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Started(NamedTuple):
    identity: bytes
    pid: int


class Exited(NamedTuple):
    """``status`` is negative for a signal."""

    identity: bytes
    status: int
    why: str


class Loaded(NamedTuple):
    """A zygote that was started later has loaded the tools: their specs as plain data, and the files of their code."""

    specs: list[Any]
    files: list[str]


class Failed(NamedTuple):
    """A zygote that was started later could not load the tools."""

    error: ToolringError
    files: list[str]


class Spawner:
    """One zygote and the workers that it made. Use from the main thread only."""

    def __init__(self, settings: WorkerSettings, memory: mmap.mmap) -> None:
        self._settings = settings
        self._memory = memory
        self._zygote: Any = None
        self._control: Connection | None = None
        self.start_method = ""
        self.files: list[str] = []
        """Those that the tools' code is from, as far as they may change."""

    def open(self, first: bool) -> None:
        """Start a zygote; it begins to load the tools at once."""
        alone = first and threading.active_count() == 1
        context = get_context("fork" if alone else "spawn")
        ours, theirs = context.Pipe()
        if alone:
            target, args = _forked_zygote, (self._settings, theirs, ours, self._memory, os.getpid())
        else:
            target, args = _spawned_zygote, (self._settings, theirs, os.getpid())  # type: ignore[assignment]
        zygote = context.Process(target=target, args=args, name="toolring-zygote", daemon=False)
        try:
            zygote.start()
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._zygote, self._control = zygote, ours

    @property
    def pid(self) -> int | None:
        return None if self._zygote is None else self._zygote.pid

    @property
    def exitcode(self) -> int:
        """How it ended, in multiprocessing's form; waits a moment for it to be known."""
        self._zygote.join(0.1)
        return int(self._zygote.exitcode or 0)

    @property
    def fd(self) -> int:
        """Readable when there is news; -1 while there is no zygote."""
        control = self._control
        return -1 if control is None or control.closed else int(control.fileno())

    def loaded(self, give_up: Callable[[], bool]) -> list[Any]:
        """Wait until the tools are loaded; their specs as plain data, or none at all if it was given up.

        Raises LoadError or PluginError.
        """
        assert self._control is not None
        try:
            while not self._control.poll(0.1):
                if give_up():
                    return []
            kind, *news = _decode(self._control.recv_bytes())
        except (EOFError, OSError):
            self._zygote.join(5)
            status = self._zygote.exitcode
            how = f"was killed by signal {-status}" if status and status < 0 else f"exited with status {status}"
            targets = ", ".join(self._settings.targets)
            raise LoadError(f"the process {how} while it imported {targets}") from None
        if kind == "failed":
            error = from_wire(news[0])
            raise error if isinstance(error, LoadError | PluginError) else LoadError(str(error), **error.facts)
        specs, self.start_method, self.files = news
        return list(specs)

    def start(self, lane: int, identity: bytes, many: bool, group: str, processes: int) -> bool:
        """Ask for a worker of a group, one of so many, for many jobs at once or one after the other; False if the
        zygote is gone."""
        assert self._control is not None
        try:
            self._control.send_bytes(_encode([lane, identity, many, group, processes]))
        except OSError:
            return False
        return True

    def news(self) -> list[Loaded | Started | Exited | Failed] | None:
        """What happened since; None once the zygote itself is gone, and all its workers with it."""
        assert self._control is not None
        found: list[Loaded | Started | Exited | Failed] = []
        try:
            while self._control.poll():
                kind, *news = _decode(self._control.recv_bytes())
                if kind == "started":
                    found.append(Started(*news))
                elif kind == "exited":
                    found.append(Exited(*news))
                elif kind == "loaded":
                    specs, self.start_method, self.files = news
                    found.append(Loaded(specs, self.files))
                elif kind == "failed":
                    found.append(Failed(from_wire(news[0]), news[1]))
        except (EOFError, OSError):
            return found or None
        return found

    def hang_up(self) -> None:
        """Let the zygote end, and its workers with it."""
        if self._control is not None:
            self._control.close()

    def gone(self, kill: bool = False) -> bool:
        """Has it ended since it was hung up on? ``kill``: it is made to."""
        if self._zygote is None or self._zygote.exitcode is not None:
            return True
        if kill:
            signal_to(self._zygote.pid, signal.SIGKILL, group=True)
        return False

    def close(self) -> None:
        """Hang up; kill what doesn't end by itself. The workers die with the zygote."""
        self.hang_up()
        if self._zygote is not None:
            self._zygote.join(1.0)
            if self._zygote.exitcode is None:
                signal_to(self._zygote.pid, signal.SIGKILL, group=True)
                self._zygote.join(5.0)


def signal_to(pid: int, number: int, group: bool) -> None:
    """Send a signal to a worker, or to its process group, which its tools' own children belong to."""
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it is gone already; the zygote tells


def end_now(pids: list[int]) -> None:
    """Kill workers that lost their zygote, with all that their tools started, and see them gone: what still runs
    might begin a job that is about to be given to another."""
    for pid in pids:
        signal_to(pid, signal.SIGKILL, group=True)
    end = time.monotonic() + 1.0
    while any(process_state(pid) not in ("", "Z", "X") for pid in pids) and time.monotonic() < end:
        time.sleep(0.001)


def _zygote() -> Any:
    """The workers' side, by name: imported in the child, so that the supervisor holds none of it."""
    return import_module("toolring.workers.zygote").zygote


def _forked_zygote(*args: Any) -> None:
    _zygote()(*args)


def _spawned_zygote(settings: WorkerSettings, control: Connection, parent: int) -> None:
    with open(settings.lanes, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    _zygote()(settings, control, None, memory, parent)


def resident(pid: int) -> int:
    """Bytes of a process's resident memory; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return _resident(pid)


def _resident(pid: int) -> int:
    """Where there is no /proc."""
    psutil = import_module("psutil")
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def process_state(pid: int) -> str:
    """The kernel's letter for what a process does (R, S, D, T, Z); empty where there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split(None, 1)[0].decode()
    except (OSError, IndexError):
        return ""


def stopped(pid: int) -> bool:
    """By a signal, or by a debugger."""
    return process_state(pid) in ("T", "t")
