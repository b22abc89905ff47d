"""A small HTTP server for what monitors a node, and for who looks at it. GET and HEAD, nothing else.

One thread with non-blocking sockets; connections, requests and times are bounded. It knows no figures: it asks the
supervisor's loop, which answers between its turns, so nothing that anybody does here can hold up a job.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from toolring.address import is_loopback
from toolring.errors import AddressError

MOST_CONNECTIONS: Final = 32
MOST_REQUEST: Final = 8 << 10
ARRIVE_SECONDS: Final = 5.0
"""What a request may take to arrive,"""
ANSWER_SECONDS: Final = 10.0
"""the loop to answer it,"""
LEAVE_SECONDS: Final = 30.0
"""and its client to take the answer."""
LOOK_SECONDS: Final = 1.0
"""So often it looks whose time is over; and for so long it lets nobody in once that has failed, as for want of
descriptors."""
PATHS: Final = ("/metrics", "/healthz", "/readyz")
_TEXT: Final = "text/plain; charset=utf-8"
_ALSO: Final[Mapping[int, str]] = {
    HTTPStatus.METHOD_NOT_ALLOWED: "Allow: GET, HEAD\r\n",
    HTTPStatus.UNAUTHORIZED: "WWW-Authenticate: Bearer\r\n",
}


class Reply(NamedTuple):
    status: int
    content_type: str
    body: Sequence[bytes]
    """In pieces that are sent as they are: this thread holds nobody up by working on them."""


class Request(NamedTuple):
    """As it came, but for the name of its method, and names of headers in small letters."""

    path: str
    query: str
    headers: Mapping[str, str]


class Asked(NamedTuple):
    """A request, for the loop; ``reply`` may be called from any thread, once."""

    path: str
    accept: str
    reply: Callable[[Reply], None]
    query: str = ""


class Site(Protocol):
    """What is served at one address."""

    @property
    def paths(self) -> Collection[str]: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """Of every answer."""

    def answer(self, request: Request) -> Reply | None:
        """At once, in the server's thread, what doesn't need the node; None: the loop is to answer."""


class Answers(Protocol):
    """In the loop's thread, what a site leaves to it."""

    def answer(self, asked: Asked, now: float) -> None: ...


class Monitored:
    """The site for monitors: the loop answers everything. Who listens on loopback is asked by no other name: a page of
    another site might have bound its own to this address, and read the answers (DNS rebinding)."""

    paths = PATHS
    headers: Mapping[str, str] = {}

    def __init__(self, host: str) -> None:
        """``host``: where it listens."""
        self._guarded = is_loopback(host)

    def answer(self, request: Request) -> Reply | None:
        host = request.headers.get("host")  # a browser sends one
        if self._guarded and host is not None and not is_loopback(name_of(host.lower())):
            text = b"this is asked as 127.0.0.1 or localhost; to be asked by another name, listen on another address\n"
            return Reply(HTTPStatus.MISDIRECTED_REQUEST, _TEXT, [text])
        return None


