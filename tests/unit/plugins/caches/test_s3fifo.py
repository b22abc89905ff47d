from __future__ import annotations

from toolring.plugins.caches.s3fifo import S3FIFO


def full() -> S3FIFO:
    strategy = S3FIFO(10)
    for number in range(10):
        strategy.added(b"%d" % number)
    return strategy


def test_what_is_used_once_leaves_before_the_rest() -> None:
    strategy = full()
    strategy.removed(strategy.victim())
    for number in range(5):
        once = b"once%d" % number
        strategy.added(once)
        assert strategy.victim() == once
        strategy.removed(once)


def test_what_comes_back_soon_begins_in_the_main_queue() -> None:
    strategy = full()
    assert strategy.victim() == b"0"
    strategy.removed(b"0")
    strategy.added(b"0")
    assert strategy.victim() != b"0"


def test_what_was_deleted_is_no_ghost() -> None:
    strategy = full()
    strategy.removed(b"0")
    strategy.added(b"0")
    assert strategy.victim() == b"0"
