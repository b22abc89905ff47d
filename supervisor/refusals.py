"""Why a job is refused at the door: errors that say what is full, and when to come back."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

from toolring.errors import Busy, Draining, ToolringError, Unhealthy, UnknownTool

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.core import Core
    from toolring.supervisor.ledger import Session


def unknown_tool(tools: Mapping[str, ServedTool], name: str) -> UnknownTool:
    """Names the tool that was meant, or some of those that there are."""
    tools = {name: tool for name, tool in tools.items() if not tool.spec.internal}
    close = get_close_matches(name, tools, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(sorted(tools)[:8])}"
    return UnknownTool(f"no tool {name!r} here; {hint}", tool=name)


def why_full(core: Core, session: Session) -> ToolringError:
    """The limit that is reached, and after how many seconds there should be room again."""
    limits = core.limits
    first = [entry.tool.cost for entry in islice(core.line, 64)]  # the line may be long, and refusals many
    work = sum(slot.pending for slot in core.fleet.slots)
    if first:
        work += len(core.line) * sum(first) / len(first)
    after = round(min(30.0, max(0.01, work / max(1, len(core.fleet.ready)))), 3)
    if core.draining:
        return Draining("the node is shutting down", limit="draining", retry_after=1.0)
    if not core.healthy:
        return Unhealthy("the node's workers keep dying; see its log", limit="unhealthy", retry_after=1.0)
    if len(session.jobs) >= limits.per_client:
        text, limit = f"this client has {len(session.jobs)} jobs in flight", "per_client"
    elif core.bytes > limits.backlog_bytes:
        text, limit = f"{core.bytes} bytes of arguments are waiting", "backlog_bytes"
    else:
        text, limit = f"{core.waiting()} jobs are waiting", "backlog"
    return Busy(f"{text}; the limit is {getattr(limits, limit)}", limit=limit, retry_after=after)
