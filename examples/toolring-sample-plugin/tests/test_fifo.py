"""toolring's own contract for cache strategies, run on this one: ``pytest`` (needs hypothesis)."""

from toolring_sample.fifo import FIFO

from toolring.testing import CacheStrategyContract


class TestFIFO(CacheStrategyContract):
    factory = FIFO


def test_use_keeps_nothing_alive() -> None:
    fifo = FIFO(2)
    fifo.added(b"first")
    fifo.added(b"second")
    fifo.touched(b"first")
    assert fifo.victim() == b"first"
