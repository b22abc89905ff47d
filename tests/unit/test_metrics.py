from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest

from toolring import metrics, monitor
from toolring.metrics import MOST_CHARACTERS, MOST_SERIES, Kind, Measured, measured
from toolring.protocol import Counted, decode_from_worker, encode


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    measured.clear()
    yield
    measured.clear()


def told() -> dict[tuple[Any, ...], tuple[float, int]]:
    """By name and labels: the amount, and how many times."""
    drained = measured.drain()
    if drained is None:
        return {}
    return {
        (name, *(value for _, value in labels)): (amount, sum(buckets.values()))
        for _, name, labels, amount, buckets in drained.series
    }


def test_counters_add_up_and_gauges_stand_where_they_were_put() -> None:
    metrics.count("unit_pages", site="a")
    metrics.count("unit_pages", 2.5, site="a")
    metrics.count("unit_pages", site="b")
    metrics.gauge("unit_depth", 7)
    metrics.gauge("unit_depth", 3)
    assert told() == {("unit_pages", "a"): (3.5, 0), ("unit_pages", "b"): (1, 0), ("unit_depth",): (3.0, 0)}
    assert measured.drain() is None


def test_a_block_is_timed_however_it_ends() -> None:
    with metrics.timer("unit_block", part="x"):
        pass
    with pytest.raises(ZeroDivisionError), metrics.timer("unit_block", part="x"):
        _ = 1 / 0
    metrics.observe("unit_block", 0.5, part="x")
    amount, times = told()["unit_block", "x"]
    assert times == 3
    assert amount >= 500_000


@monitor
def plain(x: int) -> int:
    """Doc."""
    return 10 // x


@monitor
async def waits(x: int) -> int:
    return 10 // x


@monitor(name="unit_generated", kind="plain")
def generates(x: int) -> Iterator[int]:
    yield 1
    yield 10 // x


@monitor
async def streams(x: int) -> AsyncIterator[int]:
    yield 1
    yield 10 // x


def test_each_kind_of_function_is_timed_and_its_errors_are_told_apart() -> None:
    async def use() -> None:
        assert await waits(5) == 2
        assert [part async for part in streams(5)] == [1, 2]
        with pytest.raises(ZeroDivisionError):
            await waits(0)

    assert plain(5) == 2
    assert list(generates(5)) == [1, 2]
    asyncio.run(use())
    with pytest.raises(ZeroDivisionError):
        plain(0)
    with pytest.raises(ZeroDivisionError):
        list(generates(0))
    found = {key: times for key, (_, times) in told().items()}
    assert found == {
        ("plain", ""): 1,
        ("plain", "ZeroDivisionError"): 1,
        ("waits", ""): 1,
        ("waits", "ZeroDivisionError"): 1,
        ("unit_generated", "", "plain"): 1,
        ("unit_generated", "ZeroDivisionError", "plain"): 1,
        ("streams", ""): 1,
    }
    assert plain.__doc__ == "Doc."


def test_an_async_generator_is_closed_with_its_wrapper_and_hears_what_is_sent() -> None:
    closed: list[str] = []

    @monitor(name="unit_echo")
    async def echo() -> AsyncGenerator[str, str]:
        heard = "first"
        try:
            while True:
                heard = yield heard
        finally:
            closed.append(heard)

    async def use() -> None:
        stream = echo()
        assert await anext(stream) == "first"
        assert await stream.asend("second") == "second"
        await stream.aclose()
        assert closed == ["second"]

    asyncio.run(use())


@pytest.mark.parametrize("name", ["word_count", "get_info", "elapsed_seconds"])
def test_a_function_may_have_a_name_that_no_metric_may(name: str) -> None:
    def function() -> None: ...

    function.__name__ = name
    monitor(function)()
    assert list(told()) == [(f"{name}_calls", "")]


@pytest.mark.parametrize("name", ["", "Upper", "1st", "with-dash", "a__b", "x_total", "y_seconds", "z" * 101])
def test_a_name_that_can_not_be_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="can't name a metric"):
        metrics.count(name)


