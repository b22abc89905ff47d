"""Sorting, filtering and the plain text of what `toolring top` shows."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.told import minute, told, tool, worker
from toolring.cli.frame import SECTIONS, Camera
from toolring.cli.views import NODES, VIEWS, Order, cells, chosen, columns_of, headline, listed, ordered, shown, tone

ROWS: list[dict[str, Any]] = [{"tool": "b", "rate": 1.0}, {"tool": "A", "rate": None}, {"tool": "c", "rate": 30.0}]


def names(rows: list[dict[str, Any]]) -> str:
    return "".join(row["tool"] for row in rows)


def test_rows_are_sorted_either_way_and_what_has_no_figure_is_last() -> None:
    assert names(ordered(ROWS, Order("rate", True))) == "cbA"
    assert names(ordered(ROWS, Order("rate", False))) == "bcA"
    assert names(ordered(ROWS, Order("tool", False))) == "Abc"


def test_the_filter_wants_all_words_in_the_names() -> None:
    view = VIEWS["workers"]
    rows = [
        {"id": 0, "group": "default", "pid": 41, "runs": "crawl", "state": "busy"},
        {"id": 1, "group": "io", "pid": 42, "runs": None, "state": "busy"},
    ]
    assert chosen(rows, view, "") == rows
    assert chosen(rows, view, "  ") == rows
    assert chosen(rows, view, "CRAWL def") == rows[:1]
    assert chosen(rows, view, "42") == rows[1:]
    assert chosen(rows, view, "busy") == []


def test_each_section_of_a_frame_has_a_view_and_each_column_a_figure() -> None:
    caches = {
        "tools": {"a": {"calls": 1, "hits": {}, "joined": 0, "runs": 1, "hit_ratio": 0.0}},
        "supervisor": {"entries": 0, "bytes": 0, "evictions": 0},
        "memory": {},
        "stores": {},
    }
    frame = Camera("ipc:///here").frame(told(1.0, {"a": tool(1)}, cache=caches))
    assert tuple(VIEWS) == SECTIONS
    for name, view in VIEWS.items():
        for row in frame[name]:
            assert {column.key for column in view.columns} <= set(row), name
            assert set(view.named) <= set(row)
        assert view.sort in {column.key for column in view.columns}
    assert {column.key for column in NODES} <= set(frame["node"])


def test_a_column_that_says_the_same_of_all_may_be_left_out() -> None:
    heads = [column.head for column in columns_of(VIEWS["workers"], [{"group": "a"}, {"group": "a"}])]
    assert "GROUP" not in heads
    assert "#" in heads
    assert "GROUP" in [column.head for column in columns_of(VIEWS["workers"], [{"group": "a"}, {"group": "b"}])]


def test_a_frame_as_text() -> None:
    frame = Camera("ipc:///here").frame(told(1.0, {"a": tool(9), "b": tool(2)}, minute({"b": 0.02})))
    text = shown(frame)
    head, workers, tools, *rest = text.split("\n\n")
    assert head.splitlines()[0] == "ipc:///here  healthy  up 1m01s  pid 7  code 1  clients 1"
    assert head.splitlines()[1] == "jobs 2.00/s  errors 0.10/s  p50 10.0ms  p95 20.0ms  p99 30.0ms  refused 0.50/s"
    assert head.splitlines()[2].startswith("workers 2/2 ready  waiting 0")
    assert workers.splitlines()[0].split()[:3] == ["#", "PID", "STATE"]
    assert [line.split()[:3] for line in tools.splitlines()[1:]] == [["b", "2.00", "0.10"], ["a", "0", "0"]]
    assert rest == ["queue: nothing waits", "caches: no tool is cached"]
    assert all(line == line.rstrip() for line in text.splitlines())


def test_figures_stand_to_the_right_and_empty_columns_are_left_out() -> None:
    view = VIEWS["tools"]
    text = listed(view.columns, [{"tool": "a", "rate": 1.0}, {"tool": "long name", "rate": 12345.0}])
    assert text.splitlines() == ["TOOL          /S", "a           1.00", "long name  12.3k"]


def test_what_somebody_should_look_at_stands_out() -> None:
    assert (tone("state", "ready"), tone("state", "vacant"), tone("state", "draining")) == ("", "bad", "warn")
    assert (tone("circuit", "forced_open"), tone("errors", 0.0), tone("errors", 0.1)) == ("bad", "", "bad")
    frame = Camera("x").frame(told(1.0, {}, workers=[worker(0), worker(1, state="starting")], alerts={"firing": 2}))
    pieces = dict(piece for line in headline(frame["node"]) for piece in line)
    assert pieces["workers 1/2 ready"] == "warn"
    assert pieces["2 alerts fire"] == "bad"
    assert headline({**frame["node"], "firing": 1})[0][0] == ("1 alert fires", "bad")


def test_long_names_are_told_apart() -> None:
    names = [f"tool_number_{n}_with_quite_a_long_name" for n in range(180, 190)]
    frame = Camera("x").frame(told(1.0, {name: tool(1) for name in names}))
    assert all(name in shown(frame) for name in names)
    assert len({cells(VIEWS["tools"].columns, row, 80)[0] for row in frame["tools"]}) == 10
    assert len(cells(VIEWS["tools"].columns, {"tool": "x" * 300, "circuit": "y" * 300}, 80)[0]) == 40
