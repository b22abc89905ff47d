"""``toolring jobs`` with a client that asks nobody: what is asked for, and what is printed."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Self

import pytest

from toolring.cli.main import main


class Stub:
    told: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[Any]] = []

    def __init__(self, address: str | None) -> None:
        Stub.asked = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def jobs(self, tool: str | None, limit: int, failed: bool, slow: bool) -> dict[str, Any]:
        Stub.asked = [tool, limit, *(["failed"] if failed else []), *(["slow"] if slow else [])]
        return Stub.told


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolring.client.sync.Client", Stub)
    Stub.told = {"jobs": [], "total": 0}


def job(name: str, caller: str = "", state: str = "queued", worker: int | None = None) -> dict[str, Any]:
    return {
        "job": name,
        "tool": "echo",
        "caller": caller,
        "state": state,
        "attempt": 1,
        "age": 1.25,
        "worker": worker,
    }


def test_nothing_is_said_to_be_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs"]) == 0
    assert capsys.readouterr() == ("nothing is in hand\n", "")
    assert Stub.asked == [None, 100]


def test_they_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    Stub.told = {"jobs": [job("ab-1", "me\x1b[2J", "running", 12345), job("ab-2")], "total": 1002}
    assert main(["jobs"]) == 0
    heading, first, second, more = capsys.readouterr().out.splitlines()
    assert heading.split() == ["JOB", "TOOL", "CALLER", "STATE", "ATTEMPT", "AGE", "S", "WORKER", "PID"]
    assert first.split() == ["ab-1", "echo", "me\\x1b[2J", "running", "1", "1.250", "12345"]
    assert second.split() == ["ab-2", "echo", "-", "queued", "1", "1.250", "-"]
    assert more == "and 1,000 more"


def test_a_program_gets_all_that_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    Stub.told = {"jobs": [job("ab-1")], "total": 7}
    assert main(["jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Stub.told


@pytest.mark.parametrize(
    "words",
    [["echo", "--limit", "5", "--json"], ["--limit", "5", "echo", "--json"], ["--limit", "5", "--json", "echo"]],
)
def test_options_may_stand_anywhere(words: list[str]) -> None:
    assert main(["jobs", *words]) == 0
    assert Stub.asked == ["echo", 5]


@pytest.mark.parametrize("words", [["one", "two"], ["--limit", "many"], ["--all"]])
def test_bad_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["jobs", *words])
    assert caught.value.code == 2
    assert "usage: toolring" in capsys.readouterr().err


def test_those_that_are_over_have_another_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "--slow"]) == 0
    assert capsys.readouterr().out == "none is kept\n"
    assert Stub.asked == [None, 100, "slow"]
    over = {"tool": "echo", "caller": "", "attempt": 2, "seconds": 1.5, "run": None, "ago": 3.0, "worker": 77}
    Stub.told = {
        "jobs": [
            {
                **over,
                "job": "ab-1",
                "state": "failed",
                "code": "TOOL_ERROR",
                "type": "ValueError",
                "message": f"echo: ValueError: oh\nno{100 * 'o'}",
            },
            {**over, "job": "ab-2", "state": "done", "code": "", "type": "", "message": ""},
        ],
        "total": 3,
    }
    assert main(["jobs", "echo", "--failed", "--slow", "--limit", "2"]) == 0
    assert Stub.asked == ["echo", 2, "failed", "slow"]
    _, first, second, more = capsys.readouterr().out.splitlines()
    assert first.split() == [
        *("ab-1", "echo", "-", "TOOL_ERROR", "2", "1.500", "-", "3.000", "77"),
        *("ValueError:", "oh", f"no{62 * 'o'}…"),
    ]
    assert second.split()[3] == "done"
    assert more == "and 1 more"
