from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

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


def test_a_place_is_told_from_the_innermost_frame_on() -> None:
    inner, outer = place().split(" < ")[:2]
    assert re.fullmatch(r".*test_base\.py:\d+ in test_a_place_is_told_from_the_innermost_frame_on", inner)
    assert outer
