from __future__ import annotations

from toolring.plugins.caches.adaptive import Adaptive
from toolring.plugins.caches.lru import LRU
from toolring.plugins.specs import CacheStrategy
from toolring.workers.cache.base import Cache


def hits(strategy: CacheStrategy, keys: list[bytes]) -> int:
    cache = Cache(strategy, 50, 1 << 30, lambda: 0.0)
    for key in keys:
        if cache.get(key) is None:
            cache.put(key, b"", None)
    return cache.hits


def test_it_hits_in_a_loop_that_defeats_lru() -> None:
    loop = [b"%d" % (number % 60) for number in range(6000)]
    assert hits(LRU(50), loop) == 0
    assert hits(Adaptive(50), loop) > 2000


def test_it_follows_lru_where_only_recency_helps() -> None:
    drift = [b"%d" % (at // 4 - back) for at in range(6000) for back in (0, 30)]
    assert hits(Adaptive(50), drift) >= 0.97 * hits(LRU(50), drift)
