"""What a node tells about jobs, in hand or over; and their end, if an operator wants it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from heapq import nlargest, nsmallest
from typing import Any, Final

from toolring.errors import InvalidArguments, UnknownJob
from toolring.protocol import OK
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.core import Core
from toolring.supervisor.endings import Endings
from toolring.supervisor.history import Held
from toolring.supervisor.ledger import Entry
from toolring.supervisor.refusals import known_tool
from toolring.supervisor.story import joined, row, seconds, state_of, story
from toolring.supervisor.waiting import place

MOST_JOBS: Final = 10_000
"""The most that are listed for one question: the node does nothing else meanwhile."""
_LONGEST: Final = 20
"""Digits of a number that a client may have given to a job."""


class JobDesk:
    """Of one node; ``layers`` are those of the cache."""

    def __init__(self, core: Core, endings: Endings, layers: tuple[str, ...]) -> None:
        self._core = core
        self._endings = endings
        self._layers = layers

    def job(self, name: str, now: float) -> dict[str, Any]:
        core = self._core
        record = core.joining.keyring.find(name)
        if record is not None and record.answer is not None:
            answer = record.answer
            return {
                "job": name,
                "state": "done" if answer.status == OK else "failed",
                "ok": answer.status == OK,
                "value": answer.value,
            }
        entry = self._find(name)
        if entry is not None:
            runs = entry.run
            return {"job": name, "state": state_of(runs), "attempt": runs.attempt, **place(core, runs, now)}
        raise UnknownJob(f"no job {name!r} is in hand or kept here", job=name)

    def jobs(self, params: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Those in hand, the oldest first; or, if it is asked for, those that failed or were slow."""
        limit, tool = params.get("limit", 100), params.get("tool")
        if type(limit) is not int or not 1 <= limit <= MOST_JOBS:
            why = f"limit={limit!r:.100} is not a number of jobs, 1 to {MOST_JOBS}"
            raise InvalidArguments(why, argument="limit")
        only = None if tool is None else known_tool(self._core.tools, str(tool))
        failed, slow = bool(params.get("failed")), bool(params.get("slow"))
        if failed or slow:
            return self._over(only, limit, failed, slow, now)
        found = [entry for entry in self.in_hand() if only is None or entry.tool is only]
        oldest = nsmallest(limit, found, key=lambda entry: entry.accepted)
        return {"jobs": [self.listed(entry, now) for entry in oldest], "total": len(found)}

    def _over(self, only: ServedTool | None, limit: int, failed: bool, slow: bool, now: float) -> dict[str, Any]:
        """Jobs that are over: those that failed, the latest first, or the slowest of them, or of all."""
        history = self._core.history
        found = [
            one
            for one in (() if history is None else history.latest(failed))
            if not one.tool.spec.internal and (only is None or one.tool.name == only.name)
        ]
        first = nlargest(limit, found, key=seconds) if slow else found[:limit]
        return {"jobs": [row(one, now) for one in first], "total": len(found)}

    def why(self, name: str, now: float) -> dict[str, Any]:
        core = self._core
        core.outputs.drain_all()
        entry: Entry | Held | None = self._find(name)
        session, _, number = name.rpartition("-")
        if entry is None and core.history is not None and number.isdecimal() and len(number) < _LONGEST:
            entry = core.history.find(session, int(number))
        if entry is None:
            text = f"no job {name!r:.100} is in hand, or among those that are kept ([jobs] keep and failures)"
            raise UnknownJob(text, job=name)
        return story(core, entry, now, time.time() - now, self._layers)

    def cancel(self, name: str, now: float) -> dict[str, Any]:
        """End one by its name, whoever submitted it, and wherever it is."""
        entry = self._find(name)
        if entry is None:
            raise UnknownJob(f"no job {name!r} is in hand here", job=name)
        state = state_of(entry.run)
        self._endings.cancel(entry, now, "cancelled by an operator")
        return {"job": name, "was": state}

    def listed(self, entry: Entry, now: float) -> dict[str, Any]:
        """Of those who wait for one run, the first stands for it."""
        runs, waits = entry.run, joined(entry)
        runner = None if waits else runs.worker
        return {
            "job": entry.name,
            "tool": entry.tool.name,
            "caller": entry.account.name,
            "state": "joined" if waits else state_of(runs),
            "attempt": runs.attempt,
            "age": round(now - entry.accepted, 3),
            "worker": None if runner is None else runner.pid or None,
        }

    def _find(self, name: str) -> Entry | None:
        """A job in hand, by its name."""
        core = self._core
        session = name.rpartition("-")[0]
        for one in core.sessions.values():
            for entry in one.jobs.values() if one.name == session else ():
                if entry.name == name:
                    return entry
        record = core.joining.keyring.find(name)
        return None if record is None else record.entry

    def in_hand(self) -> Iterator[Entry]:
        """What callers have submitted and wait for, and what runs on although they have left. As they are when their
        turn comes: they may come and go meanwhile."""
        core = self._core
        for session in list(core.sessions.values()):
            yield from [entry for entry in session.jobs.values() if not entry.tool.spec.internal]
        yield from core.left_behind()
