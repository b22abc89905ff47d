"""What a frame of `toolring top` holds."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.told import minute, status, times, told, tool, worker
from toolring.cli.frame import SECTIONS, STALE_SECONDS, Camera, Meter, Told


@pytest.fixture
def camera() -> Camera:
    return Camera("ipc:///here")


def test_rates_are_those_since_the_last_frame(camera: Camera) -> None:
    camera.frame(told(10.0, {"a": tool(100, BUSY=1), "b": tool(5)}))
    found = camera.frame(told(12.0, {"a": tool(150, BUSY=5), "b": tool(5)}))
    a, b = found["tools"]
    assert (a["tool"], a["rate"], a["errors"]) == ("a", 25.0, 2.0)
    assert (b["rate"], b["errors"]) == (0.0, 0.0)
    assert (found["node"]["rate"], found["node"]["errors"], found["node"]["over"]) == (25.0, 2.0, 2.0)


def test_rates_of_the_first_frame_are_those_of_the_minute(camera: Camera) -> None:
    found = camera.frame(told(10.0, {"a": tool(100), "idle": tool()}, minute({"a": 0.02})))
    a, idle = found["tools"]
    assert (a["rate"], a["errors"], idle["rate"]) == (2.0, 0.1, 0.0)
    assert found["node"]["over"] == 60.0


def test_what_is_asked_for_out_of_turn_counts_with_the_interval_before() -> None:
    camera = Camera("x", 0.8)
    rates = []
    for at, answered in ((9.0, 90), (9.1, 92), (10.0, 100), (10.1, 130), (10.2, 130), (11.0, 140)):
        found = camera.frame(told(at, {"a": tool(answered)}, minute({"a": 0.02})))
        rates.append((found["tools"][0]["rate"], found["node"]["over"]))
    minutes = (2.0, 60.0)
    assert rates[:2] == [minutes, minutes]
    assert [one for pair in rates[2:] for one in pair] == pytest.approx(
        [10.0, 1.0, 40 / 1.1, 1.1, 40 / 1.2, 1.2, 40.0, 1.0]
    )


def test_another_node_at_the_same_address_begins_anew(camera: Camera) -> None:
    camera.frame(told(10.0, {"a": tool(100)}))
    found = camera.frame(told(11.0, {"a": tool(3)}, minute({"a": 0.02}), node="n2"))
    assert found["tools"][0]["rate"] == 2.0


def test_a_tool_that_came_by_a_reload_has_no_rate_yet(camera: Camera) -> None:
    camera.frame(told(10.0, {"a": tool(100)}))
    assert camera.frame(told(11.0, {"a": tool(101), "new": tool(4)}))["tools"][1]["rate"] is None


def test_times_are_those_of_the_minute(camera: Camera) -> None:
    found = camera.frame(told(10.0, {"a": tool(100), "idle": tool()}, minute({"a": 0.02})))
    a, idle = found["tools"]
    assert (a["p50"], a["p99"], a["run_p50"], a["queue_p95"]) == pytest.approx((0.02, 0.06, 0.01, 0.01))
    assert idle["p50"] is None
    assert found["node"]["p95"] == 0.02


def test_a_tool_that_has_moved_is_found_by_its_name(camera: Camera) -> None:
    found = camera.frame(told(10.0, {"a": tool(100)}, minute({"a (old)": 0.02, "a (new)": 0.5})))
    assert found["tools"][0]["p50"] == 0.02


def test_a_node_that_counts_nothing_shows_what_it_tells(camera: Camera) -> None:
    first = camera.frame(Told(10.0, status({"a": tool(100)})))
    assert (first["node"]["rate"], first["node"]["p50"], first["node"]["refused"]) == (None, None, None)
    assert first["node"]["memory"] == 20 << 20
    assert camera.frame(Told(11.0, status({"a": tool(105)})))["tools"][0]["rate"] == 5.0


def test_workers_show_what_they_are_at(camera: Camera) -> None:
    def at(number: int, **more: object) -> dict[str, object]:
        return worker(0, number, **more)

    figures = minute(workers={"0": {"jobs_per_second": 9.0, "failed": 1, "run": times(0.3, 100)}})
    camera.frame(told(10.0, {}, figures, workers=[at(10), worker(1)]))
    busy = at(14, state="busy", runs="a", jobs=2, generation=3, **{"for": 1.5})
    found = camera.frame(
        told(12.0, {}, figures, workers=[busy, {"id": 1, "group": "x", "pid": None, "state": "vacant"}])
    )
    row, vacant = found["workers"]
    assert (row["runs"], row["for"], row["line"], row["rate"], row["restarts"]) == ("a", 1.5, 2, 2.0, 2)
    assert row["busy"] == 0.525, "half of the minute that is over, and what goes on"
    assert (row["memory"], row["p95"], row["failed"]) == (10 << 20, 0.6, 1)
    assert (vacant["state"], vacant["rate"], vacant["restarts"]) == ("vacant", None, None)
    assert (found["node"]["ready"], found["node"]["workers"]) == (1, 2)


def test_a_successor_is_not_charged_with_what_the_worker_before_it_did(camera: Camera) -> None:
    camera.frame(told(10.0, {}, workers=[worker(0, 100)]))
    found = camera.frame(told(11.0, {}, workers=[worker(0, 2, pid=999)], ending=[worker(0, 101, state="retiring")]))
    new, old = found["workers"]
    assert (new["rate"], old["rate"], old["state"], old["busy"], old["cpu"]) == (None, None, "retiring", None, None)


def test_what_waits_and_what_is_cached(camera: Camera) -> None:
    waiting = {"waits_for": "worker", "tool": "a", "caller": "", "count": 3, "oldest": 0.5, "work": 1.0}
    caches = {
        "tools": {"a": {"calls": 10, "hits": {"supervisor": 3, "memory": 1}, "joined": 2, "runs": 4, "hit_ratio": 0.6}},
        "supervisor": {"entries": 2, "bytes": 300, "evictions": 1},
        "memory": {"s3fifo": {"entries": 1, "bytes": 10, "hits": 1, "misses": 3, "evictions": 0}},
        "stores": {"sqlite": {"entries": 1, "bytes": 10, "hits": 0, "misses": 0, "state": "open"}},
    }
    found = camera.frame(Told(1.0, status({"a": tool()}, cache=caches), {}, {"waiting": [waiting]}))
    assert found["queue"] == [{**waiting, "caller": None}]
    assert [(one["what"], one["name"], one["hits"], one["ratio"], one["entries"]) for one in found["caches"]] == [
        ("tool", "a", 4, 0.6, None),
        ("memory", "s3fifo", 1, 0.25, 1),
        ("store", "sqlite", 0, None, 1),
        ("node", "supervisor", None, None, 2),
    ]
    assert found["tools"][0]["hits"] == 0.6


def test_a_frame_is_plain_data(camera: Camera) -> None:
    found = camera.frame(told(10.0, {"a": tool(100)}))
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"node", *SECTIONS}


def test_refusals_are_told_by_second(camera: Camera) -> None:
    assert camera.frame(told(10.0, {}))["node"]["refused"] == 0.5, "in the minute before"
    jobs = {"waiting": 0, "running": 0, "refused": {"BUSY": 6}}
    assert camera.frame(told(12.0, {}, jobs=jobs))["node"]["refused"] == 3.0


def test_a_meter_goes_by_changes_not_by_looks() -> None:
    meter = Meter()
    assert [meter.saw(value, at) for value, at in [(1.0, 0.0), (1.0, 1.0), (3.0, 2.0), (3.0, 3.0), (4.0, 4.0)]] == [
        None,
        None,
        1.0,
        1.0,
        0.5,
    ]


def test_a_meter_tells_of_a_standstill_and_of_a_new_count() -> None:
    meter = Meter()
    meter.saw(1.0, 0.0)
    assert meter.saw(2.0, 1.0) == 1.0
    assert meter.saw(2.0, 1.1 + STALE_SECONDS) == 0.0
    assert meter.saw(0.5, 9.0) is None
