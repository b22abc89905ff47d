from __future__ import annotations

import contextlib
import io
import math
import os

import pytest

from toolring.client.feed import Progress
from toolring.client.progress import Bar, Gauge


class Terminal(io.StringIO):
    """Draws nothing, but keeps what was written."""

    def isatty(self) -> bool:
        return True

    def drawn(self) -> list[str]:
        return self.getvalue().split("\r")[1:]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of twenty columns."""
    stream = Terminal()
    monkeypatch.setattr(stream, "fileno", lambda: 7)
    monkeypatch.setattr(os, "get_terminal_size", {7: os.terminal_size((20, 5))}.__getitem__)
    return stream


# ---- the bar


def test_it_draws_on_a_terminal_at_most_ten_times_a_second() -> None:
    now = [0.0]
    stream = Terminal()
    bar = Bar(100, stream, lambda: now[0])
    for _ in range(100):
        now[0] += 0.01
        bar.add(1)
    bar.finish()
    drawn = stream.drawn()
    assert 9 <= len(drawn) <= 11
    assert drawn[-1].startswith(f"[{'#' * 30}] 100/100  100/s  0 s left")
    assert drawn[-1].endswith("\n")


def test_the_first_is_drawn_at_once() -> None:
    stream = Terminal()
    bar = Bar(None, stream, lambda: 1000.0)
    bar.add(1)
    bar.add(1)
    assert [line[:6] for line in stream.drawn()] == ["1 done"]


def test_without_a_total_it_counts() -> None:
    now = [0.0]
    bar = Bar(None, Terminal(), lambda: now[0])
    now[0] = 2.0
    bar.add(5)
    assert bar.line() == "5 done  2/s"


@pytest.mark.parametrize(
    ("total", "done", "line"),
    [
        (4000, 0, f"[{'.' * 30}] 0/4,000  0/s  0 s left"),
        (4000, 1000, f"[{'#' * 7}{'.' * 23}] 1,000/4,000  500/s  6 s left"),
        (4000, 4000, f"[{'#' * 30}] 4,000/4,000  2,000/s  0 s left"),
        (0, 0, "0 done  0/s"),
    ],
)
def test_with_a_total_it_says_how_much_is_left(total: int, done: int, line: str) -> None:
    now = [0.0]
    bar = Bar(total, Terminal(), lambda: now[0])
    now[0] = 2.0
    bar.add(done)
    assert bar.line() == line


def test_it_is_drawn_a_last_time_if_nothing_was_done() -> None:
    stream = Terminal()
    Bar(None, stream, lambda: 0.0).finish()
    assert stream.getvalue() == "\r0 done  0/s\x1b[K\n"


def test_no_line_is_longer_than_the_terminal_is_wide(narrow: Terminal) -> None:
    bar = Bar(10, narrow, lambda: 0.0)
    bar.finish()
    Gauge(narrow).show(Progress(1, 2, "m" * 100))
    assert [line.removesuffix("\n").removesuffix("\x1b[K") for line in narrow.drawn()] == [
        f"[{'.' * 18}",
        f"[{'#' * 15}...",
    ]


def test_a_terminal_that_does_not_know_its_width_has_eighty_columns(
    narrow: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((0, 0)))
    Gauge(narrow).show(Progress(1, None, "m" * 100))
    assert narrow.drawn() == [f"1  {'m' * 76}\x1b[K"]


def test_elsewhere_it_is_silent() -> None:
    stream = io.StringIO()
    bar = Bar(3, stream)
    bar.add(3)
    bar.finish()
    assert not stream.getvalue()


# ---- the gauge


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(1, 4, "reading"), f"[{'#' * 7}{'.' * 23}] 1/4  reading"),
        (Progress(0, 4, ""), f"[{'.' * 30}] 0/4  "),
        (Progress(4.0, 4.0, "over"), f"[{'#' * 30}] 4/4  over"),
        (Progress(0.5, 1, ""), f"[{'#' * 15}{'.' * 15}] 0.50/1  "),
        (Progress(5, 4, "more than all"), f"[{'#' * 30}] 5/4  more than all"),
        (Progress(-1, 4, "less than nothing"), f"[{'.' * 30}] -1/4  less than nothing"),
        (Progress(7, None, "files"), "7  files"),
        (Progress(7, 0, "of none"), "7  of none"),
        (Progress(1_234_567, 2_000_000, ""), f"[{'#' * 18}{'.' * 12}] 1,234,567/2,000,000  "),
        (Progress(math.inf, None, ""), "inf  "),
        (Progress(math.nan, math.inf, ""), f"[{'.' * 30}] nan/inf  "),
        (Progress(1, None, "two\n  lines\t\x1b[2J\a"), "1  two lines [2J"),
        (Progress(1, None, "Grüße, 世界"), "1  Grüße, 世界"),
    ],
)
def test_a_gauge_shows_what_a_tool_says_in_one_harmless_line(progress: Progress, line: str) -> None:
    stream = Terminal()
    Gauge(stream).show(progress)
    assert stream.drawn() == [f"{line}\x1b[K"]


def test_each_is_drawn_over_the_last_and_nothing_is_left_behind() -> None:
    stream = Terminal()
    with Gauge(stream) as gauge:
        gauge.show(Progress(1, None, "one"))
        gauge.show(Progress(2, None, "two"))
    assert stream.getvalue() == "\r1  one\x1b[K\r2  two\x1b[K\r\x1b[K"


def test_it_is_cleared_for_what_is_printed_between_and_only_once() -> None:
    stream = Terminal()
    with Gauge(stream) as gauge:
        gauge.clear()
        assert not stream.getvalue()
        gauge.show(Progress(1, None, ""))
        gauge.clear()
        gauge.clear()
        gauge.show(Progress(2, None, ""))
    assert stream.getvalue() == "\r1  \x1b[K\r\x1b[K\r2  \x1b[K\r\x1b[K"


def test_it_is_cleared_when_the_job_fails() -> None:
    stream = Terminal()
    with contextlib.suppress(ValueError), Gauge(stream) as gauge:
        gauge.show(Progress(1, None, ""))
        raise ValueError
    assert stream.getvalue().endswith("\r\x1b[K")


def test_it_knows_whether_anybody_would_see_it() -> None:
    assert Gauge(Terminal()).shown
    assert not Gauge(io.StringIO()).shown


def test_it_draws_on_standard_error_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Gauge() as gauge:
        gauge.show(Progress(1, None, ""))
    Bar(None).finish()
    assert len(stream.drawn()) == 3
