"""The memory of a node's processes: what the workers tell of theirs, the supervisor's own, and a history of both.

Workers look after themselves between jobs (``workers/care.py``); what they can't do is done from here: one that has
nothing to do is asked to look, a worker is renewed, or, if it is far too large, gets nothing more at once and is killed
if its job doesn't end. The history, and the children of workers, are read from the process table, so that goes on while
they are busy or stuck.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

from msgspec import structs

from toolring.errors import InvalidArguments, WorkerSilent
from toolring.heap import Rest
from toolring.plugins.specs import MemoryEvent
from toolring.policy.memory import ADVICE, MemoryPolicy, Snapshot, Warden, load_of
from toolring.protocol import Collect, Report, Trace
from toolring.supervisor.core import Core
from toolring.supervisor.fleet import Life, Worker
from toolring.supervisor.watch import Watch

SAMPLE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.5
PARTS: Final = 4
"""At each look at what costs more, this part of the workers has its turn: each every two seconds."""
THOROUGH: Final = 6
"""Every so many samples the supervisor counts what of its memory is its own."""
MOST_TRACED: Final = 3600.0
MOST_LINES: Final = 100
MOST_OUTCOMES: Final = 32
"""Of traces, the last so many."""
SAMPLES: Final = 720
"""An hour of them."""
PATIENCE_SECONDS: Final = 30.0
"""What a worker may take to collect garbage, or to count its allocations."""
OF_SUPERVISOR: Final = -1
"""In place of a slot's number."""
OWN_ADVICE: Final = (
    "it holds what callers wait for and what is kept for them: lower limits.backlog_bytes, limits.keep_bytes and "
    "cache.hot_bytes; if it grows without these, it is a bug"
)
_TOLD: Final = ("kind", "value", "threshold", "advice")


