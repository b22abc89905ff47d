from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Any

import pytest

from toolring.errors import PoolClosed, PoolExhausted, PoolTimeout
from toolring.workers.pools.aio import AsyncLease, AsyncPool
from toolring.workers.pools.entry import Held


class Maker:
    def __init__(self) -> None:
        self.made = 0
        self.gone: list[int] = []

    async def __call__(self) -> int:
        self.made += 1
        await asyncio.sleep(0)
        return self.made

    async def destroy(self, number: int) -> None:
        await asyncio.sleep(0)
        self.gone.append(number)


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


def waiting(pool: AsyncPool[int], count: int = 1) -> Any:
    return until(lambda: pool.stats()["waiting"] == count)


def test_what_is_given_back_is_taken_again() -> None:
    maker = Maker()

    async def main() -> None:
        async with AsyncPool[int](maker, destroy=maker.destroy) as pool:
            for _ in range(3):
                async with pool.acquire() as number:
                    assert number == 1

    asyncio.run(main())
    assert maker.gone == [1]


def test_an_async_generator_makes_and_tears_down_in_one_piece() -> None:
    steps: list[str] = []

    async def connection() -> AsyncIterator[str]:
        steps.append("open")
        try:
            yield "connection"
        finally:
            steps.append("close")

    async def main() -> None:
        async with AsyncPool[str](connection) as pool, pool.acquire() as found:
            steps.append(found)

    asyncio.run(main())
    assert steps == ["open", "connection", "close"]


def test_plain_functions_will_do() -> None:
    gone: list[list[int]] = []

    async def main() -> None:
        async with AsyncPool[list[int]](list, reset=list.clear, destroy=gone.append, max=1) as pool:
            async with pool.acquire() as found:
                found.append(1)
            async with pool.acquire() as found:
                assert found == []

    asyncio.run(main())
    assert gone == [[]]


def test_many_tasks_share_few_in_turn() -> None:
    maker, order = Maker(), []

    async def main() -> None:
        async with AsyncPool[int](maker, max=2) as pool:

            async def work(number: int) -> None:
                async with pool.acquire():
                    order.append(number)
                    await asyncio.sleep(0)

            await asyncio.gather(*(work(number) for number in range(50)))
            assert pool.stats()["total"] == 2

    asyncio.run(main())
    assert order == list(range(50))


@pytest.mark.parametrize("served", [False, True])
def test_a_waiter_that_is_cancelled_takes_nothing_along(served: bool) -> None:
    """Before it is served, or between that and its next step."""

    async def main() -> None:
        pool = AsyncPool[int](Maker(), max=1)
        lease, first, second = (pool.acquire(20) for _ in range(3))
        await lease.take()
        tasks = [asyncio.create_task(waiter.take()) for waiter in (first, second)]
        await waiting(pool, 2)
        if served:
            await lease.give()
        tasks[0].cancel()
        if not served:
            await waiting(pool, 1)
            await lease.give()
        assert await tasks[1] == 1
        assert tasks[0].cancelled()
        assert pool.stats()["active"] == 1
        await second.give()
        assert await pool.close() == []

    asyncio.run(main())


def test_a_lease_that_is_lost_has_its_resource_torn_down() -> None:
    maker = Maker()

    async def main() -> None:
        async with AsyncPool[int](maker, destroy=maker.destroy) as pool:
            await pool.acquire().take()  # and nobody keeps the lease
            await until(lambda: maker.gone == [1])
            assert (pool.stats()["dropped"], pool.stats()["active"]) == (1, 0)

    asyncio.run(main())


def test_a_block_that_is_cancelled_has_its_resource_torn_down() -> None:
    maker = Maker()

    async def main() -> None:
        async with AsyncPool[int](maker, destroy=maker.destroy, max=1) as pool:
            inside = asyncio.Event()

            async def hold() -> None:
                async with pool.acquire():
                    inside.set()
                    await asyncio.sleep(100)

            task = asyncio.create_task(hold())
            await inside.wait()
            task.cancel()
            async with pool.acquire() as number:
                assert (number, maker.gone) == (2, [1])

    asyncio.run(main())


def test_a_creation_that_hangs_is_cancelled_and_told() -> None:
    ended: list[str] = []

    async def hang() -> int:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("cancelled")
        return 1

    async def main() -> None:
        async with AsyncPool[int](hang, create_timeout=0.01) as pool:
            with pytest.raises(PoolTimeout, match="a creation has been under way for") as caught:
                await pool.acquire(timeout=0.05).take()
            assert isinstance(caught.value.__cause__, TimeoutError)

    asyncio.run(main())
    assert ended


