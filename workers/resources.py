"""What tools ask for by their parameters: taken for the length of a run, given back however it ends."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, ExitStack, aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from toolring.context import remaining
from toolring.declare import Tool
from toolring.errors import ConfigError, LoadError
from toolring.workers.pools.buffers import BufferPool
from toolring.workers.pools.entry import Held
from toolring.workers.pools.pool import Pool

if TYPE_CHECKING:
    from toolring.workers.pools.aio import AsyncPool

CLOSE_SECONDS: Final = 0.4
"""What a worker that ends gives its resources for their teardown."""
BUFFERS: Final = BufferPool(max_bytes=64 << 20)
"""Of this process, for ``context.buffer``."""
AnyPool: TypeAlias = "Pool[Any] | AsyncPool[Any]"


class Resources:
    """Those that a worker's tools ask for, each once."""

    def __init__(self, tools: Mapping[str, Tool[..., Any]]) -> None:
        """Raises LoadError if two of them have the same name."""
        self.all: dict[str, AnyPool] = {}
        self._asked: dict[str, list[str]] = {}
        """The tools that ask for each."""
        self._wanted: dict[str, dict[str, AnyPool]] = {}
        """Those of each group's tools."""
        for tool in tools.values():
            for pool in tool.resources.values():
                asked = sum(other is pool for other in tool.resources.values())
                if asked > pool.policy.max:
                    text = f"tool {tool.spec.name!r} asks for {asked} of {pool.name!r} at once; max={pool.policy.max}"
                    raise LoadError(text, tool=tool.spec.name)
                known = self.all.setdefault(pool.name, pool)
                self._asked.setdefault(pool.name, []).append(tool.spec.name)
                self._wanted.setdefault(tool.spec.group, {})[pool.name] = pool
                if known is not pool:
                    name = tool.spec.name
                    raise LoadError(f"tool {name!r}: two resources are called {pool.name!r}; give one name=", tool=name)

    def configure(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """What the configuration says of them. Raises ConfigError for one that no tool asks for."""
        for name, settings in sections.items():
            pool = self.all.get(name)
            key = f"resources.{name}"
            if pool is None:
                known = ", ".join(self.all) or "none"
                raise ConfigError(f"{key}: no tool asks for a resource {name!r}; there is {known}", key=key)
            try:
                pool.configure(**settings)
            except (ValueError, RuntimeError) as error:
                raise ConfigError(f"{key}: {error}", key=key) from None

    def figures(self) -> dict[str, Any]:
        return {name: pool.stats() for name, pool in self.all.items()}

    def tell_leaks(self, tell: Callable[[str, list[str], Held], Any]) -> None:
        """Of those whose ``leak_after`` is set: its name, the tools that ask for it, what is held."""
        for name, pool in self.all.items():
            pool._tell_leaks(partial(tell, name, sorted(self._asked[name])))

    def begin(self, group: str) -> None:
        """In a worker of that group: have those made that its tools want at any time. Asynchronous ones in the event
        loop that uses them."""
        for pool in self._wanted.get(group, {}).values():
            if pool.policy.min:
                pool.start()

    def close(self) -> None:
        """The end of a worker that runs one tool at a time."""
        until = time.monotonic() + CLOSE_SECONDS
        for pool in self.all.values():
            if isinstance(pool, Pool):
                pool.close(until - time.monotonic())

    def closing(self) -> list[Awaitable[object]]:
        """The end of one that runs many: of each of those for tasks."""
        return [pool.close(CLOSE_SECONDS) for pool in self.all.values() if not isinstance(pool, Pool)]


def supplied(tool: Tool[..., Any]) -> Callable[..., Any]:
    """The tool's function, given what it asks for; the function itself if it asks for nothing."""
    if not tool.resources:
        return tool.function
    # always in the same order: two tools that ask for the same two must not wait for each other
    function, pools = tool.function, dict(sorted(tool.resources.items(), key=lambda item: item[1].name))
    made = (_async_stream if tool.spec.streams else _async) if tool.spec.concurrent else None
    made = made or (_stream if tool.spec.streams else _plain)
    return functools.update_wrapper(made(function, pools), function, updated=())


def _plain(function: Callable[..., Any], pools: Mapping[str, Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for name, pool in pools.items():
                kwargs[name] = stack.enter_context(pool.acquire(_patience(pool)))
            return function(*args, **kwargs)

    return call


def _stream(function: Callable[..., Any], pools: Mapping[str, Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with ExitStack() as stack:
            for name, pool in pools.items():
                kwargs[name] = stack.enter_context(pool.acquire(_patience(pool)))
            return (yield from function(*args, **kwargs))

    return call


def _async(function: Callable[..., Any], pools: Mapping[str, Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        async with AsyncExitStack() as stack:
            for name, pool in pools.items():
                kwargs[name] = await stack.enter_async_context(pool.acquire(_patience(pool)))
            return await function(*args, **kwargs)

    return call


def _async_stream(function: Callable[..., Any], pools: Mapping[str, Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            for name, pool in pools.items():
                kwargs[name] = await stack.enter_async_context(pool.acquire(_patience(pool)))
            async with aclosing(function(*args, **kwargs)) as items:
                async for item in items:
                    yield item

    return call


def _patience(pool: Any) -> float:
    """Seconds that a run waits for a resource: never past its deadline."""
    longest: float = pool.policy.acquire_timeout
    left = remaining()
    return longest if left is None else max(0.0, min(longest, left))
