"""The control groups that a process is in, of either version, and what they allow it. Linux; elsewhere there are none.

A group's limit holds for all below it, so what counts is the tightest of a process's own group and those above. In a
container only its own part of the tree can be seen, which has the container's limit at its top.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

_NO_LIMIT: Final = 1 << 60
"""Version 1 says that there is none by a number that no machine has."""


class Room(NamedTuple):
    """Of something that is limited."""

    limit: int
    used: int

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit else 1.0


# ---- where they are; pure


def directories(controller: str, cgroup: str, mountinfo: str) -> list[Path]:
    """Those of the groups that control this (memory, cpu, pids): the process's own first, then those above.

    Args:
        cgroup: the text of /proc/PID/cgroup.
        mountinfo: the text of /proc/PID/mountinfo.

    Where both versions are mounted, a controller belongs to one of them.
    """
    paths = {}
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    kind, name = ("cgroup", controller) if controller in paths else ("cgroup2", "")
    if name not in paths:
        return []
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        root, point = (_unescaped(word) for word in mount.split()[3:5])
        filesystem, _, options = source.split(" ", 2)
        if filesystem == kind and (not name or name in options.split(",")):
            return _upwards(paths[name], root, Path(point))
    return []


def _upwards(path: str, root: str, point: Path) -> list[Path]:
    """The mount shows what is below ``root``; a group elsewhere can't be seen, but the mount's top stands above it."""
    below = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
    if ".." in below.parts:
        below = Path()
    own = point / below
    return [own, *list(own.parents)[: len(below.parts)]]


def _unescaped(word: str) -> str:
    """Blanks in a path are written as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def waited(pressure: str) -> float | None:
    """Share of the last 10 s in which somebody waited, of a file of pressure; None if it says nothing."""
    found = re.search(r"^some avg10=([\d.]+)", pressure, re.M)
    return float(found[1]) / 100 if found else None


# ---- what they allow


def of_process(controller: str, pid: int | None = None) -> list[Path]:
    """``directories`` of this process, or of another; none if there are no control groups."""
    proc = Path("/proc", "self" if pid is None else str(pid))
    return directories(controller, text(proc / "cgroup"), text(proc / "mountinfo"))


def memory(groups: list[Path]) -> Room | None:
    """Bytes, of the group that is fullest; None if none has a limit. Files that were read once and may go at any time
    don't count as used."""
    rooms = []
    for group in groups:
        limits = [number(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        limit = min((limit for limit in limits if limit is not None), default=None)
        used = number(group / "memory.current") or number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            rooms.append(Room(limit, max(0, used - _idle(text(group / "memory.stat")))))
    return max(rooms, key=lambda room: room.share, default=None)


def cores(groups: list[Path]) -> float | None:
    """How many cores' time may be used, at most; None: all."""
    shares = []
    for group in groups:
        quota, _, period = text(group / "cpu.max").strip().partition(" ")
        quota = quota or text(group / "cpu.cfs_quota_us").strip()
        period = period or text(group / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit():  # neither "max" nor -1
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def processes(groups: list[Path]) -> Room | None:
    """Processes and threads, of the group that has least room for more; None if none has a limit."""
    rooms = []
    for group in groups:
        limit, used = number(group / "pids.max"), number(group / "pids.current")
        if limit is not None and used is not None:
            rooms.append(Room(limit, used))
    return min(rooms, key=lambda room: room.limit - room.used, default=None)


def pressure(groups: list[Path]) -> float | None:
    """Share of the last 10 s in which somebody in the own group, else on the machine, waited for memory."""
    own = waited(text(groups[0] / "memory.pressure")) if groups else None
    return waited(text(Path("/proc/pressure/memory"))) if own is None else own


def number(path: Path) -> int | None:
    """That in a file; None if it says "max" or the like, or isn't there."""
    found = text(path).strip()
    return int(found) if found.isdigit() and int(found) < _NO_LIMIT else None


def text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _idle(stat: str) -> int:
    """Bytes of files that can be dropped at once; version 1 counts those of the groups below under another name."""
    found = re.search(r"^total_inactive_file (\d+)$", stat, re.M) or re.search(r"^inactive_file (\d+)$", stat, re.M)
    return int(found[1]) if found else 0
