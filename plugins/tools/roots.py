"""The code root: the one directory that the bundled tools may read, and how an agent's paths are kept inside
it."""

from __future__ import annotations

import os
import stat
import sysconfig
from typing import NamedTuple

ROOT_VARIABLE = "TOOLRING_CODE_ROOT"


class SourceFile(NamedTuple):
    """A regular file below the root: where it is, how it is shown to agents, and its state when it was
    found."""

    path: str
    shown: str
    stat: os.stat_result

    @property
    def stamp(self) -> tuple[int, int, int]:
        """Changes whenever the file is written or replaced, as far as the file system tells."""
        return self.stat.st_mtime_ns, self.stat.st_size, self.stat.st_ino


class CodeRoot:
    """Resolves agents' paths below one directory and refuses every other.

    Symbolic links are resolved before the check. It guards against mistaken or misled agents, not against
    somebody who swaps files for links while a tool runs: such a person has the file system already.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)

    @classmethod
    def configured(cls) -> CodeRoot:
        """The root that TOOLRING_CODE_ROOT names; the interpreter's standard library without it."""
        path = os.environ.get(ROOT_VARIABLE) or sysconfig.get_path("stdlib")
        if not os.path.isabs(path):
            raise ValueError(f"{ROOT_VARIABLE}={path!r} is not an absolute path")
        if not os.path.isdir(path):
            raise NotADirectoryError(f"{ROOT_VARIABLE}={path!r} is not a directory")
        return cls(path)

    def resolve(self, path: str) -> str:
        """The real absolute path of ``path``, which is relative to the root (or absolute and below it).

        Raises PermissionError when it leads outside, by ``..``, as an absolute path or through a link.
        """
        if "\0" in path:
            raise ValueError(f"{path!r} is not a path: it holds a null character")
        real = os.path.realpath(os.path.join(self.path, path))
        if not self.holds(real):
            raise PermissionError(f"{path!r} is outside the code root {printable(self.path)}")
        return real

    def holds(self, real: str) -> bool:
        """Is this real path the root or below it?"""
        return os.path.commonpath([self.path, real]) == self.path

    def show(self, real: str) -> str:
        """A path as agents see it: relative to the root, with '/'."""
        return printable(os.path.relpath(real, self.path).replace(os.sep, "/"))

    def state(self, path: str) -> tuple[str, os.stat_result]:
        """The real path and the state of a file or directory that must exist."""
        real = self.resolve(path)
        try:
            return real, os.stat(real)
        except OSError as error:
            raise FileNotFoundError(f"no file {path!r} in {printable(self.path)}: {error.strerror}") from None

    def file(self, path: str) -> SourceFile:
        """The regular file that ``path`` names."""
        real, state = self.state(path)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(f"{path!r} is a directory, not a file")
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{path!r} is not a regular file")
        return SourceFile(real, self.show(real), state)

    def is_file(self, path: str) -> bool:
        """Is there something at ``path`` that isn't a directory?"""
        return not stat.S_ISDIR(self.state(path)[1].st_mode)


def printable(text: str) -> str:
    """The text with lone surrogates (undecodable bytes in names, escapes in strings) spelled out: valid
    UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
