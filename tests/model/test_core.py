"""The promise of docs/architecture.md as a state machine: whatever dies, hangs, leaves or is late, and whenever."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.model.sim_spans import Kept, check_spans, spans_into
from tests.model.sim_workers import SimProcess
from tests.model.simulation import GROUPS, SCALED, Node, SimClient, grouped_tools
from toolring.policy.groups import Group
from toolring.protocol import CALL, KEEP
from toolring.supervisor.reloads import Stage

WALKS = int(os.environ.get("TOOLRING_WALKS", "120"))
"""A longer walk through all that may happen: TOOLRING_WALKS=3000 make test ARGS=tests/model"""

picks = st.integers(0, 1_000_000)
KEYED = {"one": "read", "two": "write", "three": "near", "four": "bulk_write"}
"""The tool of each idempotency key."""
NAMES = ["read", "write", "near", "push", "brief", "polite", "few", "slow", "again", "cached", "cached"]
NAMES += ["supple", "large", "small", "flow", "quiet", "bulk", "bulk", "bulk_write"]
ASYNC = ["wait", "wait", "look", "near_look", "brisk", "stubborn", "async_flow", "async_bulk", "async_bulk"]
tool_names = st.sampled_from(NAMES + ASYNC)
sizes = st.sampled_from([0, 0, 0, 0, 70_000])
timeouts = st.sampled_from([None, None, None, 0.05, 1.0])
routes = st.sampled_from([b"", b"", b"a", b"b", b"c"])
outcomes = st.tuples(
    st.sampled_from(["ok", "ok", "ok", "error", "retry", "hit", "hang", "partly", "later"]),
    st.sampled_from([10, 10, 5000]),
    st.sampled_from([0, 0, 0, 15_000, 40_000, 70_000]),
)
steps = st.sampled_from([1, 2, 3, 5, 9, 30])
pauses = st.sampled_from([0.001, 0.006, 0.02, 0.11, 0.3, 0.6, 1.1, 2.2])


class NodeMachine(RuleBasedStateMachine):
    """Rules are what the world may do to a node, at any moment."""

    def __init__(self, groups: Sequence[Group] = SCALED) -> None:
        super().__init__()
        self.node = Node(served=grouped_tools(), groups=groups)
        self.node.impatient = True
        self.count = 0

    def client(self, pick: int) -> SimClient | None:
        here = [client for client in self.node.clients if client.session is not None]
        return here[pick % len(here)] if here else None

    def worker(self, pick: int) -> SimProcess | None:
        alive = [worker for worker in self.node.workers.values() if worker.alive]
        return alive[pick % len(alive)] if alive else None

    @initialize(boot=st.booleans(), warm=st.booleans())
    def begin(self, boot: bool, warm: bool) -> None:
        """A node that has just started, or one that knows its tools: then workers get many jobs at once."""
        if warm:
            for served in self.node.core.tools.values():
                served.observe(10)
        if boot or warm:
            for worker in self.node.workers.values():
                worker.step()

    # ---- clients

    @rule(
        pick=picks,
        jobs=st.lists(st.tuples(tool_names, sizes, timeouts, routes), min_size=1, max_size=5),
    )
    def submit(self, pick: int, jobs: list[tuple[str, int, float | None, bytes]]) -> None:
        client = self.client(pick)
        if client is not None:
            client.submit(
                [(name, self.number(name), size, timeout, "", CALL, route) for name, size, timeout, route in jobs]
            )

    @rule(
        pick=picks,
        name=tool_names,
        key=st.sampled_from(["", "one", "two", "three", "four"]),
        mode=st.sampled_from([CALL, KEEP]),
        timeout=timeouts,
        clash=st.sampled_from([0, 0, 0, 1]),
    )
    def submit_named(self, pick: int, name: str, key: str, mode: int, timeout: float | None, clash: int) -> None:
        """Under a key, or to be kept. The key's tool and arguments are always the same, unless they clash."""
        client = self.client(pick)
        if client is None:
            return
        if key:
            name = KEYED[key]
        n = -1 - list(KEYED).index(key) - 10 * clash if key else self.number(name)
        client.submit([(name, n, 0, timeout, key, mode, b"")])

    def number(self, name: str) -> int:
        """Each call's own, but for those of the cached tool, many of which are equal."""
        self.count += 1
        return self.count % 3 if name == "cached" else self.count

    @rule(pick=picks, job=picks)
    def cancel(self, pick: int, job: int) -> None:
        client = self.client(pick)
        if client is not None and client.asked:
            client.cancel(sorted(client.asked)[job % len(client.asked)])

    @rule()
    def change(self) -> None:
        self.node.change()

    @rule(pick=picks)
    def read(self, pick: int) -> None:
        client = self.client(pick)
        if client is not None:
            client.read()

    @rule(pick=picks, lose=st.booleans())
    def reconnect(self, pick: int, lose: bool) -> None:
        """The same session on a new connection; what was under way to the client may be lost with the old one."""
        client = self.client(pick)
        if client is not None:
            if lose:
                client.unread.clear()
            client.resend()

    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        client = self.client(pick)
        if client is not None:
            client.leave()

    @rule()
    def come_back(self) -> None:
        for client in self.node.clients:
            if client.session is None:
                client.come_back()

    # ---- workers

    @rule(pick=picks, count=steps, outcome=outcomes, flush=st.booleans())
    def work(self, pick: int, count: int, outcome: tuple[str, int, int], flush: bool) -> None:
        worker = self.worker(pick)
        if worker is not None:
            worker.outcome, worker.flush_now = outcome, flush
            for _ in range(count):
                if not worker.step():
                    break

    @rule(outcome=outcomes)
    def work_all(self, outcome: tuple[str, int, int]) -> None:
        """Everybody does what there is to do, and everything arrives."""
        for worker in list(self.node.workers.values()):
            worker.outcome = outcome
            for _ in range(100):
                if not worker.step():
                    break
            while worker.sent:
                self.node.deliver(worker)

    @rule(pick=picks)
    def deliver(self, pick: int) -> None:
        talking = [worker for worker in self.node.workers.values() if worker.sent]
        if talking:
            self.node.deliver(talking[pick % len(talking)])

    @rule(pick=picks, status=st.sampled_from([-9, -11, -6, 1, 0]), lose=st.integers(0, 3), at_work=st.booleans())
    def die(self, pick: int, status: int, lose: int, at_work: bool) -> None:
        """At any moment, and the last messages may die with it."""
        worker = self.worker(pick)
        busy = [worker for worker in self.node.workers.values() if worker.alive and worker.run is not None]
        if at_work and busy:
            worker = busy[pick % len(busy)]
        if worker is not None:
            for _ in range(min(lose, len(worker.sent))):
                worker.sent.pop()
            worker.die(status)

    @rule(pick=picks, stopped=st.booleans(), deaf=st.booleans())
    def hold(self, pick: int, stopped: bool, deaf: bool) -> None:
        """SIGSTOP, or a C call that holds the GIL; or the end of it."""
        worker = self.worker(pick)
        if worker is not None:
            worker.stopped, worker.deaf = stopped, deaf

    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        """Somebody wants a worker replaced by a fresh one."""
        ready = self.node.core.fleet.ready
        if ready:
            self.node.watch.renewals.ask(ready[pick % len(ready)], "wanted")

    @rule()
    def reload(self) -> None:
        """Somebody wants other code of the tools."""
        reloads = self.node.watch.reloads
        if not self.node.core.draining and (reloads.stage is Stage.IDLE or self.count % 5 == 0):
            reloads.ask("wanted", self.node.now)

    @rule(how=st.integers(0, 6))
    def load(self, how: int) -> None:
        self.node.load(how)

    @rule()
    def lose_zygote(self) -> None:
        if not self.node.watch.reloads.lost:
            self.node.lose_zygote()

    @precondition(lambda self: self.node.exits)
    @rule()
    def hear_exit(self) -> None:
        self.node.hear_exit()

    # ---- time, and the end

    @rule(pause=pauses)
    def wait(self, pause: float) -> None:
        self.node.now += pause
        self.node.tick()

    @precondition(lambda self: self.count > 40)
    @rule()
    def drain(self) -> None:
        self.node.core.draining = True

    @invariant()
    def books_agree(self) -> None:
        if not self.node.shut:
            self.node.check_books()

    def teardown(self) -> None:
        try:
            if not self.node.shut:
                if self.count % 3 == 2:
                    self.node.shut_down()
                else:
                    self.node.settle()
        finally:
            self.node.close()


