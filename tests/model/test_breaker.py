"""The breaker beside a slow one that keeps everything it was ever told and counts it anew at each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from toolring.policy.breaker import Breaker, BreakerPolicy, Event, State

rates = st.sampled_from([0.1, 0.34, 0.5, 0.9, 1.0])
policies = st.builds(
    lambda window, minimum, **rest: BreakerPolicy(window=window, minimum=min(minimum, window), **rest),
    failure_rate=rates,
    slow_rate=rates,
    slow=st.just(1.0),
    window=st.integers(1, 8),
    window_seconds=st.sampled_from([0.0, 10.0]),
    minimum=st.integers(1, 8),
    wait=st.sampled_from([0.5, 5.0]),
    probes=st.integers(1, 4),
)


@dataclass
class Slow:
    """What a breaker has to do, said as plainly as possible."""

    policy: BreakerPolicy
    state: State = State.CLOSED
    since: float = 0.0
    """When it came into its state, and in which of them it is, counted."""
    number: int = 0
    heard: list[tuple[float, bool, bool]] = field(default_factory=list)
    """What was recorded since."""
    why: list[tuple[float, bool, bool]] = field(default_factory=list)
    """What made it open."""
    out: int = 0
    """Permits that were given since, and didn't come back unused."""

    def go(self, state: State, now: float) -> None:
        self.state, self.since, self.number, self.heard, self.out = state, now, self.number + 1, [], 0

    def permit(self, now: float) -> bool:
        if self.state is State.OPEN and now >= self.since + self.policy.wait:
            self.go(State.HALF_OPEN, now)
        if self.state in (State.OPEN, State.FORCED_OPEN):
            return False
        if self.state is State.HALF_OPEN and self.out >= self.policy.probes:
            return False
        self.out += 1
        return True

    def window(self, now: float) -> list[tuple[float, bool, bool]]:
        seconds = self.policy.window_seconds
        if seconds:
            return [one for one in self.heard if floor(one[0] / (seconds / 10)) > floor(now / (seconds / 10)) - 10]
        return self.heard[-self.policy.window :]

    def record(self, failed: bool, slow: bool, now: float) -> None:
        policy = self.policy
        if self.state is State.FORCED_CLOSED:
            return
        self.heard.append((now, failed, slow))
        if self.state is State.CLOSED:
            calls = self.window(now)
            if len(calls) >= policy.minimum and (failed or slow) and self.bad(calls, len(calls)):
                self.why = calls
                self.go(State.OPEN, now)
        elif self.state is State.HALF_OPEN:
            if self.bad(self.heard, policy.probes):
                self.why = self.heard
                self.go(State.OPEN, now)
            elif len(self.heard) == policy.probes:
                self.go(State.CLOSED, now)

    def bad(self, calls: list[tuple[float, bool, bool]], of: int) -> bool:
        failed, slow = sum(f for _, f, _ in calls), sum(s for _, _, s in calls)
        return failed >= self.policy.failure_rate * of or slow >= self.policy.slow_rate * of


class BreakerMachine(RuleBasedStateMachine):
    permits: Bundle[tuple[int, int]] = Bundle("permits")

    @initialize(policy=policies)
    def make(self, policy: BreakerPolicy) -> None:
        self.now = 100.0
        self.ours, self.slow = Breaker(policy), Slow(policy)

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 9.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permits)
    def ask(self) -> tuple[int, int]:
        refuses = self.ours.refuses(self.now)
        permit, allowed = self.ours.permit(self.now), self.slow.permit(self.now)
        assert (permit is not None) is allowed is not refuses
        return (-1 if permit is None else permit), self.slow.number

    @rule(permit=consumes(permits), failed=st.booleans(), slow=st.booleans())
    def record(self, permit: tuple[int, int], failed: bool, slow: bool) -> None:
        if permit[0] < 0:
            return
        self.ours.record(permit[0], failed, 2.0 if slow else 1.0, self.now)
        if permit[1] == self.slow.number:
            self.slow.record(failed, slow, self.now)

    @rule(permit=consumes(permits))
    def cancel(self, permit: tuple[int, int]) -> None:
        if permit[0] < 0:
            return
        self.ours.cancel(permit[0])
        if permit[1] == self.slow.number:
            self.slow.out -= 1

    @rule(
        order=st.sampled_from(
            [
                (Event.FORCE_OPEN, State.FORCED_OPEN),
                (Event.FORCE_CLOSE, State.FORCED_CLOSED),
                (Event.OBSERVE, State.METRICS_ONLY),
                (Event.AUTO, State.CLOSED),
            ]
        )
    )
    def order(self, order: tuple[Event, State]) -> None:
        self.ours.order(order[0])
        self.slow.go(order[1], self.now)

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "ours"):
            assert self.ours.state is self.slow.state
            heard = self.slow.window(self.now)
            if self.slow.state in (State.HALF_OPEN, State.OPEN):
                heard = self.slow.heard if self.slow.state is State.HALF_OPEN else self.slow.why
            assert self.ours.counts(self.now) == (
                len(heard),
                sum(failed for _, failed, _ in heard),
                sum(slow for _, _, slow in heard),
            )


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
