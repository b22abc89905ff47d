"""The contract of a metrics sink, and figures as a node gives them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from toolring.plugins.specs import AlertEvent, Buckets, MetricFamily, MetricsSink, SinkSettings

_TIMES = {"count": 2, "mean": 0.0015, "p50": 0.001, "p95": 0.002, "p99": 0.002}
_TALLY: dict[str, Any] = {
    "jobs": 3,
    "operations": 4,
    "failed": 1,
    "errors": {"TOOL_ERROR": 1},
    "retried": 0,
    "lost": 0,
    "cached": 0,
    "jobs_per_second": 0.05,
    "operations_per_second": 0.05,
    "argument_bytes_per_second": 1.5,
    "result_bytes_per_second": 2.5,
    "response": _TIMES,
    "queue": _TIMES,
    "run": _TIMES,
    "overhead": {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None},
}
_COUNTS = {
    "jobs": 3,
    "operations": 3,
    "failed": 1,
    "cached": 0,
    "retried": 0,
    "argument_bytes": 90,
    "result_bytes": 150,
}
FIGURES: dict[str, Any] = {
    "node": "0123456789abcdef",
    "address": "ipc:///run/user/1000/toolring/node.sock",
    "pid": 4711,
    "start_method": "fork",
    "state": "healthy",
    "uptime": 61.25,
    "clients": 1,
    "exits": 1,
    "restarts": 1,
    "renewed": 0,
    "workers": [
        {"id": 0, "group": "default", "pid": 4713, "state": "ready", "generation": 1, "jobs": 0, "answered": 3}
    ],
    "ending": [],
    "groups": {"default": {"workers": 1, "ready": 1, "least": 1, "most": 1}},
    "jobs": {"accepted": 3, "answered": 3, "waiting": 0, "running": 0, "kept": 0, "refused": {"BUSY": 2}},
    "tools": {"echo": {"answered": 3, "cached": 0, "errors": {"TOOL_ERROR": 1}, "retried": 0}},
    "sinks": {"mine": {"sent": 6, "dropped": 0, "failed": 0, "state": "closed"}},
    "counts": {"echo": {**_COUNTS, "errors": {"TOOL_ERROR": 1}}},
    "metrics": {
        "window": "1m",
        "seconds": 58.5,
        "total": _TALLY,
        "tools": {"echo": {"group": "default", **_TALLY}},
        "left_out": 0,
        "errors": [{"tool": "echo", "group": "default", "code": "TOOL_ERROR", "count": 1}],
        "groups": {"default": _TALLY},
        "workers": {"0": {key: value for key, value in _TALLY.items() if key != "response"}},
        "refused": {"BUSY": 2},
        "exits": [{"during": "ready", "cause": "killed by SIGKILL", "count": 1}],
        "processes": {"supervisor": {"cpu_seconds": 1.5, "resident_bytes": 40_000_000, "open_fds": 30}},
        "network": {"received_bytes": 0, "sent_bytes": 0},
        "services": {},
        "user": {"pages": [{"labels": {"site": "a"}, "value": 3}]},
    },
}
"""A sink is given such figures, and more."""

_OF_TOOLS = ("tool", "group")
_ECHO = ("echo", "default")
FAMILIES: tuple[MetricFamily, ...] = (
    MetricFamily("toolring_start_time_seconds", "gauge", "seconds", "When it started.", (), [((), 1.7e9)]),
    MetricFamily("toolring_workers", "gauge", "", "Workers.", ("group", "state"), [(("default", "ready"), 1)]),
    MetricFamily("toolring_jobs", "counter", "", "Final answers.", _OF_TOOLS, [(_ECHO, 3)]),
    MetricFamily(
        "toolring_job_errors", "counter", "", "Failures.", (*_OF_TOOLS, "code"), [((*_ECHO, "TOOL_ERROR"), 1)]
    ),
    MetricFamily(
        "toolring_job_run_seconds",
        "histogram",
        "seconds",
        "Runs.",
        _OF_TOOLS,
        [(_ECHO, Buckets([0.001, 0.01, 1.0], [0, 2, 1, 0], 0.25))],
    ),
    MetricFamily("toolring_pool_resources", "gauge", "", "Resources.", ("pool", "state"), []),
)
"""One that asks for ``families`` is given such in the figures, and more."""

_ODD_NAMES: tuple[str, ...] = ("with space", "a.b/c:d|e#f", "naïve-é", "x" * 200, "{}", '"')


def _done(given: Any, what: str) -> None:
    """It has run when it has returned: nobody awaits it, or iterates over it."""
    if inspect.iscoroutine(given):
        given.close()
    lazy = inspect.isawaitable(given) or inspect.isgenerator(given) or inspect.isasyncgen(given)
    assert not lazy, f"{what} has not run: it must be a plain function, since nobody awaits it"


class MetricsSinkContract:
    """What a node asks of a metrics sink. ``factory`` takes the SinkSettings, as ``toolring_metrics_sinks`` offers it;
    ``settings`` gives those for a sink of the test's own, in an empty directory.
    """

    factory: ClassVar[Any]

    def settings(self, directory: str) -> SinkSettings:
        return SinkSettings(interval=0.1, file=f"{directory}/figures.jsonl", statsd="127.0.0.1:9")

    @contextmanager
    def _sink(self) -> Iterator[MetricsSink]:
        make: Callable[[SinkSettings], MetricsSink] = inspect.getattr_static(type(self), "factory")
        with tempfile.TemporaryDirectory() as directory:
            sink = make(self.settings(directory))
            try:
                yield sink
            finally:
                _done(sink.close(), "close()")  # type: ignore[func-returns-value]

    @staticmethod
    def _figures(sink: MetricsSink) -> dict[str, Any]:
        """For this sink alone, whatever it does to them."""
        figures = copy.deepcopy(FIGURES)
        if getattr(sink, "families", False):
            figures["families"] = copy.deepcopy(FAMILIES)
        return figures

    @staticmethod
    def _emit(sink: MetricsSink, figures: dict[str, Any]) -> None:
        _done(sink.emit(figures), "emit()")  # type: ignore[func-returns-value]

    def test_it_takes_figures_again_and_again_and_changes_nothing_in_them(self) -> None:
        with self._sink() as sink:
            for number in range(3):
                figures, before = self._figures(sink), self._figures(sink)
                figures["uptime"] = before["uptime"] = 61.25 + number
                self._emit(sink, figures)
                assert figures == before, "other sinks get the same figures"

    def test_it_takes_figures_of_a_node_that_has_done_nothing_and_counts_nothing(self) -> None:
        with self._sink() as sink:
            figures = {key: value for key, value in self._figures(sink).items() if key not in ("metrics", "counts")}
            figures.update(workers=[], groups={}, tools={}, sinks={})
            if "families" in figures:
                figures["families"] = [dataclasses.replace(family, samples=[]) for family in FAMILIES]
            self._emit(sink, figures)

    def test_it_takes_any_name_and_figures_that_it_does_not_know(self) -> None:
        with self._sink() as sink:
            figures = self._figures(sink)
            figures["something_new"] = {"deep": [1, None, {"er": 2.5}]}
            for name in _ODD_NAMES:
                figures["counts"][name] = figures["counts"]["echo"]
                figures["metrics"]["tools"][name] = figures["metrics"]["tools"]["echo"]
            if "families" in figures:
                samples = [((name, "default"), 1) for name in _ODD_NAMES]
                new = MetricFamily("toolring_something_new", "counter", "", "New.", _OF_TOOLS, samples)
                figures["families"] = [*figures["families"], new]
            self._emit(sink, figures)

    def test_it_may_be_used_in_another_thread_than_it_was_made_in(self) -> None:
        failed: list[BaseException] = []

        def use() -> None:
            try:
                self._emit(sink, self._figures(sink))
            except BaseException as error:
                failed.append(error)

        with self._sink() as sink:
            thread = threading.Thread(target=use)
            thread.start()
            thread.join(10)
            assert not thread.is_alive(), "emit() hangs"
        if failed:
            raise failed[0]

    def test_it_takes_alerts_if_it_has_a_method_for_them(self) -> None:
        with self._sink() as sink:
            alert = getattr(sink, "alert", None)
            if alert is None:
                return
            firing = AlertEvent(
                "tool_failing", "firing", "warning", "error_rate", "echo", "", 0.75, "above", 0.5, 60.0, "it fails"
            )
            gone = dataclasses.replace(firing, state="resolved", tool="", value=None, text="")
            for event in (firing, gone):
                _done(alert(event), "alert()")
