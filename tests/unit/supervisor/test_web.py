from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from toolring.supervisor import web as module
from toolring.supervisor.web import LOOK_SECONDS, Monitored, Reply, Request, Web


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
        listening = module.listening
        monkeypatch.setattr(module, "listening", lambda *of: Door(fileno=listening(*of).detach()))
        self.web = Web("metrics.listen", ("127.0.0.1", 0), Monitored("127.0.0.1"), lambda: None, lambda: self.now)
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


@pytest.mark.parametrize("host", ["localhost:9464", "127.0.0.1", "127.0.0.2:1", "[::1]:9464", "LOCALHOST", None])
def test_on_loopback_it_is_asked_by_the_names_of_that(host: str | None) -> None:
    headers = {} if host is None else {"host": host}
    assert Monitored("127.0.0.1").answer(Request("/metrics", "", headers)) is None


@pytest.mark.parametrize("host", ["", "evil.example:9464", "127.0.0.1.evil.example", "10.0.0.7", "[::1", "localhost:x"])
def test_on_loopback_it_is_asked_by_no_other_name_and_elsewhere_by_any(host: str) -> None:
    request = Request("/metrics", "", {"host": host})
    refused = Monitored("localhost").answer(request)
    assert refused is not None
    assert refused.status == 421
    assert Monitored("0.0.0.0").answer(request) is None
    assert Monitored("node.example").answer(request) is None


def test_an_answer_that_comes_after_its_end_is_written_nowhere(served: Served) -> None:
    client = served.connected()
    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    while not served.web.asked:
        pass
    bell = served.web._bell_write
    served.web.close()
    reads, writes = socket.socketpair()
    os.dup2(writes.fileno(), bell)  # as if somebody had opened it meanwhile
    served.web.asked.popleft().reply(Reply(200, "text/plain", [b"late"]))
    reads.setblocking(False)
    with pytest.raises(BlockingIOError):
        reads.recv(1)
    os.close(bell)
    reads.close()
    writes.close()


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
