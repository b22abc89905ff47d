from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from toolring.lane import AT, JOURNAL_START, LANE_BYTES, RECALL, STARTED, TAKEN, Lane, Lanes, register_for_fence


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes(3)
    register_for_fence()
    yield lanes
    lanes.close()


def test_lanes_do_not_overlap(lanes: Lanes) -> None:
    for lane in lanes.all:
        lane.bytes[:] = bytes([lane.index + 1]) * LANE_BYTES
    for lane in lanes.all:
        assert set(lane.bytes) == {lane.index + 1}


def test_another_process_finds_the_lanes_by_their_path(lanes: Lanes) -> None:
    lanes.all[1].words[AT] = 7 << 2 | STARTED
    with open(lanes.path, "r+b") as file:
        other = mmap.mmap(file.fileno(), 0)
    theirs = Lane(other, 1)
    assert theirs.at() == (7, STARTED)
    theirs.words[AT] = 8 << 2 | TAKEN
    assert lanes.all[1].at() == (8, TAKEN)


def test_what_a_child_wrote_outlives_it(lanes: Lanes) -> None:
    """The whole point: the word is there although the process was killed right after the store."""
    pid = os.fork()
    if pid == 0:
        lanes.all[0].words[AT] = 5 << 2 | STARTED
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert lanes.all[0].at() == (5, STARTED)


def test_recall_says_what_had_been_taken(lanes: Lanes) -> None:
    lane = lanes.all[0]
    lane.words[AT] = 4 << 2 | TAKEN
    assert lane.recall(9) == 4
    assert lane.words[RECALL] == 9


def test_a_cleared_lane_is_new_but_for_its_old_bytes(lanes: Lanes) -> None:
    lane = lanes.all[0]
    lane.bytes[:] = b"\xff" * LANE_BYTES
    lane.clear()
    assert set(lane.bytes[:JOURNAL_START]) == {0}
    assert lane.journal() == b"\xdd\0\0\0\0"


def test_closing_gives_the_descriptor_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Lanes(2).close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the mapping's own copy
