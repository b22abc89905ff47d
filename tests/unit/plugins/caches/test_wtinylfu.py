from __future__ import annotations

from toolring.plugins.caches.wtinylfu import OFTEN, Sketch, WTinyLFU


def test_a_newcomer_is_admitted_only_if_it_was_asked_for_more_often() -> None:
    strategy = WTinyLFU(3)
    for key in (b"a", b"b", b"new"):
        strategy.added(key)
    strategy.touched(b"a")
    assert strategy.victim() == b"new"
    for _ in range(3):
        strategy.touched(b"new")
    assert strategy.victim() == b"b"


def test_counts_stop_at_fifteen_and_are_halved_now_and_then() -> None:
    sketch = Sketch(8)
    for _ in range(79):
        sketch.add(b"a")
    assert sketch[b"a"] == 15
    sketch.add(b"a")
    assert sketch[b"a"] == 7
    assert sketch[b"other"] <= 7


def test_a_key_counted_far_too_high_cannot_hold_the_place_of_the_next_to_leave_for_ever() -> None:
    strategy = WTinyLFU(3)
    for key in (b"stuck", b"kept", b"new"):
        strategy.added(key)
    for _ in range(15):
        strategy._sketch.add(b"stuck")
    for _ in range(OFTEN):
        strategy.touched(b"new")
    assert b"stuck" in {strategy.victim() for _ in range(1000)}
