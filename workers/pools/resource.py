"""``@resource``: a function that makes something becomes a pool of it, which tools ask for by a parameter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, TypeVar, overload

from toolring.workers.pools.aio import AsyncPool
from toolring.workers.pools.pool import Pool

T = TypeVar("T")


@overload
def resource(create: Callable[[], AsyncIterator[T]], /) -> AsyncPool[T]: ...
@overload
def resource(create: Callable[[], Iterator[T]], /) -> Pool[T]: ...
@overload
def resource(**settings: Any) -> Callable[[Callable[[], Any]], Any]: ...
def resource(create: Callable[[], Any] | None = None, /, **settings: Any) -> Any:
    """Declare what tools may ask for: a generator function that yields it once, and tears it down afterwards.

    A tool's parameter of the same name gets one for the length of a call, from a pool that each worker has of its own.
    A plain function makes a ``Pool``, for plain tools; an async one an ``AsyncPool``, for async tools.

    Args:
        settings: those of ``Pool``: ``min``, ``max``, ``acquire_timeout``, ``validate`` and the others. The
            configuration may decide those that are numbers: ``[resources.NAME]``.

    Raises:
        ValueError: a setting makes no sense.
    """

    def declare(function: Callable[[], Any]) -> Any:
        kind: Any = AsyncPool if isasyncgenfunction(function) or iscoroutinefunction(function) else Pool
        return kind(function, **{"name": getattr(function, "__name__", ""), **settings})

    return declare if create is None else declare(create)
