"""`toolring bench` over real nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.process.kit import (
    COMMAND,
    FAULTS,
    PATIENCE,
    Node,
    bystanders,
    environment,
    eventually,
    lines,
    run_cli,
    running,
)

QUICK = ("--seconds", "0.5", "--warmup", "0.1")


def test_a_closed_loop_with_a_file_of_arguments(node: Node, tmp_path: Path) -> None:
    given, out = tmp_path / "given.jsonl", tmp_path / "ledger"
    rows = [json.dumps({"path": str(out), "number": n}) for n in range(3)]
    given.write_text("\n".join(rows) + "\n\n")
    words = ("note", "--arguments-file", str(given), "--concurrency", "2", "--json", *QUICK)
    done = run_cli("bench", *words, address=node.address)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["tool"], found["concurrency"], found["rate"], found["failed"]) == ("note", 2, None, 0)
    assert found["calls"] > 0
    assert found["throughput"] > 0
    assert found["latency"]["max"] >= found["latency"]["p50"] >= found["node"]["run"]["p50"]
    missed = found["calls"] - found["node"]["jobs"]  # those that were over when the node was asked first
    assert missed <= 2 + found["calls"] // 50
    assert found["node"]["argument_bytes"] > 0
    assert found["cpu"]["client"] > 0
    assert len(set(lines(out))) == 3


def test_an_open_loop_keeps_its_rate_though_the_tool_is_slow(node: Node) -> None:
    words = ("nap", "--arguments", '{"seconds": 0.1}', "--rate", "40", "--json", *QUICK)
    found = json.loads(run_cli("bench", *words, address=node.address).stdout)
    assert (found["rate"], found["concurrency"]) == (40.0, None)
    assert 19 <= found["calls"] <= 21
    assert found["node"]["queue"]["p95"] > 0
    assert found["latency"]["p95"] >= 0.1


def test_errors_are_told_by_code(node: Node) -> None:
    words = ("bench", "fail", "--arguments", '{"message": "no"}', *QUICK)
    done = run_cli(*words, "--json", address=node.address)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["errors"] == {"TOOL_ERROR": found["calls"]}
    assert found["throughput"] == 0
    done = run_cli(*words, "--fail-on-error", address=node.address)
    assert done.returncode == 1
    assert "TOOL_ERROR" in done.stdout


def test_a_node_of_its_own_and_an_earlier_run(tmp_path: Path) -> None:
    words = ("bench", "echo", "--arguments", '{"x": 1}', "--serve", str(FAULTS), "--workers", "1", *QUICK)
    old = tmp_path / "old.json"
    done = run_cli(*words, "--json", timeout=60)
    assert done.returncode == 0, done.stderr
    old.write_text(done.stdout)
    done = run_cli(*words, "--compare", str(old), timeout=60)
    assert done.returncode == 0, done.stderr
    assert "COMPARED" in done.stdout
    assert not bystanders("toolring-bench-")


def test_ctrl_c_prints_what_there_is(node: Node, tmp_path: Path) -> None:
    out = tmp_path / "ledger"
    given = json.dumps({"path": str(out), "number": 7})
    words = ["bench", "note", "--arguments", given, "--seconds", "600", "--warmup", "0", "--json"]
    command = [*COMMAND, *words, "--address", node.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        eventually(lambda: len(lines(out)) > 20, "it calls")
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    found = json.loads(told)
    assert 0 < found["seconds"] < 600
    assert found["calls"] > 0


@pytest.mark.parametrize(
    ("how", "status", "code"), [(signal.SIGTERM, 5, "DRAINING"), (signal.SIGKILL, 4, "UNREACHABLE")]
)
def test_a_node_that_goes_away_does_not_take_along_what_was_measured(
    tmp_path: Path, how: signal.Signals, status: int, code: str
) -> None:
    out = tmp_path / "ledger"
    given = json.dumps({"path": str(out), "number": 7})
    words = ["bench", "note", "--arguments", given, "--seconds", "600", "--warmup", "0", "--json"]
    pipe = subprocess.PIPE
    with running() as own:
        command = [*COMMAND, *words, "--address", own.address]
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as process:
            eventually(lambda: len(lines(out)) > 20, "it calls")
            os.kill(own.pid, how)
            told, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert f"{code}: the node went away" in errors
    found = json.loads(told)
    assert found["error"]["code"] == code
    assert 0 < found["seconds"] < 600
    assert found["calls"] > 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("nobody",), 2, "no tool 'nobody'"),
        (("echo", "--arguments", "[1]"), 2, "not a JSON object"),
        (("echo", "--arguments", "{"), 2, "not JSON"),
        (("echo", "--arguments", '{"y": 1}'), 2, "INVALID_ARGUMENTS"),
        (("echo", "--arguments-file", "/nowhere"), 2, "can't be read"),
        (("echo", "--random"), 2, "--arguments-file"),
        (("echo", "--rate", "1", "--concurrency", "1"), 2, "don't go together"),
        (("echo", "--seconds", "0"), 2, "--seconds is"),
        (("echo", "--workers", "2"), 2, "--serve"),
        (("echo", "--compare", __file__), 2, "not JSON"),
    ],
)
def test_what_can_not_be_done_is_refused_at_once(node: Node, words: tuple[str, ...], status: int, says: str) -> None:
    done = run_cli("bench", *words, address=node.address)
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr


def test_a_node_that_can_not_start_is_told_by_the_status_of_serve(tmp_path: Path) -> None:
    done = run_cli("bench", "echo", "--serve", str(tmp_path / "nope.py"))
    assert done.returncode == 3
    assert "toolring: LOAD: " in done.stderr
    assert "the node did not start" in done.stderr
