"""Why a job is refused at the door: errors that say what is full, and when to come back."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Final

from toolring.errors import Busy, Draining, InvalidArguments, ToolringError, Unhealthy, UnknownTool
from toolring.policy.declared import LEAST_IDLE

if TYPE_CHECKING:
    from toolring.protocol import Follow, Job
    from toolring.spec import ToolSpec
    from toolring.supervisor.accounts import Account
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.core import Core
    from toolring.supervisor.ledger import Session

MOST_NAMED: Final = 8
"""Tools, in an error that names those that there are."""


def unknown_tool(tools: Mapping[str, ServedTool], name: str) -> UnknownTool:
    """Names the tool that was meant, or some of those that there are."""
    tools = {name: tool for name, tool in tools.items() if not tool.spec.internal}
    close = get_close_matches(name, tools, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(sorted(tools)[:MOST_NAMED])}"
    if not close and len(tools) > MOST_NAMED:
        hint += f" and {len(tools) - MOST_NAMED} more"
    return UnknownTool(f"no tool {name!r} here; {hint}", tool=name)


def known_tool(tools: Mapping[str, ServedTool], name: str) -> ServedTool:
    """The tool of this name that anybody may know of. Raises UnknownTool."""
    tool = tools.get(name)
    if tool is None or tool.spec.internal:
        raise unknown_tool(tools, name)
    return tool


def not_followed(spec: ToolSpec, follow: Follow) -> InvalidArguments | None:
    """Why a tool can't be followed as its caller wants to; None: it can."""
    name, idle = spec.name, follow.idle
    if follow.stream and not spec.streams:
        return InvalidArguments(f"{name} is no generator, so it has nothing to stream; call it", tool=name)
    if idle is None or (idle >= LEAST_IDLE and not spec.batch):
        return None
    why = "many of its calls are one run" if spec.batch else f"words of progress come at least every {LEAST_IDLE:g} s"
    return InvalidArguments(f"{name}: it can't have idle_timeout={idle:g}: {why}", tool=name, argument="idle_timeout")


def why_full(core: Core, session: Session, account: Account, now: float) -> ToolringError:
    """The limit that is reached, and after how many seconds there should be room again."""
    limits = core.limits
    if core.draining:
        return Draining("the node is shutting down", limit="draining", retry_after=1.0)
    if core.broken:
        return broken()
    who = f"the caller {account.name!r}" if account.name else "this client"
    if account.rate is not None and account.rate.available(now) <= 0:
        text = f"{who} has submitted as many jobs as its rate allows"
        return Busy(text, limit="caller_rate", retry_after=_rounded(account.rate.wait(now)))
    if account.in_flight and account.jobs() >= account.in_flight:
        text, limit = f"{who} has {account.jobs()} jobs in hand; it may have {account.in_flight}", "caller_in_flight"
    elif len(session.jobs) >= limits.per_client:
        text = f"this client has {len(session.jobs)} jobs in flight; the limit is {limits.per_client}"
        limit = "per_client"
    elif core.bytes > limits.backlog_bytes:
        text, limit = (
            f"{core.bytes} bytes of arguments are waiting; the limit is {limits.backlog_bytes}",
            "backlog_bytes",
        )
    elif core.backlog.count >= limits.backlog:
        text, limit = f"{core.backlog.count} jobs are waiting; the limit is {limits.backlog}", "backlog"
    else:
        free = limits.backlog - core.backlog.count
        text = f"{account.waiting} jobs of {who} are waiting; it may have no more than are left to others ({free})"
        limit = "backlog_share"
    return Busy(text, limit=limit, retry_after=_rounded(_work(core) / max(1, len(core.fleet.ready))))


def refused_by(tool: ServedTool, job: Job, now: float) -> ToolringError | None:
    """Why a tool can't have a job: nobody could run it, its backlog is full, or a chunk would pass for one start."""
    if not tool.group.healthy:
        return unhealthy(tool)
    for valve in tool.valves:
        if job.chunk and valve.rate is not None:
            text = f"{tool.name} has a rate, so its calls are jobs of their own: chunk=1"
            return InvalidArguments(text, tool=tool.name)
        if valve.full:
            text = f"{tool.name}: {valve.waiting} calls are waiting for the {valve.of}; the limit is {valve.backlog}"
            after = valve.wait(tool.cost, now) or valve.waiting * tool.cost / tool.group.width
            limit = f"{valve.of.partition(' ')[0]}_backlog"
            return Busy(text, limit=limit, tool=tool.name, retry_after=_rounded(after))
    return None


def broken() -> Unhealthy:
    """Nobody works anywhere."""
    return Unhealthy("the tools can't be loaded; see the node's log", limit="unhealthy", retry_after=1.0)


def unhealthy(tool: ServedTool) -> Unhealthy:
    """Nobody works where this runs, and nobody will soon."""
    group = tool.group.name
    text = f"{tool.name}: the workers of group {group!r} keep dying before they can do anything; see the node's log"
    return Unhealthy(text, tool=tool.name, group=group, limit="unhealthy", retry_after=1.0)


def _work(core: Core) -> float:
    """Seconds of work that wait, about."""
    work = sum(slot.waiting.pending for slot in core.fleet.slots)
    for group in core.fleet.groups:
        first = [entry.tool.cost for entry in islice(group.line, 64)]  # the line may be long, and refusals many
        work += group.line.size * sum(first) / len(first) / (group.many or 1) if first else 0.0
    return work


def _rounded(seconds: float) -> float:
    return round(min(30.0, max(0.01, seconds)), 3)
