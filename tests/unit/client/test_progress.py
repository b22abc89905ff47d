from __future__ import annotations

import io

from toolring.client.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_draws_on_a_terminal_at_most_ten_times_a_second() -> None:
    now = [0.0]
    stream = Terminal()
    bar = Bar(100, stream, lambda: now[0])
    for _ in range(100):
        now[0] += 0.01
        bar.add(1)
    bar.finish()
    drawn = stream.getvalue().split("\r")[1:]
    assert 9 <= len(drawn) <= 11
    assert drawn[-1].startswith(f"[{'#' * 30}] 100/100  100/s  0 s left")
    assert drawn[-1].endswith("\n")


def test_without_a_total_it_counts() -> None:
    now = [0.0]
    bar = Bar(None, Terminal(), lambda: now[0])
    now[0] = 2.0
    bar.add(5)
    assert bar.line() == "5 done  2/s"


def test_elsewhere_it_is_silent() -> None:
    stream = io.StringIO()
    bar = Bar(3, stream)
    bar.add(3)
    bar.finish()
    assert not stream.getvalue()
