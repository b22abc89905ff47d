"""A service as tools see it: ``Service`` for plain functions, ``AsyncService`` for those that await."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, Unpack

import msgspec

from toolring.calls import Calls
from toolring.context import job_at_hand
from toolring.errors import ConfigError
from toolring.given import GivenService
from toolring.plugins.registry import load_plugins
from toolring.policy.pool import Factory
from toolring.policy.service import NAME, ServicePolicy
from toolring.tracing import trace_headers
from toolring.workers.services.attempts import Outcome, Pause, Request, attempts, checked
from toolring.workers.services.checks import Checks
from toolring.workers.services.endpoints import Endpoints
from toolring.workers.services.exchange import AsyncLine, Line
from toolring.workers.services.http import Params, Wire, query

if TYPE_CHECKING:
    import httpx


class Asked(TypedDict, total=False):
    """What may be said of a request, besides its method and its path."""

    params: Params
    """The query, as a mapping or as pairs; what is None is left out."""
    json: Any
    data: Mapping[str, Any] | None
    """A form."""
    content: bytes | str | None
    headers: Mapping[str, str] | None
    timeout: float | None
    """Seconds for one attempt; the service's own by default. The job's deadline holds all the same."""
    idempotent: bool | None
    """May it be sent twice? By default all methods may but POST and PATCH."""
    route: str
    """Equal ones go to the same endpoint, with the balancers ``ring`` and ``rendezvous``."""
    expect: tuple[int, ...]
    """Statuses besides 2xx that are an answer, and no error."""


class Source:
    """What both faces of a service share: its endpoints and what is known of them, in one process."""

    def __init__(
        self, name: str, policy: ServicePolicy, factory: Factory, calls: Calls | None = None, first: int = 0
    ) -> None:
        """Raises ConfigError for what the machine lacks."""
        self.endpoints = Endpoints(name, policy, factory, calls, first)
        self.wire = Wire(name, policy)
        self._lock = threading.Lock()
        self._checks: Checks | None = None
        self._pid = 0

    def plan(self, method: str, path: str, asked: Asked) -> tuple[Request, Any]:
        """The request, and the steps to its answer. Health checks begin, in this process."""
        more: dict[str, Any] = {**asked, "headers": {**trace_headers(), **(asked.get("headers") or {})}}
        request = checked(Request(method.upper(), path, query(more.pop("params", None)), **more))
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._checks = Checks(self.endpoints, self.wire) if self.wire.policy.health_check else None
        job = job_at_hand()
        return request, attempts(self.endpoints, request, None if job is None else job.deadline)

    def close(self) -> None:
        with self._lock:
            checks = self._checks if self._pid == os.getpid() else None
            self._checks, self._pid = None, 0
        if checks is not None:
            checks.close()


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
        if isinstance(endpoints, str):
            raise ConfigError(
                f"service {name!r}: endpoints={endpoints!r} is a text, not a list of them", key="endpoints"
            )
        self._begin(source_of(name, {"endpoints": tuple(endpoints), **settings}), True)

    def _begin(self, source: Source, own: bool) -> None:
        self._source = source
        self._own = own
        """It is nobody else's."""
        self._lock = threading.Lock()
        self._line: Any = None
        self._owner: Any = None

    @classmethod
    def of(cls, source: Source) -> Any:
        """The face of a service that others use, too; ``close`` does nothing to it."""
        face = cls.__new__(cls)
        face._begin(source, False)
        return face

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        return self._source.endpoints.name

    @property
    def version(self) -> str:
        return self._source.wire.policy.version

    def figures(self) -> dict[str, Any]:
        """Of each endpoint: its health, its circuit, requests, failures, seconds."""
        return self._source.endpoints.figures()

    def request(self, method: str, path: str, **asked: Unpack[Asked]) -> Any:
        raise NotImplementedError

    def get(self, path: str, **asked: Unpack[Asked]) -> Any:
        """``request("GET", path, ...)``"""
        return self.request("GET", path, **asked)

    def put(self, path: str, **asked: Unpack[Asked]) -> Any:
        """``request("PUT", path, ...)``"""
        return self.request("PUT", path, **asked)

    def post(self, path: str, **asked: Unpack[Asked]) -> Any:
        """``request("POST", path, ...)``: sent twice only if ``idempotent=True`` says that it may be."""
        return self.request("POST", path, **asked)

    def patch(self, path: str, **asked: Unpack[Asked]) -> Any:
        """``request("PATCH", path, ...)``: sent twice only if ``idempotent=True`` says that it may be."""
        return self.request("PATCH", path, **asked)

    def delete(self, path: str, **asked: Unpack[Asked]) -> Any:
        """``request("DELETE", path, ...)``"""
        return self.request("DELETE", path, **asked)


