"""Questions to workers, with files and a clock of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model.simulation import Node
from toolring import protocol
from toolring.errors import Busy, InvalidArguments, WorkerSilent
from toolring.lane import DUMP, LOOK, PROFILE, STACKS
from toolring.looks import DUMP_FILE, PROFILE_FILE, STACKS_FILE, path, put
from toolring.supervisor.fleet import Worker
from toolring.supervisor.looks import MOST_QUESTIONS, PATIENCE_SECONDS, SOON_SECONDS, STILL_SECONDS, Looks, threads_of

TEXT = """\
Thread 0x00007f01 (most recent call first):
  File "/usr/lib/threading.py", line 12 in wait
  File "/x/pool.py", line ??? in work

Current thread 0x00007f02 (most recent call first):
  File "/x/tools.py", line 3 in burn
  File "/x/toolring/workers/runner.py", line 350 in _run
  File "/x/toolring/workers/loop.py", line 241 in serve
"""


class World:
    def __init__(self, directory: Path) -> None:
        self.node = Node(1)
        for one in self.node.workers.values():
            one.step()
        self.directory = directory
        self.signals: list[int] = []
        self.stopped = False
        self.looks = Looks(
            self.node.core.fleet, directory, lambda _pid, number: self.signals.append(number), lambda _pid: self.stopped
        )
        self.worker: Worker = self.node.core.fleet.ready[0]
        self.number = self.worker.slot.index

    def answer(self, kind: str, number: int, told: Any) -> None:
        fd = os.open(path(self.directory, self.worker.lane.index, kind), os.O_RDWR | os.O_CREAT)
        put(fd, number, protocol.encode(told))
        os.close(fd)

    @property
    def stacks(self) -> Path:
        return path(self.directory, self.worker.lane.index, STACKS_FILE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.node.close()


def test_an_answer_is_given_once(world: World) -> None:
    number = world.looks.dump(world.number, 10.0)["number"]
    assert world.signals == [LOOK]
    assert world.worker.lane.words[DUMP] == number
    assert world.looks.report(number, 10.0) == {"pending": True}
    world.answer(DUMP_FILE, number, {"threads": [], "tasks": None, "tool": "burn"})
    found = world.looks.report(number, 10.1)
    assert (found["by"], found["tool"], found["pid"]) == ("python", "burn", world.worker.pid)
    with pytest.raises(InvalidArguments, match="no question"):
        world.looks.report(number, 10.2)


def test_python_that_does_not_answer_is_asked_in_c(world: World) -> None:
    number = world.looks.dump(world.number, 10.0)["number"]
    world.stacks.write_text("of an earlier question\n")
    later = 10.0 + SOON_SECONDS + 0.01
    assert world.looks.report(number, later)["pending"]
    assert world.signals == [LOOK, STACKS]
    assert world.stacks.read_text() == ""
    world.stacks.write_text(TEXT[:100])
    assert world.looks.report(number, later + 0.01)["pending"]
    world.stacks.write_text(TEXT)
    assert world.looks.report(number, later + 0.02)["pending"], "it may grow still"
    found = world.looks.report(number, later + 0.03 + STILL_SECONDS)
    assert found["by"] == "c"
    assert [one["name"] for one in found["threads"]] == ["MainThread", ""]


def test_one_that_takes_no_signal_is_silent(world: World) -> None:
    number = world.looks.dump(world.number, 10.0)["number"]
    world.stacks.write_text("")
    assert world.looks.report(number, 11.0)["pending"]
    with pytest.raises(WorkerSilent, match="takes no signal"):
        world.looks.report(number, 11.1 + PATIENCE_SECONDS)


def test_one_that_is_stopped_or_gone_is_silent(world: World) -> None:
    number = world.looks.profile(world.number, 5.0, 100, 10.0)["number"]
    world.stopped = True
    with pytest.raises(WorkerSilent, match="kill -CONT"):
        world.looks.dump(world.number, 10.0)
    with pytest.raises(WorkerSilent, match="is stopped"):
        world.looks.report(number, 10.0)
    world.stopped = False
    number = world.looks.dump(world.number, 10.0)["number"]
    world.node.watch.exited(world.worker, -9, 10.1)
    with pytest.raises(WorkerSilent, match="has ended"):
        world.looks.report(number, 10.2)


def test_one_profile_at_a_time(world: World) -> None:
    number = world.looks.profile(world.number, 2.5, 50, 10.0)["number"]
    assert world.worker.lane.words[PROFILE] == number << 32 | 50 << 16 | 25
    with pytest.raises(Busy, match=r"for 1\.5 s more") as busy:
        world.looks.profile(world.number, 1.0, 50, 11.0)
    assert busy.value.facts["retry_after"] == 1.5
    assert world.looks.report(number, 12.4)["pending"]
    world.answer(PROFILE_FILE, number, {"seconds": 2.5, "samples": 100, "stacks": []})
    assert world.looks.report(number, 12.6)["samples"] == 100
    second = world.looks.profile(world.number, 1.0, 50, 13.0)["number"]
    with pytest.raises(WorkerSilent, match="toolring dump"):
        world.looks.report(second, 14.1 + PATIENCE_SECONDS)


def test_a_profile_that_nobody_waits_for_ends(world: World) -> None:
    first = world.looks.profile(world.number, 60.0, 50, 10.0)["number"]
    assert world.looks.unprofile(first) == {"number": first}
    assert world.worker.lane.words[PROFILE] == 0
    second = world.looks.profile(world.number, 60.0, 50, 10.0)["number"]
    for number in (first, world.looks.dump(world.number, 10.0)["number"], None):
        with pytest.raises(InvalidArguments, match="no profile"):
            world.looks.unprofile(number)
    assert world.worker.lane.words[PROFILE] >> 32 == second


def test_a_profile_ends_by_its_askers_key_before_its_number_was_heard(world: World) -> None:
    first = world.looks.profile(world.number, 60.0, 50, 10.0, "mine")["number"]
    with pytest.raises(InvalidArguments, match="no profile 'theirs'"):
        world.looks.unprofile(None, "theirs")
    assert world.worker.lane.words[PROFILE] >> 32 == first
    assert world.looks.unprofile(None, "mine") == {"number": first}
    assert world.worker.lane.words[PROFILE] == 0
    with pytest.raises(InvalidArguments, match="no profile 'mine'"):
        world.looks.unprofile(None, "mine")


@pytest.mark.parametrize("key", [None, 1, "x" * 65])
def test_a_key_is_a_short_text(world: World, key: object) -> None:
    with pytest.raises(InvalidArguments, match="key="):
        world.looks.profile(world.number, 60.0, 50, 10.0, key)


def test_an_answer_that_can_not_be_read_is_none(world: World) -> None:
    number = world.looks.dump(world.number, 10.0)["number"]
    world.answer(DUMP_FILE, number, [1, 2])
    with pytest.raises(WorkerSilent, match="can't be read"):
        world.looks.report(number, 10.0)


def test_a_file_that_was_removed_is_told_of(world: World) -> None:
    number = world.looks.dump(world.number, 10.0)["number"]
    with pytest.raises(WorkerSilent, match="nowhere to answer"):
        world.looks.report(number, 10.0 + 2 * SOON_SECONDS)
    with pytest.raises(InvalidArguments):
        world.looks.report(number, 12.0)


def test_questions_that_nobody_comes_back_for_are_forgotten(world: World) -> None:
    first = world.looks.dump(world.number, 10.0)["number"]
    for _ in range(MOST_QUESTIONS):
        world.looks.dump(world.number, 10.0)
    with pytest.raises(InvalidArguments):
        world.looks.report(first, 10.0)


def test_a_worker_that_was_never_ready_is_not_asked(world: World) -> None:
    for worker in world.node.core.fleet.ready:
        worker.ready_since = 0.0
    with pytest.raises(InvalidArguments, match="none now"):
        world.looks.dump(world.number, 10.0)
    assert world.signals == []


def test_what_faulthandler_writes_is_read(world: World) -> None:
    main, other = threads_of(TEXT)
    assert main["frames"] == [
        {"file": "/x/tools.py", "line": 3, "function": "burn"},
        {"file": "/x/toolring/workers/runner.py", "line": 350, "function": "_run"},
    ]
    assert [(frame["line"], frame["function"]) for frame in other["frames"]] == [(12, "wait"), (0, "work")]
    named = threads_of('Current thread 0x01 [python3] (most recent call first):\n  File "a b", line 1 in <module>\n')
    assert named == [
        {"thread": 1, "name": "python3", "frames": [{"file": "a b", "line": 1, "function": "<module>"}]},
    ]
