from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import psutil
import pytest

from toolring.probe import Collections, Probe, Resident, descendants, trim, unshared

MB = 1 << 20


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    probe.close()


def test_resident_bytes_are_those_that_psutil_tells() -> None:
    rss = Resident()
    assert rss() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    rss.close()
    rss.close()


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(psutil.NoSuchProcess):
        Resident(2**22 + 1)
    assert unshared(2**22 + 1) is None
    assert descendants(2**22 + 1) == []


def test_a_quick_snapshot_repeats_what_the_thorough_one_found(probe: Probe) -> None:
    first = probe.snapshot()
    assert first.rss > MB
    assert (first.uss, first.children) == (None, 0)
    assert first.limit is not None, "what the ladder decides by is never old"
    thorough = probe.snapshot(thorough=True)
    assert thorough.uss is not None
    assert thorough.limit is not None
    assert thorough.used is not None
    assert 0 < thorough.uss <= thorough.rss
    assert 0 < thorough.used < thorough.limit <= psutil.virtual_memory().total
    again = probe.snapshot()
    for name in ("uss", "children", "limit"):
        assert getattr(again, name) == getattr(thorough, name)
    assert again.when >= thorough.when >= first.when


def test_collections_and_their_pauses_are_counted() -> None:
    now = iter(range(100))
    seen = Collections(lambda: 7 * MB, clock=lambda: next(now))
    seen.install()
    seen.install()
    try:
        gc.collect(0)
        gc.collect(1)
        assert (seen.count, seen.full, seen.floor) == (2, 0, None)
        gc.collect()
    finally:
        seen.uninstall()
    gc.collect()
    assert (seen.count, seen.full, seen.seconds, seen.longest) == (3, 1, 3, 1)
    assert (seen.take_floor(), seen.take_floor()) == (7 * MB, None)
    seen.uninstall()


def test_the_floor_is_the_least_after_a_full_collection() -> None:
    sizes = iter([5, 3, 4])
    seen = Collections(lambda: next(sizes))
    for _ in range(3):
        seen._told("start", {"generation": 2})
        seen._told("stop", {"generation": 2})
    assert seen.floor == 3


def test_closing_takes_the_callback_away() -> None:
    before = list(gc.callbacks)
    probe = Probe()
    assert len(gc.callbacks) == len(before) + 1
    probe.close()
    assert gc.callbacks == before


def test_trimming_collects_and_tells_what_came_back() -> None:
    ring: list[object] = [bytearray(1000)]
    ring.append(ring)
    del ring
    trimmed = trim()
    assert trimmed.objects >= 1
    assert trimmed.returned == trimmed.before - trimmed.after


def test_this_process_has_no_children_that_have_ended() -> None:
    assert os.getpid() not in descendants(os.getpid())
