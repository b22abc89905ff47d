from __future__ import annotations

import tracemalloc

import pytest

from toolring.workers.allocations import Allocations, Growth


def test_the_lines_that_grew_come_first() -> None:
    with Allocations() as allocations:
        large = [bytes(1000) for _ in range(1000)]
        small = [bytes(1000) for _ in range(10)]
        found = [growth for growth in allocations.top() if growth.file == __file__]
        assert len(allocations.top(1)) == 1
    assert [growth.line for growth in found[:2]] == [12, 13]
    assert found[0].bytes > 1_000_000
    assert found[0].blocks >= 1000
    assert not tracemalloc.is_tracing()
    assert len(large) + len(small) == 1010


def test_what_was_freed_again_did_not_grow() -> None:
    with Allocations() as allocations:
        kept = [bytes(1000) for _ in range(1000)]
        kept.clear()
        assert not [growth for growth in allocations.top(100) if growth.file == __file__ and growth.bytes > 100_000]


def test_somebody_elses_tracing_goes_on() -> None:
    tracemalloc.start()
    try:
        with Allocations():
            pass
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_a_look_before_the_start_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match=r"start\(\) comes first"):
        Allocations().top()


def test_it_reads_well() -> None:
    assert str(Growth("a.py", 3, 1500, -2)) == "a.py:3: +1,500 bytes in -2 blocks"
