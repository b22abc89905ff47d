"""What a bench reports, and how it compares two runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolring.cli.drive import Plan, Record
from toolring.cli.verdict import check_comparable, compare, of_node, report, spread, times, told
from toolring.errors import InvalidArguments
from toolring.policy.histogram import Histogram

PLAN = Plan("t", [{}], seconds=10.0, concurrency=4)


def record(latency: float = 0.01, each: int = 10, jitter: float = 0.0) -> Record:
    """``each`` calls a second; ``jitter``: every other second has so many more of them, as a share."""
    made = Record(0.0, 10.0)
    for second in range(10):
        calls = round(each * (1 + jitter * (second % 2)))
        for n in range(calls):
            meant = second + n / calls * 0.9
            made.add(meant, meant + latency)
    return made


def found(made: Record, node: dict[str, Any] | None = None, seconds: float = 10.0) -> dict[str, Any]:
    return report(PLAN, made, seconds, node or {}, {"workers": 0.5, "client": 0.1})


def total(**more: Any) -> dict[str, Any]:
    """What ``metrics`` tells of a tool; of each time one bucket."""
    parts = ("response", "queue", "run", "overhead")
    of = {"jobs": 3, "cached": 0, "retried": 0, "argument_bytes": 30, "result_bytes": 60}
    buckets = {part: [[100, 3]] for part in parts}
    return {**of, "buckets": buckets, "microseconds": dict.fromkeys(parts, 300), **more}


def test_throughput_and_latency() -> None:
    told_of = found(record())
    assert (told_of["throughput"], told_of["calls"], told_of["failed"]) == (10.0, 100, 0)
    assert told_of["latency"]["mean"] == pytest.approx(0.01)
    assert told_of["latency"]["max"] == 0.01
    assert max(told_of["latency"][key] for key in ("p50", "p95", "p99")) <= 0.01
    assert told_of["spread"]["throughput"] == 0
    assert len(told_of["slices"]) == 10
    assert json.loads(json.dumps(told_of)) == told_of


def test_of_a_run_that_was_stopped_only_what_is_whole_is_compared() -> None:
    stopped = found(record(), seconds=3.5)
    assert len(stopped["slices"]) == 3


def test_nothing_was_answered() -> None:
    nothing = found(Record(0.0, 10.0), seconds=0.0)
    assert (nothing["throughput"], nothing["latency"]["p99"], nothing["spread"]["p50"]) == (0.0, None, None)
    assert "0 calls" in told(nothing)


def test_the_node_tells_what_was_between() -> None:
    after = total(jobs=5, argument_bytes=50, buckets={**total()["buckets"], "run": [[100, 3], [50, 2]]})
    after["microseconds"] = {**after["microseconds"], "run": 400}
    between = of_node(total(), after)
    assert (between["jobs"], between["argument_bytes"], between["result_bytes"]) == (2, 20, 0)
    assert between["run"]["count"] == 2
    assert between["run"]["mean"] == pytest.approx(50e-6)
    assert between["run"]["p99"] == pytest.approx(50e-6)
    assert between["queue"] == {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None}


def test_spread_is_that_of_the_middle_half() -> None:
    assert spread([10.0] * 10) == 0
    assert spread([8, 9, 10, 11, 12]) == pytest.approx(0.2)
    assert spread([10.0] * 9 + [1000.0]) == 0
    assert spread([1.0, 2.0]) is None
    assert spread([0.0] * 5) is None


def test_a_quantile_is_not_above_the_longest_time() -> None:
    histogram = Histogram()
    histogram.record(1_000_001)
    assert times(histogram, 1_000_001)["p99"] <= 1.000001


def test_a_difference_is_more_than_both_runs_vary() -> None:
    steady, faster, loose = found(record()), found(record(0.005, 12)), found(record(0.01, 10, jitter=0.5))
    compared = compare(steady, faster)
    assert compared["throughput"]["ratio"] == pytest.approx(1.2)
    assert compared["throughput"]["differs"]
    assert compared["p50"]["ratio"] == pytest.approx(0.5, rel=0.02)
    assert compared["p50"]["differs"]
    assert compare(steady, loose)["throughput"]["differs"] is False
    assert compare(steady, found(Record(0.0, 10.0)))["p50"]["differs"] is None


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ({"tool": "u"}, "u, 4 at once"),
        ({"concurrency": 5}, "t, 5 at once"),
        ({"concurrency": None, "rate": 10.0}, "t, 10 calls/s"),
        ({"concurrency": None, "rate": "x"}, "t, None at once"),
    ],
)
def test_only_runs_of_the_same_kind_are_compared(other: dict[str, Any], kind: str) -> None:
    old = found(record())
    check_comparable(old, PLAN)
    with pytest.raises(InvalidArguments, match=f"was of {kind}, this is of t, 4 at once: they can't be compared"):
        check_comparable({**old, **other}, PLAN)


@pytest.mark.parametrize("other", [None, [], {}, {"tool": "t"}])
def test_what_is_no_report_is_refused(other: Any) -> None:
    with pytest.raises(InvalidArguments, match="toolring bench --json"):
        check_comparable(other, PLAN)


def test_the_text() -> None:
    node = of_node(total(jobs=0, argument_bytes=0, result_bytes=0), total(cached=2))
    made = record()
    made.add(1.0, 1.1, "BUSY")
    new = found(made, node)
    text = told({**new, "compared": compare(new, new)})
    assert text.splitlines()[0] == "t, 4 at once, 10.0 s: 101 calls, 1 failed, 10.0 answers/s (spread 0 %)"
    assert "BUSY" in text
    assert "a call: 10 bytes of arguments, 20 of result; 2 of 3 answers came from a cache" in text
    assert "processors: workers 50%, client 10%" in text
    assert "answers/s     10.0  10.0   1.00      0%  no difference" in text
