"""What the process tests stand on: a node started through the real command line, and conditions waited for.

Nothing here sleeps for a result: ``eventually`` polls a condition, and a generous time limit only says that it failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from toolring import Client
from toolring.errors import ToolringError

HERE = Path(__file__).parent
FAULTS = HERE / "faults.py"
COMMAND = [str(Path(sys.executable).with_name("toolring"))]
PATIENCE = 20.0
"""Seconds after which a condition counts as failed. No test passes because of it."""

T = TypeVar("T")


def eventually(condition: Callable[[], T | None], what: str = "", timeout: float = PATIENCE) -> T:
    """The first true value of a condition; fails the test if there is none in time."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}; the last value was {value!r}")
        time.sleep(0.004)


def failure(call: Callable[[], Any]) -> ToolringError:
    """The toolring error that a call ends in."""
    try:
        value = call()
    except ToolringError as error:
        return error
    raise AssertionError(f"no error, but {value!r}")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def alive(pid: int) -> bool:
    """Does the process exist, other than as a zombie that nobody has reaped yet?"""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def bystanders(mark: str) -> list[str]:
    """Live processes with ``mark`` on their command line."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(mark in word for word in words):
            found.append(f"{process.info['pid']}: {' '.join(words)}")
    return found


UP = re.compile(r"toolring is (?:ready|up, .*) at (\S+) with ")
"""What serve says once it listens, and has workers or knows that there are none."""


class Background(threading.Thread):
    """A call in a thread of its own; ``join`` it, then read ``value`` or ``error``."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.value: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.value = self._call()
        except BaseException as error:
            self.error = error

    def result(self, timeout: float = PATIENCE) -> Any:
        self.join(timeout)
        assert not self.is_alive(), "the call was never answered"
        if self.error is not None:
            raise self.error
        return self.value


class Node:
    """A running ``toolring serve``."""

    def __init__(
        self, directory: Path, target: str | Path, workers: int, bind: str | None, env: Mapping[str, str]
    ) -> None:
        self.directory = directory
        self.bind = bind or f"ipc://{directory}/node.sock"
        self.address = self.bind
        self._run = directory / "run"
        self._run.mkdir(exist_ok=True)
        self._arguments = [*COMMAND, "serve", str(target), "--bind", self.bind, "--workers", str(workers)]
        self._env = environment(XDG_RUNTIME_DIR=str(self._run), **env)
        self._lives = 0
        self._seen: dict[int, psutil.Process] = {}
        self.start()

    def start(self) -> None:
        """Start it, or start it again at the same address."""
        self._lives += 1
        self.out, self.err = (self.directory / f"{name}{self._lives}" for name in ("out", "err"))
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self._env, cwd=self.directory
            )

    def until_ready(self) -> Node:
        def ready() -> bool:
            assert self.process.poll() is None, f"serve ended with {self.process.returncode}: {self.err.read_text()}"
            return UP.search(self.out.read_text()) is not None

        eventually(ready, "the node is ready")
        found = UP.search(self.out.read_text())
        assert found is not None
        self.address = found[1]
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.err.read_text()

    def client(self, **options: Any) -> Client:
        return Client(self.address, **options)

    def status(self) -> dict[str, Any]:
        with self.client() as client:
            return client.status()

    def workers(self) -> list[int]:
        """Pids of those that can take jobs."""
        return [w["pid"] for w in self.status()["workers"] if w["state"] in ("ready", "busy")]

    def until_whole(self, workers: int = 2) -> dict[str, Any]:
        """Wait until it is healthy, with every worker ready, idle, and nothing being ended."""

        def whole() -> dict[str, Any] | None:
            status = self.status()
            good = status["state"] == "healthy" and not status["ending"]
            return status if good and [w["state"] for w in status["workers"]] == ["ready"] * workers else None

        return eventually(whole, "the node is whole again")

    def tree(self) -> list[psutil.Process]:
        try:
            me = psutil.Process(self.pid)
            return [me, *me.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def remember(self) -> None:
        """Take down who belongs to the node now, so that whoever is left over is found later."""
        self._seen.update({process.pid: process for process in self.tree()})

    def zygote(self) -> int:
        """The one child of the supervisor that has the workers as children."""

        def found() -> int | None:  # none while all workers have just died, and something may end while it is looked at
            workers = set(self.workers())
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.pid).children():
                    if workers & {each.pid for each in child.children()}:
                        return child.pid
            return None

        return eventually(found, "a zygote has workers")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """kill -9, and nothing of it may be left."""
        self.remember()
        self.process.kill()
        self.process.wait()
        self.nobody_left()

    def nobody_left(self, timeout: float = 5.0) -> None:
        def gone() -> bool:
            return not [p for p in self._seen.values() if p.is_running() and alive(p.pid)] and not bystanders(self.bind)

        try:
            eventually(gone, timeout=timeout)
        except AssertionError:
            left = [p for p in self._seen.values() if p.is_running() and alive(p.pid)]
            names = [(p.pid, p.cmdline()[:6]) for p in left] + bystanders(self.bind)
            for process in left:
                process.kill()
            raise AssertionError(f"processes were left: {names}") from None

    def close(self) -> None:
        """End it as an operator would, and see that nothing is left."""
        self.remember()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.terminate()  # a second one stops at once
                try:
                    self.process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                    self.nobody_left()
                    raise AssertionError(f"two SIGTERMs did not end the node: {self.log[-2000:]}") from None
        self.nobody_left()
        assert "Traceback" not in self.log, self.log[-4000:]
        if self.process.returncode >= 0:
            left = [
                str(path) for path in self.directory.rglob("*") if path.is_socket() or path.suffix in (".lock", ".back")
            ]
            assert not left, f"sockets were left: {left}"


def addresses(nodes: list[Node]) -> list[str]:
    return [node.address for node in nodes]


def owners(nodes: list[Node]) -> dict[int, str]:
    """The node of each process that is the parent of workers."""
    return {node.zygote(): node.address for node in nodes}


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that configures toolring."""
    unwanted = ("TOOLRING_", "PYTHONDONTWRITEBYTECODE")  # without bytecode each process compiles all of toolring
    clean = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    private = more.get("XDG_RUNTIME_DIR")  # no result of one test is another's
    return {**clean, "PYTHONUNBUFFERED": "1", **({"XDG_CACHE_HOME": private} if private else {}), **more}


@contextmanager
def place() -> Iterator[Path]:
    """A private directory with a path short enough for a socket."""
    directory = Path(tempfile.mkdtemp(prefix="tr-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running(
    target: str | Path = FAULTS,
    *,
    workers: int = 2,
    bind: str | None = None,
    directory: Path | None = None,
    wait: bool = True,
    **env: str,
) -> Iterator[Node]:
    """A node for the length of a ``with``; afterwards no process and no socket of it may be left."""
    with place() as own:
        node = Node(directory or own, target, workers, bind, env)
        try:
            if wait:
                node.until_ready()
            yield node
        except BaseException:
            sys.stderr.write(f"--- the node's log\n{node.log[-6000:]}\n")
            raise
        finally:
            node.close()


def run_cli(
    *words: str, address: str | None = None, timeout: float = PATIENCE, **env: str
) -> subprocess.CompletedProcess[str]:
    """One ``toolring`` command, to its end."""
    more = {"TOOLRING_ADDRESS": address} if address else {}
    return subprocess.run(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(**more, **env),
        check=False,
    )


def kill_one(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
