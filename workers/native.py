"""Which allocations grow, those of C code too, traced by memray on demand: tools are up to ten times slower meanwhile.

Symbols are looked up in this process, once: half a second and some 50 MB.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from itertools import takewhile
from typing import Any, Final

from toolring.errors import LoadError
from toolring.workers.allocations import Growth

NAMES: Final = 4
"""Of the C functions between a line of Python and the allocation, the first so many."""


class NativeAllocations:
    """Those between the start and a look at them, which is the end of it. Raises LoadError: there is no memray."""

    def __init__(self) -> None:
        try:
            import memray  # optional: the memray extra
        except ImportError as error:
            text = "allocations of C code are traced by memray, which the worker's environment lacks"
            raise LoadError(f"{text}: pip install 'toolring[memray]' ({error})") from None
        self._memray = memray
        self._tracker: Any = None
        self._file = -1

    def start(self) -> None:
        """Raises LoadError if somebody traces by memray already: there can be one only."""
        memray = self._memray
        self._file = os.memfd_create("toolring-allocations", os.MFD_CLOEXEC)  # so that nothing of it is ever left
        tracker = memray.Tracker(
            destination=memray.FileDestination(self._path, overwrite=True, compress_on_exit=False),
            native_traces=True,
            trace_python_allocators=True,
            file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS,
        )
        failed: list[RuntimeError] = []
        # Of the thread that begins it, memray loses as many frames as return from there; of others it knows all.
        thread = threading.Thread(target=_begin, args=(tracker, failed))
        thread.start()
        thread.join()
        if failed:
            self.stop()
            raise LoadError(f"memray can't trace here: {failed[0]}")
        self._tracker = tracker

    @property
    def _path(self) -> str:
        return f"/proc/self/fd/{self._file}"

    def top(self, most: int = 10) -> list[Growth]:
        """The lines whose allocations grew, the most first, and which C functions they had called."""
        self._end()
        sizes: Counter[tuple[str, int, tuple[str, ...]]] = Counter()
        blocks: Counter[tuple[str, int, tuple[str, ...]]] = Counter()
        with self._memray.FileReader(self._path) as reader:
            for record in reader.get_leaked_allocation_records(merge_threads=True):
                where = _where(record)
                if where[0] != __file__:
                    sizes[where] += record.size
                    blocks[where] += record.n_allocations
        return [
            Growth(file, line, size, blocks[file, line, names], names)
            for (file, line, names), size in sizes.most_common(most)
        ]

    def stop(self) -> None:
        self._end()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _end(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.__exit__(None, None, None)


def _begin(tracker: Any, failed: list[RuntimeError]) -> None:
    try:
        tracker.__enter__()
    except RuntimeError as error:
        failed.append(error)


def _where(record: Any) -> tuple[str, int, tuple[str, ...]]:
    """The line of Python, empty if there is none, and the C functions between it and the allocation."""
    python = record.stack_trace()[:1]
    native = [name for name, _, _ in takewhile(lambda frame: frame not in python, record.hybrid_stack_trace())]
    file, line = (python[0][1], python[0][2]) if python else ("", 0)
    return file, line, tuple(reversed(native))[:NAMES]
