"""A pool's ledger and plan beside a slow model: who holds what, who waits, and what each resource has been through."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from toolring.errors import PoolClosed, PoolExhausted, PoolTimeout
from toolring.workers.pools import figures
from toolring.workers.pools.entry import Entry, Hold, Job, Task
from toolring.workers.pools.ledger import JITTER, Ledger
from toolring.workers.pools.plan import plan
from toolring.workers.pools.policy import PoolPolicy

policies = st.builds(
    PoolPolicy,
    min=st.integers(0, 2),
    max=st.integers(2, 4),
    create_timeout=st.just(30.0),
    idle_timeout=st.sampled_from([0.0, 20.0]),
    max_lifetime=st.sampled_from([0.0, 25.0]),
    max_uses=st.integers(0, 2),
    max_waiting=st.sampled_from([0, 3]),
    validate_after=st.sampled_from([0.0, 0.5, 5.0]),
    keepalive=st.sampled_from([0.0, 7.0]),
    leak_after=st.sampled_from([0.0, 25.0]),
)
picks = st.integers(0, 10**6)


@dataclass(eq=False)
class Resource:
    number: int
    ends: float
    used: float
    good: float
    """When it was last known to be in order; -inf: nobody knows."""
    uses: int = 0
    state: str = "made"


@dataclass(eq=False)
class Claim:
    hold: Hold
    resource: Resource | None = None
    woken: bool = False


class PoolMachine(RuleBasedStateMachine):
    @initialize(policy=policies, checks=st.booleans())
    def make(self, policy: PoolPolicy, checks: bool) -> None:
        self.now = 1000.0
        self.policy = policy
        self.checks = checks = checks or policy.keepalive > 0
        self.rang = True
        self.quiet_until = -inf
        self.closed = False
        self.emptied = False
        self.ours = Ledger("p", policy, checks, self.ring, self.lost, lambda: self.now, lambda: 0.5)
        self.jobs: list[Job] = []
        self.begun: dict[Entry, float] = {}
        self.resources: list[Resource] = []
        self.line: list[Claim] = []
        self.claims: list[Claim] = []
        """Those that were woken or have a resource."""
        self.made = self.gone = 0

    def ring(self) -> None:
        self.rang = True

    def lost(self, _: Any) -> None:
        raise AssertionError("a claim that is settled, or that somebody has, can't be lost")

    # ---- the model's side

    def fit(self, one: Resource) -> bool:
        """May be given out as it is."""
        recent = not self.checks or self.now < one.good + self.policy.validate_after
        return recent and self.now < one.ends and not self.used_up(one)

    def coming(self) -> int:
        """What is being made or checked, and hasn't taken too long yet."""
        awaited = [job.entry for job in self.jobs if job.task in (Task.CREATE, Task.CHECK)]
        return sum(self.now < self.begun[entry] + self.policy.create_timeout for entry in awaited)

    def used_up(self, one: Resource) -> bool:
        return bool(self.policy.max_uses) and one.uses >= self.policy.max_uses

    def holders(self) -> list[Resource]:
        return [claim.resource for claim in self.claims if claim.resource is not None]

    def handed(self, claim: Claim, entry: Entry) -> None:
        one: Resource = entry.resource
        assert one not in self.holders(), "two have it"
        assert one.state in ("made", "idle", "checked", "given")
        assert self.fit(one) or one.state in ("made", "checked"), "it should have been looked at before"
        one.state = "out"
        one.uses += 1
        claim.resource = one
        self.claims.append(claim)

    def wake(self, claim: Claim) -> None:
        assert self.line.pop(0) is claim, "another has waited longer"
        claim.woken = True
        waiter = claim.hold.waiter
        assert waiter is not None
        if waiter.entry is None:
            assert self.closed
            self.claims.append(claim)
        else:
            self.handed(claim, waiter.entry)

    def idle(self) -> list[Resource]:
        return [one for one in self.resources if one.state == "idle"]

    def rest(self, one: Resource) -> None:
        """It is in nobody's hands: unless it went to the next, it is idle or retired."""
        if one.state == "out":
            return
        entry = next(each for each in self.ours.entries if each.resource is one)
        over = self.closed or self.now >= one.ends or self.used_up(one)
        if over or one.state == "broken":
            one.state = "retired"
        else:
            assert not (self.line and self.fit(one)), "somebody waits for it"
            one.state = "idle"
        assert entry.state.name == one.state.upper()

    # ---- callers

    @rule()
    def ask(self) -> None:
        claim = Claim(Hold())
        entry = self.ours.take(claim.hold)
        if entry is not None:
            assert not self.line
            assert not self.closed
            assert entry.resource.state == "idle"
            self.handed(claim, entry)
            return
        assert self.line or self.closed or not self.idle() or not all(self.fit(one) for one in self.idle())
        full = self.policy.max_waiting and len(self.line) >= self.policy.max_waiting
        if self.closed or full:
            with pytest.raises(PoolClosed if self.closed else PoolExhausted):
                self.ours.wait(claim.hold, lambda: self.wake(claim))
        else:
            self.ours.wait(claim.hold, lambda: self.wake(claim))
            self.line.append(claim)

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def accept(self, pick: int) -> None:
        claim = self.claims[pick % len(self.claims)]
        if not claim.woken:
            return
        claim.woken = False
        if claim.resource is None:
            self.claims.remove(claim)
            with pytest.raises(PoolClosed):
                self.ours.accept(claim.hold)
        else:
            assert self.ours.accept(claim.hold).resource is claim.resource

    @precondition(lambda self: self.line)
    @rule(pick=picks)
    def time_out(self, pick: int) -> None:
        claim = self.line[pick % len(self.line)]
        with pytest.raises(PoolTimeout) as caught:
            self.ours.accept(claim.hold)
        assert caught.value.__cause__ is self.ours.backoff.error
        self.line.remove(claim)

    @precondition(lambda self: self.claims)
    @rule(pick=picks, way=st.sampled_from(["good", "suspect", "broken", "leave", "drop"]))
    def give(self, pick: int, way: str) -> None:
        claim = self.claims[pick % len(self.claims)]
        if claim.woken and way not in ("leave", "drop"):
            return
        self.claims.remove(claim)
        one = claim.resource
        if one is not None:
            broken = way in ("broken", "drop")
            one.state = "broken" if broken else "given"
            one.used, one.good = self.now, -inf if way == "suspect" else self.now
        if way == "leave":
            self.ours.leave(claim.hold)
        elif way == "drop":
            self.drop(claim)
        elif one is not None:
            self.ours.give(claim.hold, broken=way == "broken", suspect=way == "suspect")
        if one is not None:
            self.rest(one)
        with pytest.raises(RuntimeError, match="given back already"):
            self.ours.give(claim.hold)

    def drop(self, claim: Claim) -> None:
        """As if its lease had been collected."""
        waiter = claim.hold.waiter
        entry = claim.hold.entry if waiter is None else waiter.entry
        guard = entry.guard if entry is not None else waiter.guard if waiter is not None else None
        claim.hold.entry = claim.hold.waiter = None
        if guard is not None:
            self.ours.drop(guard)

    @precondition(lambda self: self.line)
    @rule(pick=picks)
    def give_up(self, pick: int) -> None:
        claim = self.line.pop(pick % len(self.line))
        if pick % 2:
            self.ours.leave(claim.hold)
        else:
            self.drop(claim)

    # ---- time, and the shell

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 20.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def look(self) -> None:
        early = not self.rang and self.now < self.quiet_until
        self.rang = False
        before = {one: one.state for one in self.resources}
        jobs, pause = plan(self.ours, self.now)
        assert not (early and jobs), "it said that there would be nothing to do by now"
        self.quiet_until = inf if pause is None else self.now + pause
        assert pause is None or pause > 0
        assert pause is not None or not self.ours.entries, "nobody would look when a lease is lost"
        for job in jobs:
            one: Resource | None = job.entry.resource
            if job.task is Task.CHECK and one is not None:
                assert self.checks
                assert before[one] == "idle"
                one.state = "checking"
            elif job.task is Task.CLOSE and one is not None:
                surplus = self.policy.idle_timeout and self.now >= one.used + self.policy.idle_timeout
                over = self.closed or self.now >= one.ends or surplus
                assert before[one] == "retired" or (before[one] == "idle" and over)
                one.state = "closing"
            elif job.task is Task.REPORT:
                assert before[one] == "out"  # type: ignore[index]
                continue
            self.jobs.append(job)
            self.begun[job.entry] = self.now
        if len(self.line) > self.coming() and not (self.closed or self.ours.backoff.failures):
            assert len(self.ours.entries) == self.policy.max, "somebody waits although there is room"
        for one in self.idle():
            assert not self.closed
            assert self.now < one.ends
            assert not (self.line and self.fit(one))

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, well=st.booleans())
    def perform(self, pick: int, well: bool) -> None:
        job = self.jobs.pop(pick % len(self.jobs))
        one: Any = job.entry.resource
        if job.task is Task.CREATE and well:
            lifetime = self.policy.max_lifetime * (1 - 0.5 * JITTER) or inf
            self.made += 1
            one = Resource(self.made, self.now + lifetime, self.now, self.now)
            self.resources.append(one)
            self.ours.made(job.entry, one)
            self.rest(one)
        elif job.task is Task.CREATE:
            self.ours.failed(job.entry, OSError("nobody is there"))
        elif job.task is Task.CHECK:
            one.state = "checked" if well else "broken"
            one.good = self.now if well else -inf
            self.ours.checked(job.entry, well)
            self.rest(one)
        else:
            self.gone += 1
            self.resources.remove(one)
            self.ours.gone(job.entry)

    @rule()
    def settle(self) -> None:
        """Everything that is to be done goes well: whoever can be served is, and as many are there as should be."""
        for _ in range(40):
            self.look()
            if not self.jobs and self.ours.backoff.again <= self.now:
                break
            while self.jobs:
                self.perform(0, True)
            self.now += 0.01 if self.ours.backoff.again <= self.now else 10.0
        if self.closed:
            assert len(self.resources) == len(self.holders()) == len(self.ours.entries)
            return
        assert len(self.resources) >= self.policy.min
        if self.line:
            assert len(self.holders()) == len(self.resources) == self.policy.max

    @precondition(lambda self: not self.closed)
    @rule(sure=st.integers(0, 4))
    def close(self, sure: int) -> None:
        if sure == 0:
            self.closed = True
            self.ours.close(lambda: setattr(self, "emptied", True))
            assert not self.line

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "ours"):
            return
        said = figures.stats(self.ours)
        assert len(self.ours.entries) == said["total"] <= self.policy.max
        assert said["created"] - said["destroyed"] == len(self.resources) == self.made - self.gone
        assert said["active"] == len(self.holders()) == len(set(self.holders()))
        assert {each.resource for each in self.ours.idle} == set(self.idle())
        assert said["waiting"] == len(self.line)
        assert said["creating"] == sum(job.task is Task.CREATE for job in self.jobs)
        assert self.emptied is (self.closed and not self.ours.entries)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
