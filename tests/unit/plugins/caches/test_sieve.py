from __future__ import annotations

from toolring.plugins.caches.sieve import SIEVE


def test_the_hand_spares_what_was_used_and_goes_on_from_where_it_is() -> None:
    sieve = SIEVE(4)
    for key in (b"a", b"b", b"c", b"d"):
        sieve.added(key)
    sieve.touched(b"a")
    sieve.touched(b"c")
    assert sieve.victim() == b"b"
    sieve.removed(b"b")
    sieve.added(b"e")
    assert sieve.victim() == b"d", "c was used, a is behind the hand"
