from __future__ import annotations

from toolring.plugins.caches.fifo import FIFO


def test_who_came_first_leaves_first_however_often_it_was_used() -> None:
    fifo = FIFO(3)
    for key in (b"a", b"b", b"c"):
        fifo.added(key)
    fifo.touched(b"a")
    assert fifo.victim() == b"a"
    fifo.removed(b"a")
    fifo.added(b"a")
    assert fifo.victim() == b"b"
