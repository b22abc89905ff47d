"""Circuits: a tool that keeps failing, or keeps killing workers, is not run for a while.

A tool that declares a breaker has every run of it counted. Any other has a breaker too, but it hears of killed workers
only, together with how many runs there were since the last one; so it costs nothing until something happens.

A permit is taken when a run is sent to a worker, not when its job is accepted, so no more than the probes are under way
while a tool is tried out. Who waits when a circuit opens is refused then, who comes later is refused at the door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from toolring.errors import CircuitOpen, ToolringError
from toolring.policy.breaker import Breaker, BreakerPolicy, Event, State
from toolring.protocol import CACHED, Answer, decode_value
from toolring.supervisor.ledger import Entry
from toolring.supervisor.ledger import Event as JobEvent
from toolring.supervisor.ledger import State as JobState

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.core import Core

DEATHS: Final = BreakerPolicy(failure_rate=0.5, window=20, minimum=10, wait=10.0, probes=1)
"""Of tools that declare none; a run fails if its worker died of it. One poisoned job alone does not open it."""
CALLERS_FAULT: Final = frozenset({"INVALID_ARGUMENTS", "TOO_LARGE", "TOO_DEEP", "CANCELLED"})
_OWN_LIMITS: Final = frozenset({"timeout", "idle_timeout"})


class Circuit:
    """A tool's breaker, and whether its runs ask it for a permit."""

    __slots__ = ("armed", "breaker", "deaths", "declared", "heard")

    def __init__(self, policy: BreakerPolicy | None) -> None:
        self.declared = policy is not None
        self.breaker = Breaker(policy or DEATHS)
        self.armed = self.declared
        """Each run needs a permit, and is told of."""
        self.deaths = 0
        """Workers that died of the tool."""
        self.heard = 0
        """Runs of the tool when it last heard of them, where it isn't told of each."""

    @property
    def state(self) -> str:
        """``closed``, ``open``, ``half_open``, or what it was told to be."""
        return self.breaker.state.name.lower()

    def figures(self, now: float) -> dict[str, Any]:
        """``calls``, ``failed`` and ``slow`` are those in its window, those of the probes, or those that opened it. A
        tool that declares no breaker has killed workers for failures, and is told of its runs when there is one.
        """
        breaker = self.breaker
        waits = breaker.state is State.OPEN and breaker.refuses(now)
        return {
            "state": self.state,
            "declared": self.declared,
            **breaker.counts(now)._asdict(),
            "deaths": self.deaths,
            "opened": breaker.opened,
            "refused": breaker.refused,
            "retry_after": round(breaker.retry_after(now), 3) if waits else None,
        }


