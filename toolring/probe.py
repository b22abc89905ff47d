"""What is known of a process's memory, at what it costs: a snapshot takes microseconds, a thorough one more.

Linux first. Elsewhere psutil has less to say, and takes longer. What the figures call for is decided by
``toolring.policy.memory``.
"""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from toolring import cgroups, heap
from toolring.policy.memory import Snapshot

_OLDEST: Final = 2
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Resident:
    """Resident bytes of a process, from a file that stays open. A fork needs one of its own."""

    __slots__ = ("_fd", "_process")

    def __init__(self, pid: int | None = None) -> None:
        """Raises psutil.NoSuchProcess."""
        self._process = psutil.Process(pid)
        try:
            self._fd = os.open(f"/proc/{self._process.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def __call__(self) -> int:
        """Raises OSError or psutil.NoSuchProcess if it has ended."""
        if self._fd < 0:
            return int(self._process.memory_info().rss)
        return int(os.pread(self._fd, 128, 0).split(None, 2)[1]) * _PAGE

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Collections:
    """The garbage collector's work in this process, counted while it is installed."""

    __slots__ = ("_began", "_clock", "_rss", "count", "floor", "full", "longest", "seconds")

    def __init__(self, rss: Callable[[], int], clock: Callable[[], float] = time.perf_counter) -> None:
        self._rss = rss
        self._clock = clock
        self._began = 0.0
        self.count = 0
        self.full = 0
        """Of the oldest generation."""
        self.seconds = 0.0
        self.longest = 0.0
        self.floor: int | None = None
        """The least that was resident right after a full collection, since somebody asked."""

    def install(self) -> None:
        if self._told not in gc.callbacks:
            gc.callbacks.append(self._told)

    def uninstall(self) -> None:
        if self._told in gc.callbacks:
            gc.callbacks.remove(self._told)

    def take_floor(self) -> int | None:
        floor, self.floor = self.floor, None
        return floor

    def _told(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = self._clock()
            return
        spent = self._clock() - self._began
        self.count += 1
        self.seconds += spent
        self.longest = max(self.longest, spent)
        if info["generation"] == _OLDEST:
            self.full += 1
            rss = self._rss()
            self.floor = rss if self.floor is None else min(self.floor, rss)


class Probe:
    """Takes snapshots of this process. Make it in the process itself, after any fork."""

    def __init__(
        self, processes: int = 1, clock: Callable[[], float] = time.monotonic, *, children: bool = True
    ) -> None:
        """``processes``: how many share the memory limit. ``children``: a thorough snapshot counts theirs, too."""
        self._clock = clock
        self._processes = processes
        self._pid = os.getpid()
        self._children = children
        self._rss = Resident()
        self._groups = cgroups.of_process("memory")
        self.collections = Collections(self._rss)
        self.collections.install()
        self._rest: dict[str, Any] = {}
        """What the last thorough snapshot found."""

    def snapshot(self, thorough: bool = False) -> Snapshot:
        """What costs much (USS, children) is renewed by a thorough one only."""
        if thorough:
            self._rest = {
                "uss": unshared(self._pid),
                "children": of_descendants(self._pid) if self._children else 0,
            }
        seen, room = self.collections, self.room()
        return Snapshot(
            self._clock(),
            self._rss(),
            collections=seen.count,
            full=seen.full,
            pauses=seen.seconds,
            floor=seen.take_floor(),
            processes=self._processes,
            limit=room.limit,
            used=room.used,
            pressure=cgroups.pressure(self._groups),
            **self._rest,
        )

    def resident(self) -> int:
        """Bytes of this process, at the least cost."""
        return self._rss()

    def close(self) -> None:
        self.collections.uninstall()
        self._rss.close()

    def room(self) -> cgroups.Room:
        """Of the control group, if it has less than the machine."""
        machine, group = psutil.virtual_memory(), cgroups.memory(self._groups)
        if group is not None and group.limit < machine.total:
            return group
        return cgroups.Room(machine.total, machine.total - machine.available)


class Trimmed(NamedTuple):
    objects: int
    """Garbage that was found."""
    before: int
    after: int
    """Resident bytes."""

    @property
    def returned(self) -> int:
        """Bytes that came back; negative if others were taken meanwhile."""
        return self.before - self.after


def trim() -> Trimmed:
    """Collect all garbage, and give what is free back to the system."""
    rss = Resident()
    try:
        before = rss()
        objects = gc.collect()
        heap.give_back()
        return Trimmed(objects, before, rss())
    finally:
        rss.close()


def unshared(pid: int) -> int | None:
    """Bytes that would come back if the process ended; None if that can't be known."""
    rollup = cgroups.text(Path(f"/proc/{pid}/smaps_rollup"))
    if rollup:
        return sum(int(size) << 10 for size in re.findall(r"^Private_\w+: +(\d+) kB$", rollup, re.M))
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return None


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs, as far as they live."""
    if not os.path.exists("/proc/self/task"):
        try:
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            return []
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in cgroups.text(thread).split():
            found += [int(child), *descendants(int(child))]
    return found


def of_descendants(pid: int) -> int:
    """Resident bytes of all of them together."""
    return sum(_resident(child) for child in descendants(pid))


def _resident(pid: int) -> int:
    """0 if it has ended meanwhile."""
    words = cgroups.text(Path(f"/proc/{pid}/statm")).split()
    if words:
        return int(words[1]) * _PAGE
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
