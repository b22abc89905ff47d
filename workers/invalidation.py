"""What makes cached results untrue: a write tool's run, or an operator's word. Both reach every layer from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from toolring.declare import Tool, tool
from toolring.errors import InvalidArguments, UnknownTool
from toolring.spec import INVALIDATE
from toolring.stamps import SOME_TAG, Stamps, of_tool, some_key
from toolring.workers.cache import tags
from toolring.workers.cache.guarded import Guarded

if TYPE_CHECKING:
    from toolring.workers.runnable import Runnable


class Invalidation:
    """Stamps for the memories, and the stores behind them. A store that fails is cleared before its next use."""

    def __init__(self, stamps: Stamps, stores: Sequence[Guarded]) -> None:
        self._stamps = stamps
        self._stores = stores

    def __call__(self, names: Sequence[bytes]) -> None:
        """The stores first: what is loaded from them afterwards bears the new stamps."""
        for store in self._stores:
            store.invalidate(names)
        self._stamps.invalidate(names)

    def by(self, declared: Tool[..., Any]) -> Callable[[msgspec.Struct], None] | None:
        """What is to be told of each run of a tool; None if it invalidates nothing."""
        if not declared.spec.invalidates:
            return None
        render = tags.renderer(declared.spec.invalidates)

        def changed(arguments: msgspec.Struct) -> None:
            try:
                names = [*render(arguments), SOME_TAG]
            except Exception:  # a value that can't be written down: what it changed nobody can name
                names = [b"*"]
            self(names)

        return changed


def operator_tool(invalidate: Invalidation, runnables: Mapping[str, Runnable]) -> Tool[..., Any]:
    """The tool behind ``toolring cache clear`` and ``invalidate``: a job like any other, listed nowhere."""

    @tool(name=INVALIDATE, idempotent=True, timeout=30)
    def invalidate_results(
        tool: str | None = None,
        tags: list[str] = [],  # noqa: B006 - each call gets its own copy
        arguments: dict[str, Any] | None = None,
        partition: str = "",
    ) -> int:
        """Invalidate everything, a tool's results, one of them, or what bears a tag; the number of names it took."""
        names = list(_names(runnables, tool, tags, arguments, partition))
        invalidate(names)
        return len(names)

    return invalidate_results


def _names(
    runnables: Mapping[str, Runnable],
    name: str | None,
    wanted: Sequence[str],
    arguments: dict[str, Any] | None,
    partition: str,
) -> Sequence[bytes]:
    names = [*map(tags.named, wanted), SOME_TAG] if wanted else []
    if name is None:
        if arguments is not None:
            raise InvalidArguments("arguments say nothing without the tool whose result is meant", argument="arguments")
        return names or [b"*"]
    runnable = runnables.get(name)
    if runnable is None:
        raise UnknownTool(f"no tool {name!r} here", tool=name)
    if arguments is None:
        return [*names, of_tool(name)]
    if runnable.cache is None:
        raise InvalidArguments(f"{name} is not cached", tool=name)
    scope = runnable.tool.spec.cache_scope
    if bool(partition) == (scope == "public"):
        reason = "it has no partitions" if partition else "say whose result is meant, by its partition or caller"
        raise InvalidArguments(f"{name}: its scope is {scope}: {reason}", argument="partition")
    key = runnable.cache.key(runnable.decode(msgspec.msgpack.encode(arguments)), partition)
    return [*names, tags.of_key(key), some_key(name)]
