"""Real HTTP servers on ports of their own, which do what they are told: answer, be slow, fail, hang, cut, go away."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Behaviour:
    """What a server does with each request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang: bool = False
    """It says nothing until it is told otherwise."""
    cut: bool = False
    """It closes the connection instead of an answer."""
    half: bool = False
    """It closes the connection in the middle of the body."""
    drip: float = 0.0
    """Seconds between the bytes of its body."""
    body: bytes | None = None
    head_drip: float = 0.0
    """Seconds between the lines of its head, of which there is no end."""


class Server:
    """One endpoint. ``seen`` holds what arrived; health checks (``/healthz``) are counted apart."""

    def __init__(self) -> None:
        self.does = Behaviour()
        self.well = True
        self.seen: list[Seen] = []
        self.checks = 0
        self.released = threading.Event()
        self._http: ThreadingHTTPServer | None = None
        self._sockets: set[socket.socket] = set()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; again at the same port after ``stop``."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server._sockets.add(self.connection)

            def finish(self) -> None:
                with suppress(OSError):
                    super().finish()
                server._sockets.discard(self.connection)

            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

            def log_message(self, *_words: Any) -> None:
                pass

            def answer(self) -> None:
                server.handle(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128
            allow_reuse_address = True

        self.released.clear()
        self._http = Listener(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more, and open connections are closed."""
        http, self._http = self._http, None
        self.released.set()
        if http is not None:
            http.shutdown()
            http.server_close()
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        body = handler.rfile.read(length)
        if handler.path == "/healthz":
            self.checks += 1
            self._say(handler, 200 if self.well else 503, {}, b"")
            return
        seen = Seen(handler.command, handler.path, {k.lower(): v for k, v in handler.headers.items()}, body)
        self.seen.append(seen)
        does = self.does
        if does.hang:
            self.released.wait(30)
        if does.delay:
            self.released.wait(does.delay)
        if does.cut or does.hang:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        while does.head_drip and not self.released.wait(does.head_drip):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        said = does.body
        if said is None:
            said = json.dumps({"port": self.port, "method": seen.method, "path": seen.path}).encode()
        headers = {"content-type": "application/json", **does.headers}
        self._say(handler, does.status, headers, said, does)

    def _say(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, does: Any = None
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        if does is not None and does.half:
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif does is not None and does.drip:
            for one in body:
                handler.wfile.write(bytes([one]))
                handler.wfile.flush()
                if self.released.wait(does.drip):
                    return
        else:
            handler.wfile.write(body)


@contextmanager
def servers(count: int, prepare: Callable[[Server], None] = lambda _server: None) -> Iterator[list[Server]]:
    """So many servers, gone afterwards."""
    started = [Server() for _ in range(count)]
    try:
        for one in started:
            prepare(one)
        yield started
    finally:
        for one in started:
            one.stop()
