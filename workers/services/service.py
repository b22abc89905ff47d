"""A service as tools see it: ``Service`` for plain functions, ``AsyncService`` for those that await."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from toolring.calls import Calls
from toolring.context import job_at_hand
from toolring.errors import ConfigError
from toolring.given import GivenService
from toolring.plugins.registry import load_plugins
from toolring.policy.pool import Factory
from toolring.policy.service import ServicePolicy
from toolring.workers.services.attempts import Attempt, Outcome, Pause, Request, attempts, checked
from toolring.workers.services.checks import Checks
from toolring.workers.services.endpoints import Endpoints
from toolring.workers.services.http import Params, Wire, query

if TYPE_CHECKING:
    import httpx


class Source:
    """What both faces of a service share: its endpoints and what is known of them, in one process."""

    def __init__(
        self, name: str, policy: ServicePolicy, factory: Factory, calls: Calls | None = None, first: int = 0
    ) -> None:
        """Raises ConfigError for what the machine lacks."""
        self.name = name
        self.policy = policy
        self.endpoints = Endpoints(name, policy, factory, calls, first)
        self.wire = Wire(name, policy)
        self._lock = threading.Lock()
        self._checks: Checks | None = None
        self._pid = 0

    def begin(self) -> None:
        """To be called before anything is sent: health checks begin, in this process."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._checks = Checks(self.endpoints, self.wire) if self.policy.health_check else None

    def close(self) -> None:
        if self._checks is not None and self._pid == os.getpid():
            self._checks.close()
        self._checks, self._pid = None, 0

    def plan(self, request: Request) -> Any:
        self.begin()
        job = job_at_hand()
        return attempts(self.endpoints, checked(request), None if job is None else job.deadline)

    def figures(self) -> dict[str, Any]:
        return self.endpoints.figures()


class _Face(GivenService):
    """How a service is made by hand, for use outside of a node or in a tool's tests."""

    def __init__(self, name: str, endpoints: list[str] | tuple[str, ...] = (), **settings: Any) -> None:
        """Args:
            name: what errors call it.
            endpoints: where it is, as ``["http://127.0.0.1:8080"]``.
            settings: the other keys of ``[services.NAME]``.

        Raises:
            ConfigError: a setting is unknown or makes no sense, or httpx is missing.
        """
        self._begin(source_of(name, {"endpoints": tuple(endpoints), **settings}))

    def _begin(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._transport: Any = None
        self._owner: Any = None

    @classmethod
    def of(cls, source: Source) -> Any:
        """The face of a service that others use, too."""
        face = cls.__new__(cls)
        face._begin(source)
        return face

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source.name}>"

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def version(self) -> str:
        return self._source.policy.version

    def figures(self) -> dict[str, Any]:
        """Of each endpoint: its health, its circuit, requests, failures, seconds."""
        return self._source.figures()

    def _connected(self, owner: Any) -> Any:
        """Connections can't be shared by processes, nor by event loops."""
        with self._lock:
            if self._transport is None or self._owner != owner:
                self._transport = self._source.wire.transport(self.concurrent)
                self._owner = owner
            return self._transport


