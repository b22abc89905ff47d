"""How one attempt travels: requests and answers of httpx, and what its errors mean.

httpx's transports are used without its clients: they follow no redirect, keep no cookie, and ask no proxy that only the
environment names.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from toolring.errors import ConfigError
from toolring.policy.service import ServicePolicy
from toolring.tracing import trace_headers
from toolring.workers.services.attempts import Attempt, Outcome, Request

if TYPE_CHECKING:
    import httpx

_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_NOT_KEPT: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_AGENT: Final = "toolring"


def need_httpx(what: str) -> Any:
    """The module. Raises ConfigError while it is missing."""
    try:
        import httpx  # optional: the http extra
    except ImportError as error:
        raise ConfigError(f"{what} needs httpx: pip install 'toolring[http]' ({error})") from None
    return httpx


class Wire:
    """What all requests to a service have in common."""

    def __init__(self, name: str, policy: ServicePolicy) -> None:
        """Raises ConfigError: httpx, an environment variable or a file of certificates is missing."""
        self._httpx = need_httpx(f"the service {name!r}")
        self._policy = policy
        self._headers = {
            "user-agent": _AGENT,
            "accept": "*/*",
            "accept-encoding": "gzip, deflate",
            **{key.lower(): _expanded(name, key, value) for key, value in policy.headers.items()},
        }
        self._trust: ssl.SSLContext | bool = any(base.startswith("https:") for base in policy.bases)
        if policy.ca_file:
            try:
                self._trust = ssl.create_default_context(cafile=policy.ca_file)
            except OSError as error:
                key = f"services.{name}.ca_file"
                raise ConfigError(f"{key} = {policy.ca_file!r} can't be read: {error}", key=key) from None

    def transport(self, concurrent: bool) -> Any:
        """Connections to all endpoints; for one process, and one event loop."""
        most = self._policy.connections
        limits = self._httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=30.0)
        kind = self._httpx.AsyncHTTPTransport if concurrent else self._httpx.HTTPTransport
        return kind(verify=self._trust, trust_env=False, limits=limits)

    def request(self, attempt: Attempt, asked: Request) -> httpx.Request:
        """Raises what httpx does for a body or parameters that can't be encoded."""
        headers: dict[str, str] = {**self._headers, **trace_headers()}
        if self._policy.deadline_header:
            headers[self._policy.deadline_header.lower()] = str(max(1, int(attempt.timeout * 1000)))
        headers.update({key.lower(): value for key, value in asked.headers.items()})
        connect = min(self._policy.connect_timeout, attempt.timeout)
        timeout = {"connect": connect, "read": attempt.timeout, "write": attempt.timeout, "pool": attempt.timeout}
        found: httpx.Request = self._httpx.Request(
            asked.method,
            attempt.base + asked.path,
            params=asked.params,
            json=asked.json,
            data=asked.data,
            content=asked.content,
            headers=headers,
            extensions={"timeout": timeout},
        )
        return found

    def outcome(self, request: httpx.Request, response: httpx.Response, body: bytes) -> Outcome:
        """An answer that has been read to its end."""
        headers = [(key, value) for key, value in response.headers.multi_items() if key not in _NOT_KEPT]
        whole = self._httpx.Response(response.status_code, headers=headers, content=body, request=request)
        return Outcome(response.status_code, whole, _seconds(response.headers.get("retry-after")))

    def too_large(self) -> Outcome:
        text = f"the answer has more than {self._policy.max_response} bytes (max_response)"
        return Outcome(error=text, blame=False)

    def failure(self, error: Exception, attempt: Attempt) -> Outcome:
        """Why there is no answer."""
        httpx = self._httpx
        if isinstance(error, TimeoutError | httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            if isinstance(error, httpx.PoolTimeout):
                text = f"all {self._policy.connections} connections of this worker were in use (connections)"
                return Outcome(error=text, sent=False, blame=False)
            return Outcome(error=f"no answer from {attempt.base} within {attempt.timeout:.3g} s", blame=attempt.whole)
        why = str(error) or type(error).__name__
        if isinstance(error, httpx.LocalProtocolError):
            return Outcome(error=f"the request can't be sent: {why}", blame=False)
        sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return Outcome(error=f"{attempt.base}: {why}", sent=sent)

    def errors(self) -> tuple[type[Exception], ...]:
        """What an attempt may end in instead of an answer."""
        return (self._httpx.TransportError, self._httpx.DecodingError, TimeoutError)


def _expanded(service: str, header: str, value: str) -> str:
    def read(found: re.Match[str]) -> str:
        try:
            return os.environ[found[1]]
        except KeyError:
            key = f"services.{service}.headers"
            text = f"{key}: {header} needs the environment variable {found[1]}, which the node doesn't have"
            raise ConfigError(text, key=key) from None

    return _VARIABLE.sub(read, value)


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After says: seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


Params = Mapping[str, Any] | Sequence[tuple[str, Any]] | None


def query(params: Params) -> list[tuple[str, Any]] | None:
    """Parameters as pairs: a list is one for each of its values, None is none."""
    if params is None:
        return None
    found: list[tuple[str, Any]] = []
    for key, value in params.items() if isinstance(params, Mapping) else params:
        values = value if isinstance(value, list | tuple) else [value]
        found += [(key, one) for one in values if one is not None]
    return found
