"""Runs a command for each alert, in a thread of its own and one at a time: however long it takes, no job waits.

The command is a program with its arguments, never a shell's line. It hears of the alert by TOOLRING_ALERT_* in its
environment and by JSON on its standard input; what it prints goes to the log. One that takes too long is killed, and
so is what it has left behind. A node that is killed leaves a run that is under way alone: it ends by itself.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import IO, Any, Final

from toolring.errors import ConfigError
from toolring.plugins.specs import AlertEvent

WAITING: Final = 64
"""Alerts that wait while one is told; further ones are dropped, and counted."""
MOST_OUTPUT: Final = 4096
"""Bytes of what it prints that go to the log."""
_SLICE: Final = 0.1
"""Seconds; so soon it is noticed that it has ended and left its output open."""


class Notifier:
    """One command's. ``note`` writes a line to the log, from any thread."""

    def __init__(
        self,
        command: tuple[str, ...],
        timeout: float,
        about: Mapping[str, Any],
        note: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """``about``: what it is told of the node with each alert. Raises ConfigError for a program that isn't there."""
        check_program(command)
        self._command = command
        self._timeout = timeout
        self._about = about
        self._note = note
        self.sent = 0
        self.failed = 0
        self.dropped = 0
        self._closing = False
        self._queue: queue.Queue[AlertEvent | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="alert-command", daemon=True)
        self._thread.start()

    def offer(self, event: AlertEvent) -> None:
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.dropped += 1

    def figures(self) -> dict[str, int]:
        return {"sent": self.sent, "failed": self.failed, "dropped": self.dropped}

    @property
    def running(self) -> bool:
        """Is its thread at work?"""
        return self._thread.is_alive()

    def close(self, patience: float = 1.0) -> None:
        """Let it tell what waits, for so long at most; what still runs then is killed."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            pass  # it won't come to that
        self._thread.join(patience)
        self._closing = True
        self._thread.join(1.0)

    # ---- its thread

    def _run(self) -> None:
        while not self._closing:
            event = self._queue.get()
            if event is None:
                return
            try:
                why, output = self._tell(event)
            except OSError as error:
                why, output = f"{type(error).__name__}: {error}", ""
            if why:
                self.failed += 1
                facts = {"alert": event.alert, "state": event.state, "reason": why}
                self._note("alert_command_failed", {**facts, **({"output": output} if output else {})})
                continue
            self.sent += 1
            if output:
                self._note("alert_command", {"alert": event.alert, "state": event.state, "output": output})

    def _tell(self, event: AlertEvent) -> tuple[str, str]:
        """Run it once. Gives what went wrong, empty if nothing did, and what it printed."""
        facts = {**self._about, "time": time.time(), **asdict(event)}
        texts = {name: "" if value is None else str(value) for name, value in facts.items()}
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **{_variable(name): text for name, text in texts.items()}},
            start_new_session=True,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(facts).encode() + b"\n")  # less than a pipe holds
                process.stdin.close()
            except BrokenPipeError:
                pass  # it doesn't want to know
            printed, in_time = self._watch(process, process.stdout)
            _end_group(process.pid)  # as long as it is not reaped its number is nobody else's
        output = printed.decode(errors="replace").strip()
        if not in_time:
            return f"it took more than {self._timeout:g} s, and was killed", output
        return (f"it ended with status {process.returncode}" if process.returncode else ""), output

    def _watch(self, process: subprocess.Popen[bytes], pipe: IO[bytes]) -> tuple[bytes, bool]:
        """What it prints until it ends, and whether it did so in time."""
        end = time.monotonic() + self._timeout
        kept = b""
        os.set_blocking(pipe.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            opened = True
            while True:
                over = _ended(process.pid)
                while opened and selector.select(0 if over else _SLICE):
                    data = pipe.read(1 << 16)
                    if not data:
                        opened = False
                        selector.unregister(pipe)
                        break
                    kept = (kept + data)[:MOST_OUTPUT]
                    if time.monotonic() >= end:
                        break
                if over:
                    return kept, True
                if self._closing or time.monotonic() >= end:
                    return kept, False
                if not opened:
                    time.sleep(_SLICE)  # it runs on without an output that would tell of its end


def check_program(command: tuple[str, ...]) -> None:
    if shutil.which(command[0]) is None:
        raise ConfigError(f"alerting.command: there is no program {command[0]!r}", key="alerting.command")


def _variable(name: str) -> str:
    return "TOOLRING_ALERT" if name == "alert" else f"TOOLRING_ALERT_{name.upper()}"


def _ended(pid: int) -> bool:
    """Has it ended? It is left to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(pid: int) -> None:
    """It, and what it has started and left behind."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
