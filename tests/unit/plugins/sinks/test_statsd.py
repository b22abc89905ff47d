from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from toolring.errors import ConfigError
from toolring.plugins.sinks.statsd import MOST_BYTES, Statsd
from toolring.plugins.specs import SinkSettings
from toolring.testing import FIGURES


class Wire:
    """In place of a socket. It breaks after ``room`` packets."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.broken = False
        self.room: int | None = None

    def sendto(self, data: bytes, _address: Any) -> None:
        if self.broken:
            raise ConnectionRefusedError
        if self.room is not None and len(self.packets) >= self.room:
            raise BlockingIOError
        self.packets.append(data)

    def lines(self) -> dict[str, str]:
        found = dict(line.rsplit(":", 1) for packet in self.packets for line in packet.decode().split("\n"))
        self.packets.clear()
        return found

    def close(self) -> None:
        pass


@pytest.fixture
def wire(sink: Statsd) -> Wire:
    sink.close()
    wire = Wire()
    sink._socket = wire  # type: ignore[assignment]
    return wire


@pytest.fixture
def sink() -> Iterator[Statsd]:
    sink = Statsd(SinkSettings(1.0, "", "127.0.0.1:9"))
    yield sink
    sink.close()


def test_counts_are_what_they_grew_by_and_times_are_milliseconds(sink: Statsd, wire: Wire) -> None:
    sink.emit(FIGURES)
    lines = wire.lines()
    assert lines["toolring.tool.echo.jobs"] == "3|c"
    assert lines["toolring.tool.echo.errors.TOOL_ERROR"] == "1|c"
    assert lines["toolring.tool.echo.response.p95"] == "2|g"
    assert lines["toolring.refused.BUSY"] == "2|c"
    assert lines["toolring.workers"] == "1|g"
    assert "toolring.tool.echo.overhead.p95" not in lines
    more = copy.deepcopy(FIGURES)
    more["counts"]["echo"]["jobs"] = 10
    sink.emit(more)
    lines = wire.lines()
    assert lines["toolring.tool.echo.jobs"] == "7|c"
    assert "toolring.tool.echo.errors.TOOL_ERROR" not in lines


def test_what_could_not_be_sent_is_counted_the_next_time(sink: Statsd, wire: Wire) -> None:
    wire.broken = True
    with pytest.raises(ConnectionRefusedError):
        sink.emit(FIGURES)
    wire.broken = False
    sink.emit(FIGURES)
    assert wire.lines()["toolring.tool.echo.jobs"] == "3|c"


def test_what_was_sent_before_it_broke_is_not_sent_again(sink: Statsd, wire: Wire) -> None:
    many = {"counts": {f"tool_{number:03}": {"jobs": 100} for number in range(200)}}
    wire.room = 2
    with pytest.raises(BlockingIOError):
        sink.emit(many)
    first = wire.lines()
    wire.room = None
    sink.emit(many)
    rest = wire.lines()
    jobs = [f"toolring.tool.tool_{number:03}.jobs" for number in range(200)]
    assert [[found[name] for found in (first, rest) if name in found] for name in jobs] == [["100|c"]] * 200
    assert 0 < len(first) < 200


def test_packets_are_small_and_names_have_no_meaning_to_the_server(sink: Statsd, wire: Wire) -> None:
    many = copy.deepcopy(FIGURES)
    many["counts"] = {f"a.b:c|d {number}": FIGURES["counts"]["echo"] for number in range(200)}
    sink.emit(many)
    assert max(map(len, wire.packets)) <= MOST_BYTES
    assert "toolring.tool.a_b_c_d_7.jobs" in wire.lines()


def test_times_of_a_tool_that_has_become_idle_fall_to_zero(sink: Statsd, wire: Wire) -> None:
    name = "toolring.tool.echo.response.p95"
    sink.emit(FIGURES)
    assert wire.lines()[name] == "2|g"
    idle = copy.deepcopy(FIGURES)
    idle["metrics"]["tools"] = {}
    told = []
    for _ in range(5):
        sink.emit(idle)
        told.append(wire.lines().get(name))
    assert told == ["0|g", "0|g", "0|g", None, None], "more than once, since a packet may get lost"
    sink.emit(FIGURES)
    assert wire.lines()[name] == "2|g"
    wire.broken = True
    with pytest.raises(ConnectionRefusedError):
        sink.emit(idle)
    wire.broken = False
    sink.emit(idle)
    assert wire.lines()[name] == "0|g"


def test_tools_whose_names_are_one_to_the_server_are_counted_together(sink: Statsd, wire: Wire) -> None:
    figures = copy.deepcopy(FIGURES)
    slow = copy.deepcopy(FIGURES["metrics"]["tools"]["echo"])
    slow["response"]["p95"] = 0.5
    figures["metrics"]["tools"] = {"a.b": slow, "a_b": FIGURES["metrics"]["tools"]["echo"]}
    for jobs, grown in (((5, 3), "8|c"), ((6, 5), "3|c")):
        figures["counts"] = {name: {"jobs": count} for name, count in zip(("a.b", "a_b"), jobs, strict=True)}
        sink.emit(figures)
        lines = wire.lines()
        assert lines["toolring.tool.a_b.jobs"] == grown
        assert lines["toolring.tool.a_b.response.p95"] == "500|g"


def test_without_a_server_it_says_which_setting_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.statsd"):
        Statsd(SinkSettings(1.0, "", ""))
