"""Stored results of a node: their directory, which lives as long as the node, what is read of them, and their end.

Workers write the files. The supervisor reads some bytes at a time, and only for those who ask, so that a large result
never stands in the way of a job.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from toolring import stored
from toolring.address import private
from toolring.blobs import Blobs
from toolring.errors import AddressError, ConfigError, InvalidArguments, NodeError, ResultGone

_ALIVE: Final = ".alive"
SWEEPS: Final = 10
"""In the time that a result is kept."""
LONGEST: Final = 30.0
"""Seconds from one sweep to the next, at most."""
STEP_SECONDS: Final = 1e-3
"""For so long, and one file more, one look goes on: to remove a large one takes its time."""


class Home:
    """The directory of one life of a node. What earlier ones left there when they were killed is removed.

    A lock beside each tells whether its node lives: it is held by the supervisor and the processes forked from it.
    """

    def __init__(self, base: Path, life: str) -> None:
        """Raises OSError, or AddressError for a base that others may write to."""
        self._path = private(base) / life
        self._lock = _locked(self._path)
        self._path.mkdir(mode=0o700)
        for other in base.glob(f"*{_ALIVE}"):
            if other.name != f"{life}{_ALIVE}":
                _remove_if_dead(other)

    @property
    def directory(self) -> str:
        return str(self._path)

    def close(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
        _alive(self._path).unlink(missing_ok=True)
        os.close(self._lock)


def home(base: str, life: str, wanted: bool) -> Home | None:
    """None: there can't be one. Raises ConfigError if the configuration wants it."""
    try:
        return Home(Path(base), life)
    except (OSError, AddressError) as error:
        if wanted:
            text = f"results can't be stored in {base}: {error}; choose another results.directory"
            raise ConfigError(text, key="results.directory") from None
        return None


class Results:
    """Answers questions for parts of stored results, and removes them when their time is over."""

    def __init__(
        self, blobs: Blobs | None, life: str, keep: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._blobs = blobs
        self._life = life
        self._keep = keep
        self._due = 0.0
        self._sweep: Iterator[None] | None = None
        self._reads = self._gone = 0

    def read(self, handle: Any, offset: Any, length: Any) -> dict[str, Any]:
        """Some bytes of a stored result: as many as are asked for, as there are, and as one answer holds."""
        for name, number in (("offset", offset), ("length", length)):
            if type(number) is not int or not 0 <= number < 1 << 62:
                raise InvalidArguments(f"{name}={number!r:.100} is not a number of bytes", argument=name)
        parts = stored.parted(handle)
        if parts is None:
            raise InvalidArguments(f"{handle!r:.100} is not the handle of a stored result", argument="handle")
        life, name = parts
        if self._blobs is None or life != self._life:
            self._gone += 1
            raise ResultGone("the result was stored by another node, or by this one before it was started anew")
        try:
            size, data = self._blobs.read(name, offset, min(length, stored.READ), self._keep)
        except FileNotFoundError:
            self._gone += 1
            text = f"the result is not stored any more: that is {self._keep:g} s, or until newer ones need its room"
            raise ResultGone(text, keep=self._keep) from None
        except OSError as error:
            raise NodeError(f"the result can't be read now: {error.strerror}; try again later") from None
        self._reads += 1
        return {"size": size, "data": data}

    def look(self, now: float) -> None:
        """Go on with the sweep, or begin one if it is time."""
        if self._blobs is None or now < self._due:
            return
        if self._sweep is None:
            self._sweep = self._blobs.sweep(self._keep)
        until = self._clock() + STEP_SECONDS
        try:
            while next(self._sweep, self) is not self:
                if self._clock() >= until:
                    return
        except OSError:
            pass  # somebody has removed the directory
        self._sweep = None
        self._due = now + min(self._keep / SWEEPS, LONGEST)

    def figures(self) -> dict[str, Any]:
        blobs = self._blobs
        return {
            "files": 0 if blobs is None else blobs.seen.files,
            "bytes": 0 if blobs is None else blobs.total,
            "reads": self._reads,
            "gone": self._gone,
        }

    def close(self) -> None:
        self._sweep = None
        if self._blobs is not None:
            self._blobs.close()


def _alive(path: Path) -> Path:
    return path.with_name(f"{path.name}{_ALIVE}")


def _locked(path: Path) -> int:
    """The lock of a directory that is about to be made."""
    while True:
        lock = os.open(_alive(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:  # else another node has just taken it for one of the dead
            return lock
        os.close(lock)


def _remove_if_dead(alive: Path) -> None:
    try:
        lock = os.open(alive, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(alive.with_name(alive.name.removesuffix(_ALIVE)), ignore_errors=True)
        alive.unlink(missing_ok=True)
    except OSError:
        pass  # it lives
    finally:
        os.close(lock)
