"""What an operator asks of a node, for the clients of both kinds. The questions are in docs/protocol.md."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from secrets import token_hex
from typing import Any

from toolring.errors import ToolringError


class Operator(ABC):
    """For threads."""

    @abstractmethod
    def _connect(self) -> None: ...

    @abstractmethod
    def _ask(self, what: str, params: dict[str, Any]) -> dict[str, Any]: ...

    def status(self) -> dict[str, Any]:
        """The node's state: workers, jobs, tools."""
        return self._ask("status", {})

    def policy(self, name: str) -> dict[str, dict[str, Any]]:
        """A tool's policy: of each part its ``value``, and the ``source`` that decided it. Raises UnknownTool."""
        policy: dict[str, dict[str, Any]] = self._ask("policy", {"tool": name})["policy"]
        return policy

    def queue(self) -> dict[str, Any]:
        """Who waits: ``waiting`` by what for, tool and caller; and the ``limits`` of the tools that have some."""
        return self._ask("queue", {})

    def jobs(
        self, tool: str | None = None, limit: int = 100, *, failed: bool = False, slow: bool = False
    ) -> dict[str, Any]:
        """The jobs in hand, of all callers or of one tool: ``jobs``, the oldest first, each with its id, tool, caller,
        state, attempt, age in seconds and worker; and how many there are in ``total``. ``failed``: those that failed
        lately instead, the latest first; ``slow``: the slowest of them, or of all that are kept."""
        return self._ask("jobs", {"tool": tool, "limit": limit, "failed": failed, "slow": slow})

    def why(self, job: str) -> dict[str, Any]:
        """The life of one job, in hand or over: ``events``, each with the seconds since its acceptance and a sentence;
        its ``error``, where it ran, and how long that took. Raises UnknownJob."""
        return dict((self._ask("why", {"job": job}))["story"])

    def cancel(self, job: str) -> None:
        """End a job by its id, whoever submitted it, wherever it is. Raises UnknownJob."""
        self._ask("cancel", {"job": job})

    def kill(self, worker: int) -> None:
        """Kill a worker, by its number or its pid; another takes its place. What it ran ends as after a crash."""
        self._ask("kill", {"worker": worker})

    def recycle(self, worker: int | None = None, group: str | None = None) -> list[dict[str, int]]:
        """Have a worker replaced, by its number or its pid; those of a group; or all. Each serves until its successor
        is ready, and finishes what it has begun, so no call is lost. Gives ``worker`` and ``pid`` of each."""
        return list(self._ask("recycle", {"worker": worker, "group": group})["workers"])

    def drain(self) -> int:
        """Have the node finish what it has and end, as SIGTERM does; it refuses what comes. Gives the jobs in hand."""
        return int(self._ask("drain", {})["jobs"])

    def reload(self) -> int:
        """Have the tools' code loaded anew, to take over as a whole once workers with it are ready; no call is lost.
        Gives the reload's number; ``reloads`` tells what becomes of it."""
        return int(self._ask("reload", {})["number"])

    def reloads(self, number: int | None = None) -> dict[str, Any]:
        """``stage`` of the reload that is under way: ``loading``, ``starting`` (its workers), or ``idle``;
        ``outcome`` of the one with that number, or of the last: ``changes`` (names of the tools that were ``added``,
        ``changed`` and ``removed``), ``seconds``, or the ``error`` that it failed with. None: there is none yet."""
        return self._ask("reloads", {"number": number})

    def metrics(
        self, window: str = "5m", *, tool: str | None = None, most: int = 100, buckets: bool = False
    ) -> dict[str, Any]:
        """The figures of the last minute (``1m``), five (``5m``) or since the ``start``: in ``total``, of the ``most``
        busiest ``tools`` or of one, of ``groups`` and ``workers``. Counts, rates, and times with their mean, p50, p95
        and p99 in seconds: response, queue, run, overhead. ``buckets``: in ``total``, also the buckets of the times and
        the bytes, so that one can subtract what there was before."""
        return self._ask("metrics", {"window": window, "tool": tool, "most": most, "buckets": buckets})

    def alerts(self) -> list[dict[str, Any]]:
        """Each alert that is watched, by what it is about: ``state`` (ok, pending, firing, easing: still firing, but
        well lately, resolved) and ``seconds`` in it, ``value`` of its figure and the ``threshold``; of a rule that
        is about each tool or group by itself, those where there is something."""
        return list(self._ask("alerts", {})["alerts"])

    def memory(self) -> dict[str, Any]:
        """The memory of a node's processes: ``history``, seconds ago and bytes, by the worker's number or
        ``supervisor``; ``workers``, what each last told of its own; ``supervisor``; ``shared``, the limit of all (the
        machine's or a control group's), what is used of it, and for which share of the time somebody waited."""
        return self._ask("memory", {})

    def trace(self, worker: int, seconds: float = 10.0, most: int = 10, native: bool = False) -> dict[str, int]:
        """Have a worker find out which of its allocations grow, for so many seconds; ``memory`` tells what came of it
        as ``allocations``. Tools are some times slower there meanwhile. ``native``: those of C code too, by memray."""
        params = {"worker": worker, "seconds": seconds, "most": most, "native": native}
        return self._ask("trace", params)

    def untrace(self, number: int) -> dict[str, int]:
        """End a trace before its time, by its ``number``; ``memory`` tells what was found until then."""
        return self._ask("untrace", {"number": number})

    def traced(self, number: int) -> dict[str, Any]:
        """What came of a trace, by its ``number``: ``pending`` while it goes on, then its ``seconds`` and ``top``, the
        lines, also when the worker has left since. Raises what kept it from being made, or WorkerSilent if the worker
        was gone before."""
        return self._ask("traced", {"number": number})

    def collect(self, worker: int | None = None) -> list[dict[str, int]]:
        """Have a worker, by its number or its pid, or all, collect their garbage between two jobs and give back what is
        free. Gives ``worker``, ``pid`` and ``rss``, bytes before, of each."""
        return list(self._ask("collect", {"worker": worker})["workers"])

    def dump(self, worker: int) -> dict[str, Any]:
        """What a worker does, by its number or its pid: ``threads``, each with its ``frames``, the innermost first, and
        ``tasks`` of an async one. ``by`` tells how it was known: ``python``, or ``c`` if that didn't answer at once.
        Raises WorkerSilent."""
        return self._learn(self._ask("dump", {"worker": worker})["number"], 0.01)

    def profile(self, worker: int, seconds: float = 10.0, rate: int = 100) -> dict[str, Any]:
        """Where a worker's time goes: ``stacks``, each as names from the outermost on, and the seconds that it was seen
        for. Its tools run on meanwhile. Ctrl-C ends it. Raises WorkerSilent, or Busy while another profile of it is
        made."""
        self._connect()
        key = token_hex(16)  # it may be interrupted before the number is known
        try:
            params = {"worker": worker, "seconds": seconds, "rate": rate, "key": key}
            return self._learn(self._ask("profile", params)["number"], 0.1)
        except KeyboardInterrupt:
            with suppress(ToolringError):
                self._ask("unprofile", {"key": key})
            raise

    def _learn(self, number: int, pause: float) -> dict[str, Any]:
        while (found := self._ask("look", {"number": number}))["pending"]:
            time.sleep(pause)
        del found["pending"]
        return found

    def breakers(self) -> dict[str, dict[str, Any]]:
        """The state of each tool's circuit, by the tool's name, with what it has counted."""
        return dict((self._ask("breakers", {}))["breakers"])

    def breaker(self, tool: str, order: str) -> dict[str, Any]:
        """Tell a tool's circuit to be ``open`` (nothing is run) or ``close``d (all is), to ``watch`` (all is run, and
        counted), or to decide by itself again: ``auto``. Gives its state."""
        return self._ask("breaker", {"tool": tool, "order": order})


