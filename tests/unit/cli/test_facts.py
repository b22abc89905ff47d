"""What stands at an address."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolring.cli.facts import _listening


@pytest.fixture
def listens(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listens:
        listens.bind(str(tmp_path / "node.sock"))
        listens.listen(0)
        yield listens


def test_a_node_that_takes_nobody_more_is_a_node(tmp_path: Path, listens: socket.socket) -> None:
    path = tmp_path / "node.sock"
    found: list[str] = []
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for one in (first, second):
            one.setblocking(False)
        assert [one.connect_ex(str(path)) for one in (first, second)] == [0, errno.EAGAIN], "it is full"
        asks = threading.Thread(target=lambda: found.append(_listening(path)), daemon=True)
        asks.start()
        asks.join(10)
    assert found == ["node"]


def test_what_else_there_may_be(tmp_path: Path, listens: socket.socket) -> None:
    path = tmp_path / "node.sock"
    (tmp_path / "file").touch()
    assert [_listening(path), _listening(tmp_path / "none"), _listening(tmp_path / "file")] == [
        "node",
        "nothing",
        "other",
    ]
    listens.close()
    assert _listening(path) == "stale"
