"""Children: started without noise, ended for certain, weighed; and the CPU that strangers use meanwhile."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
_PR_SET_CHILD_SUBREAPER = 36


def environment(**more: str) -> dict[str, str]:
    """Ours, with this repository importable, and without settings of a node that might stand there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOOLRING_")}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **more}


def python(*arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start this interpreter; its standard output is a pipe."""
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment(**more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a child prints. Raises RuntimeError if it has ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with status {process.wait()} before it was ready")
    return line.rstrip("\n")


def end(processes: Iterable[subprocess.Popen[str]], patience: float = 10.0) -> None:
    """SIGTERM to all, SIGKILL to those who stay."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def adopt_orphans() -> None:
    """Descendants that lose their parent become our children, so that none can hide."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> list[str]:
    """Kill whatever is left below us; returns the command lines of what ran still."""
    left = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                left.append(" ".join(process.cmdline()))
                process.kill()
            process.wait(5)
        except psutil.Error:
            pass
    return left


def descendants() -> list[int]:
    return [process.pid for process in psutil.Process().children(recursive=True)]


def pss_mib(pids: Sequence[int]) -> float:
    """Memory with shared pages divided among those who share them."""
    total = 0
    for pid in pids:
        total += psutil.Process(pid).memory_full_info().pss
    return total / 2**20


def cpu_seconds(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


class Strangers(threading.Thread):
    """Samples how many cores processes outside our own tree use."""

    def __init__(self, period: float = 1.0) -> None:
        super().__init__(daemon=True)
        self._period = period
        self._halt = threading.Event()
        self._ours: set[int] = set()
        self._tick = os.sysconf("SC_CLK_TCK")
        self._last: tuple[float, dict[int, int]] | None = None
        self._samples: list[float] = []

    def sample(self) -> float:
        """Cores used by others since the last sample."""
        parents, ticks = {}, {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(name)], ticks[int(name)] = int(fields[1]), int(fields[11]) + int(fields[12])
        ours = self._ours | {os.getpid()}
        while new := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= new
        self._ours = ours & set(parents)
        now, theirs = time.monotonic(), {pid: used for pid, used in ticks.items() if pid not in ours}
        if self._last is not None:
            then, before = self._last
            used = sum(max(0, count - before.get(pid, 0)) for pid, count in theirs.items())
            self._samples.append(used / self._tick / (now - then))
        self._last = now, theirs
        return self._samples[-1] if self._samples else 0.0

    def run(self) -> None:
        self.sample()
        while not self._halt.wait(self._period):
            self.sample()

    def finish(self) -> float:
        """Stop; the mean over the time that was watched."""
        self._halt.set()
        self.join()
        self.sample()
        return sum(self._samples) / max(1, len(self._samples))


def wait_for_quiet(cores: float, patience: float) -> bool:
    """Wait until others use less than ``cores`` for 1.5 s; False if that didn't come within ``patience`` seconds."""
    end_at = time.monotonic() + patience
    watch = Strangers()
    watch.sample()
    while time.monotonic() < end_at:
        time.sleep(1.5)
        if watch.sample() < cores:
            return True
    return False
