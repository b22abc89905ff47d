from __future__ import annotations

from toolring.plugins.caches.lfu import LFU


def test_the_least_used_leaves_first_and_of_equals_the_oldest() -> None:
    lfu = LFU(3)
    for key in (b"a", b"b", b"c"):
        lfu.added(key)
    assert lfu.victim() == b"a"
    lfu.touched(b"a")
    assert lfu.victim() == b"b"


def test_old_merit_is_overtaken() -> None:
    """What was popular once leaves in the end, though what replaces it is used less."""
    lfu = LFU(2)
    lfu.added(b"old")
    for _ in range(5):
        lfu.touched(b"old")
    left = []
    for number in range(20):
        lfu.added(b"%d" % number)
        lfu.touched(b"%d" % number)
        left.append(lfu.victim())
        lfu.removed(left[-1])
        if left[-1] == b"old":
            break
    assert b"old" in left
