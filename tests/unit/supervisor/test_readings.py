from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.simulation import Node, grouped_tools
from tests.unit.supervisor.steps import ask, finish, look_round
from toolring.policy.alerts import EACH, FIGURES, AlertRule
from toolring.policy.breaker import ORDERS
from toolring.supervisor.readings import STEP, Readings, Values
from toolring.supervisor.services import UNASKED, Standing
from toolring.supervisor.usage import Traffic, Usage, Used


def readings(node: Node) -> Readings:
    sizes = {1: 300, 2: 700, 3: 500}
    usage = Usage(lambda pid: Used(resident_bytes=sizes[pid]), Traffic)
    look_round(usage, {"supervisor": 1, "0": 2, "1": 3}, 5.0)
    return Readings(node.core, usage)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


def read(readings: Readings, node: Node, figure: str, **more: Any) -> Values:
    sense = {"below": 0.5} if figure == "workers_ready" else {"above": 0.5}
    window = {"window": "1m"} if FIGURES[figure].windowed else {}
    minimum = {"minimum": 1} if FIGURES[figure].sampled else {}
    rule = AlertRule(**{"figure": figure, **sense, **window, **minimum, **more})
    readings.look(node.now)
    steps = readings.of(rule, node.now)
    while True:
        try:
            next(steps)
        except StopIteration as over:
            return dict(over.value)


def test_every_figure_can_be_read_of_a_node_that_has_done_nothing(node: Node) -> None:
    there = readings(node)
    for name, figure in FIGURES.items():
        found = read(there, node, name)
        if name in ("memory", "memory_total", "workers_ready"):
            continue
        assert all(value in (None, 0.0) for value in found.values()), (name, found)
        if figure.tools:
            read(there, node, name, tool=EACH)
        if figure.services:
            assert read(there, node, name, service=EACH) == {}
        if figure.groups:
            assert set(read(there, node, name, group=EACH)) <= {"default"}


def test_errors_are_a_share_of_the_answers_without_the_callers_own(node: Node) -> None:
    figures = node.core.figures
    assert figures is not None
    ask(node.clients[0], *["read"] * 6, *["write"] * 2)
    finish(node)
    figures.fold_all()
    series = {key.tool: one for key, one in figures.tools.items()}
    series["read"].at(node.now).errors.update({"TOOL_ERROR": 3, "INVALID_ARGUMENTS": 2})
    there = readings(node)
    assert read(there, node, "error_rate") == {"": 3 / 8}
    assert read(there, node, "error_rate", tool=EACH) == {"read": 0.5, "write": 0.0}
    assert read(there, node, "error_rate", tool="write") == {"write": 0.0}
    assert read(there, node, "error_rate", group="default") == {"default": 3 / 8}
    assert read(there, node, "error_rate", minimum=9) == {}, "too few to tell"


def test_times_are_of_the_tool_and_the_window(node: Node) -> None:
    ask(node.clients[0], "read", "read")
    node.now += 3.0
    finish(node)
    figures = node.core.figures
    assert figures is not None
    figures.fold_all()
    there = readings(node)
    assert read(there, node, "response_p50", tool="read")["read"] == pytest.approx(3.0, rel=0.01)
    assert read(there, node, "run_p99", tool=EACH)["read"] == pytest.approx(10e-6, rel=0.01)
    assert read(there, node, "response_p50", minimum=3) == {}
    node.now += 100
    assert read(there, node, "response_p50", tool="read") == {}, "that was longer ago"
    assert read(there, node, "throughput", tool="read") == {"read": 0.0}
    assert read(there, node, "throughput", window="5m")[""] == pytest.approx(2 / 103, rel=0.01)


def test_a_tool_that_nobody_calls_has_a_throughput_and_tells_nothing_else(node: Node) -> None:
    there = readings(node)
    assert read(there, node, "throughput", tool="push") == {"push": 0.0}
    assert read(there, node, "throughput") == {"": 0.0}
    assert read(there, node, "throughput", tool=EACH) == {}
    assert read(there, node, "error_rate", tool="push") == {}


def test_hits_are_a_share_of_the_answers_of_cached_tools_only(node: Node) -> None:
    ask(node.clients[0], *["read"] * 4, "cached")
    finish(node)
    ask(node.clients[0], "cached")
    finish(node)
    figures = node.core.figures
    assert figures is not None
    figures.fold_all()
    assert read(readings(node), node, "cache_hit_ratio") == {"": 0.5}


