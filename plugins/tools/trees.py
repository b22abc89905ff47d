"""Walks of a source tree in a stable order, without what no agent means by "the code"."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import msgspec

from toolring.errors import Cancelled
from toolring.plugins.tools.globs import matcher
from toolring.plugins.tools.roots import CodeRoot, SourceFile, printable

VENDORED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "vendor", "_vendor"})
"""Directories of other people's or generated code. Hidden ones and virtual environments are left out as
well."""


def never() -> bool:
    """The ``cancelled`` of a caller that never gives up."""
    return False


def walk(
    root: CodeRoot, path: str = ".", glob: str | None = None, cancelled: Callable[[], bool] = never
) -> Iterator[SourceFile]:
    """The regular files of a directory (or the one file) that ``path`` names, by directory, sorted by name.

    A directory's files come before those of its subdirectories. ``glob`` is relative to ``path``. Links to
    directories aren't followed, links to files only inside the root. Raises Cancelled between two files once
    ``cancelled()``.
    """
    real, _ = root.state(path)
    if not os.path.isdir(real):
        yield root.file(path)
        return
    matches = matcher(glob) if glob else None
    base = root.show(real)
    prefix = "" if base == "." else f"{base}/"
    for inside, entry in _entries(real):
        if cancelled():
            raise Cancelled(f"the walk of {path!r} was stopped: nobody waits for it any more")
        if matches is None or matches(inside):
            state = _state(root, entry)
            if state is not None:
                yield SourceFile(entry.path, printable(prefix + inside), state)


def _entries(real: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files below a directory, each with its path relative to it."""
    pending = [("", real)]
    while pending:
        prefix, directory = pending.pop()
        children: list[tuple[str, str]] = []
        for entry in _sorted_entries(directory):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield prefix + entry.name, entry
            elif entry.name not in VENDORED and not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                children.append((f"{prefix}{entry.name}/", entry.path))
        pending.extend(reversed(children))


def _sorted_entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []  # removed meanwhile, or not ours to read: the rest of the tree is still worth an answer


def _state(root: CodeRoot, entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        if not entry.is_file() or (entry.is_symlink() and not root.holds(os.path.realpath(entry.path))):
            return None
        return entry.stat()
    except OSError:
        return None


class ListedFile(msgspec.Struct):
    path: str
    bytes: int


class Listing(msgspec.Struct):
    files: list[ListedFile]
    total: int
    truncated: bool


def list_files(files: Iterator[SourceFile], limit: int) -> Listing:
    """The first ``limit`` files, and how many there are in all."""
    listed: list[ListedFile] = []
    total = 0
    for total, file in enumerate(files, start=1):
        if total <= limit:
            listed.append(ListedFile(file.shown, file.stat.st_size))
    return Listing(listed, total, total > limit)
