"""What a group's processes may have, as far as it can be told before there are any."""

from __future__ import annotations

import os
import resource
from typing import Any

import pytest

from toolring.process import LIMITS, ProcessLimits


def test_nothing_said_is_nothing_wrong() -> None:
    assert ProcessLimits().wrong() == ""
    assert not ProcessLimits().become_user()


def test_what_can_be_done() -> None:
    cpu = min(os.sched_getaffinity(0))
    good = ProcessLimits(
        address_space=1 << 40,
        cpu_seconds=10,
        open_files=64,
        core_bytes=0,
        nice=5,
        cpus=(cpu,),
        environment={"A": "b", "C": ""},
        directory="/",
    )
    assert good.wrong() == ""


def test_what_is_said_of_the_environment_wins_over_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *_: None)
    for name in ("HOME", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "before")
    limits = ProcessLimits(user="root", environment={"HOME": "/srv", "USER": ""})
    limits.apply()
    assert limits.become_user()
    assert (os.environ["HOME"], os.environ.get("USER"), os.environ["LOGNAME"]) == ("/srv", None, "root")


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"address_space": 0}, "address_space = 0"),
        ({"cpu_seconds": -1}, "cpu_seconds = -1"),
        ({"core_bytes": -1}, "core_bytes = -1"),
        ({"nice": 20}, "nice = 20"),
        ({"cpus": (9999,)}, "cpus = [9999]"),
        ({"environment": {"": "x"}}, "environment"),
        ({"environment": {"A=B": "x"}}, "'A=B'"),
        ({"environment": {"A": "x\0"}}, "'A'"),
        ({"directory": "/no/such/place"}, "/no/such/place"),
        ({"user": "no-such-user"}, "no-such-user"),
    ],
)
def test_what_cannot_be_done_is_named(limits: dict[str, Any], what: str) -> None:
    assert what in ProcessLimits(**limits).wrong()


@pytest.mark.parametrize("name", LIMITS)
def test_no_more_than_the_system_allows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _number: (50, 100))
    allowed: dict[str, Any] = {name: 100}
    more: dict[str, Any] = {name: 101}
    assert ProcessLimits(**allowed).wrong() == ""
    assert f"{name} = 101 is more than the 100" in ProcessLimits(**more).wrong()


def test_only_root_asks_for_more_than_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "only root" in ProcessLimits(nice=-1).wrong()
