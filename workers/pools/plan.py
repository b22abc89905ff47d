"""What a pool has to do, read off its ledger: make, check, tear down, report, and when to look again."""

from __future__ import annotations

from math import inf

from toolring.workers.pools.entry import Entry, Job, State, Task
from toolring.workers.pools.figures import held_of
from toolring.workers.pools.ledger import Ledger

Plan = tuple[list[Job], float | None]
"""The float: in how many seconds to look again, unless the bell rings before; inf: only then, but something is there
that will ring it; None: nothing is there, nor will be unless somebody asks."""


def plan(ledger: Ledger, now: float) -> Plan:
    """The jobs are taken as begun."""
    _trim(ledger, now)
    jobs = [job for entry in ledger.entries if (job := _look_at(ledger, entry, now))]
    jobs += _serve(ledger, now)
    wanted = 0 if ledger.closed else _wanted(ledger)
    if wanted > 0 and now >= ledger.backoff.again:
        jobs += [ledger.create(now) for _ in range(wanted)]
        wanted = 0
    retired = [entry for entry in ledger.entries if entry.state is State.RETIRED]
    jobs += [_begin(Task.CLOSE, entry, State.CLOSING, now) for entry in retired]
    return jobs, _pause(ledger, now, wanted)


def _begin(task: Task, entry: Entry, state: State, now: float) -> Job:
    entry.go(state, now)
    return Job(task, entry)


def _trim(ledger: Ledger, now: float) -> None:
    """Retire what is too old, and what hasn't been needed for long."""
    most_idle = ledger.policy.idle_timeout or inf
    spare = ledger.alive() - ledger.policy.min
    for entry in ledger.idle[:]:
        surplus = spare > 0 and now >= entry.used + most_idle
        if ledger.closed or surplus or now >= entry.ends:
            ledger.idle.remove(entry)
            entry.go(State.RETIRED, now)
            spare -= 1


def _look_at(ledger: Ledger, entry: Entry, now: float) -> Job | None:
    policy = ledger.policy
    if entry.state is State.IDLE and policy.keepalive and now >= entry.good + policy.keepalive:
        ledger.idle.remove(entry)
        return _begin(Task.CHECK, entry, State.CHECKING, now)
    if now < _told_at(ledger, entry):
        return None
    entry.told = True
    if entry.state is State.CREATING:
        ledger.count_failure(TimeoutError(f"a creation has been under way for {now - entry.since:.3g} s"))
        return None
    if entry.state is State.CHECKING:
        ledger.counts["invalid"] += 1
        return None
    ledger.counts["leaks"] += 1
    return Job(Task.REPORT, entry, held_of(entry, now))


def _told_at(ledger: Ledger, entry: Entry) -> float:
    """When it is to be told that it takes too long."""
    if entry.told or ledger.closed:
        return inf
    if entry.state in (State.CREATING, State.CHECKING):
        return entry.since + ledger.policy.create_timeout
    return entry.since + (ledger.policy.leak_after or inf) if entry.state is State.OUT else inf


def _serve(ledger: Ledger, now: float) -> list[Job]:
    """Those who wait get what is idle, after a check where it needs one."""
    for entry in reversed(ledger.idle[:]):
        if ledger.waiters and now < entry.fresh:
            ledger.idle.remove(entry)
            ledger.hand_over(entry, now)
    lacking = min(len(ledger.waiters) - ledger.coming(), len(ledger.idle))
    return [_begin(Task.CHECK, ledger.idle.pop(), State.CHECKING, now) for _ in range(lacking)]


def _wanted(ledger: Ledger) -> int:
    """How many to create: for those who wait, and up to the least number; while it fails, one at a time."""
    policy = ledger.policy
    wanted = max(len(ledger.waiters) - ledger.coming(), policy.min - ledger.alive())
    wanted = min(wanted, policy.max - len(ledger.entries))
    return min(wanted, 1 - ledger.creating()) if ledger.backoff.failures else wanted


def _pause(ledger: Ledger, now: float, wanted: int) -> float | None:
    """Whatever happens before the end of it is due only after it."""
    policy = ledger.policy
    if not (ledger.entries or wanted > 0):
        return None
    if ledger.closed:
        return inf
    steps = (policy.idle_timeout, policy.keepalive, policy.leak_after)
    due = [now + step for step in steps if step] + ([ledger.backoff.again] if wanted > 0 else [])
    spare = ledger.alive() > policy.min
    for entry in ledger.entries:
        due += [_told_at(ledger, entry), entry.ends if entry.ends > now else inf]
        if entry.state is State.IDLE:
            due += [entry.good + (policy.keepalive or inf), entry.used + ((spare and policy.idle_timeout) or inf)]
    return max(0.0, min(due, default=inf) - now)
