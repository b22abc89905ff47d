"""The files that the tools' code came from, and whether they are still what was loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 0.3
"""What has changed, and then not for so long, is taken for written in full."""

_Mark = tuple[int, int] | None


class Sources:
    """Remembers size and time of each file, as they were when it was last followed."""

    def __init__(self) -> None:
        self._marks: dict[str, _Mark] = {}
        self._seen: dict[str, _Mark] = {}
        self._next_look = 0.0

    def follow(self, files: Iterable[str]) -> None:
        """These were just loaded, beside those that are followed already."""
        for file in files:
            self._marks.setdefault(file, _mark(file))

    def changed(self) -> list[str]:
        """Those that are not what they were any more."""
        return [file for file, mark in self._marks.items() if _mark(file) != mark]

    def settle(self) -> list[str]:
        """They are about to be loaded anew: from their source, whatever has been compiled of them. Those that changed.

        Python takes what it has compiled for current if the time agrees to the second, and the size.
        """
        changed = self.changed()
        for file in changed:
            self._marks[file] = _mark(file)
            with suppress(OSError, NotImplementedError):  # where it can't be removed, no other was written either
                Path(cache_from_source(file)).unlink()
        self._seen.clear()
        return changed

    def look(self, now: float) -> list[str]:
        """Those that have changed since they were loaded, once nothing more happens to them."""
        if now < self._next_look:
            return []
        self._next_look = now + LOOK_SECONDS
        seen = {file: _mark(file) for file in self.changed()}
        same, self._seen = seen == self._seen, seen
        return sorted(seen) if same else []


def _mark(file: str) -> _Mark:
    try:
        told = os.stat(file)
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size
