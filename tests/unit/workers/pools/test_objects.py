from __future__ import annotations

import threading
from typing import Any

import pytest

from toolring.workers.pools.objects import ObjectPool


def test_an_object_is_reset_and_used_again() -> None:
    pool = ObjectPool[list[int]](list, reset=list.clear)
    with pool.acquire() as first:
        first.append(1)
    with pool.acquire() as second:
        assert second is first
        assert second == []
    assert pool.stats() == {"idle": 1, "created": 1, "reused": 1, "destroyed": 0}


def test_nobody_waits_and_few_are_kept() -> None:
    pool = ObjectPool(object, max_idle=2)
    leases = [pool.acquire() for _ in range(5)]
    assert len({id(lease.take()) for lease in leases}) == 5
    for lease in leases:
        lease.give()
    assert pool.stats() == {"idle": 2, "created": 5, "reused": 0, "destroyed": 3}


@pytest.mark.parametrize("verdict", [False, ValueError("no")])
def test_what_cannot_be_reset_is_not_used_again(verdict: Any) -> None:
    def reset(_: object) -> Any:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    pool = ObjectPool(object, reset=reset)
    with pool.acquire():
        pass
    assert pool.stats() == {"idle": 0, "created": 1, "reused": 0, "destroyed": 1}


def test_given_back_twice_it_goes_to_one() -> None:
    pool = ObjectPool(object)
    lease = pool.acquire()
    with pytest.raises(RuntimeError, match="never taken"):
        lease.give()
    with lease as thing, pytest.raises(RuntimeError, match="already"):
        lease.take()
    with pool.acquire() as other:
        with pytest.raises(RuntimeError, match="given back already"):
            lease.give()
        with pool.acquire() as third:
            assert thing is other
            assert third is not other


def test_an_interrupt_leaves_nobody_a_half_used_object() -> None:
    pool = ObjectPool(object)
    with pytest.raises(KeyboardInterrupt), pool.acquire():
        raise KeyboardInterrupt
    pool.acquire().take()
    lease = pool.acquire()
    lease.take()
    lease.give(broken=True)
    assert pool.stats() == {"idle": 0, "created": 3, "reused": 0, "destroyed": 2}


def test_nothing_negative_is_kept() -> None:
    with pytest.raises(ValueError, match="max_idle=-1 is negative"):
        ObjectPool(object, max_idle=-1)


def test_threads_never_share_one() -> None:
    pool, crossed = ObjectPool[list[int]](list), list[int]()

    def work() -> None:
        for _ in range(500):
            with pool.acquire() as own:
                crossed.extend(own)
                own.append(1)
                own.clear()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    stats = pool.stats()
    assert crossed == []
    assert stats["created"] + stats["reused"] == 2000
