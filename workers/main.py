"""The life of a worker process, from its first line to its last."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from math import inf
from types import ModuleType
from typing import Any, Final, NamedTuple

from setproctitle import setproctitle

from toolring import logs
from toolring.blobs import Blobs
from toolring.calls import Calls
from toolring.context import at_hand
from toolring.declare import Tool
from toolring.errors import LoadError
from toolring.guard import die_with
from toolring.heap import keep_freed
from toolring.lane import AT, INTERRUPT, Lane, register_for_fence, shared_calls
from toolring.metrics import measured
from toolring.plugins.registry import Registry
from toolring.plugins.specs import StoreSettings
from toolring.process import ProcessLimits
from toolring.protocol import Collect, Counted, Report, Trace
from toolring.settings import WorkerSettings
from toolring.spec import ToolSpec
from toolring.stamps import Stamps
from toolring.workers.cache.base import Cache
from toolring.workers.cache.guarded import Guarded
from toolring.workers.cache.results import ResultCache
from toolring.workers.care import Care
from toolring.workers.catalog import Later
from toolring.workers.interrupt import Armed, install
from toolring.workers.invalidation import Invalidation, operator_tool
from toolring.workers.looks import Looks
from toolring.workers.loop import Messages, connected, serve
from toolring.workers.output import Output
from toolring.workers.pools.entry import Held
from toolring.workers.resources import Resources
from toolring.workers.runnable import Runnable
from toolring.workers.runner import Runner
from toolring.workers.services.configured import Services
from toolring.workers.storing import ResultStore, is_there

LOOK_AGAIN_SECONDS: Final = 5.0
"""So often a worker that does nothing tells what its services' health checks found."""


class Kit:
    """The tools of one worker with all that they need, and the layers that their results go through."""

    def __init__(
        self,
        settings: WorkerSettings,
        tools: Mapping[str, Tool[..., Any]],
        registry: Registry,
        stamps: Stamps,
        calls: Calls | None = None,
    ) -> None:
        """One memory for each strategy that is named, one store for each layer; stores open at their first use, as
        connections to services do. ``calls`` is what workers share of these.

        Raises LoadError for a strategy that no plugin offers, or a service that isn't configured; ConfigError for a
        store or a balancer of that kind, or for what a service lacks.
        """
        self._cache = settings.cache
        self._memory = settings.memory
        self._watch = settings.watch
        self._registry = registry
        self._stamps = stamps
        self.memories: dict[str, Cache] = {}
        self.stores: list[Guarded] = []
        self.runnables: dict[str, Runnable] = {}
        if any(tool.spec.cache or tool.spec.invalidates for tool in tools.values()):
            self.stores = [self._store(number, name) for number, name in enumerate(settings.cache.layers)]
        self._results_in = settings.results
        self._blobs = Blobs(settings.results.directory, settings.results.max_bytes)
        self.resources = Resources(tools)
        self.services = Services(settings.services, registry.balancers, calls)
        invalidate = Invalidation(stamps, self.stores)
        for name, declared in tools.items():
            tool = self.services.versioned(declared)
            cache = self._results(tool) if tool.spec.cache else None
            given, store = self.services.given(tool), self._result_store(tool.spec)
            self.runnables[name] = Runnable(tool, cache, invalidate.by(tool), given, store)
        own = operator_tool(invalidate, self.runnables)
        self.runnables[own.spec.name] = Runnable(own, None)

    def specs(self) -> list[ToolSpec]:
        return [one.tool.spec for one in self.runnables.values()]

    def begin(self, processes: int) -> None:
        """In the worker itself, of which there are so many."""
        self.care = Care(self._memory, processes, self.memories.values)
        self._later = Later() if self._watch else list

    @property
    def again(self) -> float:
        return min(self.care.again, LOOK_AGAIN_SECONDS if self.services.lively else inf)

    def tend(self, message: Collect | Trace | Report) -> None:
        """Do what the supervisor asks for; the figures that follow are of afterwards."""
        if isinstance(message, Trace):
            self.care.trace(message.number, message.seconds, message.most, message.native)
        elif isinstance(message, Collect):
            self.care.collect()

    def leave(self) -> bool:
        return self.care.leave()

    def rest(self) -> None:
        self.care.rest()

    def figures(self) -> dict[str, Any]:
        """What ``toolring status`` shows of a worker beside its jobs."""
        return {
            "memory": self.care.figures(),
            "cache": {name: memory.stats() for name, memory in self.memories.items()},
            "stores": {store.name: store.stats() for store in self.stores},
            "services": self.services.figures(),
            "resources": self.resources.figures(),
            "files": self._later(),
        }

    def counted(self) -> Counted | None:
        return measured.drain()

    def _results(self, tool: Tool[..., Any]) -> ResultCache:
        strategy = tool.spec.cache_strategy or self._cache.strategy
        if strategy not in self.memories:
            factory = self._registry.cache_strategies.get(strategy)
            if factory is None:
                known = ", ".join(sorted(self._registry.cache_strategies))
                name = tool.spec.name
                raise LoadError(f"tool {name!r}: no cache strategy {strategy!r}; there is {known}", tool=name)
            self.memories[strategy] = Cache(factory(self._cache.entries), self._cache.entries, self._cache.bytes)
        memory, there = self.memories[strategy], partial(is_there, self._blobs, self._results_in.life)
        return ResultCache(memory, tool.spec, self._cache, self._stamps, self.stores, _tell_broken, is_there=there)

    def _result_store(self, spec: ToolSpec) -> ResultStore | None:
        """What keeps a tool's large results, if anything does."""
        over = self._results_in.over if spec.store_over is None else spec.store_over
        if not over or not self._results_in.directory:
            return None
        return ResultStore(spec.name, over, self._results_in, self._blobs, _tell_results)

    def _store(self, number: int, name: str) -> Guarded:
        factory = self._registry.cache_stores.get(name)
        if factory is None:
            known = ", ".join(sorted(self._registry.cache_stores))
            raise LoadError(f"cache.layers: no store {name!r}; there is {known}")
        check = getattr(factory, "check", None)
        if check is not None:
            check()
        cache = self._cache
        settings = StoreSettings(cache.directory, cache.url, cache.store_bytes, cache.timeout)
        debts = self._stamps.debts(number)
        return Guarded(
            name,
            partial(factory, settings),
            cache.timeout,
            debts=debts,
            on_change=_tell_store,
            shared=getattr(factory, "shared", None),
        )


