"""A node: everything put together, from its first process to its last answer."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import msgspec

from toolring import logs
from toolring.blobs import Blobs
from toolring.heap import one_heap
from toolring.lane import shared_calls
from toolring.plugins.registry import load_plugins
from toolring.plugins.specs import NodeEvent
from toolring.policy.restart import RestartBudget
from toolring.probe import Probe, of_descendants
from toolring.spec import ToolSpec
from toolring.stamps import Stamps
from toolring.supervisor.admin import Admin
from toolring.supervisor.core import Core, Limits
from toolring.supervisor.endings import Endings, Grace
from toolring.supervisor.figures import Figures
from toolring.supervisor.fleet import Fleet
from toolring.supervisor.ground import Ground
from toolring.supervisor.history import History
from toolring.supervisor.lineup import Lineup
from toolring.supervisor.log_writer import LogWriter
from toolring.supervisor.looks import Looks
from toolring.supervisor.loop import Loop
from toolring.supervisor.memory import Memory
from toolring.supervisor.observer import Observer
from toolring.supervisor.outlook import Outlook
from toolring.supervisor.renewals import Renewals
from toolring.supervisor.restarts import Restarts
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services
from toolring.supervisor.sources import Sources
from toolring.supervisor.spawner import resident, signal_to, stopped
from toolring.supervisor.starting import hears_signals
from toolring.supervisor.watch import Watch

DESCRIPTORS: Final = 65_536
GOODBYE_SECONDS: Final = 0.3
"""For so long a node that has drained goes on to refuse what comes, so that callers know to go elsewhere."""


OnReady = Callable[[str, int, list[str], list[str], str], None]
"""Hears the address, the number of workers, the names of tools, those of groups that fail, and the dashboard's URL."""


