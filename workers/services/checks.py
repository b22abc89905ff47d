"""Active health checks of a service: each endpoint is asked now and then whether it is well.

They run in a thread of their own, so that they go on while a tool runs, and end with the process.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

from toolring.workers.services.attempts import Attempt, Request
from toolring.workers.services.endpoints import Endpoints, Ticket
from toolring.workers.services.exchange import AsyncLine
from toolring.workers.services.http import Wire


class Checks:
    """Those of one service, until ``close``."""

    def __init__(self, endpoints: Endpoints, wire: Wire) -> None:
        self._endpoints = endpoints
        self._policy = endpoints.policy
        self._wire = wire
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"checks-{endpoints.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                pass  # it has ended by itself
        self._thread.join(5.0)

    def _run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._closed:
            return
        async with aclosing(AsyncLine(self._wire)) as line:
            tasks = [asyncio.create_task(self._one(index, line)) for index in range(len(self._endpoints.all))]
            await self._stop.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, index: int, line: AsyncLine) -> None:
        policy, endpoints = self._policy, self._endpoints
        while True:
            endpoints.checked(index, await self._well(index, line))
            await asyncio.sleep(policy.health_interval * (0.9 + 0.2 * endpoints.draw()))  # not all workers at once

    async def _well(self, index: int, line: AsyncLine) -> bool:
        policy = self._policy
        attempt = Attempt(Ticket(index, 0.0, None), self._endpoints.all[index].base, policy.health_timeout)
        try:
            outcome = await line.run(attempt, Request("GET", policy.health_check))
        except Exception:
            return False
        return 200 <= outcome.status < 300
