"""One exchange: a request to one endpoint, and its answer to the end, by a moment that is set beforehand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from toolring.workers.services.attempts import Attempt, Outcome, Request
from toolring.workers.services.http import Wire, ends


def exchange(wire: Wire, connections: Any, attempt: Attempt, asked: Request) -> Outcome:
    """In this thread."""
    request = wire.request(attempt, asked)
    token = ends.set(time.monotonic() + attempt.timeout)
    try:
        response = connections.handle_request(wire.core_request(request))
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
    finally:
        ends.reset(token)
    return wire.outcome(request, response.status, response.headers, bytes(body))


class Exchanges:
    """Those of one event loop. Each is a task of its own, which goes on to its end if nobody waits for it any more:
    httpcore's connections don't survive a cancellation in the midst of them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Outcome]] = set()

    async def run(self, wire: Wire, connections: Any, attempt: Attempt, asked: Request) -> Outcome:
        request = wire.request(attempt, asked)
        task = asyncio.create_task(self._exchange(wire, connections, attempt, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _exchange(self, wire: Wire, connections: Any, attempt: Attempt, request: Any) -> Outcome:
        ends.set(time.monotonic() + attempt.timeout)
        try:
            response = await connections.handle_async_request(wire.core_request(request))
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
