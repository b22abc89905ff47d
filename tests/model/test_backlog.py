"""The backlog against what it promises, looked at slowly: whose turn it is, in which order, and that nobody is lost."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw

from toolring.spec import ToolSpec
from toolring.supervisor.accounts import Account
from toolring.supervisor.backlog import SHARES, Backlog
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.ledger import Entry, Session, State

SESSION = Session(b"\1" * 16, b"", "")
picks = st.integers(0, 1000)


def tool(cost: float) -> ServedTool:
    made = ServedTool(ToolSpec(name="t"), None)
    made.observe(int(cost * 1e6))
    return made


class BacklogMachine(RuleBasedStateMachine):
    """Two lines of one backlog; what waits in them is also kept in plain lists, in the order in which it came."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.backlog = Backlog()
        self.lines = [self.backlog.line(), self.backlog.line()]
        self.slow: list[list[Entry]] = [[], []]
        self.accounts = [Account(str(n), weight) for n, weight in enumerate((1.0, 1.0, 2.0, 0.5))]
        self.tools = [tool(0.001), tool(0.02), tool(1.0)]
        self.numbers = 0
        self.taken = Counter[int]()

    @rule(line=st.integers(0, 1), who=picks, which=picks, priority=st.sampled_from([0, 0, 0, -1, 1]), patience=picks)
    def append(self, line: int, who: int, which: int, priority: int, patience: int) -> None:
        self.numbers += 1
        account = self.accounts[who % 4]
        until = self.now + (1.0 if patience % 3 == 0 else 1e6)
        entry = Entry(SESSION, self.numbers, self.tools[which % 3], Raw(b"\x80"), until, self.now, account, until)
        entry.priority = priority
        self.lines[line].append(entry)
        self.slow[line].append(entry)

    @rule(line=st.integers(0, 1))
    def take(self, line: int) -> None:
        waiting = [entry for entry in self.slow[line] if entry.state is State.QUEUED]
        before = {id(account): account.finish for account in self.accounts}
        taken = self.lines[line].take(self.now)
        if taken is None:
            assert not waiting
            return
        assert any(taken is entry for entry in waiting)
        callers = {id(entry.account) for entry in waiting}
        assert before[id(taken.account)] <= min(before[who] for who in callers) + 1e-9, "another was due"
        level = [e for e in waiting if e.account is taken.account and e.priority == taken.priority]
        late = self.now - level[0].accepted > level[0].until - self.now
        assert taken is level[-1 if late else 0], "not the oldest, nor the newest of those that wait too long"
        paid = taken.account.finish - before[id(taken.account)]
        assert abs(paid - taken.tool.cost / taken.account.weight) < 1e-9
        taken.state = State.DISPATCHED
        self.slow[line] = [entry for entry in self.slow[line] if entry is not taken]

    @precondition(lambda self: any(self.slow))
    @rule(line=st.integers(0, 1), which=picks)
    def settle(self, line: int, which: int) -> None:
        """Answered while it waits, as ``Core.settle`` does it."""
        if self.slow[line]:
            entry = self.slow[line].pop(which % len(self.slow[line]))
            entry.state = State.CANCELLED
            entry.account.waiting -= 1
            self.backlog.count -= 1

    @rule(line=st.integers(0, 1))
    def move(self, line: int) -> None:
        """All to the other line, as when a slot has no worker."""
        moved = self.lines[line].clear()
        assert {id(entry) for entry in moved} == {id(entry) for entry in self.slow[line]}
        for entry in moved:
            self.lines[1 - line].append(entry)
        self.slow[1 - line] += moved
        self.slow[line] = []

    @rule(pause=st.sampled_from([0.0, 0.1, 0.6]))
    def wait(self, pause: float) -> None:
        self.now += pause

    @invariant()
    def nobody_is_lost(self) -> None:
        for line, slow in zip(self.lines, self.slow, strict=True):
            assert sorted(entry.id for entry in line) == sorted(entry.id for entry in slow)
            assert line.size >= len(slow)
        everybody = [entry for slow in self.slow for entry in slow]
        assert self.backlog.count == len(everybody)
        for account in self.accounts:
            assert account.waiting == sum(entry.account is account for entry in everybody)


TestBacklog = BacklogMachine.TestCase
TestBacklog.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_those_who_always_want_more_get_their_shares(seed: int) -> None:
    """The bound of start-time fair queueing: served work by weight differs by no more than one job of each."""
    dice = random.Random(seed)
    backlog = Backlog()
    line = backlog.line()
    accounts = [Account(str(n), dice.choice([0.5, 1.0, 3.0])) for n in range(3)]
    tools = [tool(cost) for cost in (0.001, 0.01, 0.3)]
    for n in range(900):
        entry = Entry(SESSION, n, dice.choice(tools), Raw(b"\x80"), 1e9, 0.0, accounts[n % 3], 1e9)
        line.append(entry)
    served = dict.fromkeys(accounts, 0.0)
    while all(account.waiting for account in accounts):
        entry_or_none = line.take(1.0)
        assert entry_or_none is not None
        served[entry_or_none.account] += entry_or_none.tool.cost
        shares = [served[account] / account.weight for account in accounts]
        assert max(shares) - min(shares) <= 2 * 0.3 / 0.5 + 1e-9


def test_each_level_gets_its_part_while_all_wait() -> None:
    backlog = Backlog()
    line = backlog.line()
    account = Account("a")
    for n in range(300):
        entry = Entry(SESSION, n, tool(0.01), Raw(b"\x80"), 1e9, 0.0, account, 1e9)
        entry.priority = n % 3 - 1
        line.append(entry)
    taken = [line.take(1.0) for _ in range(84)]
    counts = Counter(entry.priority for entry in taken if entry is not None)
    total = sum(SHARES)
    for priority, share in zip((-1, 0, 1), SHARES, strict=True):
        assert abs(counts[priority] - 84 * share / total) <= 1.5, counts


def test_ghosts_do_not_pile_up_while_the_newest_are_served() -> None:
    """With more work than can be done the oldest expire where they wait; they must leave, or memory would grow."""
    backlog = Backlog()
    line = backlog.line()
    account = Account("a")
    waiting: list[Entry] = []
    now = 0.0
    for n in range(2000):
        now += 0.01
        for _ in range(2):
            waiting.append(Entry(SESSION, n, tool(0.01), Raw(b"\x80"), now + 1, now, account, now + 1))
            line.append(waiting[-1])
        taken = line.take(now)
        assert taken is not None
        taken.state = State.DISPATCHED
        for entry in waiting:
            if entry.state is State.QUEUED and entry.until <= now:
                entry.state = State.EXPIRED
                account.waiting -= 1
                backlog.count -= 1
        waiting = [entry for entry in waiting if entry.state is State.QUEUED]
        assert line.size <= len(waiting) + 20
