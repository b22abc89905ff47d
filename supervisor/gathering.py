"""Gathering: calls of a tool that takes many at once wait for company, and then travel as one.

What travels, the carrier, is a chunk that belongs to the house. Each call in it stays a job with its own deadline, its
own answer and its own retries, and may leave on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.errors import InvalidResult
from toolring.protocol import ERROR, OK, Answer
from toolring.supervisor.backlog import refund
from toolring.supervisor.ledger import Entry, Event, State, step
from toolring.supervisor.streams import Live
from toolring.supervisor.valves import Valve

if TYPE_CHECKING:
    from toolring.supervisor.core import Core

_decode = msgspec.msgpack.Decoder(list[tuple[int, Raw]]).decode


class Gathering:
    """Makes carriers for one core, and deals out what they bring."""

    __slots__ = ("_core", "_ids")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._ids = 0

    # ---- before the run

    def open(self, valve: Valve, now: float) -> bool:
        """Let through what has waited long enough, or is enough; False: nothing."""
        line, went = valve.line, False
        while line.size and valve.open(now) and self._may_go(valve, now):
            members = self._company(valve, now)
            if not members:
                break
            went = True
            if members[0].chunk:
                refund(members[0])  # it pays when it is given to a worker
                self._core.placing.let_through(members[0], valve, now)
            else:
                self._carry(members, valve, now)
            valve.since = now if line.size else inf
        return went

    def due(self, now: float) -> float:
        """When the first of those that wait for company will have waited long enough (seconds); inf: nobody does."""
        dues = [valve.since + valve.delay for valve in self._core.valves if valve.batch and valve.line.size]
        return min((due for due in dues if due > now), default=inf)

    def _company(self, valve: Valve, now: float) -> list[Entry]:
        """Those that go together; a chunk is a company by itself."""
        members: list[Entry] = []
        size = 0
        while len(members) < valve.batch and (entry := valve.line.take(now)) is not None:
            if entry.barred:
                valve.line.put_back(entry)
                self._core.placing.bar(entry, now)
                continue
            alone = entry.chunk or entry.alone
            size += len(entry.args)
            if members and (alone or size > self._core.limits.max_body):
                valve.line.put_back(entry)
                break
            members.append(entry)
            if alone:
                break
        return members

    def _may_go(self, valve: Valve, now: float) -> bool:
        """Is somebody free, and are there enough, or do they wait for long? Until then more may join them."""
        if valve.crowded():
            return False
        line, batch = valve.line, valve.batch
        enough = line.size >= batch and sum(1 for _ in islice(line, batch)) == batch  # in size are those answered, too
        return enough or now >= valve.since + valve.delay

    def _carry(self, members: list[Entry], valve: Valve, now: float) -> None:
        core, first = self._core, members[0]
        self._ids -= 1
        deadline = max(entry.deadline for entry in members)
        carrier = Entry(core.house, self._ids, first.tool, Raw(b""), deadline, now, first.account, deadline)
        carrier.first, carrier.members, carrier.odd = first, members, True
        carrier.priority = max(entry.priority for entry in members)
        carrier.attempt = max(entry.attempt for entry in members)
        carrier.resent = any(entry.resent for entry in members)
        carrier.alone = any(entry.alone for entry in members)
        if any(entry.live is not None and entry.live.progress for entry in members):
            carrier.live = Live()
            carrier.live.progress = True
        core.house.jobs[carrier.id] = carrier
        for entry in members:
            step(entry, Event.GATHER)
            entry.carrier = carrier
            for each in entry.tool.valves:
                each.waiting -= 1
        for each in first.tool.valves:
            each.waiting += 1
        self.load(carrier)
        core.placing.let_through(carrier, valve, now)

    def load(self, carrier: Entry) -> None:
        """Its arguments are those of its members that are still there."""
        members = [entry for entry in carrier.members or () if entry.state is State.BATCHED]
        if carrier.chunk == len(members):
            return
        carrier.members = members
        args = [bytes(memoryview(entry.args)) for entry in members]
        self._core.bytes -= len(carrier.args)
        carrier.args = Raw(b"\xdd" + len(args).to_bytes(4, "big") + b"".join(args))
        carrier.chunk = len(args)
        self._core.bytes += len(carrier.args)

    # ---- after the run

    def deal(self, carrier: Entry, event: Event, answer: Answer, now: float) -> None:
        """Each member gets its own answer, or what became of the whole."""
        members, carrier.members = carrier.members or [], []
        for entry, (status, value) in zip(members, _each(carrier, members, answer), strict=True):
            if entry.state is not State.BATCHED:
                continue
            entry.begun = carrier.begun
            if status == OK:
                self._core.settle(entry, Event.SUCCEED, Answer(entry.id, OK, value, answer.run_us), now)
            else:
                self._fail(entry, Event.FAIL if event is Event.SUCCEED else event, value, answer, now)

    def _fail(self, entry: Entry, event: Event, value: Raw, answer: Answer, now: float) -> None:
        core, tool = self._core, entry.tool
        error: dict[str, Any] = {**protocol.decode_value(value), "job": entry.name}
        if event is Event.FAIL and tool.budget is not None and core.retries.delay(entry, error, now):
            tool.answered -= 1
            return
        if entry.earlier is not None and not answer.run_us:
            error["earlier"] = entry.earlier
        if entry.session is not core.house:
            tool.failed(error)
        if event is not Event.FAIL:
            facts = {"code": error.get("code"), "reason": error.get("message"), "tool": tool.name, "job": entry.name}
            core.notes.append(("job_failed", facts))
        told = Answer(entry.id, ERROR, Raw(protocol.encode(error)), answer.run_us)
        core.settle(entry, event, told, now)

    def dissolve(self, carrier: Entry, now: float) -> list[Entry]:
        """Its worker was lost with it: each member is by itself again, to be placed or to be answered."""
        members = [entry for entry in carrier.members or () if entry.state is State.BATCHED]
        carrier.members = []
        self._core.settle(carrier, Event.CANCEL, Answer(carrier.id, ERROR, protocol.NIL), now)
        return members

    def by_itself(self, entry: Entry) -> None:
        """A member of a carrier that is no more waits again, before the others."""
        entry.carrier = None
        refund(entry)
        self._core.placing.again(entry, Event.TAKE_BACK)


def _each(carrier: Entry, members: list[Entry], answer: Answer) -> Iterator[tuple[int, Raw]]:
    """Status and value for each member."""
    if answer.status != OK:
        return iter([(ERROR, answer.value)] * len(members))
    try:
        found = _decode(answer.value)
    except msgspec.DecodeError:
        found = []
    if len(found) == len(members):
        return iter(found)
    error = InvalidResult(f"{carrier.tool.name}: {len(found)} results for {len(members)} calls")
    return iter([(ERROR, Raw(protocol.encode(error.to_wire())))] * len(members))
