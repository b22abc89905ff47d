"""A turnover: from one moment to the next other code of the tools is served, under whatever policy that declares.

What has begun goes on where it is. What waits keeps its place, or waits anew if its tool has another group, balancer
or other limits now; what its tool no longer is, a worker says. Runs that go on count against the new limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from toolring.policy.breaker import Event as CircuitEvent
from toolring.policy.breaker import State as CircuitState
from toolring.policy.groups import Bounds, bounds_of
from toolring.policy.guarded import Guarded
from toolring.spec import ToolSpec
from toolring.supervisor.backlog import Line
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.circuits import Circuit
from toolring.supervisor.fleet import Group
from toolring.supervisor.history import note
from toolring.supervisor.ledger import Entry, State

if TYPE_CHECKING:
    from toolring.supervisor.core import Core
    from toolring.supervisor.lineup import Lineup

_ORDERS = {
    CircuitState.FORCED_OPEN: CircuitEvent.FORCE_OPEN,
    CircuitState.FORCED_CLOSED: CircuitEvent.FORCE_CLOSE,
    CircuitState.METRICS_ONLY: CircuitEvent.OBSERVE,
}


class Changes(NamedTuple):
    """Names of tools, sorted."""

    added: list[str]
    changed: list[str]
    removed: list[str]


class _Terms(NamedTuple):
    """What decides where a job waits, and for what."""

    group: Group
    balancer: Guarded | None
    bounds: Bounds
    batch: int | None
    delay: float
    memory: int


def _terms(spec: ToolSpec, group: Group, balancer: Guarded | None) -> _Terms:
    return _Terms(group, balancer, bounds_of(spec), spec.batch, spec.batch_delay, spec.memory)


def turn_over(core: Core, lineup: Lineup, specs: Sequence[ToolSpec], groups: list[Group], now: float) -> Changes:
    """Serve these tools in these groups from now on; of those that there are already, in the same as before."""
    fleet, known = core.fleet, {**core.gone, **core.tools}
    before = list(fleet.groups)
    fleet.regroup(groups)
    coming = {spec.name: spec for spec in specs}
    terms = {spec.name: _terms(spec, group := fleet.group_of(spec), lineup.balancer(spec, group)) for spec in specs}
    changes = _changes(core.tools, coming)
    moving = {
        tool for name, tool in core.tools.items() if terms.get(name) != _terms(tool.spec, tool.group, tool.balancer)
    }
    moving |= set(core.gone.values())
    waiting = _withdrawn(core, before, moving, now)
    entries = [entry for session in (core.house, *core.sessions.values()) for entry in session.jobs.values()]
    running = [entry for entry in entries if entry.state is State.DISPATCHED and entry.tool in moving]
    left = [
        (worker, number, leftover)
        for worker in fleet.workers.values()
        for number, leftover in worker.leftovers.items()
        if leftover.tool in moving
    ]
    for entry in running:
        core.placing.return_permits(entry)
    for _, _, leftover in left:
        for valve in leftover.tool.valves[: leftover.passed]:
            valve.returned(leftover.tool)
    for entry in entries:
        _meets(entry, coming.get(entry.tool.name))
    for session in core.sessions.values():
        session.earlier = session.highest
    core.tools.clear()
    for spec in specs:
        tool = known.get(spec.name)
        core.tools[spec.name] = _taken_on(core, spec, tool, terms[spec.name], tool in moving)
    _leave(core, known, entries)
    core.gather_valves()
    for entry in running:
        entry.passed = _charge(entry.tool)
    for worker, number, leftover in left:
        worker.leftovers[number] = leftover._replace(passed=_charge(leftover.tool))
    for entry in waiting:
        note(entry, "moved")
        core.placing.enter(entry, entry.route)
    lineup.forget([group for group in before if group not in groups])
    core.removed = {name: 0.0 for name in (*core.removed, *changes.removed) if name not in core.tools}
    if core.figures is not None:
        core.figures.measured.turned_over()
    return changes


def _meets(entry: Entry, spec: ToolSpec | None) -> None:
    """A job in hand meets other code of its tool, or none."""
    old = entry.tool.spec
    entry.odd = True  # whatever is to be looked at now that wasn't
    if spec == old:
        return
    if entry.run.state is State.DISPATCHED and entry.begun_as is None:
        entry.begun_as = old
    if entry.state is not State.JOINED and (spec is None or _sharing(spec) != _sharing(old)):
        entry.partition = None  # with whom its result is shared was decided under another policy
    if spec is not None and _failing(spec) != _failing(old):
        entry.permit = -1


def _sharing(spec: ToolSpec) -> tuple[object, ...]:
    return spec.cache is None, spec.cache_scope


def _failing(spec: ToolSpec) -> tuple[object, ...]:
    """What failed was the old code, so with another version a circuit begins anew."""
    return spec.version, spec.breaker


def _taken_on(core: Core, spec: ToolSpec, tool: ServedTool | None, terms: _Terms, moves: bool) -> ServedTool:
    """A tool under this policy. What an operator has said of its circuit stays."""
    if tool is None:
        tool = ServedTool(spec, terms.balancer)
        core.join(tool, terms.group)
        return tool
    if _failing(spec) != _failing(tool.spec):
        order = _ORDERS.get(tool.circuit.breaker.state)
        tool.circuit = Circuit(spec.breaker)
        tool.circuit.heard = tool.runs
        if order is not None:
            tool.circuit.breaker.order(order)
            tool.circuit.armed = True
    tool.becomes(spec, terms.balancer)
    if moves:
        core.join(tool, terms.group)
    return tool


def _leave(core: Core, known: Mapping[str, ServedTool], entries: Sequence[Entry]) -> None:
    """Tools that are no more; their records stay for as long as somebody has to do with them."""
    needed = {entry.tool for entry in entries}
    needed.update(left.tool for worker in core.fleet.workers.values() for left in worker.leftovers.values())
    gone = {name: tool for name, tool in known.items() if name not in core.tools}
    for tool in gone.values():
        tool.group, tool.balancer, tool.valves = core.fleet.group_of(tool.spec), None, ()
    core.gone = {name: tool for name, tool in gone.items() if tool in needed}


def _charge(tool: ServedTool) -> int:
    """A run of it has permits of all its valves, whether they would let it through or not. How many?"""
    for valve in tool.valves:
        valve.charge(tool)
    return len(tool.valves)


def _changes(tools: dict[str, ServedTool], specs: dict[str, ToolSpec]) -> Changes:
    old = {name: tool.spec for name, tool in tools.items() if not tool.spec.internal}
    new = {name: spec for name, spec in specs.items() if not spec.internal}
    return Changes(
        sorted(new.keys() - old.keys()),
        sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
        sorted(old.keys() - new.keys()),
    )


def _withdrawn(core: Core, groups: Sequence[Group], moving: set[ServedTool], now: float) -> list[Entry]:
    """Take those out of their lines that wait for one of these tools; who was furthest comes first. They have no
    permits any more."""
    for carrier in list(core.house.jobs.values()):
        if carrier.members is not None and carrier.state is State.QUEUED and carrier.tool in moving:
            for member in core.gathering.dissolve(carrier, now):
                core.gathering.by_itself(member)
    found: list[Entry] = []
    for line in _lines(core, groups):
        if any(entry.tool in moving for entry in line):
            for entry in line.clear():
                if entry.tool in moving:
                    found.append(entry)
                else:
                    line.append(entry)
    for entry in found:
        core.placing.leave_valves(entry, State.QUEUED)
    return found


def _lines(core: Core, groups: Sequence[Group]) -> Iterator[Line]:
    """All lines of these groups, the last that a job passes first."""
    for group in groups:
        for slot in group.slots:
            yield slot.waiting
        yield group.line
        yield group.apart
    for valve in reversed(core.valves):
        yield valve.line
