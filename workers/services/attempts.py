"""The way of one request: which endpoint is tried, what is tried again and when, and what it ends in.

Written once for both faces of a service: ``attempts`` yields what is to be done, and is sent what came of it. No I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from math import inf
from typing import Any, Final, NamedTuple

from toolring.errors import InvalidArguments, ServiceError, ServiceUnavailable
from toolring.policy.retry import delay
from toolring.policy.service import REPEATABLE_METHODS, check_header, check_path
from toolring.workers.services.endpoints import Endpoints, Ticket

METHODS: Final = frozenset({*REPEATABLE_METHODS, "POST", "PATCH"})
_BODY_SHOWN: Final = 2000
"""Characters of an answer that an error shows."""


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
    whole: bool
    """It has all the time that the service may take for it, so if that isn't enough it is the service's fault."""


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
    """Raise InvalidArguments for what must not be sent."""
    try:
        check_path(request.path)
        for name in request.headers:
            check_header(name)
    except ValueError as error:
        raise InvalidArguments(str(error), argument="path") from None
    if request.timeout is not None and not 0 < request.timeout < inf:
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
    policy = endpoints.policy
    longest = policy.timeout if request.timeout is None else request.timeout
    tried: list[int] = []
    made = 0
    outcome = Outcome(error="no time was left")
    endpoints.called()
    while True:
        left = longest if deadline is None else deadline - endpoints.clock()
        if left <= 0:
            raise _error(endpoints, request, tried, made, outcome._replace(error="the job's deadline passed"))
        ticket = _next(endpoints, request, tried, made, outcome)
        made += 1
        failed: bool | None = None
        try:
            base = endpoints.all[ticket.endpoint].base
            said = yield Attempt(ticket, base, min(longest, left), left >= longest)
            assert said is not None
            outcome = said
            failed = _failed(outcome)
        finally:
            endpoints.ended(ticket, failed)
        tried.append(ticket.endpoint)
        if 200 <= outcome.status < 300 or outcome.status in request.expect:
            return outcome.response
        if not _helps(endpoints, request, outcome) or made > policy.retries or not endpoints.may_retry():
            raise _error(endpoints, request, tried, made, outcome)
        seconds = delay(policy.retry_delay, made, endpoints.draw)
        if outcome.retry_after is not None and len(set(tried)) == len(endpoints.all):
            seconds = max(seconds, outcome.retry_after)  # there is no other that could be asked at once
        if deadline is not None and endpoints.clock() + seconds >= deadline:
            raise _error(endpoints, request, tried, made, outcome)
        yield Pause(seconds)


def _next(endpoints: Endpoints, request: Request, tried: list[int], made: int, outcome: Outcome) -> Ticket:
    """Another endpoint than those that were tried since each had its turn."""
    round_of = len(endpoints.all)
    try:
        return endpoints.take(request.route, tried[len(tried) - len(tried) % round_of :])
    except ServiceUnavailable as error:
        if made:
            raise _error(endpoints, request, tried, made, outcome) from error
        raise


def _failed(outcome: Outcome) -> bool | None:
    """Was it the endpoint's fault? Errors of a caller are not, nor is one that it is busy."""
    if not outcome.status:
        return True if outcome.blame else None
    return outcome.status >= 500 and outcome.status != 501


def _helps(endpoints: Endpoints, request: Request, outcome: Outcome) -> bool:
    """May another attempt be made, and might it end otherwise?"""
    if not outcome.status:
        return not outcome.sent or (request.repeatable and outcome.blame)
    return request.repeatable and outcome.status in endpoints.policy.retry_on


def _error(
    endpoints: Endpoints, request: Request, tried: list[int], made: int, outcome: Outcome
) -> ServiceError | ServiceUnavailable:
    what = f"{endpoints.name}: {request.method} {request.path}"
    where = endpoints.all[tried[-1]].base if tried else ""
    often = f" (attempts: {made})" if made > 1 else ""
    facts: dict[str, Any] = {"service": endpoints.name, "endpoint": where, "attempts": made}
    if outcome.retry_after is not None:
        facts["retry_after"] = outcome.retry_after
    if not outcome.status:
        kind = ServiceError if outcome.sent else ServiceUnavailable
        return kind(f"{what}: {outcome.error or 'no answer'}{often}", **facts, cause=outcome.error)
    response = outcome.response
    shown = response.text[:_BODY_SHOWN]
    said = f": {shown.splitlines()[0][:200]}" if shown.strip() else ""
    if outcome.status < 400:
        said = f", a redirect to {response.headers.get('location', '?')[:200]!r}, which is not followed"
    error = ServiceError(
        f"{what}: {where} answered {outcome.status}{said}{often}", **facts, status=outcome.status, body=shown
    )
    error.response = response
    return error
