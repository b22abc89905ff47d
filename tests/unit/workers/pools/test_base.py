from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from math import nan
from typing import Any

import pytest

from tests.unit.workers.pools.shell import PATIENCE, eventually
from toolring.errors import PoolTimeout
from toolring.workers.pools.aio import AsyncPool
from toolring.workers.pools.base import Base, place
from toolring.workers.pools.pool import Pool


def plain() -> int:
    return 1


async def coroutine() -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("kind", "create", "more", "why"),
    [
        (Pool, plain, {"max": 0}, "max=0 must be at least 1"),
        (Pool, plain, {"keepalive": 5.0}, "keepalive=5.0 needs validate"),
        (Pool, generator, {"destroy": print}, "a generator tears down what it made after its yield"),
        (Pool, coroutine, {}, "is a coroutine function: use AsyncPool"),
        (Pool, async_generator, {}, "is an async generator function: use AsyncPool"),
        (AsyncPool, generator, {}, "is a generator function: make it an async one"),
        (AsyncPool, async_generator, {"destroy": print}, "a generator tears down what it made after its yield"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: type[Base[int]], create: Any, more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        kind(create, **more)


def test_it_is_configured_before_its_first_use() -> None:
    pool = Pool(plain, min=1)
    pool.acquire(), pool.stats()
    pool.configure(name="db", max=3)
    assert (pool.name, pool.policy.min, pool.policy.max) == ("db", 1, 3)
    with pool.acquire(timeout=PATIENCE) as number:
        assert number == 1


def used_up(pool: Pool[int]) -> None:
    with pool.acquire(timeout=PATIENCE):
        pass
    eventually(lambda: pool.stats()["total"] == 0)


def waited_for_in_vain(pool: Pool[int]) -> None:
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.0).take()


@pytest.mark.parametrize("use", [used_up, waited_for_in_vain, Pool[int].start, Pool[int].close])
def test_it_is_not_configured_after_its_first_use(use: Callable[[Pool[int]], Any]) -> None:
    pool = Pool(plain, idle_timeout=0.01, name="db")
    use(pool)
    before = pool.policy
    with pytest.raises(RuntimeError, match="<Pool db> was used already"):
        pool.configure(name="other", max=3)
    assert (pool.name, pool.policy) == ("db", before)


def test_one_for_asyncio_is_not_configured_after_its_first_use() -> None:
    async def main(pool: AsyncPool[int], closed: bool) -> None:
        if closed:
            await pool.close()
        else:
            pool.start()

    for closed in (False, True):
        pool = AsyncPool[int](plain)
        pool.configure(max=3)
        asyncio.run(main(pool, closed))
        with pytest.raises(RuntimeError, match="was used already"):
            pool.configure(max=4)


def test_a_place_is_told_from_the_innermost_frame_on() -> None:
    inner, outer = place().split(" < ")[:2]
    assert re.fullmatch(r".*test_base\.py:\d+ in test_a_place_is_told_from_the_innermost_frame_on", inner)
    assert outer


@pytest.mark.parametrize("kind", [Pool, AsyncPool])
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"create": None}, "create=None is not a function"),
        ({"create": 5}, "create=5 is not a function"),
        ({"validate": 5}, "validate=5 is not a function"),
        ({"reset": "x"}, "reset='x' is not a function"),
        ({"on_leak": 1}, "on_leak=1 is not a function"),
        ({"create": lambda host, port=1, *more: None}, "is called without arguments, and asks for host"),
    ],
)
def test_what_cannot_be_called_is_refused_by_name(kind: Any, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(TypeError, match=re.escape(why)):
        kind(**{"create": object, **settings})


@pytest.mark.parametrize("kind", [Pool, AsyncPool])
@pytest.mark.parametrize("timeout", [nan, -1, "3", True])
def test_how_long_one_waits_is_a_number(kind: Any, timeout: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"timeout={timeout!r} is not a number of seconds")):
        kind(object).acquire(timeout)
