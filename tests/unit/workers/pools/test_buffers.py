from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.workers.pools.buffers import SMALLEST, BufferPool, _round_up

SIZE = 100_000


def fill(pool: BufferPool, size: int) -> None:
    with pool.acquire(size) as view:
        view[:] = b"x" * size


def test_a_buffer_has_the_very_size_and_is_zero_at_first_and_again() -> None:
    pool = BufferPool()
    for _ in range(2):
        with pool.acquire(SIZE) as view:
            assert (view.nbytes, view.readonly, view.format) == (SIZE, False, "B")
            assert bytes(view) == bytes(SIZE)
            view[:] = b"x" * SIZE
    assert (pool.stats()["created"], pool.stats()["reused"], pool.stats()["idle"]) == (1, 1, 1)


@given(st.lists(st.integers(SIZE - 9000, SIZE), min_size=2, max_size=6))
def test_whatever_size_it_had_before_it_is_zero(sizes: list[int]) -> None:
    pool = BufferPool()
    for size in sizes:
        with pool.acquire(size) as view:
            assert not any(view)
            view[:] = b"x" * size


def test_any_use_after_the_release_raises() -> None:
    pool = BufferPool()
    with pool.acquire(SIZE) as view:
        pass
    for use in (
        lambda: view[0],
        lambda: view[1:],
        lambda: bytes(view),
        lambda: view.tobytes(),
        lambda: memoryview(view),
    ):
        with pytest.raises(ValueError, match="released"):
            use()
    with pytest.raises(ValueError, match="released"):
        view[0] = 1


def test_a_buffer_that_somebody_still_sees_is_nobody_elses() -> None:
    pool = BufferPool()
    with pool.acquire(SIZE) as view:
        part = view[10:20]
    with pool.acquire(SIZE) as view:
        part[0] = 7
        assert not any(view)
        reader = memoryview(view)
    with pool.acquire(SIZE) as view:
        array = (view.obj, memoryview(view).cast("H"))
    assert (pool.stats()["exported"], pool.stats()["destroyed"], pool.stats()["idle"]) == (3, 3, 0)
    del part, reader, array


def test_given_back_twice_it_goes_to_one() -> None:
    pool = BufferPool()
    lease = pool.acquire(SIZE)
    with pytest.raises(RuntimeError, match="never taken"):
        lease.give()
    with lease, pytest.raises(RuntimeError, match="already"):
        lease.take()
    with pytest.raises(RuntimeError, match="given back already"):
        lease.give()
    assert pool.stats()["idle"] == 1


def test_no_more_is_kept_than_may_be_and_the_sizes_that_nobody_asks_for_go_first() -> None:
    pool = BufferPool(max_bytes=4 * SMALLEST)
    fill(pool, 2 * SMALLEST)
    for _ in range(2):
        fill(pool, SMALLEST)
    fill(pool, 3 * SMALLEST)
    assert (pool.stats()["bytes"], pool.stats()["idle"]) == (4 * SMALLEST, 2)
    fill(pool, SMALLEST)
    assert pool.stats()["reused"] == 2
    fill(pool, 5 * SMALLEST)
    assert pool.stats()["idle"] == 2, "what is larger than all that is kept, isn't"
    pool.clear()
    stats = pool.stats()
    assert (stats["bytes"], stats["idle"], stats["created"]) == (0, 0, stats["destroyed"])


@given(st.integers(0, 2**40))
def test_at_most_an_eighth_is_in_vain(size: int) -> None:
    whole = _round_up(size)
    assert size <= whole <= max(SMALLEST, size * 9 // 8 + 1)
    assert _round_up(whole) == whole


def test_an_empty_one_and_a_negative_one() -> None:
    pool = BufferPool()
    for _ in range(2):
        with pool.acquire(0) as view:
            assert view.nbytes == 0
    with pytest.raises(ValueError, match="size=-1 is negative"):
        pool.acquire(-1)
    with pytest.raises(ValueError, match="max_bytes=-1 is negative"):
        BufferPool(max_bytes=-1)


def test_threads_never_share_one() -> None:
    pool, crossed = BufferPool(), list[int]()

    def work(number: int) -> None:
        for _ in range(200):
            with pool.acquire(SMALLEST) as view:
                crossed.extend(byte for byte in view[:8].tolist() if byte)
                view[:8] = bytes([number]) * 8
                if any(byte != number for byte in view[:8].tolist()):
                    crossed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert crossed == []


def test_sizes_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match=r"size=2\.5 is not a whole number of bytes"):
        BufferPool().acquire(2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_bytes='1' is not a whole number of bytes"):
        BufferPool(max_bytes="1")  # type: ignore[arg-type]
