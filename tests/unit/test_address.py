from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring import address
from toolring.errors import AddressError


@pytest.mark.parametrize(
    "good",
    [
        "ipc:///tmp/x.sock",
        "ipc://relative.sock",
        "tcp://127.0.0.1:5555",
        "tcp://127.3.4.5:*",
        "tcp://127.0.0.1:0",
        "tcp://[::1]:80",
    ],
)
def test_what_may_be_used(good: str) -> None:
    assert address.check(good) == good


def test_localhost_is_written_out() -> None:
    assert address.check("tcp://localhost:80") == "tcp://127.0.0.1:80"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "not an address"),
        ("127.0.0.1:5555", "not an address"),
        ("ipc://", "not an address"),
        ("http://127.0.0.1:80", "not an address"),
        ("inproc://x", "not an address"),
        ("tcp://127.0.0.1", "no port"),
        ("tcp://127.0.0.1:", "no port"),
        ("tcp://127.0.0.1:65536", "no port"),
        ("tcp://127.0.0.1:-1", "no port"),
        ("tcp://127.0.0.1:²", "no port"),
        ("tcp://127.0.0.1:" + "9" * 5000, "no port"),
        ("tcp://0.0.0.0:80", "not on loopback"),
        ("tcp://*:80", "not on loopback"),
        ("tcp://192.168.1.1:80", "not on loopback"),
        ("tcp://example.org:80", "not on loopback"),
        ("tcp://[::]:80", "not on loopback"),
        ("ipc:///" + "x" * 107, "longer than 107 bytes"),
        ("ipc:///tmp/\0", "can't be printed"),
        ("ipc:///tmp/\ud800", "can't be printed"),
    ],
)
def test_what_is_refused(bad: str, why: str) -> None:
    with pytest.raises(AddressError, match=why):
        address.check(bad)


@given(st.text() | st.builds("tcp://{}:{}".format, st.text(), st.text()) | st.builds("ipc://{}".format, st.text()))
def test_garbage_is_refused_and_nothing_worse(text: str) -> None:
    with suppress(AddressError):
        assert address.check(text).startswith(("ipc://", "tcp://"))


def test_the_path_is_counted_in_bytes() -> None:
    assert address.check("ipc:///" + "x" * 106)
    with pytest.raises(AddressError):
        address.check("ipc:///" + "é" * 54)


def test_the_default_is_the_environment_or_the_users_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOOLRING_ADDRESS", "tcp://127.0.0.1:7")
    assert address.default_address() == "tcp://127.0.0.1:7"
    monkeypatch.setenv("TOOLRING_ADDRESS", "")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert address.default_address() == f"ipc://{tmp_path}/toolring/node.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert address.default_address() == f"ipc:///tmp/toolring-{os.getuid()}/node.sock"


def test_a_private_directory_is_made_and_accepted_again(tmp_path: Path) -> None:
    made = address.private(tmp_path / "a" / "b")
    assert made.stat().st_mode & 0o777 == 0o700
    assert address.private(made) == made


def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(AddressError, match="nobody else can write"):
        address.private(tmp_path / "open")


def test_a_link_or_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(AddressError):
            address.private(tmp_path / name)
