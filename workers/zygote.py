"""The zygote: imports the tools once, then makes workers from itself and reaps them.

A process per generation of tool code, single-threaded so that forking it is safe. It talks to the supervisor over
one pipe, in msgpack; it never opens a zmq context, since its children must make their own.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

import msgspec
from multiprocess import get_context
from multiprocess.connection import Connection, wait
from setproctitle import setproctitle

from toolring.declare import Tool
from toolring.errors import ToolringError
from toolring.guard import die_with
from toolring.lane import INTERRUPT
from toolring.plugins.registry import Registry, load_plugins
from toolring.settings import WorkerSettings
from toolring.stamps import Stamps
from toolring.workers.catalog import load, source_files
from toolring.workers.main import Kit, Place, run
from toolring.workers.resources import Resources

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


def zygote(
    settings: WorkerSettings, control: Connection, other_end: Connection | None, memory: mmap.mmap, parent: int
) -> None:
    """Load the tools, report them, then start workers as told until the supervisor hangs up."""
    os.setpgid(0, 0)
    die_with(parent)
    setproctitle(f"toolring zygote of {settings.node}")
    os.dup2(2, 1)  # what a module prints must not mix with the supervisor's own output
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when the supervisor hangs up
    if other_end is not None:
        other_end.close()
    try:
        tools, registry = load_all(settings)
        specs = Kit(settings, tools, registry, Stamps(memory)).specs()
        method = _start_method(settings)
    except ToolringError as error:
        with suppress(OSError):  # the supervisor may have found the same fault, and gone
            control.send_bytes(_encode(["failed", error.to_wire(), source_files(error)]))
        return
    try:
        control.send_bytes(_encode(["loaded", specs, method, source_files()]))
    except OSError:
        return
    if any(tool.spec.concurrent for tool in tools.values()):
        import_module("toolring.workers.async_loop")  # once, rather than in each worker
    gc.collect()
    gc.freeze()  # the collector must not write to pages that all workers share
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whatever the tools' modules made of it
    signal.signal(INTERRUPT, signal.SIG_IGN)  # a worker is born immune, until it has a handler
    Nursery(settings, tools, registry, memory, method, control).run(parent)


def load_all(settings: WorkerSettings) -> tuple[dict[str, Tool[..., Any]], Registry]:
    """Plugins and tools, checked against each other. Raises LoadError or PluginError."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    registry = load_plugins(settings.plugins, settings.allow, settings.block)
    more = [("a plugin", tool) for tool in registry.tools()]
    for name, policy in settings.services.items():
        if policy.openapi:
            described = import_module("toolring.workers.services.operations").operations  # for those who need it
            more += [(f"services.{name}.openapi", tool) for tool in described(name, policy)]
    tools = _configured(load(settings.targets, more), settings.overrides)
    Resources(tools).configure(settings.resources)
    return tools, registry


def _configured(
    tools: Mapping[str, Tool[..., Any]], overrides: Mapping[str, Mapping[str, Any]]
) -> dict[str, Tool[..., Any]]:
    """The tools under the policy that the configuration decides. Raises LoadError."""
    return {name: tool.under(overrides[name]) if name in overrides else tool for name, tool in tools.items()}


def _start_method(settings: WorkerSettings) -> str:
    """Forking a process with threads may copy a held lock; then each worker starts from a fresh interpreter."""
    if settings.start_method != "auto":
        return settings.start_method
    return "fork" if _threads() == 1 else "spawn"


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # sees the threads of C libraries too
    except OSError:
        return threading.active_count()


class Nursery:
    """Starts and reaps workers for the supervisor."""

    def __init__(
        self,
        settings: WorkerSettings,
        tools: Mapping[str, Tool[..., Any]],
        registry: Registry,
        memory: mmap.mmap,
        method: str,
        control: Connection,
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._registry = registry
        self._memory = memory
        self._fork = method == "fork"
        self._context: Any = get_context(method)
        self._control = control
        self._workers: dict[bytes, Any] = {}
        self._ends: dict[bytes, int] = {}
        """Descriptors that become readable when a worker ends."""

    def run(self, parent: int) -> None:
        """Until the supervisor hangs up or dies; then nobody is left of this process group and the workers' own."""

        def orphaned(_number: int, _frame: FrameType | None) -> None:
            if os.getppid() != parent:
                self._end()

        signal.signal(signal.SIGTERM, orphaned)
        die_with(parent, signal.SIGTERM)  # rather than be killed: there is a family to take along
        try:
            self._serve()
        finally:
            self._end()

    def _end(self) -> None:
        """May run twice at once, the second time in the signal's handler."""
        for worker in list(self._workers.values()):
            _kill_group(worker.pid)
            worker.join()
        _kill_group(os.getpid())

    def _serve(self) -> None:
        control = self._control
        while True:
            wait([control, *self._ends.values()])
            self._reap()
            try:
                while control.poll():
                    self._start(*_decode(control.recv_bytes()))
            except (EOFError, OSError):
                return

    def _start(self, lane: int, identity: bytes, many: bool, group: str, processes: int) -> None:
        place = Place(lane, identity, os.getpid(), many, group, processes)
        if self._fork:
            target, args = self._forked, (place,)
        else:
            target, args = spawned, (self._settings, place)  # type: ignore[assignment]
        worker = self._context.Process(target=target, args=args, name=f"toolring-worker-{identity.decode()}")
        try:
            worker.start()
        except OSError as error:
            self._control.send_bytes(_encode(["exited", identity, 71, str(error)]))
            return
        with suppress(OSError):  # the child does it too; whoever is first
            os.setpgid(worker.pid, worker.pid)
        self._workers[identity] = worker
        self._ends[identity] = _end_of(worker)
        self._control.send_bytes(_encode(["started", identity, worker.pid]))

    def _forked(self, place: Place) -> None:
        self._control.close()
        run(self._settings, self._tools, self._registry, self._memory, place)

    def _reap(self) -> None:
        for identity, worker in list(self._workers.items()):
            if not _ended(worker.pid):
                continue
            _kill_group(worker.pid)  # what its tools started; until the worker is reaped, the number is its own
            status = worker.exitcode
            del self._workers[identity]
            end = self._ends.pop(identity)
            if end != worker.sentinel:
                os.close(end)
            worker.close()
            self._control.send_bytes(_encode(["exited", identity, status, ""]))


def _end_of(worker: Any) -> int:
    """A pidfd where there are any: a sentinel stays silent while a forked child of the worker holds it open."""
    opened: int = os.pidfd_open(worker.pid) if hasattr(os, "pidfd_open") else worker.sentinel
    return opened


def _ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True  # starting another worker has reaped it


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # it had not made a group of its own yet, or all of it is gone


def spawned(settings: WorkerSettings, place: Place) -> None:
    """A worker in a fresh interpreter: everything is imported again, the lanes are found through the parent."""
    os.setpgid(0, 0)
    die_with(place.parent)  # before anything of the tools' is imported, which may take its time
    tools, registry = load_all(settings)
    with open(settings.lanes, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    run(settings, tools, registry, memory, place)
