"""Who may look at the dashboard, and what is there before anybody asks the node: the page and its scripts.

The files are for everybody who reaches the address under its own name; what the node tells is for those who know the
token, if there is one. A page of another site can't ask through a visitor's browser: a name that has been bound to this
address for that purpose (DNS rebinding) is none of those that are known here.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec

from toolring.supervisor.web import Reply, Request, name_of

STATIC: Final = Path(__file__).parent / "static"
API: Final = ("/api/node", "/api/timeline", "/api/tools", "/api/ring", "/api/jobs", "/api/job")
JSON: Final = "application/json"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def refusal(status: HTTPStatus, code: str, message: str) -> Reply:
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return Reply(status, JSON, [body])


class Guard:
    """The dashboard's site. ``host`` is where it listens; without a token everybody there may look."""

    headers = HEADERS

    def __init__(self, host: str, token: str, static: Path = STATIC) -> None:
        self._names = _NAMES | {host.lower()}
        self._any_number = host in ("0.0.0.0", "::")
        self._token = token.encode()
        files = sorted(path for path in static.iterdir() if path.suffix in _KINDS)
        self._files = {
            f"/{path.name}": Reply(HTTPStatus.OK, _KINDS[path.suffix], [path.read_bytes()]) for path in files
        }
        self._files["/"] = self._files.pop("/index.html")
        self.paths = (*self._files, *API)

    def answer(self, request: Request) -> Reply | None:
        if not self._known(request.headers.get("host", "")):
            text = "this name is not one of the dashboard's; use the address that the node says it is at"
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, "WRONG_HOST", text)
        if request.path in self._files:
            return self._files[request.path]
        if self._token and not self._knows(request.headers.get("authorization", "")):
            return refusal(HTTPStatus.UNAUTHORIZED, "NO_TOKEN", "send the dashboard.token: Authorization: Bearer TOKEN")
        return None

    def _known(self, host: str) -> bool:
        """A tunnel may end at any port, so only the name counts."""
        name = name_of(host.lower())
        return name in self._names or (self._any_number and _is_number(name))

    def _knows(self, authorization: str) -> bool:
        kind, _, token = authorization.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)


def _is_number(name: str) -> bool:
    """An address rather than a name: nobody can have bound that to another one."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