class Place(NamedTuple):
    """Where a worker works."""

    lane: int
    identity: bytes
    parent: int
    many: bool
    """It runs async tools, many at once, in an event loop."""
    group: str
    processes: int
    """Workers of the node, which share its memory."""


class Title:
    """What ``ps`` and ``top`` show of a worker."""

    def __init__(self, node: str, place: Place) -> None:
        slot = place.identity.decode().partition(".")[0]
        self._mine = f"toolring worker {slot} ({place.group}) of {node}"
        setproctitle(self._mine)

    def show(self, tool: str) -> None:
        """It runs this, or has run it last."""
        setproctitle(f"{self._mine}: {tool}")


def _tell_broken(tool: str, reason: str) -> None:
    logs.bound(tool=tool).error("cache_strategy_failed", reason=reason, effect="this worker caches it no more")


def _tell_results(tool: str, reason: str) -> None:
    if reason:
        logs.bound(tool=tool).warning("results_not_stored", reason=reason, effect="they are sent, if they may be")
    else:
        logs.bound(tool=tool).info("results_stored_again")


def _tell_leak(resource: str, tools: list[str], held: Held) -> None:
    facts = {"held_seconds": round(held.seconds, 3), "tools": tools, "where": held.where}
    logs.bound(resource=resource).warning("resource_leak", **facts)


def _tell_store(name: str, reason: str) -> None:
    logs.bound(store=name).warning("cache_store", reason=reason)


def _seen(lane: Lane, directory: str, async_loop: ModuleType | None) -> Looks | None:
    """From now on this process can be asked what it does. What calls a tool, or waits for a job, is toolring's own."""
    if not directory:
        return None
    own = [Runner._run, Runner._plain_chunk, serve]
    if async_loop is not None:
        own += [async_loop.AsyncRunner._guarded, async_loop.serve]
    looks = Looks(lane, directory, frozenset(one.__code__ for one in own), _tool_at_hand)
    looks.install()
    return looks


def _output(lane: Lane, most: int, many: bool) -> Output | None:
    """From now on what tools write is part of their jobs' records."""
    if not most:
        return None
    words = lane.words
    output = Output(lane, most, _number_of_run if many else lambda _job: words[AT] >> 2)
    output.install()
    return output


def _number_of_run(run: Any) -> int:
    """Where each job is a task, the job at hand is what is known of that."""
    return int(run.seq)


def _tool_at_hand() -> str:
    job = at_hand.job
    return "" if job is None else job.tool


def run(
    settings: WorkerSettings,
    tools: Mapping[str, Tool[..., Any]],
    registry: Registry,
    memory: mmap.mmap,
    place: Place,
) -> None:
    """Serve until told to stop. Runs in the main thread of a process of its own."""
    lane = Lane(memory, place.lane)
    os.setpgid(0, 0)  # so that the tool's own children can be ended with it
    die_with(place.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(2, 1)  # what a tool prints must not mix with the supervisor's own output
    register_for_fence()
    keep_freed()
    output = _output(lane, settings.output, place.many)
    logs.configure(settings.log_format, settings.log_level, None if output is None else output.logged)
    kit = Kit(settings, tools, registry, Stamps(memory), shared_calls(memory, place.lane))
    kit.begin(place.processes)
    kit.resources.tell_leaks(_tell_leak)
    limits = settings.processes.get(place.group, ProcessLimits())
    title = Title(settings.node, place)
    limits.apply()  # before there are the threads of the socket, which are to have them, too
    async_loop = import_module("toolring.workers.async_loop") if place.many else None  # for those who need asyncio
    seen = _seen(lane, settings.looks, async_loop)
    with connected(settings.address, place.identity, at_once=bool(limits.user)) as socket:
        if limits.become_user():
            die_with(place.parent)  # the kernel forgets it with the rights
        if async_loop is not None:
            signal.signal(INTERRUPT, signal.SIG_IGN)  # a signal would strike whichever job happens to run
            if seen is not None:
                seen.tasks = import_module("toolring.workers.task_stacks").tasks
            async_loop.serve(
                socket,
                lane,
                kit.runnables,
                kit.resources,
                place.group,
                logs.bound,
                settings.max_result,
                kit,
                output,
            )
            return
        armed = Armed()
        install(armed, lane)
        messages = Messages(socket)
        runner = Runner(kit.runnables, lane, armed, logs.bound, settings.max_result, messages, title.show)
        kit.resources.begin(place.group)
        serve(socket, messages, lane, runner, os.getpid(), kit, output)
        kit.resources.close()
