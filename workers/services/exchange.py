"""One exchange: a request to one endpoint, and its answer to the end, by a moment that is set beforehand."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from toolring.workers.services.attempts import Attempt, Outcome, Request
from toolring.workers.services.http import Wire, ends


class Line:
    """Connections for threads."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._pool = wire.pool(concurrent=False)
        self._places = threading.Semaphore(wire.policy.connections)

    def run(self, attempt: Attempt, asked: Request) -> Outcome:
        wire = self._wire
        request = wire.request(attempt, asked)
        token = ends.set(time.monotonic() + attempt.timeout)
        try:
            if not self._places.acquire(timeout=attempt.timeout):
                return wire.full()
            try:
                return self._exchange(attempt, request)
            finally:
                self._places.release()
        finally:
            ends.reset(token)

    def close(self) -> None:
        self._pool.close()

    def _exchange(self, attempt: Attempt, request: Any) -> Outcome:
        wire = self._wire
        try:
            response = self._pool.handle_request(wire.core_request(request))
            try:
                body = bytearray()
                for part in response.iter_stream():
                    body += part
                    if len(body) > wire.policy.max_response:
                        return wire.too_large()
            finally:
                response.close()
        except wire.errors as error:
            return wire.failure(error, attempt)
        return wire.outcome(request, response.status, response.headers, bytes(body))


class AsyncLine:
    """Connections of one event loop. Each exchange is a task of its own, which goes on to its end if nobody waits for
    it any more: httpcore's connections don't survive a cancellation in the midst of them."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._pool = wire.pool(concurrent=True)
        self._places = asyncio.Semaphore(wire.policy.connections)
        self._tasks: set[asyncio.Task[Outcome]] = set()

    async def run(self, attempt: Attempt, asked: Request) -> Outcome:
        request = self._wire.request(attempt, asked)
        end = time.monotonic() + attempt.timeout
        try:
            async with asyncio.timeout(attempt.timeout):
                await self._places.acquire()
        except TimeoutError:
            return self._wire.full()
        task = asyncio.create_task(self._exchange(attempt, request, end))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        await self._pool.aclose()

    def _done(self, task: asyncio.Task[Outcome]) -> None:
        self._tasks.discard(task)
        self._places.release()

    async def _exchange(self, attempt: Attempt, request: Any, end: float) -> Outcome:
        wire = self._wire
        ends.set(end)
        try:
            response = await self._pool.handle_async_request(wire.core_request(request))
            try:
                body = bytearray()
                async for part in response.aiter_stream():
                    body += part
                    if len(body) > wire.policy.max_response:
                        return wire.too_large()
            finally:
                await response.aclose()
        except wire.errors as error:
            return wire.failure(error, attempt)
        return wire.outcome(request, response.status, response.headers, bytes(body))
