from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from toolring.policy.series import SLICE_SECONDS, Series, Tally, Window

_steps = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 4.75, 5.0, 31.0, 299.0, 1000.0]), st.integers(0, 10**7)))


def jobs(series: Series, window: Window, now: float) -> int:
    return series.window(window, now)[0].jobs


def test_a_window_forgets_what_is_older_and_the_start_forgets_nothing() -> None:
    series = Series(1000.0)
    series.at(1000.0).jobs += 1
    series.at(1050.0).jobs += 1
    assert [jobs(series, window, 1050.0) for window in Window] == [2, 2, 2]
    assert [jobs(series, window, 1070.0) for window in Window] == [2, 1, 2]
    assert [jobs(series, window, 1200.0) for window in Window] == [2, 0, 2]
    assert [jobs(series, window, 1400.0) for window in Window] == [2, 0, 0]


def test_a_window_spans_no_more_than_there_was() -> None:
    series = Series(1000.0)
    assert series.window(Window.MINUTE, 1010.0)[1] == 10.0
    assert series.window(Window.FIVE_MINUTES, 1010.0)[1] == 10.0
    assert series.window(Window.START, 5000.0)[1] == 4000.0
    assert 55 <= series.window(Window.MINUTE, 5003.0)[1] <= 60
    assert 270 <= series.window(Window.FIVE_MINUTES, 5003.0)[1] <= 300


@settings(deadline=None)
@given(_steps)
def test_every_window_holds_what_a_list_of_all_that_happened_does(steps: list[tuple[float, int]]) -> None:
    now = began = 1003.0
    series = Series(now)
    happened: list[tuple[float, int]] = []
    for wait, micros in steps:
        now += wait
        series.at(now).run.record(micros)
        happened.append((now, micros))
        for window in Window:
            tally, seconds = series.window(window, now)
            since = began if window is Window.START else now - seconds
            held = [micros for at, micros in happened if at >= since]
            assert (tally.run.n, tally.run.total) == (len(held), sum(held))
            assert seconds <= (window or now - began)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["A", "B"])), max_size=20))
def test_tallies_add_up_in_any_order(happened: list[tuple[int, str]]) -> None:
    parts = [Tally() for _ in range(4)]
    for which, code in happened:
        part = parts[which]
        part.jobs += 1
        part.errors[code] = part.errors.get(code, 0) + 1
        part.response.record(which)
    one, other = Tally(), Tally()
    for part in parts:
        one.add(part)
    for part in reversed(parts):
        other.add(part)
    assert one.jobs == other.jobs == one.failed == len(happened)
    assert one.errors == other.errors
    assert one.response.counts == other.response.counts


def test_a_clock_that_stands_still_or_goes_back_a_little_loses_nothing() -> None:
    series = Series(1000.0)
    series.at(1000.0 + SLICE_SECONDS).jobs += 1
    series.at(1000.0).jobs += 1
    assert jobs(series, Window.START, 1000.0) == 2


def test_a_slice_of_the_last_minute_is_known_by_its_number() -> None:
    series = Series(1000.0)
    series.at(1001.0).jobs += 1
    series.at(1006.0).jobs += 2
    series.at(1017.0).jobs += 3
    counts = [None if (one := series.slice(number)) is None else one.jobs for number in (199, 200, 201, 202, 203, 204)]
    assert counts == [None, 1, 2, None, 3, None]
    series.at(1100.0)
    assert series.slice(200) is None
