"""The policy of a service: an HTTP API with several endpoints that tools call. ``[services.NAME]`` holds it. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from toolring.policy.breaker import BreakerPolicy
from toolring.policy.health import HealthPolicy

LONGEST_PATH: Final = 8000
MOST_SECONDS: Final = 86_400.0
MOST_ENDPOINTS: Final = 256
"""Of all services of a node together."""
REPEATABLE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""That may be sent twice, by RFC 9110."""
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""Of a service; an underscore in a parameter's name stands for a dash, too."""


class EndpointBreaker(BreakerPolicy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint's: it is tried sooner than a tool, and what fails there has no name to be ignored by."""

    wait: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ignore:
            raise ValueError(
                "ignore= is for tools, whose errors have names; an endpoint fails by a lost connection, time that ran "
                "out, or a status from 500 on that a request doesn't expect"
            )


class ServicePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a service is reached. Seconds and bytes; raises ValueError for what makes no sense."""

    endpoints: tuple[str, ...] = ()
    """Where it is, as ``http://10.0.0.1:8080/api``: no request goes anywhere else. ``{version}`` stands for that."""
    version: str = ""
    """Of the service that is wanted; results of its tools that were cached under another version are not given."""
    balancer: str = "p2c"
    """Which endpoint a request goes to: p2c, peak_ewma, round_robin, random, least_outstanding, ring, rendezvous, or a
    plugin's."""
    timeout: float = 10.0
    """Of one attempt, from its start to the last byte of the answer."""
    connect_timeout: float = 1.0
    retries: int = 2
    """Further attempts, at another endpoint if there is one: of requests that may be repeated, or were never sent."""
    retry_on: tuple[int, ...] = (429, 502, 503, 504)
    """Answers after which another attempt may help."""
    retry_delay: float = 0.05
    """Before the first of them, on average; doubled each time."""
    health_check: str = ""
    """A path that answers 2xx as long as an endpoint is well, as ``/healthz``; empty: none is asked."""
    health_interval: float = 5.0
    health_timeout: float = 1.0
    ejection: HealthPolicy = HealthPolicy(panic=0.3)
    """When an endpoint that fails is left alone, and for how long."""
    breaker: bool | EndpointBreaker = True
    """Of each endpoint; false: none."""
    connections: int = 100
    """Of each worker to all endpoints together."""
    max_response: int = 16 << 20
    headers: dict[str, str] = {}
    """Sent with each request; ``${NAME}`` is the environment variable of the node, for secrets."""
    deadline_header: str = "x-request-timeout-ms"
    """Tells the service how many milliseconds its answer may take; empty: nothing does."""
    ca_file: str = ""
    """Certificates that are trusted instead of the usual ones, in PEM."""
    openapi: str = ""
    """A file with its OpenAPI 3 document (JSON or YAML): its operations become tools."""
    operations: tuple[str, ...] = ()
    """Those that do, by their operationId; empty: all."""
    prefix: str = ""
    """Before the names of these tools."""

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("endpoints is empty; it needs at least one, as http://127.0.0.1:8080")
        if not self.version and any("{version}" in one for one in self.endpoints):
            raise ValueError("endpoints have a {version}, but there is no version=")
        places = [_check_endpoint(base) for base in self.bases]
        if len(set(places)) != len(places):
            raise ValueError("endpoints names one twice")
        for name in ("timeout", "connect_timeout", "health_interval", "health_timeout"):
            if not 0 < getattr(self, name) <= MOST_SECONDS:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a number of seconds, 0 to {MOST_SECONDS:.0f}")
        if not 0 <= self.retry_delay <= MOST_SECONDS:
            raise ValueError(f"retry_delay={self.retry_delay!r} is not a number of seconds")
        if not 0 <= self.retries <= 100:
            raise ValueError(f"retries={self.retries!r} is not from 0 to 100")
        for status in self.retry_on:
            if not 400 <= status <= 599:
                raise ValueError(f"retry_on: {status!r} is no status of an error, 400 to 599")
        for name in ("connections", "max_response"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 1")
        if self.health_check:
            check_path(self.health_check, "health_check")
        for header, value in self.headers.items():
            check_header(header, value)
        if self.deadline_header:
            check_header(self.deadline_header)
        if self.prefix and not NAME.fullmatch(self.prefix.rstrip("._-")):
            raise ValueError(f"prefix={self.prefix!r} is not the beginning of a tool's name")
        if (self.operations or self.prefix) and not self.openapi:
            raise ValueError("operations and prefix do nothing without openapi=FILE")

    @property
    def bases(self) -> tuple[str, ...]:
        """The endpoints, with the version filled in."""
        return tuple(one.replace("{version}", self.version).rstrip("/") for one in self.endpoints)

    @property
    def circuit(self) -> BreakerPolicy | None:
        if isinstance(self.breaker, BreakerPolicy):
            return self.breaker
        return EndpointBreaker() if self.breaker else None


def check_path(path: str, what: str = "path") -> None:
    """Raise ValueError unless a path stays below an endpoint's own."""
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"{what} {path!r:.200} must begin with one /: which host is asked the configuration says")
    if any(ord(one) < 33 or ord(one) == 127 or one in "\\#?" for one in path) or "%00" in path:
        hint = "; a query is given by params=" if "?" in path else ""
        raise ValueError(f"{what} {path!r:.200} holds a blank, a control character, or one of \\ # ?{hint}")
    if len(path) > LONGEST_PATH:
        raise ValueError(f"{what} {path!r:.100} has {len(path)} characters, more than {LONGEST_PATH}")
    plain = path.lower()
    for coded, character in (("%2e", "."), ("%2f", "/"), ("%5c", "/")):
        plain = plain.replace(coded, character)
    for part in plain.split("/"):
        if part.partition(";")[0] in ("..", "."):  # what follows a semicolon some servers cut off
            raise ValueError(f"{what} {path!r:.200} may not hold {part!r}: it would leave what the endpoint names")


def check_header(name: str, value: str = "") -> None:
    """Raise ValueError unless a header may be set."""
    fits = isinstance(value, str) and value.isascii() and value.replace("\t", " ").isprintable()
    if not fits or value != value.strip():
        raise ValueError(f"the header {name} has a value that is not printable ASCII, or begins or ends with a blank")
    if not _HEADER.fullmatch(name):
        raise ValueError(f"{name!r:.100} is not the name of a header")
    if name.lower() in _OURS:
        raise ValueError(f"the header {name} is made by toolring itself")


def _check_endpoint(base: str) -> tuple[str, str, int | None, str]:
    """Where it is, however it is written. Raises ValueError."""
    if any(ord(one) < 33 or one in "?#" for one in base) or ".." in base.partition("://")[2].partition("/")[0]:
        raise ValueError(f"endpoint {base!r} holds what no URL of a service may: a blank, ? or #, an empty name")
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"endpoint {base!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.hostname or "") or port == 0:
        raise ValueError(f"endpoint {base!r} is no URL as http://host:port/path")
    if parts.username is not None or "{" in base:
        raise ValueError(f"endpoint {base!r} may have no user and no placeholder besides {{version}}")
    if parts.path:
        check_path(parts.path, f"endpoint {base!r}: its path")
    return parts.scheme, parts.hostname or "", port or {"http": 80, "https": 443}[parts.scheme], parts.path
