"""Allocations of this process, traced by memray."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from toolring.errors import LoadError
from toolring.workers.native import NAMES, NativeAllocations


def open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [name for name in found if "toolring-allocations" in name]


def test_the_lines_that_grew_come_first_with_what_they_had_called() -> None:
    allocations = NativeAllocations()
    allocations.start()
    large = [bytes(1000) for _ in range(1000)]
    small = [bytes(1000) for _ in range(10)]
    gone = [bytes(5000) for _ in range(1000)]
    gone.clear()
    found = [growth for growth in allocations.top(50) if growth.file == __file__ and growth.bytes > 5000]
    allocations.stop()
    assert [growth.line for growth in found[:2]] == [25, 26]
    assert found[0].bytes > 1_000_000
    assert found[0].blocks >= 1000
    assert 0 < len(found[0].native) <= NAMES
    assert all(name for name in found[0].native)
    assert open_files() == []
    assert len(large) + len(small) == 1010


def test_it_may_begin_and_end_again_and_again() -> None:
    for _ in range(3):
        allocations = NativeAllocations()
        allocations.start()
        kept = [bytes(1000) for _ in range(1000)]
        assert allocations.top(1)[0].bytes > 1_000_000
        allocations.stop()
        allocations.stop()
        del kept


def test_there_is_one_only() -> None:
    first, second = NativeAllocations(), NativeAllocations()
    first.start()
    with pytest.raises(LoadError, match="memray can't trace here"):
        second.start()
    first.stop()
    second.start()
    second.stop()


def test_a_child_is_not_traced() -> None:
    allocations = NativeAllocations()
    allocations.start()
    child = os.fork()
    if not child:
        kept = [bytes(1000) for _ in range(1000)]
        os._exit(len(kept) != 1000)
    assert os.waitpid(child, 0)[1] == 0
    assert not [growth for growth in allocations.top(50) if growth.bytes > 500_000]
    allocations.stop()
