from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model.simulation import Node
from tests.unit.supervisor.steps import ask, finish
from toolring import hookimpl, logs, supervisor
from toolring.plugins import builtin, specs
from toolring.plugins.registry import Registry
from toolring.plugins.specs import JobEvent, NodeEvent
from toolring.supervisor.observer import BURST, BURSTS, LEVELS, Logged, Observer


class Listener:
    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.broken: BaseException | None = None

    @hookimpl
    def toolring_node_started(self, event: Any) -> None:
        if self.broken is not None:
            raise self.broken
        self.heard.append(event)

    @hookimpl
    def toolring_worker_exited(self, event: Any) -> None:
        self.heard.append(event)

    @hookimpl
    def toolring_job_finished(self, event: Any) -> None:
        self.heard.append(event)


def registry(*plugins: Any) -> Registry:
    import pluggy

    manager = pluggy.PluginManager("toolring")
    manager.add_hookspecs(specs)
    for plugin in (builtin, *plugins):
        manager.register(plugin)
    return Registry(manager, [])


@pytest.fixture(autouse=True)
def as_json() -> Iterator[None]:
    logs.configure("json", "info")
    yield
    logs.configure("auto", "info")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("name", "facts", "level"),
    [
        ("worker_ready", {}, "info"),
        ("job_failed", {"code": "EXPIRED"}, "warning"),
        ("worker_exited", {"cause": "killed by SIGSEGV"}, "warning"),
        ("worker_exited", {"cause": "exited with status 0"}, "info"),
        ("node_unhealthy", {}, "error"),
        ("reload_failed", {}, "warning"),
        ("worker_evicted", {}, "warning"),
        ("memory_too_small", {}, "warning"),
        ("circuit_changed", {"state": "open"}, "warning"),
        ("circuit_changed", {"state": "closed"}, "info"),
    ],
)
def test_a_note_is_one_line_at_its_level(
    name: str, facts: dict[str, Any], level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Observer(registry()).note(name, facts)
    (line,) = lines(capsys)
    assert line["event"] == name
    assert line["level"] == level
    assert facts.items() <= line.items()


def test_every_note_has_a_level_and_every_level_a_note() -> None:
    """A new kind of line must not come at whichever level by chance."""
    found: set[str] = set()
    for path in Path(supervisor.__path__[0]).glob("*.py"):
        source = path.read_text()
        found.update(re.findall(r"""notes\.append\(\s*\(\s*"(\w+)\"""", source))
        found.update(re.findall(r"""\._?note\(\s*"(\w+)\"""", source))
    put_together = {"alert_firing", "alert_resolved", "lines_left_out"}
    assert found | put_together == set(LEVELS), "but for those, which are put together"


def test_no_fault_floods_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    observer = Observer(registry(), lambda: now)
    for _ in range(BURST + 500):
        observer.note("job_failed", {})
    observer.note("worker_ready", {})
    found = lines(capsys)
    assert len(found) == BURST + 1
    observer.look(now + 0.9)
    assert not lines(capsys), "there may be more in this second"
    now = 101.0
    observer.look(now)
    (line,) = lines(capsys)
    assert (line["event"], line["kind"], line["count"], line["level"]) == (
        "lines_left_out",
        "job_failed",
        500,
        "warning",
    )
    observer.look(now)
    observer.note("job_failed", {})
    assert [line["event"] for line in lines(capsys)] == ["job_failed"], "it is told once"


def test_what_was_left_out_is_told_before_further_lines_whoever_notices(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    observer = Observer(registry(), lambda: now)
    for _ in range(BURSTS["tool_output"] + 1):
        observer.note("tool_output", {})
    now = 107.3
    observer.note("worker_ready", {})
    told, last = lines(capsys)[-2:]
    assert (told["event"], told["kind"], told["count"], told["level"]) == ("lines_left_out", "tool_output", 1, "info")
    assert last["event"] == "worker_ready"


def test_what_libraries_log_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("some.library")
    handler = Logged(Observer(registry()).note)
    log.addHandler(handler)
    log.propagate = False
    try:
        log.info("nobody asked")
        log.warning("retrying in %.1f s", 1.5)
        log.warning("%d of", "nonsense")
        try:
            raise ValueError("no disk")
        except ValueError:
            log.exception("it broke")
    finally:
        log.removeHandler(handler)
    first, odd, last = lines(capsys)
    assert (first["event"], first["level"], first["logger"]) == ("logged", "warning", "some.library")
    assert first["text"] == "retrying in 1.5 s"
    assert "%d of" in odd["text"]
    assert (last["level"], last["text"]) == ("error", "it broke")
    assert last["exception"].endswith("ValueError: no disk\n")


def test_nobody_listens_so_nothing_is_bound() -> None:
    assert Observer(registry()).on_finished() is None


def test_a_finished_job_is_one_event(capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener()
    node = Node()
    node.core.on_finished = Observer(registry(listener), lambda: node.now + 2.0).on_finished()
    ask(node.clients[0], "read", "write")
    finish(node)
    node.clients[0].submit([("read", 9, 0, None, "", 0, b"")])
    node.clients[0].cancel(3)
    first, _, last = listener.heard
    assert isinstance(first, JobEvent)
    assert (first.tool, first.attempt, first.code, first.cached) == ("read", 1, "", False)
    assert first.total_seconds == pytest.approx(2.0)
    assert (last.code, last.job) == ("CANCELLED", f"{node.clients[0].name}-3")
    node.close()


@pytest.mark.parametrize("error", [ValueError("not today"), SystemExit(4), KeyboardInterrupt()])
def test_a_listener_that_breaks_is_told_of_and_otherwise_ignored(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = Listener()
    listener.broken = error
    observer = Observer(registry(listener))
    observer.node_started(NodeEvent("ipc:///x", 1, ()))
    (line,) = lines(capsys)
    assert (line["event"], line["reason"]) == ("event_failed", f"{type(error).__name__}: {error}")
    listener.broken = None
    observer.node_started(NodeEvent("ipc:///x", 1, ()))
    assert len(listener.heard) == 1


def test_an_exit_is_told_with_its_cause() -> None:
    listener = Listener()
    observer = Observer(registry(listener))
    node = Node()
    node.watch.on_exit = observer.worker_exited
    next(iter(node.workers.values())).die(-11)
    node.hear_exit()
    (event,) = listener.heard
    assert (event.slot, event.generation, event.cause) == (0, 1, "killed by SIGSEGV")
    node.close()
