"""A node: everything put together, from its first process to its last answer."""

from __future__ import annotations

import fcntl
import os
import resource
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from toolring import address, logs
from toolring.config import Config
from toolring.errors import AddressError, LoadError
from toolring.lane import Lanes
from toolring.plugins.registry import load_plugins
from toolring.plugins.specs import NodeEvent
from toolring.policy.balance import BALANCERS
from toolring.policy.restart import RestartBudget
from toolring.settings import WorkerSettings
from toolring.spec import ToolSpec
from toolring.supervisor.admin import Admin
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.core import Core, Limits
from toolring.supervisor.fleet import Fleet
from toolring.supervisor.loop import Loop, loop_for
from toolring.supervisor.metrics import exporters
from toolring.supervisor.observer import Observer
from toolring.supervisor.spawner import Spawner, process_state
from toolring.supervisor.watch import Grace, Watch

BUNDLED: Final = "toolring.plugins.tools.code"
DESCRIPTORS: Final = 65_536
SPARE_LANES: Final = 4
"""Lanes for each worker: its own, and those of predecessors that haven't ended yet."""


class Node:
    """A supervisor with its workers, in this process's main thread.

    Starting order matters: the zygote is forked before anything that makes threads is imported or made.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.workers = config.node.workers or _cores()
        bind = config.node.bind or address.default_address()
        self.address = address.check(bind)
        self._locks: list[int] = []
        self._lock()
        self._id = secrets.token_hex(4)
        directory = address.private(address.runtime_directory())
        _remove_stale(directory)
        _sweep(directory)
        self._back = f"ipc://{directory}/{os.getpid()}-{self._id}.back"
        self.lanes = Lanes(self.workers * SPARE_LANES + 4)
        self.spawner = Spawner(self._worker_settings(), self.lanes.memory)
        self._signals: list[int] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def _worker_settings(self) -> WorkerSettings:
        config = self.config
        return WorkerSettings(
            targets=config.node.tools or (BUNDLED,),
            address=self._back,
            lanes=self.lanes.path,
            start_method=config.node.start_method,
            cache_strategy=config.cache.strategy,
            cache_entries=config.cache.max_entries,
            cache_bytes=config.cache.max_bytes,
            max_result=config.limits.max_body,
            plugins=config.plugins.load,
            allow=config.plugins.allow,
            block=config.plugins.block,
            log_format=config.log.format,
            log_level=config.log.level,
        )

    def _raise_descriptors(self) -> None:
        """Each client is a descriptor, and a node that runs out of them spins."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    def run(self, on_ready: Callable[[str, int, list[str]], None]) -> None:
        """Serve until a signal ends it. ``on_ready`` hears the address, the number of workers and the tools' names.

        Raises a ToolringError if it can't start; nothing is left running then.
        """
        self._catch_signals()
        self.spawner.open()
        try:
            self._serve(on_ready)
        finally:
            self.spawner.close()
            self.lanes.close()
            self._unlock()

    def _serve(self, on_ready: Callable[[str, int, list[str]], None]) -> None:
        config = self.config
        logs.configure(config.log.format, config.log.level)
        self._raise_descriptors()
        registry = load_plugins(config.plugins.load, config.plugins.allow, config.plugins.block)
        observer = Observer(registry)
        tools = self._served(self.spawner.loaded())
        core = Core(tools, Fleet(self.workers, self.lanes.all), self._limits())
        core.on_finished = observer.on_finished()
        timeouts, restarts = config.timeouts, config.restarts
        watch = Watch(
            core,
            RestartBudget(restarts.intensity, restarts.period),
            Grace(timeouts.interrupt, timeouts.terminate, timeouts.start),
            lambda pid: process_state(pid) in ("T", "t"),
        )
        watch.on_exit = observer.worker_exited
        about = {"pid": os.getpid(), "start_method": self.spawner.start_method}
        admin = Admin(core, watch, self._id, about)
        loop = loop_for(core, watch, self.spawner, admin, observer, self._id, self._wake_read)
        sinks = exporters(
            config.metrics.sinks,
            registry.metrics_sinks,
            lambda name, why: observer.note("sink_failed", {"sink": name, "reason": why}),
        )
        admin.exporters = sinks
        try:
            self.address = loop.bind(self.address, self._back)
            about["address"] = self.address
            event = NodeEvent(self.address, self.workers, tuple(sorted(tools)))
            self._until_ready(loop, core)
            if not self._signals:
                observer.node_started(event)
                on_ready(self.address, self.workers, sorted(tools))
            self._until_signal(loop, admin, sinks)
            observer.node_stopping(event)
            self._drain(loop, core)
        finally:
            loop.close()
            for sink in sinks:
                sink.close()

    def _served(self, specs: list[Any]) -> dict[str, ServedTool]:
        made: dict[str, Any] = {}
        tools = {}
        for spec in (msgspec.convert(data, ToolSpec) for data in specs):
            name = spec.balancer or ("ring" if spec.routed else "least_outstanding")
            if name not in BALANCERS:
                known = ", ".join(sorted(BALANCERS))
                raise LoadError(f"tool {spec.name!r}: no balancer {name!r}; there is {known}", tool=spec.name)
            if name not in made:
                factory = BALANCERS[name]
                made[name] = None if factory is None else factory(self.workers)
            tools[spec.name] = ServedTool(spec, made[name])
        return tools

    def _limits(self) -> Limits:
        limits = self.config.limits
        return Limits(
            default_timeout=self.config.timeouts.default,
            backlog=limits.backlog,
            backlog_bytes=limits.backlog_bytes,
            per_client=limits.per_client,
            clients=limits.clients,
            deaths=limits.deaths,
            keep_seconds=limits.keep_seconds,
            keep_bytes=limits.keep_bytes,
            max_body=limits.max_body,
        )

    # ---- the life of a node

    def _until_ready(self, loop: Loop, core: Core) -> None:
        """All workers are ready, or the node is unhealthy and says so, or somebody wants it to end."""
        while len(core.fleet.ready) < self.workers and core.healthy and not self._signals:
            loop.turn()
            self._drain_wake()

    def _until_signal(self, loop: Loop, admin: Admin, sinks: list[Any]) -> None:
        interval = self.config.metrics.interval
        due = time.monotonic() + interval
        while not self._signals:
            if loop.turn():
                self._drain_wake()
            if sinks and (now := time.monotonic()) >= due:
                due = now + interval
                figures = admin.status(now)
                for sink in sinks:
                    sink.offer(figures)

    def _drain(self, loop: Loop, core: Core) -> None:
        """Finish what was accepted, refuse what comes; a second signal or the time limit ends it."""
        core.draining = True
        core.notes.append(("node_draining", {"jobs": core.in_hand()}))
        end = time.monotonic() + self.config.timeouts.drain
        while core.in_hand() and len(self._signals) < 2 and time.monotonic() < end:
            if loop.turn():
                self._drain_wake()
        core.shut_down(time.monotonic())
        self._end_workers(loop, core)
        core.notes.append(("node_stopped", {}))
        loop.perform(time.monotonic())

    def _end_workers(self, loop: Loop, core: Core) -> None:
        """Ask the idle ones to stop, interrupt the others so that their cleanup runs; what stays is killed."""
        loop.watch.stopping = True
        timeouts = self.config.timeouts
        now = time.monotonic()
        for worker in list(core.fleet.workers.values()):
            core.end(worker, worker.lane.at()[0], now, "the node stops")
        loop.perform(now)
        while core.fleet.workers and time.monotonic() < now + timeouts.interrupt + timeouts.terminate:
            if loop.turn():
                self._drain_wake()

    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self._signals.append(number))

    def _drain_wake(self) -> None:
        try:
            os.read(self._wake_read, 512)
        except BlockingIOError:
            pass

    # ---- one node an address

    def _lock(self) -> None:
        """A second bind to an ipc path would succeed and steal the traffic, so a lock file stands beside it."""
        if not self.address.startswith("ipc://"):
            return
        path = Path(self.address.removeprefix("ipc://"))
        if path.parent == address.runtime_directory():
            address.private(path.parent)
        try:
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AddressError(f"can't make {path}.lock: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise AddressError(
                f"another node serves {self.address}; stop it, or choose another address with --bind"
            ) from None
        self._locks.append(lock)

    def _unlock(self) -> None:
        """Remove the sockets' files, and only then let go of the address."""
        paths = [self._back.removeprefix("ipc://")]
        if self._locks:
            path = self.address.removeprefix("ipc://")
            paths += [path, f"{path}.lock"]
        for path in paths:
            Path(path).unlink(missing_ok=True)
        for lock in self._locks:
            os.close(lock)


def _remove_stale(directory: Path) -> None:
    """Sockets of supervisors that were killed; a live one's begins with its pid."""
    for path in directory.glob("*.back"):
        try:
            os.kill(int(path.name.partition("-")[0]), 0)
        except (ValueError, ProcessLookupError):
            path.unlink(missing_ok=True)
        except PermissionError:
            pass


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sweep(directory: Path) -> None:
    """Remove the workers' sockets of nodes that were killed before they could."""
    for socket in directory.glob("*.back"):
        pid = socket.name.partition("-")[0]
        if pid.isdigit() and not _exists(int(pid)):
            socket.unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