def test_a_check_that_hangs_is_a_failed_one() -> None:
    maker = Maker()

    async def validate(number: int) -> None:
        await asyncio.sleep(100 * (number == 1))

    async def main() -> None:
        options: dict[str, Any] = {"validate": validate, "validate_after": 0.0, "create_timeout": 0.01}
        async with AsyncPool[int](maker, destroy=maker.destroy, max=1, **options) as pool:
            async with pool.acquire() as number:
                assert number == 1
            async with pool.acquire() as number:
                assert (number, maker.gone) == (2, [1])
            assert pool.stats()["invalid"] == 1

    asyncio.run(main())


def test_more_than_may_wait_are_refused_and_a_close_ends_the_waiting() -> None:
    async def main() -> None:
        pool = AsyncPool[int](Maker(), max=1, max_waiting=1, leak_after=60.0)
        lease = pool.acquire()
        await lease.take()
        task = asyncio.create_task(pool.acquire(20).take())
        await waiting(pool)
        with pytest.raises(PoolExhausted):
            await pool.acquire().take()
        (held,) = await pool.close(timeout=0.01)
        assert "in test_more_than_may_wait" in held.where or "in main" in held.where
        with pytest.raises(PoolClosed):
            await task
        await lease.give()
        assert await pool.close() == []

    asyncio.run(main())


def test_a_leak_is_reported() -> None:
    async def main() -> None:
        found: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        pool = AsyncPool[int](Maker(), leak_after=0.01, on_leak=found.set_result)
        async with pool, pool.acquire():
            assert "in main" in (await asyncio.wait_for(found, 20)).where

    asyncio.run(main())


def test_a_lease_is_given_back_once_and_taken_once_at_a_time() -> None:
    async def main() -> None:
        async with AsyncPool[int](Maker()) as pool:
            lease: AsyncLease[int] = pool.acquire()
            with pytest.raises(RuntimeError, match="never taken"):
                await lease.give()
            async with lease:
                with pytest.raises(RuntimeError, match="already"):
                    await lease.take()
            with pytest.raises(RuntimeError, match="given back already"):
                await lease.give()

    asyncio.run(main())


def test_it_belongs_to_one_loop() -> None:
    pool = AsyncPool[int](Maker())

    async def use() -> None:
        async with pool.acquire():
            pass

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        asyncio.run(use())


class Timer:
    """A timer that is no asyncio.TimerHandle, as that of other event loops."""

    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self.cancel = handle.cancel


class OtherLoop(asyncio.SelectorEventLoop):
    def call_later(self, delay: float, *rest: Any, **more: Any) -> Any:  # type: ignore[override]
        assert delay < inf
        return Timer(super().call_later(delay, *rest, **more))


def test_any_event_loop_will_do() -> None:
    maker = Maker()

    async def main() -> None:
        forever = {"idle_timeout": 0.0, "max_lifetime": 0.0}
        for limits in ({}, forever):
            pool = AsyncPool[int](maker, destroy=maker.destroy, max=2, **limits)  # type: ignore[arg-type]
            async with pool.acquire(20):
                await until(lambda pool=pool: pool._soon is None)
                async with pool.acquire(20):
                    pass
                assert len(await pool.close(0.0)) > 0
            await until(lambda pool=pool: pool.stats()["total"] == 0)

    with asyncio.Runner(loop_factory=OtherLoop) as runner:
        runner.run(main())
    assert sorted(maker.gone) == [1, 2, 3, 4]


def test_a_lease_that_is_lost_after_the_close_has_its_resource_torn_down() -> None:
    maker = Maker()

    async def main() -> None:
        pool = AsyncPool[int](maker, destroy=maker.destroy)
        lease = pool.acquire()
        await lease.take()
        assert len(await pool.close(0.0)) == 1
        del lease
        await until(lambda: maker.gone == [1])
        assert await pool.close() == []

    asyncio.run(main())


def test_nothing_of_it_is_left_after_its_end() -> None:
    async def main() -> None:
        async with AsyncPool[int](Maker(), min=2) as pool:
            pool.start()
            await until(lambda: pool.stats()["idle"] == 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (pool._soon, pool._timer) == (None, None)

    asyncio.run(main())
