"""ToolSpec: what everybody knows of a tool. Plain data, so that it travels from worker to supervisor to client."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from toolring.policy.breaker import BreakerPolicy

INTERNAL: Final = "toolring."
"""Names that begin so are toolring's own: no tool may bear one, and they are listed nowhere."""
INVALIDATE: Final = "toolring.invalidate"


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool's name, schema and policy, frozen when the tool is declared.

    ``parameters`` is a JSON Schema object. ``timeout`` (seconds) limits one run, ``cache`` is a TTL in seconds;
    ``cache_stale`` and ``cache_errors`` are seconds too. ``tags`` name what its results depend on, ``invalidates``
    what a run of it changes; ``{argument}`` in them stands for an argument's value.
    ``memory`` is in bytes: what one run is declared to need. ``batch`` is the most calls that one run of it takes,
    ``batch_delay`` the seconds that a call may wait for company.
    The annotations default as in MCP: not read-only, not idempotent, destructive, open world.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    read_only: bool = False
    idempotent: bool = False
    destructive: bool = True
    open_world: bool = True
    timeout: float | None = None
    cache: float | None = None
    cache_strategy: str | None = None
    cache_stale: float = 0.0
    cache_errors: float = 0.0
    cache_scope: str = "public"
    tags: tuple[str, ...] = ()
    invalidates: tuple[str, ...] = ()
    affinity: str | None = None
    balancer: str | None = None
    group: str = "default"
    concurrent: bool = False
    """It is async: one worker has many runs of it under way at once."""
    memory: int = 0
    concurrency: int | None = None
    adaptive: bool = False
    rate: float | None = None
    burst: int | None = None
    backlog: int | None = None
    queue_timeout: float | None = None
    idle_timeout: float | None = None
    retries: int = 0
    retry_on: tuple[str, ...] = ()
    retry_delay: float = 0.1
    breaker: BreakerPolicy | None = None
    """When it isn't run for a while, because it fails. None: only if it keeps killing workers."""
    streams: bool = False
    """It is a generator: what it yields can be had as it comes."""
    batch: int | None = None
    batch_delay: float = 0.005
    store_over: int | None = None
    """Bytes beyond which a result is kept in a file, and answered by a handle. None: as the node has it; 0: never."""
    version: str = ""
    asks: bool = False
    """It takes the Context, so it may notice by itself that its job was cancelled."""

    @property
    def internal(self) -> bool:
        return self.name.startswith(INTERNAL)

    @property
    def repeatable(self) -> bool:
        """May a run whose outcome is unknown be run again?"""
        return self.read_only or self.idempotent

    @property
    def routed(self) -> bool:
        """Does it matter which worker runs it?"""
        return self.affinity is not None or self.cache is not None
