"""How one attempt travels: what is sent, what comes back, and what the errors mean.

Requests and answers are httpx's; they travel by httpcore alone, which follows no redirect, keeps no cookie and asks no
proxy that only the environment names.
"""

from __future__ import annotations

import os
import re
import ssl
import time
import zlib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from toolring.errors import ConfigError, InvalidArguments
from toolring.policy.service import ServicePolicy, check_header
from toolring.workers.services.attempts import Attempt, Outcome, Request

if TYPE_CHECKING:
    import httpcore
    import httpx

_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_NOT_KEPT: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
_CHARSETS: Final = frozenset({"utf-8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "windows-1252"})
"""Those that a service may name; Python knows some that are no charsets at all."""
_IDLE_SECONDS: Final = 30.0
_BY_ITS_HEAD: Final = 47
"""A window for zlib: gzip or zlib, whichever the data says it is."""
_GZIP: Final = 31
_RAW: Final = -15
"""What some take for deflate."""
_PIECE: Final = 16 << 10
"""Bytes that are unpacked at a time: what follows the end of a member is copied, once for each member."""
ends: ContextVar[float] = ContextVar("toolring_exchange_ends")
"""Of the exchange that this thread or task is at: when it must be over, in seconds of ``time.monotonic()``."""
Params = Mapping[str, Any] | Sequence[tuple[str, Any]] | None


class Wire:
    """What all requests to a service have in common."""

    def __init__(self, name: str, policy: ServicePolicy) -> None:
        """Raises ConfigError: httpx, an environment variable or a file of certificates is missing."""
        try:
            import httpcore  # optional: the http extra
            import httpx  # optional: the http extra
        except ImportError as error:
            text = f"the service {name!r} needs httpx: pip install 'toolring[http]' ({error})"
            raise ConfigError(text, key=f"services.{name}") from None
        self._core, self._httpx = httpcore, httpx
        self.policy = policy
        self._headers = {
            "user-agent": "toolring",
            "accept": "*/*",
            "accept-encoding": "gzip, deflate",
            **{key.lower(): _expanded(name, key, value) for key, value in policy.headers.items()},
        }
        self._trust: ssl.SSLContext | None = None
        if policy.ca_file:
            try:
                self._trust = ssl.create_default_context(cafile=policy.ca_file)
            except OSError as error:
                key = f"services.{name}.ca_file"
                raise ConfigError(f"{key} = {policy.ca_file!r} can't be read: {error}", key=key) from None
        elif any(base.startswith("https:") for base in policy.bases):
            self._trust = httpx.create_ssl_context(trust_env=False)
        self.errors: Final = (
            *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.UnsupportedProtocol),
            *(OSError, UnicodeError),
        )
        """What an exchange may end in instead of an answer; a name that can't be one is an UnicodeError."""

    def pool(self, concurrent: bool) -> Any:
        """httpcore's connections to all endpoints; for one process, and one event loop. It must never have to wait for
        one: who gives up in that moment may leave a connection behind that nobody ever gets."""
        timed = import_module("toolring.workers.services.timed")
        settings: dict[str, Any] = {
            "ssl_context": self._trust,
            "max_connections": self.policy.connections,
            "max_keepalive_connections": self.policy.connections,
            "keepalive_expiry": _IDLE_SECONDS,
        }
        if concurrent:
            return self._core.AsyncConnectionPool(network_backend=timed.AsyncTimedBackend(), **settings)
        return self._core.ConnectionPool(network_backend=timed.TimedBackend(), **settings)

    def request(self, attempt: Attempt, asked: Request) -> httpx.Request:
        """Raises InvalidArguments for what can't be sent."""
        headers = dict(self._headers)
        if self.policy.deadline_header:
            headers[self.policy.deadline_header.lower()] = str(max(1, int(attempt.timeout * 1000)))
        headers.update({key.lower(): value for key, value in asked.headers.items()})
        timeouts = {"connect": min(self.policy.connect_timeout, attempt.timeout)}
        try:
            found: httpx.Request = self._httpx.Request(
                asked.method,
                attempt.base + asked.path,
                params=asked.params,
                json=asked.json,
                data=asked.data,
                content=asked.content,
                headers=headers,
                extensions={"timeout": timeouts},
            )
        except (self._httpx.InvalidURL, TypeError, ValueError) as error:
            raise InvalidArguments(f"{asked.method} {asked.path:.200}: it can't be sent: {error}") from None
        return found

    def core_request(self, request: httpx.Request) -> httpcore.Request:
        """As it travels."""
        url = request.url
        where = self._core.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        found: httpcore.Request = self._core.Request(
            request.method, where, headers=request.headers.raw, content=request.content, extensions=request.extensions
        )
        return found

    # ---- what came of it

    def outcome(self, request: httpx.Request, status: int, raw: Sequence[tuple[bytes, bytes]], body: bytes) -> Outcome:
        """An answer that has been read to its end. Its text is decoded by the charset that it names, if it is one."""
        headers = self._httpx.Headers(list(raw))
        encodings = [one.strip() for one in headers.get("content-encoding", "").lower().split(",") if one.strip()]
        try:
            plain = _decoded(body, encodings, self.policy.max_response)
        except _Broken as error:
            return Outcome(error=str(error))
        if isinstance(plain, str):
            return Outcome(error=plain, blame=False)
        kept = [(key, value) for key, value in raw if key.lower() not in _NOT_KEPT]
        response = self._httpx.Response(status, headers=kept, content=plain, request=request)
        named = (response.charset_encoding or "").lower()
        response.encoding = named if named in _CHARSETS else "utf-8"
        return Outcome(status, response, _seconds(headers.get("retry-after")))

    def full(self) -> Outcome:
        text = f"all {self.policy.connections} connections of this worker were in use (connections)"
        return Outcome(error=text, sent=False, blame=False)

    def too_large(self) -> Outcome:
        return Outcome(error=_too_large(self.policy.max_response), blame=False)

    def failure(self, error: Exception, attempt: Attempt) -> Outcome:
        """Why there is no answer."""
        core = self._core
        where, whole = attempt.base, attempt.timeout >= self.policy.timeout
        why = str(error) or "the connection was lost"
        if isinstance(error, core.ConnectTimeout):
            limit = min(self.policy.connect_timeout, attempt.timeout)
            text = f"{where}: no connection within {limit:.3g} s"
            return Outcome(error=text, sent=False, blame=attempt.timeout >= self.policy.connect_timeout)
        if isinstance(error, core.TimeoutException):
            return Outcome(error=f"no answer from {where} within {attempt.timeout:.3g} s", blame=whole)
        if isinstance(error, core.LocalProtocolError):
            return Outcome(error="the request can't be sent: it breaks the rules of HTTP", blame=False)
        return Outcome(error=f"{where}: {why}", sent=not isinstance(error, core.ConnectError | UnicodeError))


class _Broken(Exception):
    """A compressed body isn't what it should be: it is cut off, or damaged."""


def _decoded(body: bytes, encodings: Sequence[str], limit: int) -> bytes | str:
    """What was compressed, or why it isn't to be had: never more than the limit, whatever it says it is. Raises
    _Broken. What is empty stays empty: that is how HEAD is answered, and some send nothing so."""
    if not body or not encodings or encodings == ["identity"]:
        return body
    if len(encodings) > 1 or encodings[0] not in ("gzip", "x-gzip", "deflate"):
        return f"the answer's content-encoding {', '.join(encodings)!r:.100} is not supported"
    windows = (_BY_ITS_HEAD, _RAW) if encodings[0] == "deflate" else (_BY_ITS_HEAD,)
    for window in windows:
        try:
            plain = _inflated(memoryview(body), window, limit)
        except zlib.error:
            continue
        return _too_large(limit) if plain is None else plain
    raise _Broken("the answer is not compressed as it says, or was damaged on its way")


def _inflated(body: memoryview, window: int, limit: int) -> bytes | None:
    """All members of it, each to its end; None: there is more than the limit. Raises zlib.error or _Broken."""
    plain, at = bytearray(), 0
    inflate = zlib.decompressobj(window)
    while at < len(body):
        if inflate.eof:  # what follows a member of gzip may be another one (RFC 1952)
            inflate = zlib.decompressobj(_GZIP)
        piece = body[at : at + _PIECE]
        plain += inflate.decompress(piece, limit + 1 - len(plain))
        if len(plain) > limit:
            return None
        at += len(piece) - len(inflate.unused_data)
    if not inflate.eof:
        raise _Broken("the answer was cut off: what is compressed doesn't come to its end")
    return bytes(plain)


def _too_large(limit: int) -> str:
    return f"the answer has more than {limit} bytes (max_response)"


def _expanded(service: str, header: str, value: str) -> str:
    def read(found: re.Match[str]) -> str:
        try:
            return os.environ[found[1]]
        except KeyError:
            text = f"{key}: {header} needs the environment variable {found[1]}, which the node doesn't have"
            raise ConfigError(text, key=key) from None

    key = f"services.{service}.headers"
    whole = _VARIABLE.sub(read, value)
    try:
        check_header(header, whole)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}", key=key) from None
    return whole


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After says: seconds, or a date."""
    said = (retry_after or "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def query(params: Params) -> list[tuple[str, Any]] | None:
    """Parameters as pairs: a list is one for each of its values, None is none."""
    if params is None:
        return None
    found: list[tuple[str, Any]] = []
    try:
        pairs = [(key, value) for key, value in (params.items() if isinstance(params, Mapping) else params)]
    except (TypeError, ValueError):
        raise InvalidArguments(
            f"params={params!r:.100} is no mapping and no list of pairs", argument="params"
        ) from None
    for key, value in pairs:
        values = value if isinstance(value, list | tuple) else [value]
        found += [(key, one) for one in values if one is not None]
    return found
