"""Whose code writes, and where that goes: with streams and a lane of the test's own."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from toolring import protocol
from toolring.context import at_hand
from toolring.lane import Lane, Lanes
from toolring.protocol import OK, TOLD, Answer
from toolring.spool import Spool
from toolring.workers.output import MOST_LINE, Handler, Output, Stream


@dataclass
class Job:
    deadline: float = 1e9
    trace: str = ""
    tool: str = "any"
    seq: int = 5


class World:
    def __init__(self, lane: Lane, most: int = 2000) -> None:
        self.output = Output(lane, most, lambda job: int(job.seq))
        self.plain = io.StringIO()
        self.out = Stream(self.output, "stdout", self.plain)
        self.err = Stream(self.output, "stderr", self.plain)
        self.spool = Spool(lane)

    def told(self) -> list[tuple[int, str, str, str]]:
        found = [protocol.decode_value(record) for record in self.spool.take()]
        return [(seq, stream, level, text) for seq, _, stream, level, text in found]

    def lines(self) -> list[str]:
        return [text for *_, text in self.told()]


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes(1)
    yield lanes
    for lane in lanes.all:
        lane.words.release()
        lane.bytes.release()
    lanes.close()


@pytest.fixture
def world(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(at_hand, "job", None)
    return World(lanes.all[0])


def test_what_is_no_jobs_goes_where_it_went(world: World) -> None:
    print("before", file=world.out)
    assert world.plain.getvalue() == "before\n"
    assert world.told() == []


def test_lines_go_out_when_they_end(world: World) -> None:
    at_hand.job = Job()
    print("a", 1, file=world.out)
    world.out.write("no ")
    print("other", file=world.err)
    assert world.told() == [(5, "stdout", "", "a 1"), (5, "stderr", "", "other")]
    world.out.write("end\nrest")
    assert world.lines() == ["no end"]
    answer = Answer(5, OK, protocol.NIL)
    world.output.ended(answer)
    assert world.lines() == ["rest"]
    assert answer.flags == TOLD
    assert world.plain.getvalue() == ""


def test_what_is_flushed_goes_out_without_an_end(world: World) -> None:
    at_hand.job = Job()
    world.out.flush()
    print("50%", end="", file=world.out, flush=True)
    world.out.flush()
    assert world.lines() == ["50%"]
    print(file=world.out)
    print("a", end="", file=world.out, flush=True)
    print("b", end="", file=world.out, flush=True)
    print("c\n\nd", file=world.out)
    assert world.lines() == ["a", "b", "c", "", "d"]


def test_an_answer_of_one_that_wrote_nothing_says_nothing(world: World) -> None:
    answer = Answer(6, OK, protocol.NIL)
    world.output.ended(answer)
    assert answer.flags == 0


def test_jobs_are_told_apart_and_each_has_its_own_limit(world: World) -> None:
    first, second = Job(), Job(seq=6)
    for job in (first, second):
        at_hand.job = job
        for number in range(50):
            print(f"{number:0100}", file=world.out)
    for seq in (5, 6):
        world.output.ended(Answer(seq, OK, protocol.NIL))
    told = world.told()
    for seq in (5, 6):
        lines = [text for number, _, _, text in told if number == seq]
        assert len(lines) == 2000 // 132 + 1
        assert lines[-1] == f"{50 - 2000 // 132} further lines were dropped"


def test_a_line_without_end_becomes_several(lanes: Lanes) -> None:
    world = World(lanes.all[0], 1 << 20)
    at_hand.job = Job()
    world.out.write("y" * (MOST_LINE + 10))
    world.out.write("z\n")
    assert [len(line) for line in world.lines()] == [MOST_LINE, 10, 1]


def test_a_child_that_a_tool_forked_is_not_the_job(world: World) -> None:
    at_hand.job = Job()
    world.output._disown()
    print("child", file=world.out)
    assert (world.plain.getvalue(), world.told()) == ("child\n", [])


def test_half_a_character_is_escaped(world: World) -> None:
    at_hand.job = Job()
    print("\udce9", file=world.out)
    assert world.lines() == ["\\udce9"]


def test_a_stream_is_what_it_stands_for(world: World) -> None:
    assert world.out.writable()
    assert not world.out.isatty()
    assert world.out.newlines is world.plain.newlines
    assert world.out.getvalue() == ""
    at_hand.job = Job()
    with pytest.raises(TypeError, match="must be str, not bytes"):
        world.out.write(b"x")  # type: ignore[arg-type]


def test_logging_without_a_handler_is_told_with_its_level(world: World) -> None:
    plain = logging.StreamHandler(world.plain)
    handler = Handler(world.output, plain)
    record = logging.LogRecord("mine", logging.WARNING, __file__, 1, "%d of %d", (1, 2), None)
    handler.handle(record)
    assert world.plain.getvalue() == "1 of 2\n"
    at_hand.job = Job()
    handler.handle(record)
    assert world.told() == [(5, "logging", "warning", "mine: 1 of 2")]


def test_all_of_it_is_installed_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", world.plain)
    monkeypatch.setattr("sys.stderr", world.plain)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    logger = logging.getLogger("test_output.own")
    logger.propagate = False
    handler: Any = logging.StreamHandler(world.plain)
    handler.setFormatter(logging.Formatter("<%(message)s>"))
    logger.addHandler(handler)
    try:
        world.output.install()
        at_hand.job = Job()
        print("printed")
        logger.error("logged")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning("careful", UserWarning, "f.py", 3)
        world.output.logged("own\n")
        assert [(stream, level, text) for _, stream, level, text in world.told()] == [
            ("stdout", "", "printed"),
            ("logging", "error", "<logged>"),
            ("warnings", "warning", "f.py:3: UserWarning: careful"),
            ("log", "", "own"),
        ]
        at_hand.job = None
        logger.error("later")
        assert world.plain.getvalue() == "own\n<later>\n"
    finally:
        logger.removeHandler(handler)
