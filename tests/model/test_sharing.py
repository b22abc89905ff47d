"""The promises of docs/caching.md as a state machine: who may get which result, and never one that is outdated.

The calls are few and equal, the tools that change what they look at are killed at any moment, and the supervisor may
hold three results, or none. What is checked at each step and at each answer is in tests/model/simulation.py.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model.sim_workers import SimWorker
from tests.model.simulation import GROUPS, LIMITS, Node, sharing_tools
from tests.model.test_core import NodeMachine, outcomes, picks, steps, timeouts
from toolring.protocol import CALL, KEEP
from toolring.stamps import SOME_TAG, some_key
from toolring.workers.cache import tags

WALKS = int(os.environ.get("TOOLRING_WALKS", "80"))
ROOMS = [0, 2_000, 1 << 20, 1 << 20, 1 << 20]
NAMES = ["cached", "cached", "cached", "mine", "own", "change", "swap", "read"]
KINDS = ["ok", "ok", "ok", "hit", "hit", "stale", "error", "hang"]
INVALIDATED = [[b"*"], [tags.named("other"), SOME_TAG], [tags.of_key(b"k"), some_key("cached")]]


class SharingMachine(NodeMachine):
    """The same world, narrower: a few equal calls of cached tools, and those that invalidate them."""

    def __init__(self) -> None:
        super().__init__()
        self.room(ROOMS[-1])

    def room(self, hot_bytes: int) -> None:
        self.node.close()
        limits = LIMITS._replace(hot_bytes=hot_bytes, deaths=3)
        self.node = Node(4, sharing_tools(), ("a", "a", "b", ""), limits, GROUPS)

    @initialize(boot=st.booleans(), warm=st.booleans(), hot_bytes=st.sampled_from(ROOMS))
    def begin(self, boot: bool, warm: bool, hot_bytes: int = ROOMS[-1]) -> None:
        self.room(hot_bytes)
        super().begin(boot, warm)

    def number(self, name: str) -> int:
        self.count += 1
        return self.count % 2

    @rule(
        pick=picks,
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
        partition=st.sampled_from(["", "p", "q"]),
        timeout=timeouts,
        mode=st.sampled_from([CALL, CALL, CALL, KEEP]),
        key=st.sampled_from(["", "", "", "", "k"]),
        size=st.sampled_from([0] * 9 + [70_000]),
    )
    def call(
        self, pick: int, names: list[str], partition: str, timeout: float | None, mode: int, key: str, size: int
    ) -> None:
        client = self.client(pick)
        if client is not None:  # a key stands for a tool and its arguments; another partition's is a conflict
            jobs = [(name, self.number(name), size, timeout, mode) for name in names]
            client.submit([(name, n, s, t, key and f"{name}{n}{s}", m, b"") for name, n, s, t, m in jobs], partition)

    @rule(names=st.sampled_from(INVALIDATED))
    def invalidate(self, names: list[bytes]) -> None:
        """More than has changed."""
        self.node.invalidate(names)

    @rule(
        pick=picks, count=steps, outcome=outcomes, kind=st.sampled_from(KINDS), hold=st.sampled_from([0.5, 5.0, 5.0, 0])
    )
    def share(self, pick: int, count: int, outcome: tuple[str, int, int], kind: str, hold: float) -> None:
        worker = self.worker(pick)
        if worker is not None:
            worker.hold = hold
            self.work(pick, count, (kind, *outcome[1:]), True)
            while worker.sent:
                self.node.deliver(worker)

    def changing(self, pick: int) -> SimWorker | None:
        """Somebody in the middle of a change; whoever is asked next, if nobody is."""
        client = self.client(pick)
        if client is not None:
            client.submit([(("change", "swap")[pick % 2], 0, 0, None, "", CALL, b"")])
        for worker in [worker for worker in self.node.workers.values() if worker.alive]:
            worker.outcome = ("ok", 10, 0)
            for _ in range(40):
                if worker.run is not None and worker.run.tool in ("change", "swap") and not worker.run.ended:
                    return worker
                if not worker.step():
                    break
            while worker.sent:
                self.node.deliver(worker)
        return None

    @rule(pick=picks, steps=st.integers(0, 4), given_up=st.booleans(), heard=st.booleans())
    def die_changing(self, pick: int, steps: int, given_up: bool, heard: bool) -> None:
        """Before the change, after it, and between the words that tell of it; somebody may wait for it still."""
        worker = self.changing(pick)
        if worker is None:
            return
        for _ in range(steps):
            worker.step()
        for client in self.node.clients:
            for number in list(client.asked) if given_up and client.session is not None else ():
                if worker.run is not None and worker.run.job == f"{client.name}-{number}":
                    client.cancel(number)
        worker.die(-9)
        while heard and self.node.exits:
            self.node.hear_exit()

    def settled(self) -> None:
        """Nothing is in hand, and nobody may get what was true before the last change."""
        node = self.node
        node.change()
        for client in node.clients:
            client.submit([("cached", 0, 0, None, "", CALL, b""), ("own", 0, 0, None, "", CALL, b"")])
            client.submit([("mine", 0, 0, None, "", CALL, b"")], "p")
        node.settle()

    def teardown(self) -> None:
        try:
            if not self.node.shut:
                if self.count % 5 == 4:
                    self.node.shut_down()
                else:
                    self.node.settle()
                    if self.node.core.healthy and not self.node.core.draining:
                        self.settled()
        finally:
            self.node.close()


def walk(seed: int, length: int = 150) -> None:
    """The same machine, driven by plain dice with weights: longer and denser than what Hypothesis draws."""
    dice = random.Random(seed)
    pick, choice = lambda: dice.randrange(1000), dice.choice
    machine = SharingMachine()
    mortal = choice([0.2, 1, 3])

    def outcome() -> tuple[str, int, int]:
        return choice(KINDS), choice([10, 10, 5000]), choice([0, 0, 0, 0, 15_000])

    def call() -> None:
        machine.call(
            pick(),
            dice.choices(NAMES, k=dice.randint(1, 4)),
            choice(["", "p", "p", "q"]),
            None if dice.random() < 0.8 else choice([0.05, 1.0]),
            choice([CALL, CALL, CALL, KEEP]),
            choice(["", "", "", "", "k"]),
            choice([0] * 19 + [70_000]),
        )

    def share() -> None:
        machine.share(pick(), choice([1, 2, 3, 5, 9, 30]), outcome(), choice(KINDS), choice([0, 0.5, 5.0, 5.0]))

    moves: list[tuple[float, Callable[[], None]]] = [
        (8, call),
        (0.5, machine.change),
        (0.3, lambda: machine.invalidate(choice(INVALIDATED))),
        (0.7, lambda: machine.cancel(pick(), pick())),
        (2, lambda: machine.read(pick())),
        (0.3, lambda: machine.reconnect(pick(), dice.random() < 0.5)),
        (0.2, lambda: machine.leave(pick())),
        (0.4, machine.come_back),
        (8, share),
        (4, lambda: machine.work(pick(), choice([1, 2, 3, 5, 9, 30]), outcome(), dice.random() < 0.5)),
        (1, lambda: machine.work_all(outcome())),
        (2, lambda: machine.work_all(("ok", 10, 0))),
        (3, lambda: machine.deliver(pick())),
        (mortal, lambda: machine.die(pick(), choice([-9, -11, 1, 0]), dice.randrange(4), dice.random() < 0.7)),
        (0.7, lambda: machine.die_changing(pick(), dice.randrange(5), dice.random() < 0.5, dice.random() < 0.5)),
        (0.3, lambda: machine.hold(pick(), dice.random() < 0.5, dice.random() < 0.5)),
        (mortal + 1, lambda: machine.hear_exit() if machine.node.exits else None),
        (4, lambda: machine.wait(choice([0.001, 0.006, 0.02, 0.11, 0.3]))),
    ]
    weights = [weight for weight, _ in moves]
    try:
        machine.begin(dice.random() < 0.9, dice.random() < 0.7, choice(ROOMS))
        for _, move in dice.choices(moves, weights, k=length):
            move()
            machine.books_agree()
    except BaseException:
        machine.node.close()
        raise
    machine.teardown()


@pytest.mark.parametrize("tens", range(WALKS // 10))
def test_random_walks(tens: int) -> None:
    """Run ``walk(seed)`` by itself to see a failing one again."""
    for seed in range(tens * 10, tens * 10 + 10):
        try:
            walk(seed)
        except Exception as error:
            error.add_note(f"walk({seed})")
            raise


TestSharing = SharingMachine.TestCase
TestSharing.settings = settings(
    phases=(Phase.reuse, Phase.generate),
    max_examples=80,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
