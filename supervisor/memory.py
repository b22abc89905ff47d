"""The memory of a node's processes: what the workers tell of theirs, the supervisor's own, and a history of both.

Workers look after themselves between jobs (``workers/care.py``); what they can't do is done from here: a worker is
renewed, or, if it is far too large, gets nothing more at once and is killed if its job doesn't end. The history is read
from the process table, so it goes on while they are busy or stuck.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from toolring.errors import InvalidArguments
from toolring.heap import Rest
from toolring.plugins.specs import MemoryEvent
from toolring.policy.memory import MemoryPolicy
from toolring.protocol import Collect, Trace
from toolring.supervisor.core import Core
from toolring.supervisor.fleet import Life, Worker
from toolring.supervisor.watch import Watch

SAMPLE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.5
MOST_TRACED: Final = 3600.0
MOST_LINES: Final = 100
SAMPLES: Final = 720
"""An hour of them."""
PATIENCE_SECONDS: Final = 30.0
"""What a worker may take to collect garbage, or to count its allocations."""
_TOLD: Final = ("kind", "value", "threshold", "advice")


class Memory:
    """Of one node. ``measure`` gives the resident memory of a process in bytes, ``tell`` an alert to who listens."""

    def __init__(
        self,
        policy: MemoryPolicy,
        core: Core,
        watch: Watch,
        measure: Callable[[int], int],
        tell: Callable[[MemoryEvent], None],
    ) -> None:
        self._policy = policy
        self._core = core
        self._watch = watch
        self._measure = measure
        self._tell = tell
        self._rest = Rest(lambda: measure(os.getpid()))
        self._next = self._next_look = 0.0
        self._traces = 0
        self._evicted: dict[bytes, float] = {}
        """Workers that are far too large, and since when they get nothing more."""
        self._history: dict[str, deque[tuple[float, int]]] = {}
        """By the slot's number, or ``supervisor``: when, and how many bytes."""

    # ---- what is told, and what is done about it

    def heard(self, worker: Worker, told: Mapping[str, Any], now: float) -> None:
        """What a worker tells of its memory."""
        slot = worker.slot
        for alert in told.get("alerts", ()):
            event = MemoryEvent(slot.index, worker.pid, *(alert[key] for key in _TOLD))
            facts = {"worker": worker.pid, "slot": slot.index, **{key: alert[key] for key in _TOLD}}
            self._core.notes.append(("memory_alert", facts))
            self._tell(event)
        wants = told.get("wants")
        if wants is None or worker.life is not Life.READY:
            return
        if wants == "kill":
            self._evict(worker, now)
        else:
            self._watch.renewals.ask(worker, f"its memory: {told['rss']} bytes")

    def look(self, now: float) -> None:
        """Now and then take down what everybody has, and see that nobody goes on who has far too much: a worker that is
        busy can't look itself."""
        if now >= self._next:
            self._next = now + SAMPLE_SECONDS
            there = {"supervisor", *(str(slot.index) for slot in self._core.fleet.slots)}
            self._history = {name: past for name, past in self._history.items() if name in there}
            for name, size in self._sizes().items():
                self._history.setdefault(name, deque(maxlen=SAMPLES)).append((now, size))
            if not self._core.in_hand():
                self._rest()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        workers = self._core.fleet.workers
        self._evicted = {key: since for key, since in self._evicted.items() if key in workers}
        for key, since in self._evicted.items():
            worker = workers[key]
            if now - since >= self._policy.grace and worker.life is Life.RETIRING and not worker.idle:
                self._watch.give_up(worker, now, "had far too much memory, and its job did not end in time")
        if self._policy.kill_rss:
            for worker in list(self._core.fleet.ready):
                if self._measure(worker.pid) - worker.began_with >= self._policy.kill_rss:
                    self._evict(worker, now)

    def _evict(self, worker: Worker, now: float) -> None:
        """It gets nothing more. One after the other, since what the first gives back may be enough."""
        if not self._evicted:
            self._evicted[worker.identity] = now
            facts = {"worker": worker.pid, "slot": worker.slot.index, "why": "it has far too much memory"}
            self._core.notes.append(("worker_evicted", facts))
            self._watch.renewals.retire(worker, now)

    # ---- for who asks

    def history(self, now: float) -> dict[str, list[list[float]]]:
        """Seconds ago and bytes, by the slot's number or ``supervisor``, the oldest first; the last is of now."""
        return {
            name: [[round(now - when, 1), kept] for when, kept in [*self._history.get(name, ()), (now, size)]]
            for name, size in self._sizes().items()
        }

    def trace(self, which: Any, seconds: Any, most: Any, now: float, native: Any = False) -> dict[str, Any]:
        """Have a worker find out which allocations grow. Raises InvalidArguments."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MOST_TRACED:
            why = f"seconds={seconds!r:.100} is not a number of seconds, up to {MOST_TRACED:.0f}"
            raise InvalidArguments(why, argument="seconds")
        if type(most) is not int or not 0 < most <= MOST_LINES:
            raise InvalidArguments(f"most={most!r:.100} is not a number of lines, 1 to {MOST_LINES}", argument="most")
        if type(native) is not bool:
            raise InvalidArguments(f"native={native!r:.100} is neither true nor false", argument="native")
        worker = self._chosen(which if type(which) is int else -1)[0]
        self._traces += 1
        worker.patience = now + seconds + PATIENCE_SECONDS
        self._core.says.append((worker, Trace(self._traces, float(seconds), most, native)))
        return {"worker": worker.slot.index, "pid": worker.pid, "number": self._traces}

    def collect(self, which: Any, now: float) -> list[dict[str, int]]:
        """Have a worker, or all, collect their garbage between two jobs and give back what is free.

        Raises InvalidArguments for one that isn't there.
        """
        chosen = self._chosen(which)
        for worker in chosen:
            worker.patience = max(worker.patience, now + PATIENCE_SECONDS)
            self._core.says.append((worker, Collect()))
        return [{"worker": worker.slot.index, "pid": worker.pid, "rss": self._measure(worker.pid)} for worker in chosen]

    def _chosen(self, which: Any) -> list[Worker]:
        ready = self._core.fleet.ready
        number = which if type(which) is int else -1
        chosen = [worker for worker in ready if which is None or number in (worker.slot.index, worker.pid)]
        if not chosen:
            known = ", ".join(f"{worker.slot.index} (pid {worker.pid})" for worker in ready)
            raise InvalidArguments(f"no worker {which!r} is ready; there is {known or 'none now'}", argument="worker")
        return chosen

    def _sizes(self) -> dict[str, int]:
        found = {"supervisor": os.getpid()}
        for slot in self._core.fleet.slots:
            if slot.worker is not None and slot.worker.pid:
                found[str(slot.index)] = slot.worker.pid
        return {name: self._measure(pid) for name, pid in found.items()}
