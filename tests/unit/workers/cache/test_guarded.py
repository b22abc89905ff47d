from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from typing import Any

import pytest

from toolring.plugins.specs import CacheStore, Stored
from toolring.workers.cache.guarded import FAILURES, LONGEST_PAUSE, Guarded

ENTRY = Stored(b"v", 0, 60.0, 0.0, 0.1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Flaky:
    """Does what ``how`` says; counts what was really asked of it."""

    shared = False
    how = "work"

    def __init__(self) -> None:
        self.asked = 0
        self.cleared = 0
        self.entries: dict[bytes, Stored] = {}

    def do(self) -> None:
        self.asked += 1
        if self.how == "fail":
            raise OSError("the disk is gone")
        while self.how == "hang":
            try:
                time.sleep(60)
            except Exception:
                pass

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, Any]:
        self.do()
        return self.entries.get(key), b"token"

    def put(self, key: bytes, tags: Sequence[bytes], token: Any, entry: Stored) -> None:
        self.do()
        self.entries[key] = entry

    def invalidate(self, tags: Sequence[bytes]) -> None:
        self.do()
        self.cleared += b"*" in tags
        self.entries.clear()

    def claim(self, key: bytes, seconds: float) -> bool:
        self.do()
        return False

    def release(self, key: bytes) -> None:
        self.do()

    def stats(self) -> dict[str, int]:
        return {"entries": len(self.entries)}

    def close(self) -> None: ...


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def guarded(flaky: Flaky, clock: Clock, **more: Any) -> Guarded:
    def make() -> CacheStore:
        return flaky

    return Guarded("flaky", make, 0.05, clock=clock, rng=random.Random(1), **more)


def test_a_working_store_is_passed_through(flaky: Flaky, clock: Clock) -> None:
    one = guarded(flaky, clock)
    assert one.get(b"k", ()) == (None, b"token")
    one.put(b"k", (), b"token", ENTRY)
    assert one.get(b"k", ()) == (ENTRY, b"token")
    assert (one.hits, one.misses, one.stores, one.failures) == (1, 1, 1, 0)
    assert one.stats()["entries"] == 1


def test_failures_are_misses_and_some_in_a_row_open_the_breaker(flaky: Flaky, clock: Clock) -> None:
    told: list[tuple[str, str]] = []
    one = guarded(flaky, clock, on_change=lambda *change: told.append(change))
    flaky.how = "fail"
    for _ in range(10):
        assert one.get(b"k", ()) == (None, None)
        one.put(b"k", (), b"token", ENTRY)
        assert one.claim(b"k", 1.0)
        one.release(b"k")
    assert flaky.asked == FAILURES
    assert one.stats()["state"] == "open"
    assert len(told) == 1
    assert "the disk is gone" in told[0][1]
    clock.now += 2.0
    assert one.get(b"k", ()) == (None, None)
    assert flaky.asked == FAILURES + 1, "one probe"
    flaky.how = "work"
    clock.now += 2 * LONGEST_PAUSE
    one.put(b"k", (), b"token", ENTRY)
    assert one.get(b"k", ())[0] == ENTRY
    assert one.stats()["state"] == "closed"
    assert len(told) == 2


def test_one_that_hangs_is_cut_short_and_left_out(flaky: Flaky, clock: Clock) -> None:
    one = guarded(flaky, clock)
    flaky.how = "hang"
    assert one.get(b"k", ()) == (None, None)
    assert one.get(b"k", ()) == (None, None)
    assert (flaky.asked, one.timeouts) == (1, 1)


def test_a_tools_own_timer_goes_on(flaky: Flaky, clock: Clock) -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        guarded(flaky, clock).get(b"k", ())
        end = time.monotonic() + 10
        while not rung and time.monotonic() < end:
            time.sleep(0.001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [1]


def test_one_that_cannot_be_made_is_a_miss(clock: Clock) -> None:
    def make() -> CacheStore:
        raise OSError("no room")

    one = Guarded("none", make, 0.05, clock=clock)
    assert one.get(b"k", ()) == (None, None)
    assert one.stats()["state"] == "open"


def test_without_a_token_nothing_is_put(flaky: Flaky, clock: Clock) -> None:
    guarded(flaky, clock).put(b"k", (), None, ENTRY)
    assert not flaky.entries


def test_an_invalidation_that_failed_is_owed_by_all(flaky: Flaky, clock: Clock) -> None:
    debts = [0, 0]
    one, two = guarded(flaky, clock, debts=debts), guarded(flaky, clock, debts=debts)
    two.put(b"k", (), b"token", ENTRY)
    flaky.how = "fail"
    one.invalidate([b"tag:x"])
    assert debts[0] != debts[1]
    flaky.how = "work"
    assert two.get(b"k", ()) == (None, b"token"), "cleared before it is used"
    assert flaky.cleared == 1
    assert debts[0] == debts[1]
    two.get(b"k", ())
    assert flaky.cleared == 1


def test_while_it_is_left_out_invalidations_are_owed_too(flaky: Flaky, clock: Clock) -> None:
    debts = [0, 0]
    one = guarded(flaky, clock, debts=debts)
    flaky.entries[b"k"] = ENTRY
    flaky.how = "hang"
    one.get(b"k", ())
    flaky.how = "work"
    one.invalidate([b"tag:x"])
    assert flaky.asked == 1
    clock.now += 60
    assert one.get(b"k", ())[0] is None
