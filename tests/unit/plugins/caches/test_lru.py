from __future__ import annotations

import pytest

from toolring.plugins.caches.lru import LRU


def test_who_was_touched_longest_ago_leaves_first() -> None:
    lru = LRU(3)
    for key in (b"a", b"b", b"c"):
        lru.added(key)
    lru.touched(b"a")
    assert lru.victim() == b"b"
    assert lru.victim() == b"b", "asking changes nothing"
    lru.removed(b"b")
    assert lru.victim() == b"c"
    lru.touched(b"c")
    assert lru.victim() == b"a"


def test_an_empty_one_has_no_victim() -> None:
    with pytest.raises(StopIteration):
        LRU(3).victim()