class Service(_Face):
    """An HTTP service with several endpoints. A tool gets it by a parameter: ``def invoice(id: int, billing: Service)``
    asks for ``[services.billing]``. Threads may share it.
    """

    concurrent: ClassVar[bool] = False

    def request(self, method: str, path: str, **asked: Unpack[Asked]) -> httpx.Response:
        """Ask one endpoint, and another if that fails and it may be asked twice.

        Args:
            method: GET, HEAD, OPTIONS, TRACE, PUT, DELETE, POST or PATCH.
            path: below the endpoint, as ``/invoices/7``.
            asked: ``params``, ``json``, ``data``, ``content``, ``headers``, ``timeout``, ``idempotent``, ``route``,
                ``expect``; see ``Asked``.

        Returns:
            The answer, read to its end.

        Raises:
            ServiceError: there was no answer, or one of another status (``error.response``).
            ServiceUnavailable: nothing reached any endpoint.
            InvalidArguments: the path or a header would lead elsewhere, or can't be sent.
        """
        request, plan = self._source.plan(method, path, asked)
        said: Outcome | None = None
        try:
            while True:
                step = plan.send(said)
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    said = None
                else:
                    said = self._connected().run(step, request)
        except StopIteration as end:
            answer: httpx.Response = end.value
            return answer
        finally:
            plan.close()

    def _connected(self) -> Line:
        """Connections can't be shared by processes."""
        with self._lock:
            if self._owner != os.getpid():
                self._line = Line(self._source.wire)
                self._owner = os.getpid()
            line: Line = self._line
            return line

    def close(self) -> None:
        """Let the connections go. It may be used again afterwards."""
        if not self._own:
            return
        with self._lock:
            line = self._line if self._owner == os.getpid() else None
            self._line = self._owner = None
        if line is not None:
            line.close()
        self._source.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class AsyncService(_Face):
    """The same for async tools: ``async def invoice(id: int, billing: AsyncService)``, and its methods are awaited. It
    belongs to one event loop at a time."""

    concurrent: ClassVar[bool] = True

    async def request(self, method: str, path: str, **asked: Unpack[Asked]) -> httpx.Response:
        """As ``Service.request``, awaited."""
        request, plan = self._source.plan(method, path, asked)
        said: Outcome | None = None
        try:
            while True:
                step = plan.send(said)
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    said = None
                else:
                    said = await self._connected().run(step, request)
        except StopIteration as end:
            answer: httpx.Response = end.value
            return answer
        finally:
            plan.close()

    def _connected(self) -> AsyncLine:
        """Connections can't be shared by processes, nor by event loops."""
        pid, loop = os.getpid(), asyncio.get_running_loop()
        if self._owner != (pid, loop):
            if self._owner is not None and self._owner[0] == pid and not self._owner[1].is_closed():
                raise RuntimeError(f"{self!r} is in use by another event loop; make one for each")
            self._line = AsyncLine(self._source.wire)
            self._owner = (pid, loop)
        line: AsyncLine = self._line
        return line

    async def close(self) -> None:
        """Let the connections go. It may be used again afterwards."""
        if not self._own:
            return
        line = self._line if self._owner == (os.getpid(), asyncio.get_running_loop()) else None
        self._line = self._owner = None
        if line is not None:
            await line.aclose()
        await asyncio.to_thread(self._source.close)

    async def __aenter__(self) -> AsyncService:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


def source_of(name: str, settings: Mapping[str, Any]) -> Source:
    """A service by itself, with the balancers that plugins offer. Raises ConfigError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a service: letters, digits, '_', '.' or '-'", key="name")
    if settings.get("openapi"):
        raise ConfigError(
            f"service {name!r}: openapi= is for [services.{name}], whose node makes the tools", key="openapi"
        )
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