class Memory:
    """Of one node. ``measure`` gives the resident memory of a process in bytes, ``children`` that of all that it has
    started; ``own`` looks at this process, thoroughly or not; ``tell`` tells an alert to who listens."""

    def __init__(
        self,
        policy: MemoryPolicy,
        core: Core,
        watch: Watch,
        measure: Callable[[int], int],
        children: Callable[[int], int],
        own: Callable[[bool], Snapshot],
        tell: Callable[[MemoryEvent], None],
    ) -> None:
        self._policy = policy
        self._core = core
        self._watch = watch
        self._measure = measure
        self._children_of = children
        self._look_at_own = own
        self._tell = tell
        lenient = structs.replace(policy, share=0.0, kill_rss=0, kill_share=0.0, children=0, pressure=0.0)
        self._warden = Warden(lenient)
        """Of this process; what all share is told by the workers."""
        self._samples = 0
        self._part = 0
        self._seen: Snapshot | None = None
        """This process and what all of them share, at the last sample."""
        self._children: dict[bytes, int] = {}
        self._alerted: dict[tuple[bytes, str], float] = {}
        """When an alert was told last that both sides may give."""
        self._tracing: dict[bytes, tuple[int, float]] = {}
        """By worker: the number of the request, and until when."""
        self._outcomes: dict[int, dict[str, Any]] = {}
        """What came of traces, by their numbers."""
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
            kind, value, threshold, advice = (alert[key] for key in _TOLD)
            if kind != "children" or self._is_news(worker, kind, now):
                self._alert(slot.index, worker.pid, kind, value, threshold, advice)
        grown = told.get("allocations")
        if grown is not None and self._tracing.get(worker.identity, (0, 0.0))[0] == grown["number"]:
            del self._tracing[worker.identity]
            self._outcomes[grown["number"]] = grown
            self._outcomes.pop(grown["number"] - MOST_OUTCOMES, None)
        wants = told.get("wants")
        if wants is None or worker.life is not Life.READY:
            return
        if wants == "kill":
            self._evict(worker, now, told.get("grown", 0), told.get("used"), told.get("limit"))
        else:
            self._watch.renewals.ask(worker, f"its memory: {told['rss']} bytes", outgrown=True)

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
            self._look_at_itself()
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
                grown = self._measure(worker.pid) - worker.began_with
                if grown >= self._policy.kill_rss:
                    self._evict(worker, now, grown)
        self._part = (self._part + 1) % PARTS
        for worker in self._core.fleet.ready[self._part :: PARTS]:
            self._look_at(worker, now)

    def _look_at(self, worker: Worker, now: float) -> None:
        """Its children, whom it can't see while it is busy; and itself while it is not, and so doesn't look."""
        policy = self._policy
        children = self._children[worker.identity] = self._children_of(worker.pid)
        if children >= policy.children > 0 and self._is_news(worker, "children", now):
            self._alert(worker.slot.index, worker.pid, "children", children, policy.children, ADVICE["children"])
        if not (worker.idle or worker.many):
            return
        grown = max(0, self._measure(worker.pid) - worker.began_with)
        shared = (self._seen or Snapshot(now, 0))._replace(processes=len(self._core.fleet.slots))
        if load_of(shared._replace(rss=grown, children=children), policy.rss, policy.share) >= 1:
            self._core.says.append((worker, Report()))

    def _look_at_itself(self) -> None:
        workers = self._core.fleet.workers
        self._children = {key: size for key, size in self._children.items() if key in workers}
        self._alerted = {key: when for key, when in self._alerted.items() if key[0] in workers}
        self._tracing = {key: what for key, what in self._tracing.items() if key in workers}
        self._seen = self._look_at_own(self._samples % THOROUGH == 0)
        self._samples += 1
        for kind, value, threshold, _, _ in self._warden.look(self._seen).alerts:
            self._alert(OF_SUPERVISOR, os.getpid(), kind, value, threshold, OWN_ADVICE)

    def _alert(self, slot: int, pid: int, kind: str, value: float, threshold: float, advice: str) -> None:
        whose = {"worker": pid, "slot": slot} if slot != OF_SUPERVISOR else {"supervisor": pid}
        facts = {**whose, "kind": kind, "value": value, "threshold": threshold, "advice": advice}
        self._core.notes.append(("memory_alert", facts))
        self._tell(MemoryEvent(slot, pid, kind, value, threshold, advice))

    def _is_news(self, worker: Worker, kind: str, now: float) -> bool:
        key = worker.identity, kind
        news = now - self._alerted.get(key, -inf) >= self._policy.cooldown
        if news:
            self._alerted[key] = now
        return news

    def _evict(self, worker: Worker, now: float, grown: int, used: int | None = None, limit: int | None = None) -> None:
        """It gets nothing more. One after the other, since what the first gives back may be enough."""
        if self._evicted:
            return
        policy = self._policy
        self._evicted[worker.identity] = now
        if grown >= policy.kill_rss > 0:
            kind, value, threshold = "kill_rss", float(grown), float(policy.kill_rss)
        else:
            kind, value, threshold = "kill_share", (used or 0) / limit if limit else 0.0, policy.kill_share
        self._alert(worker.slot.index, worker.pid, kind, value, threshold, ADVICE[kind])
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

    def children(self, worker: Worker) -> int | None:
        """Resident bytes of the processes that it has started, as seen from here; None: it was not looked at yet."""
        return self._children.get(worker.identity)

    def own(self) -> dict[str, Any]:
        """Of the supervisor itself."""
        seen, trend = self._seen or self._look_at_own(True), self._warden.trend
        return {
            "pid": os.getpid(),
            "rss": seen.rss,
            "uss": seen.uss,
            "collections": seen.collections,
            "pauses": round(seen.pauses, 6),
            "growth": None if trend is None else round(trend.slope.middle, 1),
            "leaks": self._warden.leaks,
        }

    def shared(self) -> dict[str, Any]:
        """What all processes share: the limit, how much of it is used, and if anybody waited for memory."""
        seen = self._seen or self._look_at_own(True)
        return {"limit": seen.limit, "used": seen.used, "pressure": seen.pressure}

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
        _, until = self._tracing.get(worker.identity, (0, 0.0))
        if now < until:
            why = f"worker {worker.slot.index} is being traced already, for {until - now:.0f} s more"
            raise InvalidArguments(why, argument="worker")
        self._traces += 1
        self._tracing[worker.identity] = self._traces, now + seconds
        worker.patience = now + seconds + PATIENCE_SECONDS
        self._core.says.append((worker, Trace(self._traces, float(seconds), most, native)))
        return {"worker": worker.slot.index, "pid": worker.pid, "number": self._traces}

    def untrace(self, number: Any) -> dict[str, Any]:
        """Whoever asked for this trace doesn't want it any more: what was found until now is told."""
        for identity, (traced, _) in list(self._tracing.items()):
            worker = self._core.fleet.workers.get(identity)
            if traced == number and worker is not None and worker.life < Life.ENDING:
                self._core.says.append((worker, Trace(traced, 0.0, 0)))
                return {"worker": worker.slot.index, "pid": worker.pid, "number": traced}
        raise InvalidArguments(f"no trace {number!r:.100} is under way", argument="number")

    def traced(self, number: Any) -> dict[str, Any]:
        """``pending``: the trace goes on, or else what came of it. Raises WorkerSilent if nothing ever will."""
        if type(number) is not int or not 0 < number <= self._traces:
            raise InvalidArguments(f"there was no trace {number!r:.100}", argument="number")
        if (found := self._outcomes.get(number)) is not None:
            return {"pending": False, **found}
        workers = self._core.fleet.workers
        if any(traced == number and identity in workers for identity, (traced, _) in self._tracing.items()):
            return {"pending": True}
        raise WorkerSilent("the worker has ended, and told nothing of its allocations", cause="gone")

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
