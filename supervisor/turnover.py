"""A turnover: from one moment to the next other code of the tools is served, under whatever policy that declares.

What has begun goes on where it is. What waits keeps its place, or waits anew if its tool has another group, balancer
or other limits now; what its tool no longer is, a worker says. Runs that go on count against the new limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from toolring.policy.breaker import Event as CircuitEvent
from toolring.policy.breaker import State as CircuitState
from toolring.policy.groups import Bounds, bounds_of
from toolring.policy.guarded import Guarded
from toolring.spec import ToolSpec
from toolring.supervisor.backlog import Line
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.circuits import Circuit
from toolring.supervisor.fleet import Group, Worker
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
    fleet, tools = core.fleet, core.tools
    before = list(fleet.groups)
    fleet.regroup(groups)
    terms = {spec.name: _terms(spec, group := fleet.group_of(spec), lineup.balancer(spec, group)) for spec in specs}
    changes = _changes(tools, {spec.name: spec for spec in specs})
    moving = {tool for name, tool in tools.items() if terms.get(name) != _terms(tool.spec, tool.group, tool.balancer)}
    waiting = _withdrawn(core, before, moving, now)
    running = _running(core, moving)
    for name in tools.keys() - terms.keys():
        gone = tools.pop(name)
        gone.group, gone.balancer, gone.valves = fleet.group_of(gone.spec), None, ()
    for spec in specs:
        _take_on(core, spec, terms[spec.name], moving)
    core.gather_valves()
    for run in running:
        run.charge()
    for entry in _in_hand(core):
        entry.odd = True  # whatever is to be looked at now that wasn't
    for entry in waiting:
        core.placing.enter(entry, entry.route)
    lineup.forget([group for group in before if group not in groups])
    return changes


def _take_on(core: Core, spec: ToolSpec, terms: _Terms, moving: set[ServedTool]) -> None:
    """Serve one tool. What failed was its old code, so its circuit begins anew, but for what an operator has said."""
    tool = core.tools.get(spec.name)
    if tool is None:
        tool = core.tools[spec.name] = ServedTool(spec, terms.balancer)
        core.join(tool, terms.group)
        return
    if (spec.version, spec.breaker) != (tool.spec.version, tool.spec.breaker):
        order = _ORDERS.get(tool.circuit.breaker.state)
        tool.circuit = Circuit(spec.breaker)
        if order is not None:
            tool.circuit.breaker.order(order)
            tool.circuit.armed = True
        for entry in _in_hand(core):
            if entry.tool is tool:
                entry.permit = -1
    tool.becomes(spec, terms.balancer)
    if tool in moving:
        core.join(tool, terms.group)


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


class _Run(NamedTuple):
    """One that goes on, of a job, or of one that has ended for its caller while its worker (``by``) is still at it."""

    tool: ServedTool
    entry: Entry | None
    by: Worker | None = None
    number: int = 0

    def charge(self) -> None:
        """It has permits of its tool's valves, whether they would let it through or not."""
        for valve in self.tool.valves:
            valve.charge(self.tool)
        passed = len(self.tool.valves)
        if self.entry is not None:
            self.entry.passed = passed
        elif self.by is not None:
            self.by.leftovers[self.number] = self.by.leftovers[self.number]._replace(passed=passed)


def _running(core: Core, moving: set[ServedTool]) -> list[_Run]:
    """The runs of these tools; their permits are given back."""
    found: list[_Run] = []
    for entry in _in_hand(core):
        if entry.state is State.DISPATCHED and entry.tool in moving:
            core.placing.return_permits(entry)
            found.append(_Run(entry.tool, entry))
    for worker in core.fleet.workers.values():
        for number, left in worker.leftovers.items():
            if left.tool in moving:
                for valve in left.tool.valves[: left.passed]:
                    valve.returned(left.tool)
                found.append(_Run(left.tool, None, worker, number))
    return found


def _in_hand(core: Core) -> Iterator[Entry]:
    for session in [core.house, *core.sessions.values()]:
        yield from session.jobs.values()
