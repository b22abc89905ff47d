"""Where a node listens and a client looks: ipc paths and loopback TCP, nothing else without encryption."""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path

from toolring.errors import AddressError

ENVIRONMENT = "TOOLRING_ADDRESS"
IPC_LIMIT = 107  # bytes of a path in sockaddr_un, on Linux


def default_address() -> str:
    """TOOLRING_ADDRESS, or else the ipc socket of this user."""
    return os.environ.get(ENVIRONMENT) or f"ipc://{runtime_directory() / 'node.sock'}"


def runtime_directory() -> Path:
    """A directory that only this user can enter: under XDG_RUNTIME_DIR, or in /tmp with the user's number."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isdir(base):
        return Path(base) / "toolring"
    return Path("/tmp") / f"toolring-{os.getuid()}"


def private(directory: Path) -> Path:
    """Make a directory that only this user can enter, or make sure that it is one. Raises AddressError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise AddressError(f"can't make the directory {directory}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise AddressError(f"{directory} must be a directory of this user that nobody else can write to (chmod 700)")
    return directory


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of HOST:PORT; a host that holds colons stands in brackets. Raises AddressError."""
    host, _, port = text.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    plain = host == name and ":" not in host
    if not name or not (plain or host == f"[{name}]") or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise AddressError(f"{text!r} is not HOST:PORT; use 127.0.0.1:9464 (port 0 for any free one)")
    return name, int(port)


def is_loopback(host: str) -> bool:
    """Can this host be reached from this machine only?"""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(address: str, *, any_port: bool = True) -> str:
    """The address, if it may be used. Raises AddressError for anything but ipc and loopback TCP.

    ``any_port``: may the port be 0 or ``*``, for whatever is free? For a node only.
    """
    if not address.isprintable():
        raise AddressError(f"{address!r} is not an address: it holds characters that can't be printed")
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in ("ipc", "tcp") or not rest:
        raise AddressError(f"{address!r} is not an address; use ipc:///path/to.sock or tcp://127.0.0.1:PORT")
    if scheme == "ipc":
        if rest.startswith("@"):
            raise AddressError(f"{address!r}: anybody on this machine could connect to an abstract socket; use a path")
        if len(os.fsencode(rest)) > IPC_LIMIT:
            raise AddressError(f"the path of {address!r} is longer than {IPC_LIMIT} bytes, which sockets don't allow")
        return address
    host, _, port = rest.rpartition(":")
    if not (port == "*" or (port.isascii() and port.isdigit() and int(port[:6]) < 65536)):
        raise AddressError(f"{address!r} has no port; use tcp://127.0.0.1:PORT (port 0 or * for any free one)")
    if not any_port and (port == "*" or int(port) == 0):
        raise AddressError(f"{address!r} names no port; use the one that the node said it is ready at")
    name = host.strip("[]")
    if not is_loopback(name):
        raise AddressError(f"{address!r} is not on loopback: anybody could call tools there, and nothing is encrypted")
    return address.replace("localhost", "127.0.0.1") if name == "localhost" else address
