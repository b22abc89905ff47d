"""Asks a node what `toolring top` shows, again and again, and connects anew when the node was away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from toolring.cli.frame import Camera, Told
from toolring.client.aio import AsyncClient
from toolring.errors import ConfigError, ToolringError, Unreachable

PATIENCE: Final = 2.0
"""Seconds until a node that doesn't answer is said to be away."""
MINUTE_SECONDS: Final = (1.9, 4.0)
"""The figures of the last minute cost the node most, about a tenth of a millisecond a tool, so they are asked for less
often: of few tools every two seconds, as often as it looks at its processes; of many, every four."""
FULL: Final = 0.8
"""So much of an interval makes a rate."""
SECONDS_A_TOOL: Final = 0.02
MOST_TOOLS: Final = 200
"""So many tools have their times told of, the busiest."""


class Asker:
    """One node. A frame is made of its status, the last minute's figures and, if wanted, its queue."""

    def __init__(self, address: str | None, clock: Callable[[], float] = time.monotonic, interval: float = 0.0) -> None:
        self._client = AsyncClient(address, caller="top", connect_timeout=PATIENCE)
        self.address = self._client.address
        self._clock = clock
        self._camera = Camera(self.address, FULL * interval)
        self._counts = True
        """Whether the node has figures to tell."""
        self._minute: dict[str, Any] = {}
        self._minute_at = float("-inf")

    async def frame(self, queue: bool = True) -> dict[str, Any]:
        """Raises ToolringError if there is none to be had now; the next attempt connects anew."""
        try:
            return self._camera.frame(await self._told(queue))
        except ToolringError:
            await self.close()
            self._client = AsyncClient(self.address, caller="top", connect_timeout=PATIENCE)
            self._counts, self._minute_at = True, float("-inf")
            raise

    async def _told(self, queue: bool) -> Told:
        client = self._client
        status = await client.status()
        at = self._clock()
        least, most = MINUTE_SECONDS
        pause = min(most, max(least, SECONDS_A_TOOL * len(status["tools"])))
        if self._counts and at - self._minute_at >= pause:
            try:
                self._minute, self._minute_at = await client.metrics("1m", most=MOST_TOOLS), at
            except ConfigError:
                self._counts, self._minute = False, {}
        return Told(at, status, self._minute, await client.queue() if queue and status["jobs"]["waiting"] else {})

    async def recycle(self, worker: int) -> str:
        chosen = await self._client.recycle(worker)
        return f"worker {', '.join(str(one['worker']) for one in chosen)} is being replaced"

    async def drain(self) -> str:
        return f"the node drains: {await self._client.drain()} jobs in hand"

    async def close(self) -> None:
        try:
            await self._client.close()
        except Unreachable:
            pass  # it is gone, and needs no goodbye