class Circuits:
    """The tools' circuits of one core."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    # ---- before a run

    def refusal(self, tool: ServedTool, now: float) -> CircuitOpen | None:
        """Why a job is refused at the door; None: it is not."""
        circuit = tool.circuit
        if not circuit.armed or not circuit.breaker.refuses(now):
            return None
        circuit.breaker.refused += 1
        return _open(tool, now)

    def lets(self, entry: Entry, now: float) -> bool:
        """Take a permit for a run that is about to be sent. False: there is none."""
        breaker = entry.tool.circuit.breaker
        before = breaker.state
        permit = breaker.permit(now)
        if breaker.state is not before:
            self._changed(entry.tool, now)
        if permit is None:
            return False
        entry.permit = permit
        return True

    def refuse(self, entry: Entry, now: float) -> None:
        """Answer a job that waits, and may not run now."""
        core = self._core
        core.settle(entry, JobEvent.FAIL, core.error_answer(entry, _open(entry.tool, now)), now)

    # ---- after it

    def settled(self, entry: Entry, event: JobEvent, answer: Answer, now: float) -> None:
        """A job with a permit has its answer. If it didn't return, or came from a cache, that tells nothing more."""
        failed: bool | None = False
        if answer.failed is not None and sum(answer.failed.values()) == entry.chunk and entry.tool.circuit.declared:
            failed = _all_failed(entry.tool.circuit, answer)
        if failed is None or event is not JobEvent.SUCCEED or answer.flags & CACHED:
            self.spared(entry)
        else:
            self._record(entry, failed, answer.run_us * 1e-6 / (entry.chunk or 1), now)

    def failed(self, entry: Entry, error: Mapping[str, Any], run_us: int, now: float) -> None:
        """A run ended with an error."""
        failed = _failed(entry.tool.circuit, error)
        if failed is None:
            self.spared(entry)
        else:
            self._record(entry, failed, run_us * 1e-6 / (entry.chunk or 1), now)

    def expired(self, entry: Entry, error: ToolringError, now: float) -> None:
        """A run was ended since its time was up: its tool's failure if that was the tool's own limit. A caller's
        deadline may be as short as it likes, so it tells nothing of the tool."""
        if error.facts.get("limit") in _OWN_LIMITS:
            self._record(entry, entry.tool.circuit.declared, 0.0, now)

    def died(self, entry: Entry, now: float) -> None:
        """A worker died of a run."""
        tool = entry.tool
        circuit = tool.circuit
        breaker = circuit.breaker
        circuit.deaths += 1
        if not circuit.armed:
            for _ in range(min(breaker.policy.window, tool.runs - circuit.heard)):
                breaker.record(breaker.generation, False, 0.0, now)
            circuit.heard = tool.runs
            entry.permit = breaker.generation
        self._record(entry, True, 0.0, now)

    def spared(self, entry: Entry) -> None:
        """It didn't run, or its end tells nothing of the tool."""
        if entry.permit >= 0:
            entry.tool.circuit.breaker.cancel(entry.permit)
            entry.permit = -1

    def _record(self, entry: Entry, failed: bool, seconds: float, now: float) -> None:
        permit, entry.permit = entry.permit, -1
        if permit < 0:
            return
        breaker = entry.tool.circuit.breaker
        before = breaker.state
        breaker.record(permit, failed, seconds, now)
        if breaker.state is not before:
            self._changed(entry.tool, now)

    # ---- changes

    def order(self, tool: ServedTool, order: Event, now: float) -> None:
        """Somebody wants a circuit open, closed, watched, or to decide by itself again."""
        tool.circuit.breaker.order(order)
        self._changed(tool, now)

    def _changed(self, tool: ServedTool, now: float) -> None:
        """From now on its runs need permits, or need none any more. Whoever waits for one that opened is told."""
        core, circuit = self._core, tool.circuit
        state = circuit.breaker.state
        facts = {"tool": tool.name, "state": state.name.lower(), "deaths": circuit.deaths}
        core.notes.append(("circuit_changed", facts))
        circuit.armed = circuit.declared or state is not State.CLOSED
        circuit.heard = tool.runs
        tool.guard()
        if not circuit.armed:
            return
        for session in [core.house, *core.sessions.values()]:
            for entry in list(session.jobs.values()):
                if entry.tool is tool and not entry.final:
                    entry.odd = True
                    if entry.state is JobState.QUEUED and state in (State.OPEN, State.FORCED_OPEN):
                        circuit.breaker.refused += 1
                        self.refuse(entry, now)


def _failed(circuit: Circuit, error: Mapping[str, Any]) -> bool | None:
    """Is an error a failure of its tool? None: it is its caller's mistake, and tells nothing."""
    code, ignored = error.get("code"), circuit.breaker.policy.ignore
    if code in CALLERS_FAULT:
        return None
    return circuit.declared and code not in ignored and error.get("type") not in ignored


def _all_failed(circuit: Circuit, answer: Answer) -> bool | None:
    """The same of a run of many calls, each of which ended with an error: one that is a failure makes it one."""
    told = {_failed(circuit, error) for _, error in decode_value(answer.value)}
    return True if True in told else None if told == {None} else False


def _open(tool: ServedTool, now: float) -> CircuitOpen:
    breaker = tool.circuit.breaker
    if breaker.state is State.FORCED_OPEN:
        why = "an operator opened its circuit"
    elif tool.circuit.declared:
        why = "too many of its runs failed or were slow"
    else:
        why = f"it keeps killing workers ({tool.circuit.deaths} so far)"
    if breaker.state is State.HALF_OPEN:
        why += ", and it is being tried out"
    after = round(max(0.01, breaker.retry_after(now)), 3)
    return CircuitOpen(f"{tool.name} is not run for now: {why}", tool=tool.name, limit="circuit", retry_after=after)
