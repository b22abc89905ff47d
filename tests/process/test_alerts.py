"""Alerts of a real node: what fires is logged, shown, counted and told to a command and a plugin; then it is over."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.kit import FAULTS, Background, Node, alive, eventually, failure, lines, place, run_cli, running
from tests.process.test_metrics import values
from toolring.errors import ConfigError, ToolError
from toolring.plugins.specs import AlertEvent
from toolring.policy.alerts import FIGURES
from toolring.supervisor.notifier import MOST_OUTPUT, WAITING, Notifier

TOOLS = """
from toolring import tool

@tool
def answer(wrong: bool = False) -> str:
    if wrong:
        raise ValueError("no")
    return "ok"
"""
PLUGIN = """
from toolring import hookimpl

@hookimpl
def toolring_alert(event):
    with open("events", "a") as file:
        print(event.alert, event.state, event.tool, event.value, file=file)
    raise RuntimeError("a listener that breaks")
"""
COMMAND = """
import json, os, sys
told = json.load(sys.stdin)
assert os.environ["TOOLRING_ALERT"] == told["alert"], told
assert os.environ["TOOLRING_ALERT_TEXT"] == told["text"], told
print("told", told["alert"], told["state"])
with open("told", "a") as file:
    print(json.dumps(told), file=file)
"""
SETTINGS = f"""
[plugins]
load = ["listens"]

[alerting]
interval = 0.05
command = [{json.dumps(sys.executable)}, "command.py"]

[alerts.wrong]
figure = "error_rate"
tool = "*"
above = 0.5
window = "1m"
minimum = 4
resolve_after = 0
severity = "critical"