class Service(_Face):
    """An HTTP service with several endpoints. A tool gets it by a parameter: ``def invoice(id: int, billing: Service)``
    asks for ``[services.billing]``. Threads may share it.
    """

    concurrent: ClassVar[bool] = False

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params = None,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
        route: str = "",
        expect: tuple[int, ...] = (),
    ) -> httpx.Response:
        """Ask one endpoint, and another if that fails and it may be asked twice.

        Args:
            method: GET, HEAD, OPTIONS, TRACE, PUT, DELETE, POST or PATCH.
            path: below the endpoint, as ``/invoices/7``.
            params: the query, as a mapping or as pairs; what is None is left out.
            json, data, content: the body, as JSON, as a form, or as it is.
            headers: besides those of the service.
            timeout: seconds for one attempt; the service's own by default. The job's deadline holds all the same.
            idempotent: may it be sent twice? By default all methods may but POST and PATCH.
            route: equal ones go to the same endpoint, with the balancers ``ring`` and ``rendezvous``.
            expect: statuses besides 2xx that are an answer, and no error.

        Returns:
            The answer, read to its end.

        Raises:
            ServiceError: there was no answer, or one of another status (``error.response``).
            ServiceUnavailable: nothing reached any endpoint.
            InvalidArguments: the path or a header would lead elsewhere.
        """
        asked = Request(
            method.upper(), path, query(params), json, data, content, headers or {}, timeout, idempotent, route, expect
        )
        plan = self._source.plan(asked)
        said: Outcome | None = None
        try:
            while True:
                step = plan.send(said)
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    said = None
                else:
                    said = self._attempt(step, asked)
        except StopIteration as end:
            answer: httpx.Response = end.value
            return answer
        finally:
            plan.close()

    def _attempt(self, attempt: Attempt, asked: Request) -> Outcome:
        wire = self._source.wire
        request = wire.request(attempt, asked)
        end = time.monotonic() + attempt.timeout
        try:
            response = self._connected(os.getpid()).handle_request(request)
            try:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > self._source.policy.max_response:
                        return wire.too_large()
                    if time.monotonic() > end:
                        raise TimeoutError
            finally:
                response.close()
        except wire.errors() as error:
            return wire.failure(error, attempt)
        return wire.outcome(request, response, bytes(body))

    def get(self, path: str, **more: Any) -> httpx.Response:
        """``request("GET", path, ...)``"""
        return self.request("GET", path, **more)

    def put(self, path: str, **more: Any) -> httpx.Response:
        """``request("PUT", path, ...)``"""
        return self.request("PUT", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        """``request("POST", path, ...)``: sent twice only if ``idempotent=True`` says that it may be."""
        return self.request("POST", path, **more)

    def patch(self, path: str, **more: Any) -> httpx.Response:
        """``request("PATCH", path, ...)``: sent twice only if ``idempotent=True`` says that it may be."""
        return self.request("PATCH", path, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        """``request("DELETE", path, ...)``"""
        return self.request("DELETE", path, **more)

    def close(self) -> None:
        """Let the connections go. It may be used again afterwards."""
        if self._transport is not None and self._owner == os.getpid():
            self._transport.close()
        self._transport = None
        self._source.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class AsyncService(_Face):
    """The same for async tools: ``async def invoice(id: int, billing: AsyncService)``, and its methods are awaited."""

    concurrent: ClassVar[bool] = True

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params = None,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
        route: str = "",
        expect: tuple[int, ...] = (),
    ) -> httpx.Response:
        """As ``Service.request``, awaited."""
        asked = Request(
            method.upper(), path, query(params), json, data, content, headers or {}, timeout, idempotent, route, expect
        )
        plan = self._source.plan(asked)
        said: Outcome | None = None
        try:
            while True:
                step = plan.send(said)
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    said = None
                else:
                    said = await self._attempt(step, asked)
        except StopIteration as end:
            answer: httpx.Response = end.value
            return answer
        finally:
            plan.close()

    async def _attempt(self, attempt: Attempt, asked: Request) -> Outcome:
        wire = self._source.wire
        request = wire.request(attempt, asked)
        try:
            async with asyncio.timeout(attempt.timeout):
                owner = (os.getpid(), asyncio.get_running_loop())
                response = await self._connected(owner).handle_async_request(request)
                try:
                    body = bytearray()
                    async for part in response.aiter_bytes():
                        body += part
                        if len(body) > self._source.policy.max_response:
                            return wire.too_large()
                finally:
                    await response.aclose()
        except wire.errors() as error:
            return wire.failure(error, attempt)
        return wire.outcome(request, response, bytes(body))

    async def get(self, path: str, **more: Any) -> httpx.Response:
        """``await request("GET", path, ...)``"""
        return await self.request("GET", path, **more)

    async def put(self, path: str, **more: Any) -> httpx.Response:
        """``await request("PUT", path, ...)``"""
        return await self.request("PUT", path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        """``await request("POST", path, ...)``: sent twice only if ``idempotent=True`` says that it may be."""
        return await self.request("POST", path, **more)

    async def patch(self, path: str, **more: Any) -> httpx.Response:
        """``await request("PATCH", path, ...)``: sent twice only if ``idempotent=True`` says that it may be."""
        return await self.request("PATCH", path, **more)

    async def delete(self, path: str, **more: Any) -> httpx.Response:
        """``await request("DELETE", path, ...)``"""
        return await self.request("DELETE", path, **more)

    async def close(self) -> None:
        """Let the connections go. It may be used again afterwards."""
        if self._transport is not None and self._owner == (os.getpid(), asyncio.get_running_loop()):
            await self._transport.aclose()
        self._transport = None
        self._source.close()

    async def __aenter__(self) -> AsyncService:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


def source_of(name: str, settings: Mapping[str, Any]) -> Source:
    """A service by itself, with the balancers that plugins offer. Raises ConfigError."""
    try:
        policy = msgspec.convert(dict(settings), ServicePolicy)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"service {name!r}: {error}") from None
    return Source(name, policy, balancer_of(name, policy, load_plugins().balancers))


def balancer_of(name: str, policy: ServicePolicy, offered: Mapping[str, Factory]) -> Factory:
    """Raises ConfigError for one that no plugin offers."""
    factory = offered.get(policy.balancer)
    if factory is None:
        known = ", ".join(sorted(offered))
        key = f"services.{name}.balancer"
        raise ConfigError(f"{key}: no balancer {policy.balancer!r}; there is {known}", key=key)
    return factory
