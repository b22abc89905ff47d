"""The journal as a state machine: what is acknowledged may vanish, all else is read back, whoever dies when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw

from toolring import lane as lanes_module
from toolring.lane import ACK, JOURNAL_BYTES, Lanes
from toolring.protocol import OK, Answer, decode_answer_list, encode
from toolring.workers.journal import Journal


def answer(seq: int, size: int) -> bytes:
    return encode(Answer(seq, OK, Raw(encode(b"x" * size))))


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(1)
        self.lane = self.lanes.all[0]
        self.journal = Journal(self.lane)
        self.kept: list[int] = []
        self.used = 0
        self.seq = 0

    @rule(size=st.sampled_from([0, 10, 1000, 15_000]))
    def append(self, size: int) -> None:
        self.seq += 1
        data = answer(self.seq, size)
        fits = self.used + len(data) <= JOURNAL_BYTES
        assert self.journal.append(self.seq, data) == fits
        if fits:
            self.kept.append(self.seq)
            self.used += len(data)
        else:
            self.seq -= 1

    @precondition(lambda self: self.seq)
    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        words = self.lane.words
        words[ACK] = max(words[ACK], round(self.seq * share))

    @rule()
    def reclaim(self) -> None:
        self.journal.reclaim()
        if self.kept and self.lane.words[ACK] >= self.kept[-1]:
            self.kept, self.used = [], 0

    @rule()
    def its_owner_dies_and_another_takes_the_lane(self) -> None:
        self.lane.clear()
        self.journal = Journal(self.lane)
        self.kept, self.used, self.seq = [], 0, 0

    @invariant()
    def whatever_is_not_acknowledged_is_there(self) -> None:
        found = [one.id for one in decode_answer_list(self.lane.journal())]
        assert found == self.kept
        missing = set(range(self.lane.words[ACK] + 1, self.seq + 1)) - set(found)
        assert not missing

    def teardown(self) -> None:
        self.lanes.close()


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_many_generations_are_read_back() -> None:
    """The generation in the word's upper bits wraps around without touching its count."""
    lanes = Lanes(1)
    lane = lanes.all[0]
    journal = Journal(lane)
    for seq in range(1, 70_000):
        assert journal.append(seq, answer(seq, 1))
        lane.words[ACK] = seq
        if seq % 10_000 == 0:
            assert [one.id for one in decode_answer_list(lane.journal())] == [seq]
        journal.reclaim()
    assert decode_answer_list(lane.journal()) == []
    lanes.close()


def test_a_reader_who_is_overtaken_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the word and the bytes the worker starts over: what was read is thrown away."""
    lanes = Lanes(1)
    lane = lanes.all[0]
    journal = Journal(lane)
    journal.append(1, answer(1, 100))
    journal.append(2, answer(2, 3))
    lane.words[ACK] = 2
    waiting: list[Callable[[], object]] = [journal.reclaim, lambda: journal.append(3, answer(3, 500))]

    def fence() -> bool:
        while waiting:
            waiting.pop(0)()
        return True

    monkeypatch.setattr(lanes_module, "fence", fence)
    assert [one.id for one in decode_answer_list(lane.journal())] == [3]
    lanes.close()


def test_a_reader_never_sees_torn_answers_while_the_owner_writes() -> None:
    lanes = Lanes(1)
    lane = lanes.all[0]
    journal = Journal(lane)
    end = time.monotonic() + 0.5

    def write() -> None:
        seq = 0
        while time.monotonic() < end:
            seq += 1
            assert journal.append(seq, answer(seq, seq * 37 % 900))
            lane.words[ACK] = seq
            if seq % 7 == 0:
                journal.reclaim()

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        ids = [one.id for one in decode_answer_list(lane.journal())]
        assert ids == list(range(ids[0], ids[0] + len(ids))) if ids else True
    writer.join()
    lanes.close()


def test_waiting_for_a_receipt_ends_with_it() -> None:
    lanes = Lanes(1)
    lane = lanes.all[0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 50:
            lane.words[ACK] = 9

    Journal(lane, sleep).wait_for(9)
    assert len(pauses) == 50
    assert pauses == sorted(pauses)
    assert pauses[-1] <= 0.003, "it must notice soon"
    lanes.close()
