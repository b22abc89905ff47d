"""``toolring demo``: what it claims is what happened, and nothing of it is left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit

SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Demo:
    status: int
    summary: dict[str, Any]
    text: str
    directory: Path
    new_in_shm: set[str]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """One run, in a directory of its own for whatever is temporary."""
    with kit.place() as directory:
        run = directory / "run"
        run.mkdir()
        before = names(SHM)
        done = subprocess.run(
            [*kit.COMMAND, "demo", "--jobs", "2000"],
            capture_output=True,
            text=True,
            timeout=120,
            env=kit.environment(TMPDIR=str(directory), XDG_RUNTIME_DIR=str(run)),
            cwd=directory,
            check=False,
        )
        last = done.stdout.strip().splitlines()[-1:]
        assert last, done.stderr
        assert last[0].startswith("{"), done.stdout + done.stderr
        yield Demo(done.returncode, json.loads(last[0]), done.stdout, directory, names(SHM) - before)


def test_it_ends_well(demo: Demo) -> None:
    assert demo.status == 0
    assert demo.summary["exit_status"] == 0
    assert "not as it should be" not in demo.text
    assert "Traceback" not in demo.text


def test_the_killed_and_the_hanging_worker_were_replaced(demo: Demo) -> None:
    summary = demo.summary
    before, between, after = (set(summary[name]) for name in ("pids_before", "pids_after_kill", "pids_after"))
    assert len(before) == len(between) == len(after) == 2
    assert summary["killed"] in before - between
    assert set(summary["hang_ended"]) <= between - after
    assert before != after
    assert summary["exits"] == 2


def test_no_call_was_lost_and_the_hang_ended_at_its_deadline(demo: Demo) -> None:
    assert demo.summary["killed_jobs"] == 20
    assert 0.5 <= demo.summary["hang_seconds"] < 3
    assert demo.summary["jobs"] == 2000
    assert demo.summary["jobs_per_second"] > 0
    assert 0 < demo.summary["p50_us"] <= demo.summary["p99_us"]


def test_async_tools_and_a_stream(demo: Demo) -> None:
    assert demo.summary["async_answers"] == 100
    assert demo.summary["async_processes"] == 2
    assert demo.summary["streamed"] == "toolring"


def test_the_cache_answered_and_errors_came_by_type(demo: Demo) -> None:
    assert demo.summary["cache_hits"] > 0
    assert demo.summary["tools"]["search"]["cached"] >= demo.summary["cache_hits"]
    errors = demo.summary["errors"]
    assert {"INVALID_ARGUMENTS", "UNKNOWN_TOOL", "TOOL_ERROR", "EXPIRED"} <= set(errors)
    assert all(count > 0 for count in errors.values())


def test_nothing_is_left(demo: Demo) -> None:
    assert demo.summary["left_over"] == []
    assert not kit.alive(demo.summary["supervisor"])
    assert kit.bystanders(demo.summary["address"]) == []
    pids = {*demo.summary["pids_before"], *demo.summary["pids_after_kill"], *demo.summary["pids_after"]}
    assert [pid for pid in pids if kit.alive(pid)] == []
    assert demo.new_in_shm == set()
    left = [str(path) for path in demo.directory.rglob("*") if not path.is_dir()]
    assert left == []
