"""What the node's processes use of the machine: processor, memory, disk, descriptors; and its network interfaces.

Read from /proc, one process after the other between other things, so that it holds nobody up. What a slot's workers
have used adds up over all of them: no figure goes back when one is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

ROUND_SECONDS: Final = 2.0
"""Each process is looked at so often."""
_NETWORK: Final = "/proc/net/dev"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Used(NamedTuple):
    """By one process, in its life."""

    cpu_seconds: float = 0.0
    read_bytes: int = 0
    """From disk."""
    written_bytes: int = 0
    resident_bytes: int = 0
    threads: int = 0
    open_fds: int = 0


class Traffic(NamedTuple):
    """Over all network interfaces but loopback, since the machine or container started."""

    received_bytes: int = 0
    sent_bytes: int = 0


class _Place:
    """Who bears one name, one after the other."""

    __slots__ = ("before", "last", "pid")

    def __init__(self) -> None:
        self.pid = 0
        self.last = Used()
        self.before = Used()
        """What those used, in all, that are gone."""

    def saw(self, pid: int, used: Used) -> None:
        if pid != self.pid:
            self.left()
            self.pid = pid
        self.last = used

    def left(self) -> None:
        self.before = self._added(Used())
        self.last, self.pid = Used(), 0

    @property
    def used(self) -> Used:
        """By all of them; of what comes and goes, what there is now."""
        return self._added(self.last)

    def _added(self, now: Used) -> Used:
        """What all have used; of what comes and goes, what that one says."""
        before, last = self.before, self.last
        return now._replace(
            cpu_seconds=before.cpu_seconds + last.cpu_seconds,
            read_bytes=before.read_bytes + last.read_bytes,
            written_bytes=before.written_bytes + last.written_bytes,
        )


class Usage:
    """Of a node's processes, each by its name: supervisor, zygote, or the number of a worker's slot."""

    def __init__(self, read: Callable[[int], Used | None], traffic: Callable[[], Traffic]) -> None:
        self._read = read
        self._traffic = traffic
        self._places: dict[str, _Place] = {}
        self._next = 0.0
        self.network = Traffic()

    def due(self, processes: Callable[[], Mapping[str, int]], now: float) -> Iterator[None] | None:
        """The steps of the next round, one for each process; None: it isn't time yet. Cheap to call often."""
        if now < self._next:
            return None
        self._next = now + ROUND_SECONDS
        return self._round(processes())

    def _round(self, there: Mapping[str, int]) -> Iterator[None]:
        self._forget(there)
        self.network = self._traffic()
        for name, pid in there.items():
            used = self._read(pid) if pid else None
            if used is not None:
                self._places.setdefault(name, _Place()).saw(pid, used)
            yield

    def figures(self) -> dict[str, Used]:
        return {name: place.used for name, place in self._places.items()}

    def _forget(self, there: Mapping[str, int]) -> None:
        for name in self._places.keys() - there.keys():
            del self._places[name]
        for name, place in self._places.items():
            if place.pid and place.pid != there[name]:
                place.left()


def used_by(pid: int) -> Used | None:
    """What a process has used; None: it is gone, or there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read().rpartition(b")")[2].split()
        read, written = _disk(pid)
        cpu = (int(stat[11]) + int(stat[12])) / _TICKS
        return Used(cpu, read, written, int(stat[21]) * _PAGE, int(stat[17]), _descriptors(pid))
    except (OSError, IndexError, ValueError):
        return None


def _disk(pid: int) -> tuple[int, int]:
    """Bytes read and written; nothing of a process whose user has changed, which only root may ask for."""
    try:
        with open(f"/proc/{pid}/io", "rb") as file:
            lines = dict(line.split(b": ") for line in file.read().splitlines())
        return int(lines[b"read_bytes"]), int(lines[b"write_bytes"])
    except (OSError, KeyError, ValueError):
        return 0, 0


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def traffic() -> Traffic:
    """What has passed the network interfaces."""
    received = sent = 0
    try:
        with open(_NETWORK, "rb") as file:
            for line in file.read().splitlines()[2:]:
                name, _, counts = line.partition(b":")
                if name.strip() != b"lo":
                    fields = counts.split()
                    received, sent = received + int(fields[0]), sent + int(fields[8])
    except (OSError, IndexError, ValueError):
        return Traffic()
    return Traffic(received, sent)
