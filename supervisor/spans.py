"""Spans: how the time of a job went by, for callers who trace theirs, and for a share of the others'.

A job's own span lasts from its acceptance to its answer. Inside it are ``queue``, until it is sent to a worker, and
``run`` (or ``cache``, if it was found there), until its answer is back; each further attempt has ``retry`` and ``run``.
What a tool makes of its own lies inside its ``run``, whose number follows from the job's name, so that the worker needs
to be told nothing but its parent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

from toolring import protocol
from toolring.plugins.specs import Span
from toolring.protocol import CACHED, ERROR, LAYER_SHIFT, REPLAYED, Answer
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.ledger import Entry, Session, State
from toolring.supervisor.metrics import Exporter
from toolring.tracing import is_trace

FLUSH_SECONDS: Final = 0.2
STEP_SECONDS: Final = 1e-3
"""The clock on the wall was set if it moved by so much."""
MOST: Final = 8192
"""Spans that wait for a sink that is busy; those that come then are dropped, and counted."""
_NOBODY: Final = "0" * 16


class Feed:
    """A sink, and what it is to be given next."""

    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self.pending: list[Span] = []
        self.dropped = 0

    def give(self, spans: Sequence[Span]) -> None:
        room = MOST - len(self.pending)
        self.dropped += max(0, len(spans) - room)
        self.pending += spans[:room]
        self.exporter.look()
        if self.pending and self.exporter.idle:
            self.exporter.offer(tuple(self.pending))
            self.pending = []


class Spans:
    """Those of one node. ``sample``: the share of jobs that get a trace of their own if their caller has none."""

    def __init__(
        self,
        exporters: Sequence[Exporter],
        sample: float = 0.0,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.feeds = [Feed(exporter) for exporter in exporters]
        self._sample = sample
        self._wall, self._clock = wall, clock
        self._random = rng or random.Random()
        self._offset = self._read_offset()
        self._since: dict[int, float] = {}
        """Of those that are tried again, since when they wait; by the record's identity, as long as it is in hand."""
        self._done: list[Span] = []
        self._due = 0.0

    # ---- traces

    def root(self) -> str:
        """The trace of a job whose caller has none; mostly none."""
        if not self._sample or self._random.random() >= self._sample:
            return ""
        return f"00-{self._random.getrandbits(128):032x}-{_NOBODY}-01"

    def given(self, trace: str) -> str:
        """A caller's trace, if it is one, or perhaps one of the node's own."""
        return trace if is_trace(trace) else self.root()

    def handed_on(self, entry: Entry) -> str:
        """The trace as its worker gets it: what happens there is inside the run."""
        parent, _, state = entry.trace.partition(" ")
        if not _sampled(parent):
            return entry.trace
        return f"{parent[:36]}{_run(entry):016x}{parent[52:]}{' ' if state else ''}{state}"

    # ---- what happens

    def attempt(self, entry: Entry, outcome: str, now: float) -> None:
        """One attempt has ended, and there will be another."""
        if _sampled(entry.trace):
            self._waited(entry, self._since.get(id(entry)), _sent(entry), "")
            self._ran(entry, None, outcome, now)
            self._since[id(entry)] = now

    def settled(self, entry: Entry, before: State, answer: Answer, now: float) -> None:
        """It has its final answer."""
        since = self._since.pop(id(entry), None)
        if not _sampled(entry.trace):
            return
        code = _code(answer)
        if before is State.DISPATCHED or (before is State.BATCHED and _sent(entry)):
            self._waited(entry, since, _sent(entry), "")
            self._ran(entry, answer, code, now)
        elif before is not State.JOINED:
            self._waited(entry, since, now, code)
        if entry.first is None:
            self._job(entry, answer, before is State.JOINED and not _began(entry), code, now)

    def held(self, session: Session, number: int, tool: ServedTool, trace: str, now: float) -> None:
        """A job was answered at once, with a result that the supervisor holds."""
        if _sampled(trace):
            name = f"{session.name}-{number}"
            root = _hash(f"{trace[:36]}/{name}/{now!r}")
            told = {**self._told(tool.name, name, session.caller, 0, True), "toolring.joined": False}
            self._put(trace, f"execute_tool {tool.name}", root, None, now, now, told, "", "server")
            self._put(trace, "cache", root ^ 1, root, now, now, {"toolring.cache.layer": 0}, "", "internal")

    @property
    def waiting(self) -> int:
        """Jobs that are to be tried again."""
        return len(self._since)

    def flush(self, now: float, last: bool = False) -> None:
        """Hand what has been made to the sinks, now and then."""
        if now < self._due and not last:
            return
        self._due = now + FLUSH_SECONDS
        offset = self._read_offset()
        if abs(offset - self._offset) > STEP_SECONDS:  # else spans of one job might not fit into each other
            self._offset = offset
        done, self._done = self._done, []
        for feed in self.feeds:
            feed.give(done)

    def close(self) -> None:
        """Give them the rest."""
        self.flush(self._clock(), last=True)
        for feed in self.feeds:
            feed.exporter.close(last=tuple(feed.pending) or None)

    def report(self) -> dict[str, dict[str, Any]]:
        """By sink: batches that were sent and that failed; spans that wait, and those that were dropped, as too many
        waited or it kept failing; and its state, as of a sink of metrics."""
        return {
            feed.exporter.name: {
                "sent": feed.exporter.sent,
                "failed": feed.exporter.failed,
                "waiting": len(feed.pending),
                "dropped": feed.dropped + feed.exporter.dropped,
                "state": feed.exporter.state,
            }
            for feed in self.feeds
        }

    def _read_offset(self) -> float:
        """From the monotonic clock to that on the wall. Whoever reads both may be held up in between."""
        readings = [(self._clock(), self._wall(), self._clock()) for _ in range(3)]
        before, wall, after = min(readings, key=lambda one: one[2] - one[0])
        return wall - (before + after) / 2

    # ---- how it is told

    def _waited(self, entry: Entry, since: float | None, until: float, code: str) -> None:
        name = "queue" if since is None else "retry"
        began = entry.accepted if since is None else since
        self._add(entry, name, _number(entry, f"/w{entry.attempt}"), began, until, {}, code)

    def _ran(self, entry: Entry, answer: Answer | None, code: str, now: float) -> None:
        name, told = "run", {"toolring.attempt": entry.attempt}
        worker = entry.worker if entry.carrier is None else entry.carrier.worker
        if worker is not None:
            told["toolring.worker.slot"], told["process.pid"] = worker.slot.index, worker.pid
        if answer is not None:
            if answer.run_us:  # else it was ended, and nobody measured it
                told["toolring.run_us"] = answer.run_us
            if answer.flags & CACHED:
                name, told["toolring.cache.layer"] = "cache", answer.flags >> LAYER_SHIFT
        self._add(entry, name, _run(entry), _sent(entry), now, told, code)

    def _job(self, entry: Entry, answer: Answer, joined: bool, code: str, now: float) -> None:
        runs = entry.carrier
        if runs is None or runs.members is not None:  # it ran by itself, or travelled with others
            runs = entry
        told = self._told(entry.tool.name, entry.name, entry.session.caller, runs.attempt, bool(answer.flags & CACHED))
        told["toolring.joined"], told["toolring.replayed"] = joined, bool(answer.flags & REPLAYED)
        name = f"execute_tool {entry.tool.name}"
        self._put(entry.trace, name, _number(entry), None, entry.accepted, now, told, code, "server")

    @staticmethod
    def _told(tool: str, job: str, caller: str, attempts: int, cached: bool) -> dict[str, Any]:
        """After OpenTelemetry's conventions for generative AI, as far as there are any."""
        return {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "toolring.job": job,
            "toolring.caller": caller,
            "toolring.attempts": attempts,
            "toolring.cached": cached,
        }

    def _add(
        self, entry: Entry, name: str, number: int, begin: float, end: float, told: dict[str, Any], code: str
    ) -> None:
        self._put(entry.trace, name, number, _number(entry), begin, end, told, code, "internal")

    def _put(
        self,
        trace: str,
        name: str,
        number: int,
        parent: int | None,
        begin: float,
        end: float,
        told: dict[str, Any],
        code: str,
        kind: str,
    ) -> None:
        """Into the trace; without a ``parent`` of the node's own it is the caller's child."""
        if code:
            told["error.type"] = code
        given, _, state = trace.partition(" ")
        parent = (int(given[36:52], 16) or None) if parent is None else parent
        begun, ended = (int((when + self._offset) * 1e9) for when in (begin, max(begin, end)))
        self._done.append(Span(name, int(given[3:35], 16), number, parent, kind, begun, ended, told, code, state))


def _sampled(trace: str) -> bool:
    return bool(trace) and int(trace[53:55], 16) & 1 == 1


def _run(entry: Entry) -> int:
    return _number(entry, f"/r{entry.attempt}")


def _began(entry: Entry) -> bool:
    """Is what it waited for its own run, which others may have joined?"""
    runs = entry.carrier
    if runs is None and entry.record is not None:  # it has left before that was over
        runs = entry.record.entry
    return runs is not None and runs.first is entry


def _sent(entry: Entry) -> float:
    return entry.sent if entry.carrier is None else entry.carrier.sent


def _number(entry: Entry, part: str = "") -> int:
    """That of a part of the job, or its own. One that is sent again after its answer was lost has the same name."""
    return _hash(f"{entry.trace[:36]}/{entry.name}/{(entry.first or entry).accepted!r}{part}")


def _hash(text: str) -> int:
    """No two jobs have one name, so no two spans of a trace have one number."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) or 1


def _code(answer: Answer) -> str:
    return str(protocol.decode_value(answer.value).get("code", "")) if answer.status == ERROR else ""
