"""Lines go to a real pipe, whose reader stalls."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.kit import eventually
from toolring.supervisor.log_writer import MOST_BYTES, LogWriter

LINE = "x" * 1023 + "\n"


class Pipe:
    """Holds a page, and no more."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.dropped: list[int] = []
        self.told = threading.Event()
        self.log = LogWriter(self.writes, self._told)

    def _told(self, count: int) -> None:
        self.dropped.append(count)
        self.told.set()

    def rest(self) -> bytes:
        """All until its end."""
        found = b""
        while data := os.read(self.reads, 1 << 20):
            found += data
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.log.close(0.0)


def test_lines_are_written_in_their_order(pipe: Pipe) -> None:
    for number in range(100):
        pipe.log.write(f"line {number}\n")
    pipe.log.write("half a character: \ud800\n")
    pipe.log.close()
    os.close(pipe.writes)
    *lines, last, nothing = pipe.rest().decode().split("\n")
    assert lines == [f"line {number}" for number in range(100)]
    assert (last, nothing) == (r"half a character: \ud800", "")
    assert pipe.dropped == []


def test_while_nobody_reads_lines_wait_then_are_dropped_and_counted(pipe: Pipe) -> None:
    fits = MOST_BYTES // len(LINE)
    for _ in range(2 * fits):
        pipe.log.write(LINE)
    reader = threading.Thread(target=lambda: seen.append(pipe.rest()))
    seen: list[bytes] = []
    reader.start()
    assert pipe.told.wait(10)
    pipe.log.write("after\n")
    pipe.log.close()
    os.close(pipe.writes)
    reader.join()
    kept = seen[0].count(LINE.encode())
    assert kept + pipe.dropped[0] == 2 * fits
    assert fits <= kept < 2 * fits
    assert seen[0].endswith(b"after\n")


def test_a_line_is_there_at_once_if_there_is_room(pipe: Pipe, tmp_path: Path) -> None:
    pipe.log.write("now\n")
    assert os.read(pipe.reads, 100) == b"now\n"
    with (tmp_path / "log").open("wb") as file:
        log = LogWriter(file.fileno(), pipe._told)
        log.write("x" * 100_000 + "\n")
        assert (tmp_path / "log").stat().st_size == 100_001
        log.close()


def test_a_reader_that_stalls_holds_up_no_end(pipe: Pipe) -> None:
    pipe.log.write("x" * (2 << 20) + "\n")
    pipe.log.close(0.0)
    assert pipe.log._thread.is_alive()
    os.close(pipe.reads)
    eventually(lambda: not pipe.log._thread.is_alive(), "it gives up on what nobody will read")


def test_whoever_shares_it_may_have_said_that_nobody_waits(pipe: Pipe) -> None:
    os.set_blocking(pipe.writes, False)
    for _ in range(400):
        pipe.log.write(LINE)
    eventually(lambda: pipe.log._lines, "they wait")
    before = time.process_time()
    pipe.told.wait(0.3)
    assert time.process_time() - before < 0.2, "it doesn't try again and again"
    reader = threading.Thread(target=lambda: seen.append(pipe.rest()))
    seen: list[bytes] = []
    reader.start()
    pipe.log.close(10.0)
    os.close(pipe.writes)
    reader.join()
    assert seen[0].count(LINE.encode()) == 400
