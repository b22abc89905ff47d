from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from toolring.errors import PluginError
from toolring.plugins.specs import AlertEvent
from toolring.supervisor.metrics import BREAKER, MOST_ALERTS, Exporter, exporters


class Sink:
    """Records; blocks while its gate is closed; breaks when told to."""

    def __init__(self) -> None:
        self.got: list[Mapping[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.closed = False
        self.error: BaseException | None = None

    def emit(self, figures: Mapping[str, Any]) -> None:
        self.busy.set()
        assert self.gate.wait(5)
        if self.error is not None:
            raise self.error
        self.got.append(figures)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sink() -> Sink:
    return Sink()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end


errors: list[tuple[str, str]] = []


@pytest.fixture
def exporter(sink: Sink) -> Exporter:
    errors.clear()
    return Exporter("mine", sink, lambda name, why: errors.append((name, why)))


def test_figures_arrive_and_the_sink_is_closed(exporter: Exporter, sink: Sink) -> None:
    exporter.offer({"n": 1})
    exporter.close()
    assert sink.got == [{"n": 1}]
    assert sink.closed
    assert (exporter.sent, exporter.dropped, exporter.failed) == (1, 0, 0)


def test_a_sink_that_blocks_drops_with_a_count_and_holds_up_nobody(exporter: Exporter, sink: Sink) -> None:
    sink.gate.clear()
    exporter.offer({"n": 1})
    assert sink.busy.wait(5)
    for number in range(2, 12):
        exporter.offer({"n": number})  # one waits, nine are dropped; none of the calls blocks
    assert exporter.dropped == 9
    sink.gate.set()
    exporter.close()
    assert sink.got == [{"n": 1}, {"n": 2}]


def test_a_sink_that_fails_is_counted_told_of_and_asked_again(exporter: Exporter, sink: Sink) -> None:
    sink.error = ValueError("no disk")
    exporter.offer({"n": 1})
    assert sink.busy.wait(5)
    sink.busy.clear()
    while exporter.failed == 0:
        pass
    sink.error = None
    exporter.offer({"n": 2})
    exporter.close()
    assert (exporter.sent, exporter.failed) == (1, 1)
    assert errors == [("mine", "ValueError: no disk")]


def test_a_sink_that_keeps_failing_gets_nothing_for_a_while(sink: Sink) -> None:
    now = 100.0
    exporter = Exporter("mine", sink, lambda name, why: None, lambda: now)
    sink.error = OSError("no disk")
    while exporter.failed < BREAKER.minimum:
        failed = exporter.failed
        exporter.offer({"n": failed})
        until(lambda before=failed: exporter.failed > before)  # type: ignore[misc]
    assert exporter.state == "open"
    sink.error = None
    exporter.offer({"n": 4})
    until(lambda: exporter.dropped == 1)
    assert exporter.sent == 0
    now += BREAKER.wait
    exporter.offer({"n": 5})
    until(lambda: exporter.sent == 1)
    assert exporter.state == "closed"
    exporter.close()
    assert sink.got == [{"n": 5}]


def test_a_sink_that_never_returns_does_not_hold_up_the_end(exporter: Exporter, sink: Sink) -> None:
    sink.gate.clear()
    exporter.offer({"n": 1})
    assert sink.busy.wait(5)
    exporter.offer({"n": 2})
    exporter.close(patience=0.01)
    assert not sink.closed
    sink.gate.set()


def test_a_sink_that_breaks_as_it_closes_ends_all_the_same(exporter: Exporter, sink: Sink) -> None:
    def close() -> None:
        raise OSError("gone")

    sink.close = close  # type: ignore[method-assign]
    exporter.close()
    assert errors == [("mine", "OSError: gone")]


class AlertSink(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.order: list[Any] = []

    def emit(self, figures: Mapping[str, Any]) -> None:
        self.order.append(figures)
        super().emit(figures)

    def alert(self, event: AlertEvent) -> None:
        self.order.append(event.alert)
        if self.error is not None:
            raise self.error


def event(name: str) -> AlertEvent:
    return AlertEvent(name, "firing", "warning", "backlog", "", "", 5.0, "above", 3.0, 0.0, "")


def test_alerts_go_to_a_sink_that_takes_them_before_the_next_figures() -> None:
    sink = AlertSink()
    exporter = Exporter("mine", sink, lambda name, why: None)
    sink.gate.clear()
    exporter.offer({"n": 1})
    assert sink.busy.wait(5)
    exporter.offer({"n": 2})
    exporter.alert(event("a"))
    exporter.alert(event("b"))
    sink.gate.set()
    until(lambda: len(sink.order) == 4)
    exporter.alert(event("c"))
    until(lambda: len(sink.order) == 5)
    exporter.close()
    assert sink.order == [{"n": 1}, "a", "b", {"n": 2}, "c"]


def test_alerts_that_wait_are_bounded_and_the_oldest_are_dropped() -> None:
    sink = AlertSink()
    exporter = Exporter("mine", sink, lambda name, why: None)
    sink.gate.clear()
    exporter.offer({"n": 1})
    assert sink.busy.wait(5)
    for number in range(MOST_ALERTS + 2):
        exporter.alert(event(str(number)))
    assert exporter.dropped == 2
    sink.gate.set()
    exporter.close()
    assert sink.order[1:] == [str(number) for number in range(2, MOST_ALERTS + 2)]


def test_a_sink_that_fails_at_alerts_has_failed_and_one_that_takes_none_gets_none(
    exporter: Exporter, sink: Sink
) -> None:
    exporter.alert(event("a"))
    exporter.offer({"n": 1})
    until(lambda: exporter.sent == 1)
    assert sink.got == [{"n": 1}]
    failing = AlertSink()
    failing.error = OSError("no disk")
    other = Exporter("mine", failing, lambda name, why: None)
    other.alert(event("a"))
    until(lambda: other.failed == 1)
    other.close()
    exporter.close()


def test_alerts_get_through_where_figures_fail() -> None:
    sink = AlertSink()
    exporter = Exporter("mine", sink, lambda name, why: None, lambda: 100.0)
    sink.emit = fail  # type: ignore[method-assign,assignment]
    for number in range(BREAKER.minimum):
        exporter.offer({"n": number})
        until(lambda before=number: exporter.failed > before)  # type: ignore[misc]
    assert exporter.state == "open"
    exporter.alert(event("a"))
    exporter.close()
    assert sink.order == ["a"]
    assert (exporter.sent, exporter.dropped) == (1, 0)


def test_alerts_wait_while_those_before_them_fail() -> None:
    now = 100.0
    sink = AlertSink()
    sink.error = OSError("no disk")
    exporter = Exporter("mine", sink, lambda name, why: None, lambda: now)
    for number in range(BREAKER.minimum):
        exporter.alert(event(str(number)))
        until(lambda before=number: exporter.failed > before)  # type: ignore[misc]
    assert exporter.state == "open"
    sink.error = None
    for name in ("a", "b"):
        exporter.alert(event(name))
    until(lambda: exporter.idle)
    exporter.offer({"n": 1})
    until(lambda: exporter.sent == 1)
    assert sink.order[BREAKER.minimum :] == [{"n": 1}]
    now += BREAKER.wait
    exporter.offer({"n": 2})
    exporter.close()
    assert sink.order[BREAKER.minimum :] == [{"n": 1}, "a", "b", {"n": 2}]
    assert exporter.dropped == 0


def fail(_: Mapping[str, Any]) -> None:
    raise OSError("no disk")


@pytest.mark.parametrize("error", [SystemExit(4), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_sink_raises_is_told_and_it_is_asked_again(
    exporter: Exporter, sink: Sink, error: BaseException
) -> None:
    sink.error = error
    exporter.offer({"n": 1})
    until(lambda: exporter.failed == 1)
    sink.error = None
    exporter.offer({"n": 2})
    exporter.close()
    assert sink.got == [{"n": 2}]
    assert errors == [("mine", f"{type(error).__name__}: {error}")]


def test_a_sink_that_does_not_come_back_is_told_of_once(sink: Sink) -> None:
    now = 100.0
    told: list[str] = []
    exporter = Exporter("mine", sink, lambda name, why: told.append(why), lambda: now, patience=30.0)
    sink.gate.clear()
    exporter.offer({"n": 1})
    assert sink.busy.wait(5)
    exporter.offer({"n": 2})
    assert (exporter.state, told) == ("closed", [])
    now += 31.0
    for number in range(3, 6):
        exporter.offer({"n": number})
    assert exporter.state == "stuck"
    assert told == ["it has been at one thing for more than 30 s; the rest is dropped"]
    sink.gate.set()
    until(lambda: len(sink.got) == 2)
    exporter.close()
    assert (exporter.state, len(told)) == ("closed", 1)


def test_sinks_are_made_by_name() -> None:
    made = exporters("metrics", ("one",), {"one": Sink, "two": Sink}, lambda name, why: None)
    assert [exporter.name for exporter in made] == ["one"]
    for exporter in made:
        exporter.close()


def test_an_unknown_sink_is_refused_by_name() -> None:
    with pytest.raises(PluginError, match="no metrics sink 'three'; there is one, two"):
        exporters("metrics", ("three",), {"one": Sink, "two": Sink}, lambda name, why: None)


@pytest.mark.parametrize("error", [RuntimeError("no socket"), SystemExit("no socket")])
def test_a_sink_that_can_not_be_made_is_refused_by_name(error: BaseException) -> None:
    def broken() -> Sink:
        raise error

    with pytest.raises(PluginError, match=f"'one' can't be made: {type(error).__name__}: no socket"):
        exporters("metrics", ("one",), {"one": broken}, lambda name, why: None)