@pytest.mark.parametrize("labels", [{"le": 1}, {"worker": 1}, {"Site": 1}, {f"l{n}": n for n in range(6)}])
def test_labels_that_can_not_be_some_are_refused(labels: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="can't be its labels"):
        metrics.count("unit_labels", **labels)


@pytest.mark.parametrize("label", ["error", "worker"])
def test_labels_that_are_set_already_are_refused_by_name_where_a_function_is_decorated(label: str) -> None:
    with pytest.raises(ValueError, match=f"'plain': {label} can't be its label"):
        monitor(**{label: "x"})(plain)


def test_no_time_is_negative() -> None:
    with pytest.raises(ValueError, match=r"-1\.0 is not a number from 0 to 1e\+09"):
        metrics.observe("unit_back", -1)
    assert measured.drain() is None


def test_a_name_is_one_thing_only() -> None:
    metrics.count("unit_thing", site="a")
    with pytest.raises(ValueError, match="is a counter with site"):
        metrics.gauge("unit_thing", 1.0, site="a")
    with pytest.raises(ValueError, match="can't be a counter with page as well"):
        metrics.count("unit_thing", page="a")
    with pytest.raises(ValueError, match="only grows"):
        metrics.count("unit_thing", -1, site="a")


def test_a_name_that_is_known_stays_one_thing_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = Measured()
    monkeypatch.setattr("toolring.metrics.MOST_SERIES", 1)
    for name in ("first", "second"):
        shapes.shape(Kind.COUNTER, name, ())
    with pytest.raises(ValueError, match="is a counter with no labels"):
        shapes.shape(Kind.GAUGE, "first", ())


def test_numbers_of_any_type_can_be_told() -> None:
    euros: Any = Decimal("1.5")
    share: Any = Fraction(1, 2)
    metrics.count("unit_bytes", 2**70)
    metrics.count("unit_euros", euros)
    metrics.gauge("unit_share", share)
    for _ in range(20_000):
        metrics.observe("unit_years", 0.9e9)
    drained = measured.drain()
    assert drained is not None
    heard = decode_from_worker(encode(drained))
    assert isinstance(heard, Counted)
    amounts = {name: amount for _, name, _, amount, _ in heard.series}
    assert amounts == {"unit_bytes": 2.0**70, "unit_euros": 1.5, "unit_share": 0.5, "unit_years": 1.8e19}


@pytest.mark.parametrize("number", [nan, inf, -inf, 1e101, pytest.param(10**400, id="large")])
def test_what_can_not_be_told_is_refused_where_it_is_counted(number: float) -> None:
    for use in (metrics.count, metrics.gauge, metrics.observe):
        with pytest.raises(ValueError, match="is not a number from"):
            use("unit_odd", number)
    assert measured.drain() is None


def test_a_time_of_day_is_no_duration() -> None:
    with pytest.raises(ValueError, match="not a number from 0 to 1e\\+09"):
        metrics.observe("unit_day", 1_800_000_000.0)


def test_a_label_that_can_not_be_encoded_is_told_with_what_can() -> None:
    metrics.count("unit_odd_label", path=os.fsdecode(b"caf\xc3\xa9 \xff"))
    drained = measured.drain()
    assert drained is not None
    assert list(drained.series[0][2]) == [("path", "café ?")]
    assert encode(drained)


def test_there_is_an_end_to_the_labels_values_and_what_is_left_out_is_counted() -> None:
    for number in range(MOST_SERIES + 5):
        metrics.count("unit_many", user=number)
    metrics.count("unit_many", user=3)
    drained = measured.drain()
    assert drained is not None
    assert len(drained.series) == MOST_SERIES
    assert drained.left_out == 5
    metrics.count("unit_many", user="x" * 1000)
    assert list(told()) == [("unit_many", "x" * MOST_CHARACTERS)]


def test_threads_lose_nothing() -> None:
    def work() -> None:
        for _ in range(2000):
            metrics.count("unit_threads")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told() == {("unit_threads",): (8000, 0)}
