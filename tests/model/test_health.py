"""Members' health beside a slow model that keeps everything it was told and works out each state from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from toolring.policy.health import Health, HealthPolicy

policies = st.builds(
    HealthPolicy,
    errors=st.integers(1, 3),
    eject=st.just(10.0),
    longest=st.sampled_from([15.0, 300.0]),
    most=st.sampled_from([0.0, 0.4, 0.5, 1.0]),
    panic=st.sampled_from([0.0, 0.5]),
    fall=st.integers(1, 2),
    rise=st.integers(1, 2),
)
members = st.integers(0, 3)


@dataclass
class Slow:
    state: str = "up"
    told: list[bool] = field(default_factory=list)
    """Since it is up: how its calls went."""
    checks: list[bool] = field(default_factory=list)
    """Since its state changed."""
    times: int = 0
    until: float = 0.0
    probing: bool = False

    def go(self, state: str) -> None:
        self.state, self.told, self.checks, self.probing = state, [], [], False


class HealthMachine(RuleBasedStateMachine):
    @initialize(policy=policies)
    def make(self, policy: HealthPolicy) -> None:
        self.now = 100.0
        self.policy = policy
        self.ours = Health(4, policy, lambda: self.now)
        self.slow = [Slow() for _ in range(4)]

    def eject(self, index: int) -> None:
        out = sum(one.state in ("ejected", "probing") for at, one in enumerate(self.slow) if at != index)
        one = self.slow[index]
        if (out + 1) / 4 > self.policy.most:
            one.told, one.probing = [], False
            return
        one.go("ejected")
        one.times += 1
        one.until = self.now + min(self.policy.longest, 10.0 * one.times)

    @rule(seconds=st.sampled_from([1.0, 10.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(index=members)
    def fail(self, index: int) -> None:
        self.ours.failed(index)
        one = self.slow[index]
        if one.state == "probing":
            self.eject(index)
        elif one.state == "up":
            one.told.append(False)
            row = one.told[-self.policy.errors :]
            if len(row) == self.policy.errors and not any(row):
                self.eject(index)

    @rule(index=members)
    def succeed(self, index: int) -> None:
        self.ours.succeeded(index, 0.1)
        one = self.slow[index]
        if one.state == "probing":
            one.go("up")
        else:
            one.times = max(0, one.times - 1)
            one.told.append(True)

    @rule(index=members)
    def begin(self, index: int) -> None:
        if self.ours.able()[index]:
            self.settle()
            self.ours.began(index)
            self.slow[index].probing = self.slow[index].state == "probing"

    @rule(index=members)
    def give_up(self, index: int) -> None:
        self.ours.gave_up(index)
        self.slow[index].probing = False

    @rule(index=members, passed=st.booleans())
    def check(self, index: int, passed: bool) -> None:
        self.ours.checked(index, passed)
        one = self.slow[index]
        one.checks.append(passed)
        down = one.state == "down"
        needed = self.policy.rise if down else self.policy.fall
        row = one.checks[-needed:]
        if len(row) == needed and all(said is down for said in row):
            one.go("up" if down else "down")
            one.times = 0

    def settle(self) -> None:
        for one in self.slow:
            if one.state == "ejected" and self.now >= one.until:
                one.go("probing")

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "ours"):
            return
        able = self.ours.able()
        self.settle()
        assert [member.state.name.lower() for member in self.ours.members] == [one.state for one in self.slow]
        may = [one.state == "up" or (one.state == "probing" and not one.probing) for one in self.slow]
        assert able == (may if any(may) and sum(may) / 4 >= self.policy.panic else [True] * 4)
        assert self.ours.unwell == sum(one.state != "up" for one in self.slow)


TestHealth = HealthMachine.TestCase
TestHealth.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