def test_what_waits_and_for_how_long(node: Node) -> None:
    there = readings(node)
    ask(node.clients[0], *["write"] * 30)
    node.now += 2.0
    ask(node.clients[1], "few")
    waiting = node.core.backlog.count
    assert waiting > 2
    assert read(there, node, "backlog") == {"": waiting}
    assert read(there, node, "backlog", group=EACH) == {"default": waiting}
    assert read(there, node, "backlog_age") == {"": 2.0}
    assert read(there, node, "backlog_age", group="default") == {"default": 2.0}
    finish(node)
    assert read(there, node, "backlog_age") == {"": 0.0}


def test_workers_that_are_ready_and_those_that_died(node: Node) -> None:
    there = readings(node)
    assert read(there, node, "workers_ready") == {"": 1.0}
    figures = node.core.figures
    assert figures is not None
    worker = node.core.fleet.ready[0]
    for cause, unasked, often in (("killed by SIGSEGV", True, 3), ("killed by SIGKILL", False, 9)):
        for _ in range(often):
            figures.exited(worker, cause, unasked)
    assert read(there, node, "restarts") == {"": 3.0}
    node.now += 61
    assert read(there, node, "restarts") == {"": 0.0}
    assert read(there, node, "restarts", window="5m") == {"": 0.6}
    node.core.fleet.groups[0].ready.clear()
    assert read(there, node, "workers_ready", group=EACH) == {"default": 0.0}


def test_memory_is_of_the_largest_or_of_all(node: Node) -> None:
    there = readings(node)
    assert read(there, node, "memory") == {"": 700.0}
    assert read(there, node, "memory_total") == {"": 1500.0}
    assert read(there, node, "memory_total", group=EACH) == {"default": 1200.0}
    assert read(Readings(node.core, None), node, "memory") == {"": None}


def test_what_services_fail_at_is_a_share_of_what_was_asked_of_them_in_the_window(node: Node) -> None:
    standing = {"shop": Standing(100, 90, 0), "bare": UNASKED}
    there = Readings(node.core, None, lambda: dict(standing))
    assert read(there, node, "service_errors", service=EACH) == {"shop": 0.9}
    node.now += 61
    standing.update(shop=Standing(110, 91, 0), bare=Standing(4, 4, 0))
    assert read(there, node, "service_errors", service=EACH) == {"shop": 0.1, "bare": 1.0}
    assert read(there, node, "service_errors", service="shop", minimum=11) == {}, "too few to tell"
    assert read(there, node, "service_errors") == {"": 5 / 14}
    assert read(there, node, "service_errors", window="5m", service="shop") == {"shop": 91 / 110}
    node.now += 300
    assert read(there, node, "service_errors", window="5m", service=EACH) == {}


def test_circuits_that_are_open_and_a_node_that_can_not_serve(node: Node) -> None:
    there = readings(node)
    assert read(there, node, "circuit_open", tool=EACH) == {}
    node.core.circuits.order(node.core.tools["brittle"], ORDERS["open"], node.now)
    assert read(there, node, "circuit_open", tool=EACH) == {"brittle": 1.0}
    assert read(there, node, "circuit_open", tool="read") == {"read": 0.0}
    assert read(there, node, "circuit_open") == {"": 1.0}
    there = Readings(node.core, None, lambda: {"shop": Standing(0, 0, 2), "bare": UNASKED})
    assert read(there, node, "circuit_open", service=EACH) == {"shop": 2.0, "bare": 0.0}
    assert read(there, node, "circuit_open", service="bare") == {"bare": 0.0}
    assert read(there, node, "circuit_open") == {"": 3.0}, "that of the tool as well"
    node.core.fleet.groups[0].failing = True
    assert read(there, node, "unhealthy", group=EACH) == {"default": 1.0}
    node.core.broken = True
    assert read(there, node, "unhealthy") == {"": 1.0}


def test_many_tools_are_read_in_steps() -> None:
    node = Node(served=grouped_tools())
    try:
        figures = node.core.figures
        assert figures is not None
        for tool in list(node.core.tools.values()):
            figures.held(tool, 1, 1, node.now)
        assert len(figures.tools) > STEP
        rule = AlertRule(figure="error_rate", tool=EACH, above=0.5)
        assert next(Readings(node.core, None).of(rule, node.now)) is None
    finally:
        node.close()


def test_workers_are_not_missed_before_they_were_there() -> None:
    node = Node(2)
    there = readings(node)
    first, *others = node.workers.values()
    first.step()
    assert read(there, node, "workers_ready") == {}
    for one in others:
        one.step()
    assert read(there, node, "workers_ready") == {"": 1.0}
    first.die(-9)
    node.hear_exit()
    assert 0.0 < (read(there, node, "workers_ready")[""] or 0.0) < 1.0
    node.close()


def test_workers_that_never_come_are_missed() -> None:
    node = Node(2)
    there = readings(node)
    node.core.fleet.slots[0].generation = 2
    assert read(there, node, "workers_ready") == {"": 0.0}
    node.close()
