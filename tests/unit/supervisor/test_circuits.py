from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.model.simulation import BREAKER, ONE, Node, SimClient, tool
from tests.unit.supervisor.steps import ask, codes, finish, memory_of, start, workers
from toolring.calls import alone
from toolring.config import load
from toolring.errors import InvalidArguments, from_wire
from toolring.policy.breaker import BreakerPolicy, State
from toolring.protocol import KEEP, decode_value
from toolring.spec import ToolSpec
from toolring.supervisor.admin import Admin
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.circuits import DEATHS
from toolring.supervisor.looks import Looks
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services

PATIENT = msgspec.structs.replace(BREAKER, wait=60.0)
"""It stays open for longer than any retry waits."""


@pytest.fixture
def node() -> Iterator[Node]:
    made = [
        tool("plain"),
        tool("brittle", breaker=BREAKER),
        tool("brief", timeout=0.5, breaker=BREAKER),
        tool("single", concurrency=1, breaker=BREAKER),
        tool("double", concurrency=2, breaker=msgspec.structs.replace(BREAKER, probes=1)),
        tool("tolerant", breaker=BreakerPolicy(window=6, minimum=3, ignore=("TOOL_ERROR",))),
        tool("read", read_only=True),
        tool("again", read_only=True, retries=5, breaker=PATIENT),
        tool("bulk", read_only=True, retries=5, batch=3, breaker=PATIENT),
        ServedTool(ToolSpec(name="toolring.own"), None),
    ]
    node = Node(2, {one.name: one for one in made}, groups=ONE)
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


def state(node: Node, name: str) -> State:
    return node.core.tools[name].circuit.breaker.state


def wait(node: Node, seconds: float) -> None:
    node.now += seconds
    node.tick()


def error(client: SimClient) -> dict[str, Any]:
    client.read()
    answer = list(client.asked.values())[-1].answer
    assert answer is not None
    found: dict[str, Any] = decode_value(answer.value)
    return found


def die(node: Node, client: SimClient, name: str) -> None:
    """A worker dies of one run of a tool; another takes its place."""
    ask(client, name)
    worker = start(node)
    worker.signal(9)
    node.hear_exit()
    wait(node, 1.0)
    for one in workers(node):
        one.step()


def test_a_tool_that_keeps_failing_is_refused_until_its_wait_is_over_and_then_tried(
    node: Node, client: SimClient
) -> None:
    for _ in range(3):
        ask(client, "brittle")
        finish(node, "error")
    assert state(node, "brittle") is State.OPEN
    ask(client, "brittle", "plain")
    finish(node)
    assert codes(client) == ["TOOL_ERROR"] * 3 + ["CIRCUIT_OPEN", ""]
    told = from_wire(decode_value(client.asked[4].answer.value))  # type: ignore[union-attr]
    assert told.facts == {"tool": "brittle", "limit": "circuit", "retry_after": 0.5}
    assert told.retryable
    wait(node, 0.5)
    ask(client, *["brittle"] * 10)
    assert sum(len(worker.record.line) for worker in workers(node)) == BREAKER.probes
    finish(node)
    assert codes(client)[5:].count("CIRCUIT_OPEN") == 8
    assert state(node, "brittle") is State.CLOSED


def test_who_waits_when_it_opens_is_refused_at_once(node: Node, client: SimClient) -> None:
    ask(client, *["single"] * 6)
    ask(client, "single", mode=KEEP)
    finish(node, "error")
    assert state(node, "single") is State.OPEN
    assert codes(client) == ["TOOL_ERROR"] * 3 + ["CIRCUIT_OPEN"] * 4
    assert node.core.in_hand() == 0
    node.check_books()


@pytest.mark.parametrize("name", ["again", "bulk"])
def test_a_job_whose_retries_end_with_an_open_circuit_tells_what_it_had_failed_with(
    node: Node, client: SimClient, name: str
) -> None:
    ask(client, name)
    while not codes(client):
        finish(node, "retry")
        wait(node, 0.1)
    told = error(client)
    assert told["code"] == "CIRCUIT_OPEN"
    assert told["earlier"]["code"] == "RETRY"
    assert told["earlier"]["message"]
    node.check_books()


def test_a_tool_that_keeps_killing_workers_is_refused_without_having_declared_anything(
    node: Node, client: SimClient
) -> None:
    for number in range(DEATHS.minimum):
        assert state(node, "plain") is State.CLOSED, number
        die(node, client, "plain")
    assert state(node, "plain") is State.OPEN
    ask(client, "plain")
    assert codes(client) == ["OUTCOME_UNKNOWN"] * DEATHS.minimum + ["CIRCUIT_OPEN"]
    assert "it keeps killing workers (10 so far)" in error(client)["message"]
    wait(node, DEATHS.wait)
    ask(client, "plain")
    finish(node)
    assert state(node, "plain") is State.CLOSED
    assert not node.core.tools["plain"].guarded, "it costs its calls nothing any more"