def walk(seed: int, length: int = 150) -> None:
    """The same machine, driven by plain dice with weights: longer and denser than what Hypothesis draws."""
    dice = random.Random(seed)
    pick, choice = lambda: dice.randrange(1000), dice.choice
    machine = NodeMachine(dice.choice([GROUPS, SCALED]))
    names = choice([NAMES, ASYNC, NAMES + ASYNC])
    patient, mortal, reloads = dice.random(), dice.choice([0.2, 1, 3]), dice.choice([0, 0.5, 2])

    def outcome() -> tuple[str, int, int]:
        kind = choice(["ok", "ok", "ok", "error", "retry", "hit", "hang", "partly", "later"])
        return kind, choice([10, 10, 5000]), choice([0, 0, 0, 0, 0, 15_000, 40_000, 70_000])

    def timeout() -> float | None:
        return None if dice.random() < 0.8 else choice([0.05, 1.0])

    def submit() -> None:
        size = [0] * 20 + [70_000]
        machine.submit(
            pick(),
            [(choice(names), choice(size), timeout(), choice([b"", b"a", b"b"])) for _ in range(dice.randint(1, 6))],
        )

    moves: list[tuple[float, Callable[[], None]]] = [
        (4, submit),
        (
            2,
            lambda: machine.submit_named(
                pick(),
                choice(["write", "cached", "bulk_write", "wait"]),
                choice(["", "one", "two", "three"]),
                choice([CALL, KEEP]),
                timeout(),
                dice.random() < 0.05,
            ),
        ),
        (1, machine.change),
        (1, lambda: machine.cancel(pick(), pick())),
        (2, lambda: machine.read(pick())),
        (0.3, lambda: machine.reconnect(pick(), dice.random() < 0.5)),
        (0.2, lambda: machine.leave(pick())),
        (0.4, machine.come_back),
        (10, lambda: machine.work(pick(), choice([1, 2, 3, 5, 9, 30]), outcome(), dice.random() < 0.5)),
        (1, lambda: machine.work_all(outcome())),
        (4, lambda: machine.deliver(pick())),
        (mortal, lambda: machine.die(pick(), choice([-9, -11, -6, 1, 0]), dice.randrange(4), dice.random() < 0.5)),
        (0.4, lambda: machine.hold(pick(), dice.random() < 0.5, dice.random() < 0.5)),
        (0.3, lambda: machine.renew(pick())),
        (reloads, machine.reload),
        (2 * reloads, lambda: machine.load(dice.randrange(7))),
        (reloads / 10, machine.lose_zygote),
        (mortal, lambda: machine.hear_exit() if machine.node.exits else None),
        (4, lambda: machine.wait(choice([0.001, 0.006, 0.02, 0.11] if patient < 0.7 else [0.02, 0.3, 0.6, 1.1, 2.2]))),
    ]
    weights = [weight for weight, _ in moves]
    kept = Kept()
    if seed % 3 == 0:
        machine.node.core.spans = spans_into(kept, 0.3)
        for client in machine.node.clients[:2]:
            client.trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    try:
        machine.begin(dice.random() < 0.9, dice.random() < 0.7)
        for _, move in dice.choices(moves, weights, k=length):
            move()
            machine.books_agree()
    except BaseException:
        machine.node.close()
        raise
    machine.teardown()
    if (spans := machine.node.core.spans) is not None:
        spans.close()
        assert not spans.waiting
        check_spans(kept.spans)


@pytest.mark.parametrize("tens", range(WALKS // 10))
def test_random_walks(tens: int) -> None:
    """Run ``walk(seed)`` by itself to see a failing one again."""
    for seed in range(tens * 10, tens * 10 + 10):
        try:
            walk(seed)
        except Exception as error:
            error.add_note(f"walk({seed})")
            raise


TestNode = NodeMachine.TestCase
TestNode.settings = settings(
    phases=(Phase.reuse, Phase.generate),
    max_examples=80,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
