"""The way of one request: which endpoint is tried, what is tried again and when, and what it ends in.

Written once for both faces of a service: ``attempts`` yields what is to be done, and is sent what came of it. No I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final, NamedTuple

from toolring.errors import InvalidArguments, ServiceError, ServiceUnavailable
from toolring.policy.retry import LONGEST_DELAY, delay
from toolring.policy.service import MOST_SECONDS, REPEATABLE_METHODS, check_header, check_path
from toolring.workers.services.endpoints import Endpoints, Ticket

METHODS: Final = frozenset({*REPEATABLE_METHODS, "POST", "PATCH"})
_BODY_SHOWN: Final = 2000
"""Characters of an answer that an error shows."""


_KINDS: Final[Mapping[str, Any]] = {
    "method": str,
    "path": str,
    "data": Mapping | None,
    "content": bytes | str | None,
    "headers": Mapping,
    "timeout": int | float | None,
    "idempotent": bool | None,
    "route": str,
    "expect": tuple | list | set | frozenset,
}


class Request(NamedTuple):
    """What is asked of a service, whichever endpoint is to answer it."""

    method: str
    path: str
    params: Any = None
    json: Any = None
    data: Mapping[str, Any] | None = None
    content: bytes | str | None = None
    headers: Mapping[str, str] = {}
    timeout: float | None = None
    """Seconds for one attempt; None: the service's own."""
    idempotent: bool | None = None
    """May it be sent twice? None: as its method says."""
    route: str = ""
    """Equal ones go to the same endpoint, if the balancer looks at it."""
    expect: tuple[int, ...] = ()
    """Statuses that are no errors, besides 2xx."""

    @property
    def repeatable(self) -> bool:
        return self.method in REPEATABLE_METHODS if self.idempotent is None else self.idempotent


class Attempt(NamedTuple):
    """To be sent to an endpoint, and answered with an Outcome."""

    ticket: Ticket
    base: str
    timeout: float
    """Seconds that it may take."""


class Pause(NamedTuple):
    """To be waited; answered with None."""

    seconds: float


class Outcome(NamedTuple):
    """What came of an attempt: an answer with a status, or why there is none."""

    status: int = 0
    response: Any = None
    retry_after: float | None = None
    error: str = ""
    sent: bool = True
    """It may have reached the service."""
    blame: bool = True
    """It tells something of the endpoint."""


def checked(request: Request) -> Request:
    """Raise InvalidArguments for what must not be sent, or can't be."""
    for name, kinds in _KINDS.items():
        value = getattr(request, name)
        if not isinstance(value, kinds) or isinstance(value, bool) is not (name == "idempotent" and value is not None):
            raise InvalidArguments(f"{name}={value!r:.100} is of a wrong type, {type(value).__name__}", argument=name)
    try:
        check_path(request.path)
        for name, value in request.headers.items():
            check_header(name, value)
    except ValueError as error:
        raise InvalidArguments(str(error), argument="path") from None
    if request.timeout is not None and not 0 < request.timeout <= MOST_SECONDS:
        raise InvalidArguments(f"timeout={request.timeout!r} is not a positive number of seconds", argument="timeout")
    if request.method not in METHODS:
        raise InvalidArguments(f"method {request.method!r} is none of {', '.join(sorted(METHODS))}", argument="method")
    return request


def attempts(
    endpoints: Endpoints, request: Request, deadline: float | None
) -> Generator[Attempt | Pause, Outcome | None, Any]:
    """Returns the answer, once there is one that is none of an error.

    ``deadline``: of the job that asks, on the endpoints' clock. Raises ServiceError or ServiceUnavailable.
    """
    longest = endpoints.policy.timeout if request.timeout is None else request.timeout
    way = Way(endpoints, request)
    endpoints.called()
    while True:
        left = longest if deadline is None else deadline - endpoints.clock()
        if left <= 0:
            raise way.error(Outcome(error="the job's deadline passed"))
        ticket = way.next()
        failed: bool | None = None
        try:
            outcome = yield Attempt(ticket, endpoints.all[ticket.endpoint].base, min(longest, left))
            assert outcome is not None
            failed = _failed(outcome, request)
        finally:
            endpoints.ended(ticket, failed)
        way.went(ticket, outcome)
        if _is_answer(outcome, request):
            return outcome.response
        seconds = way.pause(outcome)
        in_time = deadline is None or endpoints.clock() + seconds < deadline
        if not (_helps(endpoints, request, outcome) and in_time and way.may_go_on(seconds)):
            raise way.error(outcome)
        yield Pause(seconds)


