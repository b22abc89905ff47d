from __future__ import annotations

import _thread
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.workers.pools.shell import PATIENCE, eventually
from toolring.errors import PoolClosed, PoolExhausted, PoolTimeout
from toolring.workers.pools.entry import Entry, Held
from toolring.workers.pools.ledger import Ledger
from toolring.workers.pools.pool import Lease, Pool


class Maker:
    """Makes numbers and remembers what became of them."""

    def __init__(self) -> None:
        self.made = 0
        self.gone: list[int] = []
        self.alive = self.most = 0
        self.lock = threading.Lock()

    def __call__(self) -> int:
        with self.lock:
            self.made += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
            return self.made

    def destroy(self, number: int) -> None:
        with self.lock:
            self.alive -= 1
            self.gone.append(number)


def test_what_is_given_back_is_taken_again() -> None:
    maker = Maker()
    with Pool(maker, destroy=maker.destroy) as pool:
        assert maker.made == 0, "nothing is made before its first use"
        for _ in range(3):
            with pool.acquire() as number:
                assert number == 1
        assert pool.stats()["uses"] == 3
    assert maker.gone == [1]


def test_a_generator_makes_and_tears_down_in_one_piece() -> None:
    steps: list[str] = []

    def connection() -> Iterator[str]:
        steps.append("open")
        try:
            yield "connection"
        finally:
            steps.append("close")

    pool: Pool[str] = Pool(connection)
    with pool, pool.acquire() as found:
        steps.append(found)
    assert steps == ["open", "connection", "close"]


def test_a_generator_that_yields_nothing_is_an_error_of_its_own() -> None:
    def nothing() -> Iterator[str]:
        yield from ()

    pool: Pool[str] = Pool(nothing)
    with pool, pytest.raises(PoolTimeout, match="create is a generator that yields nothing"):
        pool.acquire(timeout=0.05).take()


def test_many_threads_share_few_and_no_two_have_the_same() -> None:
    maker, held = Maker(), set[int]()
    crossed: list[int] = []
    with Pool(maker, destroy=maker.destroy, max=3, max_uses=50, acquire_timeout=PATIENCE) as pool:

        def work() -> None:
            for _ in range(200):
                with pool.acquire() as number:
                    if number in held:
                        crossed.append(number)
                    held.add(number)
                    held.discard(number)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert pool.stats()["uses"] >= 1600
    assert (crossed, maker.most, maker.alive) == ([], 3, 0)
    assert maker.made > 20


def test_a_creation_that_hangs_takes_nobodys_time_but_its_own() -> None:
    go = threading.Event()

    def hang() -> int:
        go.wait(PATIENCE)
        return 1

    with Pool(hang, max=1) as pool:
        with pytest.raises(PoolTimeout, match="1 creating"):
            pool.acquire(timeout=0.02).take()
        go.set()
        with pool.acquire(timeout=PATIENCE) as number:
            assert number == 1


def test_a_check_that_hangs_leaves_the_other_places_to_callers() -> None:
    go = threading.Event()
    policy: dict[str, Any] = {"validate_after": 0.0, "create_timeout": 0.01, "acquire_timeout": PATIENCE}
    with Pool(Maker(), validate=lambda _: go.wait(PATIENCE), max=3, **policy) as pool:
        for expected in (1, 2, 3):
            with pool.acquire() as number:
                assert number == expected
        assert pool.stats()["total"] == 3
        go.set()
        with pool.acquire():
            pass


def test_a_creation_that_fails_is_the_cause() -> None:
    def fail() -> int:
        raise OSError("nobody is there")

    with Pool(fail, name="db") as pool, pytest.raises(PoolTimeout, match=r"^pool db: .*: OSError: nobody") as caught:
        pool.acquire(timeout=0.02).take()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.facts["cause"] == "OSError: nobody is there"


def wait_in_line(pool: Pool[int]) -> tuple[threading.Thread, list[object]]:
    """A thread that waits, and what it gets."""
    ended: list[object] = []

    def wait() -> None:
        try:
            ended.append(pool.acquire(timeout=PATIENCE).take())
        except PoolClosed as error:
            ended.append(error.code)

    waiter = threading.Thread(target=wait)
    waiter.start()
    eventually(lambda: pool.stats()["waiting"])
    return waiter, ended


def test_a_waiter_gets_what_replaces_a_broken_one() -> None:
    maker = Maker()
    with Pool(maker, destroy=maker.destroy, max=1) as pool:
        lease = pool.acquire()
        lease.take()
        waiter, found = wait_in_line(pool)
        lease.give(broken=True)
        waiter.join(PATIENCE)
    assert (found, maker.most) == ([2], 1)


def test_more_than_may_wait_are_refused_and_a_close_ends_the_waiting() -> None:
    with Pool(Maker(), max=1, max_waiting=1) as pool, pool.acquire():
        waiter, ended = wait_in_line(pool)
        with pytest.raises(PoolExhausted):
            pool.acquire().take()
        pool.close(timeout=0.0)
        waiter.join(PATIENCE)
        assert ended == ["POOL_CLOSED"]


def test_a_lease_is_given_back_once_and_taken_once_at_a_time() -> None:
    with Pool(Maker(), max=2) as pool:
        lease = pool.acquire()
        with pytest.raises(RuntimeError, match="never taken"):
            lease.give()
        with lease:
            with pytest.raises(RuntimeError, match="already"):
                lease.take()
            lease.give()
            lease.take()
        with pytest.raises(RuntimeError, match="given back already"):
            lease.give()
        assert (pool.stats()["idle"], pool.stats()["active"]) == (1, 0)


