"""Tools that do everything a tool should not do. Served by the process tests; they tell what they did in files."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from toolring import Context, tool
from toolring.errors import ToolError


def _append(path: str, text: str) -> None:
    """One line by one write, so that lines of several processes don't mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


# ---- those that behave


@tool(read_only=True)
def echo(x: Any) -> Any:
    return x


@tool(read_only=True)
def where() -> int:
    """The worker's pid."""
    return os.getpid()


@tool(read_only=True)
def nap(seconds: float, x: int = 0) -> int:
    time.sleep(seconds)
    return x


@tool(read_only=True, cache=60)
def square(x: int) -> int:
    return x * x


@tool(read_only=True, cache=3600, tags=("ledger", "file:{path}"))
def tally(path: str, mark: str = "run", seconds: float = 0.0) -> int:
    """Cached, with a ledger of its runs: how many there were, this one included."""
    _append(path, mark)
    if seconds:
        time.sleep(seconds)
    return len(Path(path).read_text().splitlines())


@tool(invalidates=("file:{path}",))
def change(path: str, how: str = "return") -> None:
    """Makes what ``tally`` said of this file untrue, and ends as told."""
    if how == "hang":
        _append(path + ".hangs", "now")
        time.sleep(3600)
    if how == "raise":
        raise RuntimeError("as told")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)


@tool(read_only=True, cache=3600, cache_scope="partition")
def whose(path: str) -> int:
    return tally.function(path)


@tool(read_only=True, cache=3600, cache_scope="caller")
def mine(path: str) -> int:
    return tally.function(path)


@tool(read_only=True, cache=0.3, cache_stale=3600)
def aging(path: str) -> int:
    return tally.function(path)


@tool(read_only=True, cache=3600, cache_errors=3600)
def fails_once(path: str) -> int:
    if tally.function(path) == 1:
        raise RuntimeError("the first time it fails")
    return 2


@tool
def note(path: str, number: int, seconds: float = 0.0) -> int:
    """Not repeatable: leaves its number in a ledger outside the product."""
    _append(path, str(number))
    if seconds:
        time.sleep(seconds)
    return number


@tool(read_only=True)
def fail(message: str) -> None:
    raise ValueError(message)


@tool(read_only=True)
def big(size: int) -> bytes:
    return b"x" * size


# ---- those that wait until they are let go: <path> tells that they run, <path>.open lets them end


def _gate(path: str, context: Context) -> dict[str, int]:
    _append(path, f"{os.getpid()} {context.attempt}")
    try:
        while not os.path.exists(f"{path}.open"):
            time.sleep(0.002)
    finally:
        _append(f"{path}.cleaned", str(os.getpid()))
    return {"pid": os.getpid(), "attempt": context.attempt}


@tool(read_only=True)
def gate(path: str, context: Context) -> dict[str, int]:
    return _gate(path, context)


@tool
def gate_once(path: str, context: Context) -> dict[str, int]:
    return _gate(path, context)


@tool(read_only=True, timeout=0.3)
def gate_short(path: str, context: Context) -> dict[str, int]:
    return _gate(path, context)


# ---- those that die


def _die(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "exit":
        os._exit(3)
    elif how == "sys.exit":
        sys.exit(3)
    elif how == "memory":
        raise MemoryError("no more")
    elif how == "interrupt":
        raise KeyboardInterrupt
    else:
        raise ValueError(how)


@tool
def die(how: str) -> None:
    _die(how)


@tool(read_only=True)
def die_always(how: str, path: str) -> None:
    _append(path, str(os.getpid()))
    _die(how)


@tool(read_only=True)
def die_first(how: str, context: Context) -> int:
    if context.attempt == 1:
        _die(how)
    return context.attempt


@dataclass
class Deadly:
    how: str

    def __post_init__(self) -> None:
        _die(self.how)


@tool(read_only=True)
def takes_deadly(what: Deadly) -> None:
    """Its worker dies while the arguments are validated, before the tool is called."""


# ---- those that hang


@tool(read_only=True)
def hang(how: str, path: str) -> None:
    _append(path, str(os.getpid()))
    try:
        _hang(how, path)
    finally:
        _append(f"{path}.cleaned", str(os.getpid()))


def _hang(how: str, path: str) -> None:
    if how == "sleep":
        time.sleep(1000)
    elif how == "loop":
        while True:
            pass
    elif how == "regex":
        re.match(r"(a+)+$", "a" * 40 + "b")
    elif how == "sum":
        sum(range(10**12))
    elif how == "pbkdf2":
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)
    elif how == "swallow":
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                _append(f"{path}.swallowed", "again")
    elif how == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        time.sleep(1000)
    elif how == "child":
        subprocess.run(["sleep", "1000.5"], check=False)
    else:
        raise ValueError(how)


@tool(read_only=True)
def slow_cleanup(path: str) -> None:
    """Cleans up in several steps, which further interrupts must not break into."""
    _append(path, str(os.getpid()))
    try:
        time.sleep(1000)
    finally:
        for step in range(30):
            time.sleep(0.01)
            _append(f"{path}.steps", str(step))


@tool(read_only=True)
def with_child(path: str, how: str = "subprocess") -> None:
    """Starts a process of its own, tells its pid, and waits."""
    if how == "fork":
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
            os._exit(0)
    else:
        pid = subprocess.Popen(["sleep", "1000.25"]).pid
    _append(path, f"{os.getpid()} {pid}")
    while not os.path.exists(f"{path}.open"):
        time.sleep(0.005)


# ---- those whose results are odd


@tool(read_only=True)
def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@tool(read_only=True)
def raw(data: bytes) -> msgspec.Raw:
    """Claims that any bytes are msgpack."""
    return msgspec.Raw(data)


@tool(read_only=True)
def odd_error(facts: dict[str, Any]) -> None:
    raise ToolError("odd", **facts)


@tool(read_only=True)
def unsendable() -> Any:
    return object()


@tool(read_only=True)
def module_file() -> str:
    return str(Path(__file__))


@tool(read_only=True, cache=3600, tags=("odd:{value}",))
def odd_look(value: Any) -> int:
    return 1


@tool(invalidates=("odd:{value}",))
def odd_change(value: Any) -> int:
    return 2