class Way:
    """What has been tried of one request."""

    def __init__(self, endpoints: Endpoints, request: Request) -> None:
        self._endpoints = endpoints
        self._request = request
        self._tried: list[int] = []
        self._last: Outcome | None = None
        self._told: tuple[Outcome, int] | None = None
        """The last that may have reached the service, and where: it tells more than one that reached nobody."""

    def next(self) -> Ticket:
        """An endpoint that wasn't tried since each had its turn. Raises ServiceUnavailable, or what it has come to."""
        tried = self._tried
        try:
            return self._endpoints.take(
                self._request.route, tried[len(tried) - len(tried) % len(self._endpoints.all) :]
            )
        except ServiceUnavailable as error:
            if self._last is None:
                raise
            raise self.error(self._last) from error

    def went(self, ticket: Ticket, outcome: Outcome) -> None:
        self._tried.append(ticket.endpoint)
        self._last = outcome
        if outcome.sent:
            self._told = outcome, ticket.endpoint

    def pause(self, outcome: Outcome) -> float:
        """Seconds before the next attempt. A service's own wish counts, if there is no other endpoint to be asked."""
        seconds = delay(self._endpoints.policy.retry_delay, len(self._tried), self._endpoints.draw)
        if outcome.retry_after is None or self._endpoints.has_other(self._tried):
            return seconds
        return max(seconds, outcome.retry_after)

    def may_go_on(self, seconds: float) -> bool:
        """Are there attempts left, and is it worth so long a wait?"""
        left = len(self._tried) <= self._endpoints.policy.retries
        return left and seconds <= LONGEST_DELAY and self._endpoints.may_retry()

    def error(self, outcome: Outcome) -> ServiceError:
        """What the caller hears in the end."""
        endpoints, request, made = self._endpoints, self._request, len(self._tried)
        what = f"{endpoints.name}: {request.method} {request.path}"
        at = self._tried[-1] if made else None
        if not outcome.sent and self._told is not None:
            outcome, at = self._told
        where = "" if at is None else endpoints.all[at].base
        often = f" (attempts: {made})" if made > 1 else ""
        facts: dict[str, Any] = {"service": endpoints.name, "endpoint": where, "attempts": made}
        if outcome.retry_after is not None:
            facts["retry_after"] = outcome.retry_after
        if not outcome.status:
            kind = ServiceUnavailable if self._told is None else ServiceError
            return kind(f"{what}: {outcome.error}{often}", **facts, cause=outcome.error)
        response = outcome.response
        shown = response.text[:_BODY_SHOWN]
        said = f": {shown.splitlines()[0][:200]}" if shown.strip() else ""
        if outcome.status < 400 and "location" in response.headers:
            said = f", a redirect to {response.headers.get('location', '?')[:200]!r}, which is not followed"
        text = f"{what}: {where} answered {outcome.status}{said}{often}"
        error = ServiceError(text, **facts, status=outcome.status, body=shown)
        error.response = response
        return error


def _is_answer(outcome: Outcome, request: Request) -> bool:
    return 200 <= outcome.status < 300 or outcome.status in request.expect


def _failed(outcome: Outcome, request: Request) -> bool | None:
    """Was it the endpoint's fault? Errors of a caller are not, nor is one that it is busy."""
    if not outcome.status:
        return True if outcome.blame else None
    return outcome.status >= 500 and outcome.status != 501 and not _is_answer(outcome, request)


def _helps(endpoints: Endpoints, request: Request, outcome: Outcome) -> bool:
    """May another attempt be made, and might it end otherwise?"""
    if not outcome.status:
        return not outcome.sent or (request.repeatable and outcome.blame)
    return request.repeatable and outcome.status in endpoints.policy.retry_on
