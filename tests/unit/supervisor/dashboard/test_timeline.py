from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.model.simulation import Node
from tests.unit.supervisor.steps import ask, finish, look_round
from toolring.policy.series import SLICE_SECONDS
from toolring.supervisor.dashboard.timeline import BOUNDS, MOST_PROCESSES, OTHERS, POINTS, Timeline
from toolring.supervisor.usage import Traffic, Usage, Used


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


def timeline_of(node: Node, usage: Usage | None = None) -> Timeline:
    figures = node.core.figures
    assert figures is not None
    figures.fold_due(node.now)
    usage = usage or Usage(lambda pid: None, Traffic)
    return Timeline(node.core, figures, usage, lambda: node.now + 1000.0)


def points(timeline: Timeline, now: float, after: int = -1) -> list[dict[str, Any]]:
    """Those that there are once what is due has been done."""
    steps = timeline.due(now)
    if steps is not None:
        assert timeline.due(now) is None, "one at a time"
        for _ in steps:
            pass
    return [msgspec.json.decode(one) for one in timeline.after(after)]


def test_a_point_holds_what_happened_in_its_slice(node: Node) -> None:
    timeline = timeline_of(node)
    began = node.now
    ask(node.clients[0], *["read"] * 4, "write")
    finish(node)
    ask(node.clients[0], "write")
    finish(node, "error")
    number = int(began // SLICE_SECONDS)
    end = (number + 1) * SLICE_SECONDS
    assert node.now < end
    assert timeline.due(end + 0.5) is None, "what has waited to be counted may not be there yet"
    (point,) = points(timeline, end + 1.0)
    assert (point["slice"], point["jobs"], sum(point["errors"].values())) == (number, 6, 1)
    assert point["time"] == end + 1000.0 - (end + 1.0 - node.now)
    assert sum(point["buckets"]) == 6
    assert len(point["buckets"]) == len(BOUNDS) + 1
    assert point["p50"] <= point["p95"] <= point["p99"]
    assert points(timeline, end + 1.0, after=number) == []


def test_a_slice_in_which_nothing_happened_is_a_point_too_and_gaps_are_filled_from_what_is_known(node: Node) -> None:
    timeline = timeline_of(node)
    first = int(node.now // SLICE_SECONDS)
    found = points(timeline, (first + 4) * SLICE_SECONDS + 1.0)
    assert [point["slice"] for point in found] == [first, first + 1, first + 2, first + 3]
    assert {(point["jobs"], point["p50"], len(point["buckets"])) for point in found} == {(0, None, 0)}
    found = points(timeline, (first + 100) * SLICE_SECONDS + 1.0)
    assert [point["slice"] for point in found[-2:]] == [first + 98, first + 99]
    assert len(found) < 20, "what nobody knows any more is a gap"


def test_no_more_than_a_quarter_of_an_hour_is_kept(node: Node) -> None:
    timeline = timeline_of(node)
    first = int(node.now // SLICE_SECONDS)
    for number in range(POINTS + 20):
        points(timeline, (first + number + 1) * SLICE_SECONDS + 1.0)
    found = points(timeline, 0.0)
    assert len(found) == POINTS
    assert found[-1]["slice"] == first + POINTS + 19


def test_refusals_and_hits_of_cached_tools_are_told(node: Node) -> None:
    timeline = timeline_of(node)
    end = (int(node.now // SLICE_SECONDS) + 1) * SLICE_SECONDS
    ask(node.clients[0], "cached")
    finish(node)
    ask(node.clients[0], "cached")
    finish(node)
    assert node.core.figures is not None
    node.core.figures.refused("UNKNOWN_TOOL")
    (point,) = points(timeline, end + 1.0)
    assert (point["asked"], point["cached"], point["refused"]) == (2, 1, 1)


def test_of_many_processes_the_largest_are_named_and_the_others_added_up(node: Node) -> None:
    usage = Usage(lambda pid: Used(resident_bytes=pid), Traffic)
    names = {str(number): number for number in range(1, MOST_PROCESSES + 4)}
    look_round(usage, names, 10.0)
    (point,) = points(timeline_of(node, usage), (int(node.now // SLICE_SECONDS) + 1) * SLICE_SECONDS + 1.0)
    assert point["memory"][OTHERS] == 1 + 2 + 3
    assert len(point["memory"]) == MOST_PROCESSES + 1
    assert point["processes"] == MOST_PROCESSES + 3
