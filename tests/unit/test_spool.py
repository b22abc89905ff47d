"""The ring of what tools write, from both its sides."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from toolring.lane import SPOOL_BYTES, SPOOL_START, WRITTEN, Lane, Lanes
from toolring.spool import Spool


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes(2)
    yield lanes
    for lane in lanes.all:
        lane.words.release()
        lane.bytes.release()
    lanes.close()


@pytest.fixture
def lane(lanes: Lanes) -> Lane:
    return lanes.all[0]


def test_records_come_out_whole_and_in_order_however_often_it_goes_round(lanes: Lanes, lane: Lane) -> None:
    luck = random.Random(7)
    mine, theirs = Spool(lane), Spool(lane)
    sent: list[bytes] = []
    got: list[bytes] = []
    for number in range(3000):
        record = number.to_bytes(4, "big") * luck.randrange(1, 400)
        if mine.append(record):
            sent.append(record)
        if luck.random() < 0.1:
            got += theirs.take()
    got += theirs.take()
    assert got == sent
    assert sum(map(len, sent)) > 3 * SPOOL_BYTES
    assert not theirs.waiting
    assert bytes(lanes.all[1].bytes[:4096]) == bytes(4096), "the neighbour's lane is untouched"


def test_what_finds_no_room_is_refused_until_something_was_taken(lane: Lane) -> None:
    spool = Spool(lane)
    assert not spool.append(b"x" * SPOOL_BYTES)
    assert spool.append(b"x" * (SPOOL_BYTES - 4))
    assert not spool.append(b"")
    assert spool.waiting
    assert spool.take() == [b"x" * (SPOOL_BYTES - 4)]
    assert spool.append(b"")
    assert spool.take() == [b""]
    assert spool.take() == []


def test_what_somebody_wrote_over_is_refused_and_gone(lane: Lane) -> None:
    spool = Spool(lane)
    assert spool.append(b"abc")
    lane.bytes[SPOOL_START : SPOOL_START + 4] = b"\xff\xff\0\0"
    with pytest.raises(ValueError, match="longer"):
        spool.take()
    assert not spool.waiting
    lane.words[WRITTEN] = 1 << 40
    with pytest.raises(ValueError, match="bytes in a spool"):
        spool.take()
    assert spool.take() == []