def test_a_block_that_was_interrupted_leaves_nothing_behind_and_one_that_failed_is_looked_at() -> None:
    maker, seen = Maker(), []

    def validate(number: int) -> None:
        seen.append(number)

    with Pool(maker, validate=validate, destroy=maker.destroy, max=1) as pool:
        with pytest.raises(KeyError), pool.acquire():
            raise KeyError
        with pool.acquire() as number:
            assert (number, seen) == (1, [1])
        with pytest.raises(KeyboardInterrupt), pool.acquire():
            raise KeyboardInterrupt
        with pool.acquire() as number:
            assert (number, maker.gone) == (2, [1])


@pytest.mark.parametrize("verdict", [False, ValueError("no")])
def test_what_cannot_be_reset_is_torn_down(verdict: Any) -> None:
    maker = Maker()

    def reset(number: int) -> Any:
        if number > 1:
            return None
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    with Pool(maker, reset=reset, destroy=maker.destroy, max=1) as pool:
        for expected in (1, 2, 2):
            with pool.acquire() as number:
                assert number == expected


def test_a_reset_that_is_interrupted_tears_down_and_lets_the_interrupt_pass() -> None:
    maker = Maker()

    def reset(_: int) -> None:
        raise KeyboardInterrupt

    with Pool(maker, reset=reset, destroy=maker.destroy) as pool:
        with pytest.raises(KeyboardInterrupt), pool.acquire():
            pass
        eventually(lambda: maker.gone == [1])
        assert pool.stats()["active"] == 0


def test_a_lease_that_is_lost_has_its_resource_torn_down() -> None:
    maker = Maker()
    with Pool(maker, destroy=maker.destroy) as pool:
        pool.acquire().take()  # and nobody keeps the lease
        eventually(lambda: maker.gone == [1])
        assert (pool.stats()["dropped"], pool.stats()["active"]) == (1, 0)


def test_a_leak_is_reported_with_its_place() -> None:
    found: list[Held] = []
    reported = threading.Event()

    def on_leak(held: Held) -> None:
        found.append(held)
        reported.set()

    with Pool(Maker(), leak_after=0.01, on_leak=on_leak) as pool, pool.acquire():
        assert reported.wait(PATIENCE)
    assert found[0].state == "out"
    assert "in test_a_leak_is_reported_with_its_place" in found[0].where.partition(" < ")[0]


def test_a_close_tells_who_still_holds_and_what_comes_back_is_torn_down() -> None:
    maker = Maker()
    pool = Pool(maker, destroy=maker.destroy, leak_after=60.0)
    lease = pool.acquire()
    lease.take()
    (held,) = pool.close(timeout=0.01)
    assert held.state == "out"
    assert "in test_a_close_tells_who_still_holds" in held.where
    with pytest.raises(PoolClosed):
        pool.acquire().take()
    lease.give()
    assert pool.close(PATIENCE) == []
    assert maker.gone == [1]


def test_a_lease_that_is_lost_after_the_close_has_its_resource_torn_down() -> None:
    maker = Maker()
    pool = Pool(maker, destroy=maker.destroy)
    lease = pool.acquire()
    lease.take()
    assert len(pool.close(timeout=0.01)) == 1
    del lease
    eventually(lambda: maker.gone == [1])
    eventually(lambda: not pool._keeping)


def test_a_lease_that_is_lost_while_it_is_closed_is_not_waited_for() -> None:
    maker = Maker()
    pool = Pool(maker, destroy=maker.destroy)
    leases = [pool.acquire()]
    leases[0].take()
    left: list[list[Held]] = []
    closer = threading.Thread(target=lambda: left.append(pool.close(PATIENCE)))
    closer.start()
    eventually(lambda: pool._ledger.closed)
    leases.clear()
    closer.join(PATIENCE)
    assert (left, maker.gone) == ([[]], [1])


class Interrupted(Lease[int]):
    """It is handed what it waits for, and interrupted once the pool is closed."""

    def _wait(self, pool: Pool[int], ledger: Ledger, where: str) -> Entry:
        served = threading.Event()
        with pool._lock:
            ledger.wait(self, served.set, where)
        pool._wake_keeper()
        assert served.wait(PATIENCE)
        assert len(pool.close(timeout=0.01)) == 1
        raise KeyboardInterrupt


def test_what_was_handed_to_one_who_is_interrupted_after_the_close_is_torn_down() -> None:
    maker = Maker()
    pool = Pool(maker, destroy=maker.destroy)
    lease = Interrupted(pool, PATIENCE)
    with pytest.raises(KeyboardInterrupt):
        lease.take()
    eventually(lambda: maker.gone == [1])
    eventually(lambda: not pool._keeping)


def test_a_pool_that_was_started_has_its_least_number_before_anybody_asks() -> None:
    with Pool(Maker(), min=3) as pool:
        pool.start()
        eventually(lambda: pool.stats()["idle"] == 3)


def test_nothing_of_it_runs_before_its_use_or_after_its_end() -> None:
    before = _thread._count()  # with those that aren't Threads
    pool = Pool(Maker(), min=2)
    assert _thread._count() <= before
    with pool.acquire():
        pass
    pool.close()
    eventually(lambda: _thread._count() <= before)


def test_the_keeper_ends_with_the_last_resource() -> None:
    with Pool(Maker(), idle_timeout=0.01) as pool:
        with pool.acquire():
            pass
        eventually(lambda: pool.stats()["total"] == 0 and not pool._keeping)
        with pool.acquire() as number:
            assert number == 2
