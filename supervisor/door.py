"""The door: each job of a submission is accepted, or refused at once, with an answer either way."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, Final

from toolring.errors import OutcomeUnknown
from toolring.protocol import Job
from toolring.supervisor.accounts import Account
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.ledger import Entry, Session
from toolring.supervisor.refusals import not_followed, refused_by, unknown_tool, why_full
from toolring.supervisor.streams import live_of

if TYPE_CHECKING:
    from toolring.supervisor.core import Core

REMOVED_SECONDS: Final = 60.0
"""Between two lines that tell of calls of a tool that a reload removed."""


class Door:
    """Lets jobs into one core."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def submit(self, session: Session, jobs: Iterable[Job], now: float) -> None:
        """Accept each job or refuse it at once, with an answer either way."""
        core = self._core
        tools, mine = core.tools, session.jobs
        joining, placing, spans = core.joining, core.placing, core.spans
        default = core.limits.default_timeout
        account = session.account or core.accounts.of(session)
        room = self._room(session, account, now)
        backlog = core.backlog
        accepted = paid = 0
        for job in jobs:
            tool = tools.get(job.tool)
            if tool is None:
                self._unknown(session, job, now)
                continue
            known = job.id <= session.highest
            if not known:
                session.highest = job.id
            elif self._sent_again(session, job, tool):
                continue
            name = partition = None
            if tool.places:
                partition, name = joining.name(session, job, tool, known)
                if name is not None and joining.held(session, job, tool, name, now):
                    continue
            if accepted >= room:
                if account.rate is not None:
                    account.rate.take(now, accepted - paid)
                    paid = accepted
                room = accepted + self._room(session, account, now)  # those that joined others take no place in line
                if accepted >= room:
                    core.refuse(session, job.id, why_full(core, session, account, now))
                    continue
            follow = job.follow
            if follow is not None and (wrong := not_followed(tool.spec, follow)) is not None:
                core.refuse(session, job.id, wrong)
                continue
            guarded = tool.guarded
            if guarded and (refusal := core.circuits.refusal(tool, now) or refused_by(tool, job, now)) is not None:
                core.refuse(session, job.id, refusal)
                continue
            timeout = job.timeout
            until = deadline = now + (default if timeout is None else timeout)
            patience = tool.queue_timeout if job.queue_timeout is None else job.queue_timeout
            if patience is not None and now + patience < until:
                until = now + patience
            core.next_deadline = min(core.next_deadline, until)
            args = job.args
            core.bytes += len(args)
            entry = Entry(session, job.id, tool, args, deadline, now, account, until, backlog.count)
            if job.priority:
                entry.priority = job.priority
            if job.chunk:
                entry.chunk, entry.odd = job.chunk, True
            if guarded and tool.circuit.armed:
                entry.odd = True
            if (trace := job.trace if spans is None else spans.given(job.trace)) != "":
                entry.trace, entry.odd = trace, True
            if known:
                entry.resent = entry.odd = True
            if follow is not None or tool.idle:
                entry.live, entry.odd = live_of(follow, tool), True
            if tool.budget is not None:
                tool.budget.called()
            mine[job.id] = entry
            accepted += 1
            if tool.places:
                entry.partition = partition
            if name is not None:
                joining.fly(entry, name, job, now)
            elif job.key or job.mode:
                joining.join(entry, job, now)
            elif tool.balancer is None and not tool.valves:
                tool.group.line.append(entry)
            else:
                placing.enter(entry, job.route)
        core.accepted += accepted
        if account.rate is not None:
            account.rate.take(now, accepted - paid)

    def _unknown(self, session: Session, job: Job, now: float) -> None:
        """There is no such tool. If there was, its callers haven't noticed, and somebody should hear of that."""
        core = self._core
        if now >= core.removed.get(job.tool, inf):
            core.removed[job.tool] = now + REMOVED_SECONDS
            caller = session.caller or "a caller without a name"
            core.notes.append(("removed_tool_called", {"tool": job.tool, "caller": caller}))
        core.refuse(session, job.id, unknown_tool(core.tools, job.tool))

    def _sent_again(self, session: Session, job: Job, tool: ServedTool) -> bool:
        """After a reconnect a client sends again what it has no answer to; False: to be run.

        A job in hand is passed over. One that isn't was answered, and the answer may be lost with the connection;
        what the keyring holds is replayed, and only what may be repeated runs again.
        """
        if job.id in session.jobs:
            return True
        if (tool.repeatable and (tool.always or job.id > session.earlier)) or job.key or job.mode:
            return False
        text = f"{job.tool}: it was answered, but the answer was lost, and it may not be repeated"
        self._core.refuse(session, job.id, OutcomeUnknown(text, tool=job.tool, cause="connection lost"))
        return True

    def _room(self, session: Session, account: Account, now: float) -> int:
        """How many more jobs may be accepted of a session.

        A caller may have as much of the backlog as it leaves free, so whoever comes next finds room (Choudhury and
        Hahne, "Dynamic Queue Length Thresholds", 1998).
        """
        core = self._core
        limits = core.limits
        if core.bytes > limits.backlog_bytes or core.draining or core.broken:
            return 0
        free = limits.backlog - core.backlog.count
        room = min((free - account.waiting + 1) // 2, limits.per_client - len(session.jobs))
        if account.in_flight:
            room = min(room, account.in_flight - account.jobs())
        if account.rate is not None:
            room = min(room, account.rate.available(now))
        return room