class Node:
    """A supervisor with its workers, on its ground, in this process's main thread."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.config = ground.config
        self._signals: list[int] = []
        self._hung_up = False
        self._on_terminal = os.isatty(0)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def _raise_descriptors(self) -> None:
        """Each client is a descriptor, and a node that runs out of them spins."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    def run(self, on_ready: OnReady) -> None:
        """Serve until a signal ends it.

        ``on_ready`` hears the address, how many workers are ready, and the names of the tools and of failing groups.
        Raises a ToolringError if it can't start; nothing is left running then.
        """
        self._catch_signals()
        try:
            self._serve(on_ready)
        finally:
            self.ground.close()

    def _serve(self, on_ready: OnReady) -> None:
        config = self.config
        log = LogWriter(2, lambda count: logs.bound().warning("log_lines_dropped", count=count))
        logs.configure(config.log.format, config.log.level, log.write)
        try:
            with ExitStack() as start:
                start.enter_context(hears_signals(self._wake_write, partial(self._give_up, log)))
                self._work(on_ready, start.close)
        finally:
            log.close()

    def _give_up(self, log: LogWriter) -> None:
        """From another thread: a signal came, and the start hangs in the main one, so nobody else can end it."""
        logs.bound().warning("start_given_up", reason="a signal came, and what a plugin does did not end")
        self.ground.close()
        log.close()
        os._exit(0)

    def _work(self, on_ready: OnReady, started: Callable[[], None]) -> None:
        config, ground = self.config, self.ground
        self._raise_descriptors()
        one_heap()  # before there are the threads of the sockets; the zygote was forked before
        registry = load_plugins(config.plugins.load, config.plugins.allow, config.plugins.block)
        observer = Observer(registry)
        observer.hear_libraries()
        zygote = ground.zygotes[1]
        specs = [msgspec.convert(data, ToolSpec) for data in zygote.loaded(lambda: bool(self._signals))]
        if not specs:
            return
        lineup = Lineup(config, ground.workers, ground.most_workers, registry.balancers, observer.note)
        calls = shared_calls(ground.lanes.memory)
        fleet = Fleet(lineup.plans(specs), ground.lanes.all, calls.clear)
        tools = lineup.served(specs, fleet)
        core = Core(tools, fleet, self._limits(), Stamps(ground.lanes.memory))
        core.on_finished = observer.on_finished()
        if config.jobs.keep or config.jobs.failures:
            core.history = History(config.jobs.keep, config.jobs.failures)
        if config.metrics.figures:
            core.figures = Figures(time.monotonic())
        timeouts, restarts = config.timeouts, config.restarts
        grace = Grace(**{name: getattr(timeouts, name) for name in Grace._fields})
        endings = Endings(core, grace)
        watch = Watch(
            core,
            endings,
            Restarts(core, endings, lambda: RestartBudget(restarts.intensity, restarts.period)),
            stopped,
            Renewals(core, endings, resident),
            lineup,
        )
        watch.on_exit = observer.worker_exited
        about: dict[str, Any] = {"pid": os.getpid(), "start_method": zygote.start_method}
        services = Services(config.services, calls)
        probe = Probe(children=False)
        memory = Memory(config.memory, core, watch, resident, of_descendants, probe.snapshot, observer.memory_alert)
        looks = Looks(fleet, ground.looks, partial(signal_to, group=False), stopped)
        results = self._results()
        admin = Admin(core, watch, ground.node, about, ground.loaded, services, memory, looks, results)
        sources = Sources()
        sources.follow(zygote.files)
        loop = Loop(
            core, watch, ground.zygotes, sources, admin, observer, ground.node, self._wake_read, config.node.watch
        )
        admin.drain = self._begin_to_drain
        outlook = Outlook(config, registry, observer, loop, admin, ground.node)
        try:
            address = loop.bind(ground.address, ground.back)
            about["address"] = address
            outlook.open(ground.node, about, self._wake)
            names = sorted(tool.name for tool in tools.values() if not tool.spec.internal)
            event = NodeEvent(address, sum(not slot.parked for slot in fleet.slots), tuple(names))
            self._until_ready(loop, core)
            if not self._signals:
                observer.node_started(event)
                failing = [group.name for group in fleet.groups if group.failing]
                on_ready(address, len(core.fleet.ready), names, failing, about.get("dashboard", ""))
            started()
            self._until_signal(loop, outlook)
            observer.node_stopping(event)
            self._drain(loop, core)
        finally:
            outlook.stop_listening()
            loop.close()
            outlook.close()
            results.close()

    def _results(self) -> Results:
        """What is kept for its key may be asked for as long as that, so its result is there as long, too."""
        config, home = self.config, self.ground.results
        blobs = None if home is None else Blobs(home.directory, config.results.max_bytes)
        return Results(blobs, self.ground.node, max(config.results.keep, config.limits.keep_seconds))

    def _limits(self) -> Limits:
        config = self.config
        return Limits(
            default_timeout=config.timeouts.default,
            hot_bytes=config.cache.hot_bytes,
            output_bytes=config.output.keep_bytes,
            callers=config.callers,
            **msgspec.structs.asdict(config.limits),
        )

    # ---- the life of a node

    def _until_ready(self, loop: Loop, core: Core) -> None:
        """All workers are ready, or can't be in a group that says so, or somebody wants it to end."""
        while not (core.broken or core.fleet.whole) and not self._signals:
            loop.turn()
            self._hang_up(loop)

    def _until_signal(self, loop: Loop, outlook: Outlook) -> None:
        while not self._signals:
            loop.turn()
            self._hang_up(loop)
            outlook.look(time.monotonic())

    def _drain(self, loop: Loop, core: Core) -> None:
        """Finish what was accepted, refuse what comes; a second signal or the time limit ends it."""
        core.draining = True
        core.notes.append(("node_draining", {"jobs": core.in_hand()}))
        end = time.monotonic() + self.config.timeouts.drain
        while core.in_hand() and len(self._signals) < 2 and time.monotonic() < end:
            loop.turn()
        end = min(end, time.monotonic() + GOODBYE_SECONDS)
        while core.sessions and len(self._signals) < 2 and time.monotonic() < end:
            loop.turn()  # what was on its way is refused, rather than lost
        loop.watch.endings.shut_down(time.monotonic())
        self._end_workers(loop, core)
        loop.observer.look(time.monotonic() + 1.0)  # this second ends with it
        core.notes.append(("node_stopped", {}))
        loop.perform(time.monotonic())

    def _end_workers(self, loop: Loop, core: Core) -> None:
        """Ask the idle ones to stop, interrupt the others so that their cleanup runs; what stays is killed."""
        loop.watch.stopping = True
        timeouts = self.config.timeouts
        now = time.monotonic()
        for worker in list(core.fleet.workers.values()):
            loop.watch.endings.end(worker, worker.lane.at()[0], now, "the node stops")
        loop.perform(now)
        while core.fleet.workers and time.monotonic() < now + timeouts.interrupt + timeouts.terminate:
            loop.turn()

    def _begin_to_drain(self) -> None:
        """As SIGTERM does. Not twice: a second one stops it at once."""
        if not self._signals:
            self._signals.append(signal.SIGTERM)

    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        signal.signal(signal.SIGHUP, lambda _number, _frame: setattr(self, "_hung_up", True))

    def _hang_up(self, loop: Loop) -> None:
        """Somebody wants the tools reloaded; or the terminal that the node was started on is gone, so it ends, too."""
        if not self._hung_up:
            return
        self._hung_up = False
        if self._on_terminal and not os.isatty(0):
            self._signals.append(signal.SIGHUP)
        else:
            loop.watch.reloads.ask("SIGHUP", time.monotonic())

    def _wake(self) -> None:
        """Make the loop turn. From any thread."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass  # it will
