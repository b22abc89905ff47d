"""`toolring top` over real nodes, in a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.process.kit import COMMAND, PATIENCE, Node, environment, eventually, run_cli, running
from toolring import Client

ESCAPES = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_]|\][^\x07]*\x07)")


class Terminal:
    """A program on a terminal of its own; what it has written so far, without escapes."""

    def __init__(self, *words: str, rows: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment(TERM="xterm-256color"),
        )
        os.close(slave)
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                more = os.read(self._master, 65536)
            except OSError:  # nobody has the other side any more
                return
            self._written += more

    @property
    def raw(self) -> bytes:
        return self._written

    @property
    def text(self) -> str:
        return ESCAPES.sub(b"", self._written).decode(errors="replace")

    def shows(self, *words: str) -> None:
        eventually(lambda: all(word in self.text for word in words), f"the terminal shows {words}")

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        os.close(self._master)


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    one = Terminal(*words)
    try:
        yield one
    finally:
        one.close()


def test_one_frame_as_text(node: Node, client: Client) -> None:
    client.call("echo", {"x": 1})
    done = run_cli("top", "--once", address=node.address)
    assert done.returncode == 0
    assert "workers 2/2 ready" in done.stdout
    assert re.search(r"^echo +\d", done.stdout, re.M)
    assert "\x1b" not in done.stdout


def test_frames_as_json_are_one_in_each_line(node: Node, client: Client) -> None:
    words = [*COMMAND, "top", "--json", "--interval", "0.1", "--address", node.address]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    with process.stdout as out:
        first = json.loads(out.readline())
        for _ in range(20):
            client.call("echo", {"x": 1})
        answered = next(one["answered"] for one in first["tools"] if one["tool"] == "echo")
        for line in out:
            frame = json.loads(line)
            [echo] = [one for one in frame["tools"] if one["tool"] == "echo"]
            assert set(frame) == set(first)
            if echo["answered"] >= answered + 20:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def test_a_node_that_is_not_there(node: Node) -> None:
    nobody = f"ipc://{node.directory}/nobody.sock"
    done = run_cli("top", "--once", "--json", "--address", node.address, "--address", nobody)
    here, there = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 4
    assert here["node"]["ready"] == 2
    assert (there["node"]["address"], there["error"]["code"]) == (nobody, "UNREACHABLE")


def test_without_a_terminal_or_with_a_bad_interval_it_says_what_to_do(node: Node) -> None:
    done = run_cli("top", address=node.address)
    assert done.returncode == 2
    assert "--once" in done.stderr
    done = run_cli("top", "--once", "--interval", "0", address=node.address)
    assert (done.returncode, "--interval" in done.stderr) == (2, True)


def test_keys_in_a_terminal_recycle_a_worker(node: Node) -> None:
    status = node.status()
    before, renewed = {worker["id"]: worker["pid"] for worker in status["workers"]}, status["renewed"]
    with terminal("top", "--interval", "0.2", "--address", node.address) as top:
        top.shows("workers 2/2 ready", str(before[0]))
        top.press("x")
        top.shows(f"Recycle worker 0 (pid {before[0]})?")
        top.press("y")
        eventually(lambda: node.status()["renewed"] > renewed, "the worker is replaced")
        after = {worker["id"]: worker["pid"] for worker in node.until_whole()["workers"]}
        assert after[0] != before[0]
        assert after[1] == before[1]
        top.shows(str(after[0]))
        top.press("q")
        assert top.process.wait(PATIENCE) == 0


def test_ctrl_c_and_sigterm_leave_the_terminal_as_it_was(node: Node) -> None:
    for end, status in ((lambda top: top.press("\x03"), 0), (lambda top: top.process.terminate(), 143)):
        with terminal("top", "--interval", "0.2", "--address", node.address) as top:
            top.shows("workers 2/2 ready")
            end(top)
            assert top.process.wait(PATIENCE) == status
            assert top.raw.count(b"\x1b[?1049h") == top.raw.count(b"\x1b[?1049l") == 1


def test_it_waits_for_a_node_that_is_drained_and_started_again() -> None:
    with running(workers=1) as node, terminal("top", "--interval", "0.2", "--address", node.address) as top:
        top.shows("workers 1/1 ready")
        top.press("d")
        top.shows(f"Drain {node.address}?")
        top.press("y")
        assert node.wait() == 0
        top.shows("is away")
        node.start()
        node.until_ready()
        top.shows(f"pid {node.pid}")
        top.press("q")
        assert top.process.wait(PATIENCE) == 0
