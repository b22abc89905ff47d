from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from toolring.supervisor import web as module
from toolring.supervisor.web import LOOK_SECONDS, Monitored, Web


class Door(socket.socket):
    """Listens, and lets nobody in while there are no descriptors."""

    full = False
    tries = 0

    def accept(self) -> Any:
        if self.full:
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class Served:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        listening = module._listening
        monkeypatch.setattr(module, "_listening", lambda *of: Door(fileno=listening(*of).detach()))
        self.web = Web("metrics.listen", ("127.0.0.1", 0), Monitored(), lambda: None, lambda: self.now)
        door = self.web._socket
        assert isinstance(door, Door)
        self.door = door
        self.clients: list[socket.socket] = []

    def connected(self) -> socket.socket:
        host, port = self.door.getsockname()
        self.clients.append(socket.create_connection((host, port), timeout=10))
        return self.clients[-1]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    served = Served(monkeypatch)
    yield served
    for client in served.clients:
        client.close()
    served.web.close()


def asked(client: socket.socket) -> bytes:
    """The first line of an answer that needs nobody but the server's thread."""
    client.sendall(b"GET /nothing HTTP/1.1\r\n\r\n")
    return client.makefile("rb").readline().strip()


def test_without_descriptors_it_rests_and_serves_those_who_are_in(served: Served) -> None:
    known = [served.connected() for _ in range(3)]
    assert asked(known.pop()) == b"HTTP/1.1 404 Not Found", "and the others have been let in before"
    served.door.full = True
    late = served.connected()
    for _ in range(2):
        assert asked(known.pop()) == b"HTTP/1.1 404 Not Found"
    assert served.door.tries == 1
    served.door.full = False
    served.now += LOOK_SECONDS
    served.web._ring()
    assert asked(late) == b"HTTP/1.1 404 Not Found"


def test_a_rest_ends_with_nobody_connected(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    served.door.full = True
    late = served.connected()
    while served.web._rests_until is None:
        pass
    served.door.full = False
    served.now += LOOK_SECONDS
    assert asked(late) == b"HTTP/1.1 404 Not Found"