class Web:
    """Listens from the start; ``wake`` makes the loop look into ``asked``, also from a thread."""

    def __init__(
        self,
        setting: str,
        address: tuple[str, int],
        site: Site,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``setting`` says where the address comes from. Raises AddressError if it can't listen there."""
        self.asked: deque[Asked] = deque()
        self._site = site
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in site.headers.items())
        self._wake = wake
        self._clock = clock
        host, port = address
        self._socket = listening(setting, host, port)
        port = int(self._socket.getsockname()[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._selector = selectors.DefaultSelector()
        self._bell_read, self._bell_write = os.pipe()
        self._bell = threading.Lock()
        """It is rung by others, and must not be closed by its thread meanwhile."""
        os.set_blocking(self._bell_read, False)
        os.set_blocking(self._bell_write, False)
        self._replies: deque[tuple[_Connection, Reply]] = deque()
        self._connections: set[_Connection] = set()
        self._closing = False
        self._rests_until: float | None = None
        """It doesn't listen until then."""
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        self._selector.register(self._bell_read, selectors.EVENT_READ, self._answer)
        self._thread = threading.Thread(target=self._run, name=setting.partition(".")[0], daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._ring()
        self._thread.join(1.0)

    # ---- its thread

    def _run(self) -> None:
        try:
            while not self._closing:
                waits = self._connections or self._rests_until is not None
                for key, _ in self._selector.select(LOOK_SECONDS if waits else None):
                    key.data()
                self._see_off()
        finally:
            for connection in list(self._connections):
                self._drop(connection)
            self._selector.close()
            self._socket.close()
            with self._bell:
                os.close(self._bell_read)
                os.close(self._bell_write)
                self._bell_write = -1  # its number may be another's from now on

    def _ring(self) -> None:
        with self._bell:
            if self._bell_write < 0:
                return
            try:
                os.write(self._bell_write, b"\0")
            except BlockingIOError:
                pass  # it rings already

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has left again
        except OSError:
            self._selector.unregister(self._socket)  # who waits would make it readable all the while
            self._rests_until = self._clock() + LOOK_SECONDS
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            client.close()
            return
        client.setblocking(False)
        connection = _Connection(client, self._clock() + ARRIVE_SECONDS)
        self._connections.add(connection)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(MOST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.request += data
        end = connection.request.find(b"\r\n\r\n")
        if end < 0 and len(connection.request) <= MOST_REQUEST:
            return
        self._selector.unregister(connection.socket)
        if end < 0 or end > MOST_REQUEST:
            self._send(connection, Reply(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TEXT, [b"too large\n"]))
            return
        self._ask(connection, bytes(connection.request[:end]))

    def _ask(self, connection: _Connection, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self._send(connection, Reply(HTTPStatus.BAD_REQUEST, _TEXT, [b"not HTTP/1.1\n"]))
            return
        method, (path, _, query) = words[0], words[1].partition("?")
        connection.body = method != "HEAD"
        if path not in self._site.paths:
            known = ", ".join(self._site.paths)
            self._send(connection, Reply(HTTPStatus.NOT_FOUND, _TEXT, [f"there is {known}\n".encode()]))
            return
        if method not in ("GET", "HEAD"):
            self._send(connection, Reply(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, [b"GET or HEAD\n"]))
            return
        headers = _headers(lines)
        at_once = self._site.answer(Request(path, query, headers))
        if at_once is not None:
            self._send(connection, at_once)
            return
        connection.until = self._clock() + ANSWER_SECONDS
        connection.asks = True
        accept = headers.get("accept", "")
        self.asked.append(Asked(path, accept, lambda reply: self._take(connection, reply), query))
        self._wake()

    def _take(self, connection: _Connection, reply: Reply) -> None:
        """From the loop's thread."""
        self._replies.append((connection, reply))
        self._ring()

    def _answer(self) -> None:
        try:
            os.read(self._bell_read, 512)
        except BlockingIOError:
            pass
        while self._replies:
            connection, reply = self._replies.popleft()
            if connection.asks and connection in self._connections:
                self._send(connection, reply)

    def _send(self, connection: _Connection, reply: Reply) -> None:
        connection.asks = False
        connection.until = self._clock() + LEAVE_SECONDS
        parts = reply.body
        status = HTTPStatus(reply.status)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {reply.content_type}\r\n"
            f"{_ALSO.get(status, '')}{self._headers}Content-Length: {sum(map(len, parts))}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        connection.out = deque(memoryview(part) for part in [head.encode(), *(parts if connection.body else [])])
        self._selector.register(connection.socket, selectors.EVENT_WRITE, lambda: self._write(connection))

    def _write(self, connection: _Connection) -> None:
        out = connection.out
        try:
            while out:
                sent = connection.socket.send(out[0])
                if sent < len(out[0]):
                    out[0] = out[0][sent:]
                    return
                out.popleft()
            connection.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            pass  # the client has left
        self._drop(connection)

    def _see_off(self) -> None:
        """Those whose time is over; and listen again, if it is time."""
        now = self._clock()
        if self._rests_until is not None and now >= self._rests_until:
            self._rests_until = None
            self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        for connection in [one for one in self._connections if now >= one.until]:
            if connection.asks:
                text = f"the node has not answered within {ANSWER_SECONDS:g} s\n"
                self._send(connection, Reply(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, [text.encode()]))
            else:
                self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        try:
            self._selector.unregister(connection.socket)
        except (KeyError, ValueError):
            pass  # it was waiting for the loop
        connection.socket.close()


class _Connection:
    """One client's, for one request."""

    __slots__ = ("asks", "body", "out", "request", "socket", "until")

    def __init__(self, client: socket.socket, until: float) -> None:
        self.socket = client
        self.until = until
        """It is closed then, whatever it is at."""
        self.request = bytearray()
        self.asks = False
        """The loop is to answer it."""
        self.body = True
        self.out: deque[memoryview] = deque()


def listening(setting: str, host: str, port: int) -> socket.socket:
    """Raises AddressError, with the setting that the address is from."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listens = socket.socket(family, kind, protocol)
        try:
            listens.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listens.bind(address)
            listens.listen(MOST_CONNECTIONS)
            listens.setblocking(False)
        except OSError:
            listens.close()
            raise
    except OSError as error:
        raise AddressError(f"{setting}: can't listen on {host}:{port}: {error.strerror}") from None
    return listens


def name_of(host: str) -> str:
    """A Host header without its port; empty if that is not what it looks like."""
    if host.startswith("["):
        name, end, port = host[1:].partition("]")
        return name if end and (not port or (port[0] == ":" and port[1:].isdigit())) else ""
    name, colon, port = host.partition(":")
    return name if not colon or port.isdigit() else ""


def _headers(lines: Sequence[str]) -> dict[str, str]:
    """By name; values of the same are put together."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        found[name] = f"{found[name]},{value}" if name in found else value
    return found