[metrics]
listen = "127.0.0.1:0"
sinks = ["jsonlines"]
file = "figures.jsonl"
"""


@contextmanager
def watched(settings: str = SETTINGS) -> Iterator[Node]:
    with place() as directory:
        for name, text in (("tools.py", TOOLS), ("listens.py", PLUGIN), ("command.py", COMMAND)):
            (directory / name).write_text(text)
        (directory / "toolring.toml").write_text(settings)
        with running("tools", directory=directory) as node:
            yield node


def state(node: Node, alert: str) -> str:
    with node.client() as client:
        return next(str(one["state"]) for one in client.alerts() if one["alert"] == alert)


def test_an_alert_fires_is_told_everywhere_and_is_over() -> None:
    with watched() as node, node.client() as client:
        assert state(node, "wrong") == "ok"
        for _ in range(4):
            assert isinstance(failure(lambda: client.call("answer", {"wrong": True})), ToolError)
        eventually(lambda: state(node, "wrong") == "firing", "it fires")
        shown = run_cli("alerts", "--check", address=node.address)
        assert shown.returncode == 1
        assert "wrong" in shown.stdout.splitlines()[1], "what fires comes first"
        told = node.directory / "told"
        first = json.loads(eventually(lambda: lines(told), "the command is told")[0])
        assert (first["alert"], first["state"], first["tool"], first["value"]) == ("wrong", "firing", "answer", 1.0)
        assert first["address"] == node.address
        assert values(node)["toolring_alerts_firing", "wrong", "critical"] == 1
        for _ in range(40):
            client.call("answer")
        eventually(lambda: state(node, "wrong") == "resolved", "it is over")
        eventually(lambda: len(lines(told)) == 2, "the command is told of that, too")
        assert run_cli("alerts", "--check", address=node.address).returncode == 0
        events = [line.split()[:3] for line in lines(node.directory / "events")]
        assert events == [["wrong", "firing", "answer"], ["wrong", "resolved", "answer"]]
        eventually(lambda: node.status()["alerts"]["command"]["sent"] == 2)
        eventually(lambda: "event_failed" in node.log, "a listener that breaks hurts nobody")
        logged = [line for line in node.log.splitlines() if "alert_firing" in line]
        assert len(logged) == 1
        assert "error" in logged[0]
        assert "wrong: error_rate of tool answer is 1, above 0.5" in logged[0]
        eventually(lambda: "told wrong firing" in node.log, "what the command prints")
        written = [json.loads(line) for line in lines(node.directory / "figures.jsonl")]
        assert [one["alert"]["state"] for one in written if "alert" in one] == ["firing", "resolved"]


def test_workers_that_die_are_told_of_without_any_configuration() -> None:
    settings = "[alerting]\ninterval = 0.05\n[alerts.workers_dying]\nfigure = 'restarts'\nabove = 1\nwindow = '1m'\n"
    with watched(settings) as node:
        for _ in range(2):
            for pid in node.workers():
                os.kill(pid, signal.SIGKILL)
            node.until_whole()
        eventually(lambda: "alert_firing" in node.log, "it is logged")
        with node.client() as client:
            found = client.alerts()
        assert {one["alert"] for one in found if not one["own"]} >= {"node_unhealthy", "backlog_old", "tool_failing"}


def test_every_figure_is_read_of_a_real_node(tmp_path: Path) -> None:
    sense = {"workers_ready": "below = 0.9"}
    window, minimum = "window = '1m'\n", "minimum = 1\n"
    rules = "".join(
        f"[alerts.{name}]\nfigure = '{name}'\n{sense.get(name, 'above = 0')}\n"
        f"{window * figure.windowed}{minimum * figure.sampled}"
        for name, figure in FIGURES.items()
    )
    gate = tmp_path / "gate"
    with place() as directory:
        (directory / "toolring.toml").write_text("[alerting]\ninterval = 0.05\n" + rules)
        with running(FAULTS, directory=directory, workers=1) as node, node.client() as client:
            client.call("square", {"x": 3})
            failure(lambda: client.call("fail", {"message": "no"}))
            client.call("whose", {"path": str(tmp_path / "cached")})
            held = Background(lambda: client.call("gate", {"path": str(gate)}))
            eventually(lambda: lines(gate), "the only worker is busy")
            waits = Background(lambda: client.call("square", {"x": 4}))

            wanted = {name for name in FIGURES if "_p" in name and not name.startswith("overhead")}
            wanted |= {"error_rate", "throughput", "backlog", "backlog_age", "workers_ready", "memory", "memory_total"}

            def complete() -> dict[str, float]:
                found = {one["alert"]: one["value"] for one in client.alerts() if one["value"] is not None}
                counted = wanted <= set(found) and found["error_rate"] == pytest.approx(1 / 3)
                return found if counted and found["backlog"] == found["workers_ready"] == 1 else {}

            found = eventually(complete, "all are there, and true")
            assert found["memory_total"] > found["memory"] > 1 << 20
            eventually(
                lambda: (
                    {"backlog", "backlog_age", "memory"}
                    <= {one["alert"] for one in client.alerts() if one["state"] == "firing"}
                )
            )
            Path(f"{gate}.open").touch()
            held.result()
            assert waits.result() == 16


def test_a_command_that_hangs_holds_up_no_call_and_is_not_left_at_the_end() -> None:
    settings = SETTINGS.replace('"command.py"', '"hangs.py"')
    with place() as directory:
        (directory / "hangs.py").write_text(
            "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(1000)\n"
        )
        for name, text in (("tools.py", TOOLS), ("listens.py", PLUGIN)):
            (directory / name).write_text(text)
        (directory / "toolring.toml").write_text(settings)
        with running("tools", directory=directory) as node, node.client() as client:
            for _ in range(4):
                failure(lambda: client.call("answer", {"wrong": True}))
            pid = int(eventually(lambda: lines(directory / "pid"), "it runs")[0])
            assert client.call("answer") == "ok"
            node.signal(signal.SIGTERM)
            assert node.wait() == 0
            assert not alive(pid)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("[alerts.x]\nabove = 1\n", "alerts.x: figure='' is none; there is error_rate"),
        ("[alerts.x]\nfigure = 'backlog'\nabove = 1\ntool = 'a'\n", "backlog is not counted by tool"),
        ("[alerts.x]\nfigure = 'backlog'\nabove = 1\nwhen = 3\n", "unknown key alerts.x.when"),
        ("[alerts.x]\nfigure = 'error_rate'\nabove = 0.1\ntool = 'nobody'\n", "no such tool; there is answer"),
        ("[alerts.x]\nfigure = 'backlog'\nabove = 1\ngroup = 'gpu'\n", "no such group; there is default"),
        ("[alerts.x]\nfigure = 'circuit_open'\nabove = 1\nservice = 'shop'\n", "no such service; there is none"),
        ("[alerts.x]\nfigure = 'throughput'\nbelow = 1\n[metrics]\nfigures = false\n", "metrics.figures is false"),
        ("[alerts.'a b']\nfigure = 'backlog'\nabove = 1\n", "an alert's name has"),
        ("[alerting]\ncommand = ['no-such-program']\n", "there is no program 'no-such-program'"),
        ("[alerting]\ninterval = 0\n", "alerting.interval = 0.0 must be greater than 0"),
    ],
)
def test_a_bad_rule_ends_the_start_by_name(more: str, why: str) -> None:
    with place() as directory:
        (directory / "tools.py").write_text(TOOLS)
        (directory / "toolring.toml").write_text(more)
        bind = f"ipc://{directory}/node.sock"
        file = str(directory / "toolring.toml")
        done = run_cli("serve", str(directory / "tools.py"), "--config", file, "--bind", bind)
    assert done.returncode == 3, done.stderr
    assert why in done.stderr


# ---- the command, by itself


def event(number: int = 1) -> AlertEvent:
    return AlertEvent(f"a{number}", "firing", "warning", "backlog", "", "", None, "above", 3.0, 1.5, "a: it is")


class Notified:
    def __init__(self, code: str, timeout: float = 30.0) -> None:
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.notifier = Notifier(
            (sys.executable, "-c", code), timeout, {"node": "n"}, lambda name, facts: self.notes.append((name, facts))
        )


@contextmanager
def notified(code: str, timeout: float = 30.0) -> Iterator[Notified]:
    one = Notified(code, timeout)
    try:
        yield one
    finally:
        one.notifier.close(0.01)
        assert not one.notifier.running


def test_what_it_prints_is_bounded_and_what_it_ends_with_is_told() -> None:
    with notified(f"import sys; print('x' * {MOST_OUTPUT * 50}); sys.exit(7)") as one:
        one.notifier.offer(event())
        eventually(lambda: one.notes)
        assert one.notifier.figures() == {"sent": 0, "failed": 1, "dropped": 0}
        ((name, facts),) = one.notes
        assert name == "alert_command_failed"
        assert facts["reason"] == "it ended with status 7"
        assert facts["output"] == "x" * MOST_OUTPUT


def test_one_that_takes_too_long_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
open({str(pids)!r}, "w").write(f"{{os.getpid()}}\\n{{child.pid}}\\n")
print("begun", flush=True)
while True:
    print("more", flush=True)
"""
    with notified(code, timeout=3.0) as one:
        one.notifier.offer(event())
        eventually(lambda: one.notes)
        assert one.notes[0][1]["reason"] == "it took more than 3 s, and was killed"
        assert one.notes[0][1]["output"].startswith("begun")
        eventually(lambda: not any(alive(int(pid)) for pid in lines(pids)))


