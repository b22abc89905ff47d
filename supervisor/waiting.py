"""Who waits, for what, and about how much longer. Read when somebody asks; nothing here is on a job's way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from toolring.supervisor.backlog import Line
from toolring.supervisor.core import Core
from toolring.supervisor.fleet import Group
from toolring.supervisor.ledger import Entry, State
from toolring.supervisor.valves import Valve


class Queue(NamedTuple):
    """A line, what those in it wait for, and how many of them run at once when their turn comes."""

    line: Line
    waits_for: str
    width: float
    group: Group
    """Whose workers they wait for, in the end."""


def queues(core: Core) -> Iterator[Queue]:
    for group in core.fleet.groups:
        alone = len(core.fleet.groups) == 1
        yield Queue(group.line, "workers" if alone else f"workers of {group.name}", group.width, group)
        yield Queue(group.apart, "a worker to itself", 1, group)
        for slot in group.slots:
            yield Queue(slot.waiting, f"worker {slot.index}", group.many or 1, group)
        if group.valve is not None:
            yield _before_valve(group.valve, group, f" of group {group.name}")
    for tool in core.tools.values():
        for valve in tool.valves:
            if valve is not tool.group.valve:
                yield _before_valve(valve, tool.group, "")


def _before_valve(valve: Valve, group: Group, of: str) -> Queue:
    limit = valve.limit
    width = group.width if limit is None else min(group.width, limit.limit)
    return Queue(valve.line, valve.what() + of, width, group)


def place(core: Core, entry: Entry, now: float) -> dict[str, Any]:
    """``position`` (0: next), ``wait`` (seconds, estimated) and ``waits_for`` of a job that waits.

    The estimate shares the workers as they will be shared: while this caller's jobs before this one are run,
    each other caller gets its own share, or all that it wants if that is less.
    """
    if entry.state is State.DELAYED:
        due = next((due for due, _, one in core.retries.delayed if one is entry), now)
        return {"waits_for": "retry", "wait": round(max(0.0, due - now), 3)}
    for queue in queues(core) if entry.state is State.QUEUED else ():
        if any(one is entry for one in queue.line):
            position, work = _before(queue.line, entry)
            group = entry.tool.group
            wait = work / queue.width
            if not group.many:
                wait += min((worker.load for worker in group.ready), default=0.0)
            for valve in entry.tool.valves:
                if valve.line is queue.line and valve.rate is not None:
                    wait = max(wait, valve.rate.wait(now) + position * valve.rate.step)
            return {"position": position, "wait": round(wait, 3), "waits_for": queue.waits_for}
    return {}


def _before(line: Line, entry: Entry) -> tuple[int, float]:
    """How many jobs are served before this one, and how many seconds of work they are."""
    account = entry.account
    count, own = 0, 0.0
    others: dict[Any, tuple[int, float]] = {}
    before = True
    for one in line:
        if one is entry:
            before = False
        elif one.account is not account:
            number, work = others.get(one.account, (0, 0.0))
            others[one.account] = number + 1, work + one.tool.cost
        elif before:
            count, own = count + 1, own + one.tool.cost
    total = own
    for other, (number, work) in others.items():
        share = min(work, own * other.weight / account.weight)
        count += round(number * share / work)
        total += share
    return count, total


def summary(core: Core, now: float) -> list[dict[str, Any]]:
    """Those that wait, by what they wait for, tool and caller: ``count``, and ``oldest`` in seconds."""
    found: dict[tuple[str, str, str], list[Entry]] = {}
    for queue in queues(core):
        for entry in queue.line:
            found.setdefault((queue.waits_for, entry.tool.name, entry.account.name), []).append(entry)
    for _, _, entry in core.retries.delayed:
        if entry.state is State.DELAYED:
            found.setdefault(("retry", entry.tool.name, entry.account.name), []).append(entry)
    return [
        {
            "waits_for": waits_for,
            "tool": tool,
            "caller": caller,
            "count": len(entries),
            "oldest": round(now - min(entry.accepted for entry in entries), 3),
            "work": round(sum(entry.tool.cost for entry in entries), 3),
        }
        for (waits_for, tool, caller), entries in sorted(found.items())
    ]


def busy_with(core: Core, group: Group, since: float, until: float) -> list[tuple[str, float]]:
    """What the workers of a group ran meanwhile, as far as is known: tools, with the seconds that they took of that
    time, the most first."""
    spent: dict[str, float] = {}
    history = core.history
    over = [] if history is None else [*history.failures(), *history.others()]
    ran = [(one, one.ended - one.run_us * 1e-6, one.ended) for one in over if isinstance(one, Entry)]
    for worker in core.fleet.workers.values():
        running = next(iter(worker.line.values()), None)  # of one that runs many at once, the oldest
        if running is not None:
            ran.append((running, running.sent, until))
    for entry, began, ended in ran:
        shared = min(ended, until) - max(began, since)
        if shared > 0 and entry.worker is not None and entry.worker.slot.group is group:
            spent[entry.tool.name] = spent.get(entry.tool.name, 0.0) + shared
    return sorted(spent.items(), key=lambda one: -one[1])