class AsyncOperator(ABC):
    """For event loops."""

    @abstractmethod
    async def _connect(self) -> None: ...

    @abstractmethod
    async def _ask(self, what: str, params: dict[str, Any]) -> dict[str, Any]: ...

    async def status(self) -> dict[str, Any]:
        """The node's state: workers, jobs, tools."""
        return await self._ask("status", {})

    async def policy(self, name: str) -> dict[str, dict[str, Any]]:
        """A tool's policy and its sources; see ``Client.policy``."""
        policy: dict[str, dict[str, Any]] = (await self._ask("policy", {"tool": name}))["policy"]
        return policy

    async def queue(self) -> dict[str, Any]:
        """Who waits, for what; see ``Client.queue``."""
        return await self._ask("queue", {})

    async def jobs(
        self, tool: str | None = None, limit: int = 100, *, failed: bool = False, slow: bool = False
    ) -> dict[str, Any]:
        """The jobs in hand, the oldest first, or those that failed, or were slow; see ``Client.jobs``."""
        return await self._ask("jobs", {"tool": tool, "limit": limit, "failed": failed, "slow": slow})

    async def why(self, job: str) -> dict[str, Any]:
        """The life of one job; see ``Client.why``."""
        return dict((await self._ask("why", {"job": job}))["story"])

    async def cancel(self, job: str) -> None:
        """End a job by its id, whoever submitted it; see ``Client.cancel``."""
        await self._ask("cancel", {"job": job})

    async def kill(self, worker: int) -> None:
        """Kill a worker, by its number or its pid; see ``Client.kill``."""
        await self._ask("kill", {"worker": worker})

    async def recycle(self, worker: int | None = None, group: str | None = None) -> list[dict[str, int]]:
        """Have workers replaced that serve until their successors are ready; see ``Client.recycle``."""
        return list((await self._ask("recycle", {"worker": worker, "group": group}))["workers"])

    async def drain(self) -> int:
        """Have the node finish what it has and end; see ``Client.drain``."""
        return int((await self._ask("drain", {}))["jobs"])

    async def reload(self) -> int:
        """Have the tools' code loaded anew; see ``Client.reload``."""
        return int((await self._ask("reload", {}))["number"])

    async def reloads(self, number: int | None = None) -> dict[str, Any]:
        """What becomes of reloads; see ``Client.reloads``."""
        return await self._ask("reloads", {"number": number})

    async def metrics(
        self, window: str = "5m", *, tool: str | None = None, most: int = 100, buckets: bool = False
    ) -> dict[str, Any]:
        """The figures of a window; see ``Client.metrics``."""
        return await self._ask("metrics", {"window": window, "tool": tool, "most": most, "buckets": buckets})

    async def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are watched; see ``Client.alerts``."""
        return list((await self._ask("alerts", {}))["alerts"])

    async def memory(self) -> dict[str, Any]:
        """The memory of a node's processes; see ``Client.memory``."""
        return await self._ask("memory", {})

    async def trace(self, worker: int, seconds: float = 10.0, most: int = 10, native: bool = False) -> dict[str, int]:
        """Have a worker find out which of its allocations grow; see ``Client.trace``."""
        params = {"worker": worker, "seconds": seconds, "most": most, "native": native}
        return await self._ask("trace", params)

    async def untrace(self, number: int) -> dict[str, int]:
        """End a trace before its time; see ``Client.untrace``."""
        return await self._ask("untrace", {"number": number})

    async def traced(self, number: int) -> dict[str, Any]:
        """What came of a trace; see ``Client.traced``."""
        return await self._ask("traced", {"number": number})

    async def collect(self, worker: int | None = None) -> list[dict[str, int]]:
        """Have workers collect their garbage between two jobs; see ``Client.collect``."""
        return list((await self._ask("collect", {"worker": worker}))["workers"])

    async def dump(self, worker: int) -> dict[str, Any]:
        """What a worker does at this moment; see ``Client.dump``."""
        return await self._learn((await self._ask("dump", {"worker": worker}))["number"], 0.01)

    async def profile(self, worker: int, seconds: float = 10.0, rate: int = 100) -> dict[str, Any]:
        """Where a worker's time goes; see ``Client.profile``."""
        await self._connect()
        key = token_hex(16)  # it may be cancelled before the number is known
        try:
            params = {"worker": worker, "seconds": seconds, "rate": rate, "key": key}
            return await self._learn((await self._ask("profile", params))["number"], 0.1)
        except asyncio.CancelledError:
            with suppress(ToolringError):
                await self._ask("unprofile", {"key": key})
            raise

    async def _learn(self, number: int, pause: float) -> dict[str, Any]:
        while (found := await self._ask("look", {"number": number}))["pending"]:
            await asyncio.sleep(pause)
        del found["pending"]
        return found

    async def breakers(self) -> dict[str, dict[str, Any]]:
        """The state of each tool's circuit, by the tool's name, with what it has counted."""
        return dict((await self._ask("breakers", {}))["breakers"])

    async def breaker(self, tool: str, order: str) -> dict[str, Any]:
        """Tell a tool's circuit what to do; see ``Client.breaker``."""
        return await self._ask("breaker", {"tool": tool, "order": order})