def test_what_it_leaves_behind_is_ended_and_is_not_waited_for(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
open({str(pids)!r}, "w").write(f"{{child.pid}}\\n")
"""
    with notified(code) as one:
        one.notifier.offer(event())
        eventually(lambda: one.notifier.sent == 1)
        eventually(lambda: not any(alive(int(pid)) for pid in lines(pids)))


def test_one_that_does_not_read_and_closes_its_output_is_waited_for() -> None:
    with notified("import os, time; os.close(0); os.close(1); os.close(2); time.sleep(0.2)") as one:
        one.notifier.offer(event())
        eventually(lambda: one.notifier.sent == 1)
        assert one.notes == []


def test_alerts_come_one_at_a_time_in_order_and_no_more_than_there_is_room_for_wait(tmp_path: Path) -> None:
    told, gate = tmp_path / "told", tmp_path / "gate"
    code = f"""
import os, time
from pathlib import Path
with open({str(told)!r}, "a") as file:
    print(os.environ["TOOLRING_ALERT"], os.environ["TOOLRING_ALERT_NODE"], file=file)
while not Path({str(gate)!r}).exists():
    time.sleep(0.01)
"""
    with notified(code) as one:
        one.notifier.offer(event(0))
        eventually(lambda: lines(told))
        for number in range(1, WAITING + 4):
            one.notifier.offer(event(number))
        assert one.notifier.dropped == 3
        assert lines(told) == ["a0 n"]
        gate.touch()
        eventually(lambda: len(lines(told)) >= 3)
        assert lines(told)[:3] == ["a0 n", "a1 n", "a2 n"]


def test_a_program_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no program 'no-such-program'"):
        Notifier(("no-such-program",), 1.0, {}, lambda name, facts: None)
