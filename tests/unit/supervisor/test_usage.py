from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.supervisor.steps import look_round
from toolring.supervisor import usage
from toolring.supervisor.usage import ROUND_SECONDS, Traffic, Usage, Used, traffic, used_by


class Machine:
    def __init__(self) -> None:
        self.used: dict[int, Used] = {}
        self.pids: dict[str, int] = {}
        self.reads: list[int] = []
        self.now = 0.0
        self.usage = Usage(self.read, lambda: Traffic(5, 7))

    def read(self, pid: int) -> Used | None:
        self.reads.append(pid)
        return self.used.get(pid)

    def round(self) -> dict[str, Used]:
        self.now += ROUND_SECONDS
        look_round(self.usage, self.pids, self.now)
        return self.usage.figures()


def test_one_process_is_read_at_a_time_and_each_once_a_round() -> None:
    machine = Machine()
    machine.pids = {"supervisor": 1, "0": 2}
    machine.used = {1: Used(1.0), 2: Used(2.0)}
    steps = machine.usage.due(lambda: machine.pids, 1.0)
    assert steps is not None
    assert [len(machine.reads) for _ in steps] == [1, 2]
    assert machine.usage.due(lambda: machine.pids, 1.0) is None
    assert machine.usage.figures() == {"supervisor": Used(1.0), "0": Used(2.0)}
    assert machine.usage.network == Traffic(5, 7)


def test_what_a_worker_used_is_kept_when_another_takes_its_slot() -> None:
    machine = Machine()
    machine.pids = {"0": 2}
    machine.used = {2: Used(2.0, 10, 20, 1000, 3, 4)}
    machine.round()
    machine.pids = {"0": 3}
    machine.used = {3: Used(0.5, 1, 2, 500, 1, 2)}
    assert machine.round() == {"0": Used(2.5, 11, 22, 500, 1, 2)}
    machine.pids = {"0": 0}
    assert machine.round() == {"0": Used(2.5, 11, 22, 0, 0, 0)}


def test_one_that_died_meanwhile_and_a_slot_that_is_no_more() -> None:
    machine = Machine()
    machine.pids = {"0": 2, "1": 3}
    machine.used = {2: Used(2.0)}
    assert machine.round() == {"0": Used(2.0)}
    machine.pids = {"1": 3}
    assert machine.round() == {}


def test_this_process_uses_something() -> None:
    used = used_by(os.getpid())
    assert used is not None
    assert used.cpu_seconds > 0
    assert used.resident_bytes > 1 << 20
    assert used.threads >= 1
    assert used.open_fds >= 3
    assert used_by(2**30) is None


def test_traffic_is_that_of_all_interfaces_but_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dev"
    file.write_text(
        """Inter-| Receive | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls
    lo: 1000 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0
  eth0: 20 2 0 0 0 0 0 0 7 2 0 0 0 0 0 0
 wlan0:300 3 0 0 0 0 0 0 70 3 0 0 0 0 0 0
"""
    )
    monkeypatch.setattr(usage, "_NETWORK", str(file))
    assert traffic() == Traffic(320, 77)
    file.write_text("nothing that is known")
    assert traffic() == Traffic()