def test_who_has_killed_workers_itself_and_is_refused_is_told_how_many(node: Node, client: SimClient) -> None:
    """It has run, so it is nobody that another node should take."""
    ask(client, "read")
    finish(node)
    for _ in range(5):
        ask(client, "read")
        while state(node, "read") is State.CLOSED and node.core.in_hand():
            start(node).signal(9)
            node.hear_exit()
            wait(node, 1.0)
    finish(node)
    assert codes(client) == ["", *["POISONED"] * 4, "CIRCUIT_OPEN"]
    assert error(client)["deaths"] == 1
    ask(client, "read")
    assert codes(client)[-1] == "CIRCUIT_OPEN"
    assert "deaths" not in error(client)


def test_a_death_now_and_then_opens_nothing(node: Node, client: SimClient) -> None:
    for _ in range(10):
        ask(client, "plain", "plain")
        finish(node)
        die(node, client, "plain")
    assert state(node, "plain") is State.CLOSED
    assert node.core.tools["plain"].circuit.deaths == 10


def test_errors_open_nothing_that_declared_nothing(node: Node, client: SimClient) -> None:
    for _ in range(30):
        ask(client, "plain")
        finish(node, "error")
    assert state(node, "plain") is State.CLOSED


def test_errors_that_are_ignored_count_as_answers(node: Node, client: SimClient) -> None:
    for _ in range(6):
        ask(client, "tolerant")
        finish(node, "error")
    assert node.core.tools["tolerant"].circuit.breaker.counts(node.now) == (6, 0, 0)


def test_its_own_time_limit_counts_as_a_failure_and_a_callers_does_not(node: Node, client: SimClient) -> None:
    breaker = node.core.tools["brief"].circuit.breaker
    for timeout, failed in ((0.2, 0), (None, 1)):
        ask(client, "brief", timeout=timeout)
        start(node)
        node.tick()
        wait(node, 0.6)
        assert codes(client)[-1] == "EXPIRED"
        assert breaker.counts(node.now) == (failed, failed, 0)
        for _ in range(5):
            wait(node, 1.0)
            while node.exits:
                node.hear_exit()
        for worker in workers(node):
            worker.step()


def test_a_probe_that_its_caller_cancels_gives_its_permit_back(node: Node, client: SimClient) -> None:
    for _ in range(3):
        ask(client, "brittle")
        finish(node, "error")
    wait(node, 0.5)
    ask(client, "brittle")
    start(node)
    breaker = node.core.tools["brittle"].circuit.breaker
    assert (breaker.state, breaker._free) == (State.HALF_OPEN, 1)
    client.cancel(4)
    assert breaker._free == 2
    node.check_books()


def test_orders_are_obeyed_and_told(node: Node, client: SimClient) -> None:
    admin = Admin(
        node.core,
        node.watch,
        "here",
        {"version": "1"},
        load(environment={}),
        Services({}, alone()),
        memory_of(node),
        Looks(node.core.fleet, Path(), lambda _pid, _number: None, lambda _pid: False),
        Results(None, "here", 600.0),
    )

    def told(order: str, name: str = "plain") -> dict[str, Any]:
        return admin.answer("breaker", {"tool": name, "order": order}, node.now)

    assert told("open")["state"] == "forced_open"
    ask(client, "plain", "read")
    finish(node)
    assert codes(client) == ["CIRCUIT_OPEN", ""]
    assert "an operator opened" in decode_value(client.asked[1].answer.value)["message"]  # type: ignore[union-attr]
    assert told("watch")["state"] == "metrics_only"
    ask(client, "plain")
    finish(node)
    assert admin.answer("breakers", {}, node.now)["breakers"]["plain"] == {
        "state": "metrics_only",
        "declared": False,
        "calls": 1,
        "failed": 0,
        "slow": 0,
        "deaths": 0,
        "opened": 0,
        "refused": 1,
        "retry_after": None,
    }
    assert told("auto")["state"] == "closed"
    assert not node.core.tools["plain"].guarded
    assert told("ajar")["error"]["code"] == InvalidArguments.code
    assert told("open", "palin")["error"]["code"] == "UNKNOWN_TOOL"
    assert told("open", "toolring.own")["error"]["code"] == "UNKNOWN_TOOL"
    assert "toolring.own" not in admin.answer("breakers", {}, node.now)["breakers"]


def test_who_is_refused_when_it_is_its_turn_lets_the_next_have_its_turn(node: Node, client: SimClient) -> None:
    """Two pass the valve, one of them is the probe: the third is told at once, not when something else happens."""
    for _ in range(3):
        ask(client, "double")
        finish(node, "error")
    wait(node, 0.5)
    ask(client, "double", "double", "double")
    assert codes(client)[3:] == ["CIRCUIT_OPEN", "CIRCUIT_OPEN"]
