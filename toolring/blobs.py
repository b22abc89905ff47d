"""A content-addressed store of bytes: files of one directory that several processes share, bounded in bytes and time.

Each process makes its own ``Blobs``, after any fork. A file is written under a name of its own and renamed, so a
reader finds all of it or nothing; a process that is killed meanwhile leaves a part, which the next sweep removes.
Times are monotonic, so that a clock that is set neither keeps a file for ever nor removes all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

LEDGER: Final = ".bytes"
"""The file that holds how many bytes there are, and whose lock is the store's."""
PART: Final = ".part"
_SPARE: Final = 8
"""To make room is to read the whole directory, so an eighth more of the limit is given free."""


class Seen(NamedTuple):
    """What a sweep has found and left."""

    files: int
    bytes: int


class Blobs:
    """Files by name. What was stored or touched longest ago leaves first when there is no room."""

    def __init__(self, directory: str, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._max = max_bytes
        self._clock = clock
        self._ledger = -1
        self._parts = 0
        self.seen = Seen(0, 0)
        """By the last sweep that came to its end."""

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Store bytes under a name that stands for them; what is there already is there for longer. Raises OSError:
        the disk is full, or they are more than the store may hold."""
        size = len(data)
        if size > self._max:
            raise OSError(errno.EFBIG, f"{size} bytes are more than the store may hold ({self._max})")
        if self.touch(name):
            return
        self._parts += 1
        part = self._path(f".{os.getpid()}-{self._parts}{PART}")
        try:
            _write(part, data)
            with self._locked():
                if self.touch(name):
                    return
                self._make_room(size)
                self._count(size)  # first: what is counted and not there is noticed by the next who makes room
                self._date(part)
                os.rename(part, self._path(name))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)

    def touch(self, name: str) -> bool:
        """Its time begins anew. False: it isn't there."""
        try:
            self._date(self._path(name))
        except OSError:
            return False
        return True

    def read(self, name: str, offset: int, length: int, keep: float) -> tuple[int, bytes]:
        """The size of a file, and some of its bytes: as many as there are. Raises FileNotFoundError, also for one
        whose time, ``keep`` seconds, is over."""
        path = self._path(name)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if self._expired(found, keep):
                raise FileNotFoundError(errno.ENOENT, "its time is over", path)
            return found.st_size, os.pread(fd, max(0, min(length, found.st_size - offset)), offset)
        finally:
            os.close(fd)

    def sweep(self, keep: float) -> Iterator[None]:
        """Remove what is older than ``keep`` seconds, and parts that nobody writes any more. Yields after each file, so
        that it can be done little by little."""
        files = total = 0
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(PART):
                    self._remove_part(entry.path)
                elif entry.name != LEDGER:
                    size = self._remove_if_expired(entry.path, keep)
                    files, total = files + (size is not None), total + (size or 0)
                yield
        self.seen = Seen(files, total)

    @property
    def total(self) -> int:
        """Bytes of all files, about: a process that was killed may have counted what it didn't store."""
        try:
            return self._counted(self._open_ledger())
        except OSError:
            return 0

    def close(self) -> None:
        if self._ledger >= 0:
            os.close(self._ledger)
            self._ledger = -1

    # ---- inside

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _date(self, path: str) -> None:
        now = int(self._clock() * 1e9)
        os.utime(path, ns=(now, now))

    def _expired(self, found: os.stat_result, keep: float) -> bool:
        return found.st_mtime_ns * 1e-9 + keep <= self._clock()

    def _open_ledger(self) -> int:
        if self._ledger < 0:
            self._ledger = os.open(self._path(LEDGER), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._ledger

    @contextmanager
    def _locked(self, wait: bool = True) -> Iterator[None]:
        """Raises BlockingIOError if another process has it, and one is not to wait."""
        fd = self._open_ledger()
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _counted(self, fd: int) -> int:
        return int.from_bytes(os.pread(fd, 8, 0), "little")

    def _count(self, more: int) -> None:
        fd = self._open_ledger()
        os.pwrite(fd, max(0, self._counted(fd) + more).to_bytes(8, "little"), 0)

    def _make_room(self, size: int) -> None:
        """Under the lock."""
        counted = self._counted(self._open_ledger())
        if counted + size <= self._max:
            return
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        about = entry.stat()
                        found.append((about.st_mtime_ns, about.st_size, entry.path))
        found.sort(reverse=True)
        total = sum(length for _, length, _ in found)
        while found and total + size > self._max - self._max // _SPARE:
            _, length, path = found.pop()
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= length
        self._count(total - counted)

    def _remove_if_expired(self, path: str, keep: float) -> int | None:
        """The size of one that stays."""
        try:
            found = os.stat(path)
            if not self._expired(found, keep):
                return found.st_size
            with self._locked(wait=False):
                if not self._expired(os.stat(path), keep):  # somebody has just stored the same
                    return found.st_size
                os.unlink(path)
                self._count(-found.st_size)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            return None  # the next sweep will meet it
        return None

    def _remove_part(self, path: str) -> None:
        writer = os.path.basename(path)[1:].partition("-")[0]
        with suppress(ValueError, OSError):
            try:
                os.kill(int(writer), 0)
            except ProcessLookupError:
                os.unlink(path)


def _write(path: str, data: bytes | memoryview) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
    finally:
        os.close(fd)
