"""What a pool tells of itself, in numbers and in its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from toolring.errors import PoolClosed, PoolExhausted, PoolTimeout
from toolring.workers.pools.entry import Entry, Held, State

if TYPE_CHECKING:
    from toolring.workers.pools.ledger import Ledger

COUNTS: Final = (
    "created",
    "destroyed",
    "uses",  # of those that are destroyed
    "waits",
    "timeouts",
    "refused",
    "create_errors",
    "invalid",
    "leaks",
    "dropped",
)


def sizes(ledger: Ledger) -> dict[str, int]:
    return {
        "total": len(ledger.entries),
        "active": ledger.count(State.OUT),
        "idle": len(ledger.idle),
        "creating": ledger.count(State.CREATING),
        "checking": ledger.count(State.CHECKING),
        "closing": ledger.count(State.RETIRED, State.CLOSING),
        "waiting": len(ledger.waiters),
    }


def stats(ledger: Ledger) -> dict[str, float]:
    return {
        **sizes(ledger),
        **ledger.counts,
        "uses": ledger.counts["uses"] + sum(entry.uses for entry in ledger.entries),
        "wait_seconds": ledger.wait_seconds,
        "longest_wait": ledger.longest_wait,
    }


def held(ledger: Ledger, now: float) -> list[Held]:
    return [held_of(entry, now) for entry in ledger.entries if entry.state is not State.IDLE]


def held_of(entry: Entry, now: float) -> Held:
    state = State.CLOSING if entry.state is State.RETIRED else entry.state
    return Held(state.name.lower(), now - entry.since, entry.where if entry.state is State.OUT else "")


def timeout(ledger: Ledger, waited: float) -> PoolTimeout:
    facts, cause = {**_facts(ledger), "waited": waited}, ledger.backoff.error
    text = f"{_title(ledger)}: nothing within {waited:.3g} s; {_told(ledger)}"
    if cause is not None:
        facts["cause"] = f"{type(cause).__name__}: {cause}"
        text += f"; the last creation failed: {facts['cause']}"
    error = PoolTimeout(text, **facts)
    error.__cause__ = cause
    return error


def exhausted(ledger: Ledger) -> PoolExhausted:
    text = f"{_title(ledger)}: no more than {ledger.policy.max_waiting} may wait; {_told(ledger)}"
    return PoolExhausted(text, **_facts(ledger))


def closed(ledger: Ledger) -> PoolClosed:
    return PoolClosed(f"{_title(ledger)} is closed", pool=ledger.name)


def _facts(ledger: Ledger) -> dict[str, Any]:
    return {"pool": ledger.name, "max": ledger.policy.max, **sizes(ledger)}


def _title(ledger: Ledger) -> str:
    return f"pool {ledger.name}" if ledger.name else "pool"


def _told(ledger: Ledger) -> str:
    counts = sizes(ledger)
    total = counts.pop("total")
    return f"{total} of at most {ledger.policy.max}: {', '.join(f'{count} {what}' for what, count in counts.items())}"
