from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.model.simulation import Node
from tests.unit.supervisor.steps import ask, finish, look_round
from toolring.calls import alone
from toolring.policy.histogram import Histogram
from toolring.policy.series import Window
from toolring.supervisor.collector import About, Collector
from toolring.supervisor.reports import Reports
from toolring.supervisor.services import Services
from toolring.supervisor.summary import in_window
from toolring.supervisor.usage import Traffic, Usage, Used


def outcome(steps: Generator[None, None, dict[str, Any]]) -> dict[str, Any]:
    while True:
        try:
            next(steps)
        except StopIteration as over:
            return dict(over.value)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


@pytest.fixture
def collector(node: Node) -> Collector:
    figures = node.core.figures
    assert figures is not None
    usage = Usage(lambda pid: Used(1.5), Traffic)
    look_round(usage, {"supervisor": 1}, 5.0)
    return Collector(About("1", 1.0, ()), node.core, figures, usage, Reports(), Services({}, alone()), lambda: 0, ())


def test_totals_groups_and_workers_add_up_to_the_same(node: Node, collector: Collector) -> None:
    ask(node.clients[0], *["read"] * 4, "write", *["push"] * 20)
    finish(node)
    found = outcome(in_window(collector, Window.MINUTE, 100, node.now))
    assert found["total"]["jobs"] == sum(one["jobs"] for one in found["tools"].values())
    assert found["groups"]["default"] == found["total"]
    assert sum(one["jobs"] for one in found["workers"].values()) == found["total"]["run"]["count"]
    assert found["tools"]["read"]["jobs"] == 4
    assert found["refused"]["BUSY"] > 0
    assert found["processes"]["supervisor"]["cpu_seconds"] == 1.5
    assert found["total"]["errors"] == {}


def test_buckets_are_told_to_who_asks_and_can_be_subtracted(node: Node, collector: Collector) -> None:
    ask(node.clients[0], "read")
    finish(node)
    before = outcome(in_window(collector, Window.START, 100, node.now, None, True))["total"]
    ask(node.clients[0], "read", "write")
    finish(node)
    after = outcome(in_window(collector, Window.START, 100, node.now, None, True))["total"]
    for name, pairs in after["buckets"].items():
        between = Histogram(dict(pairs))
        assert between.n - Histogram(dict(before["buckets"][name])).n == 2, name
        assert after["microseconds"][name] >= before["microseconds"][name]
    assert after["result_bytes"] > before["result_bytes"] > 0
    assert "buckets" not in outcome(in_window(collector, Window.START, 100, node.now))["total"]


def test_the_busiest_are_told_of_and_how_many_are_left_out(node: Node, collector: Collector) -> None:
    ask(node.clients[0], "read", "read", "write", "push")
    finish(node)
    found = outcome(in_window(collector, Window.START, 1, node.now))
    assert list(found["tools"]) == ["read"]
    assert found["left_out"] == 2
    assert found["total"]["jobs"] == 4


def test_of_one_tool_only_that_is_told(node: Node, collector: Collector) -> None:
    ask(node.clients[0], "read", "write")
    finish(node)
    found = outcome(in_window(collector, Window.START, 100, node.now, "write"))
    assert list(found["tools"]) == ["write"]
    assert found["total"]["jobs"] == 1
    assert found["workers"] == {}
    assert "refused" not in found


def test_a_tool_that_has_moved_is_told_of_by_group(node: Node, collector: Collector) -> None:
    ask(node.clients[0], "read")
    finish(node)
    ask(node.clients[0], "read")
    finish(node)
    figures = collector.figures
    figures.fold_all()
    (key,) = figures.tools
    figures.tools[key._replace(group="other")] = figures.tools[key]
    assert sorted(outcome(in_window(collector, Window.START, 9, node.now))["tools"]) == [
        "read (default)",
        "read (other)",
    ]


def test_rates_are_of_the_window_s_length(node: Node, collector: Collector) -> None:
    began = node.now
    node.now += 40
    ask(node.clients[0], *["read"] * 4)
    finish(node)
    found = outcome(in_window(collector, Window.MINUTE, 9, node.now))
    assert found["seconds"] == pytest.approx(node.now - began)
    assert found["tools"]["read"]["jobs_per_second"] == pytest.approx(4 / found["seconds"], rel=0.01)


def test_nothing_has_no_times(node: Node, collector: Collector) -> None:
    found = outcome(in_window(collector, Window.FIVE_MINUTES, 9, node.now))
    assert found["total"]["response"] == {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None}
    assert found["tools"] == {}
