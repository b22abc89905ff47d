"""What the tasks of this process's event loop wait for, as plain data. Only async workers load this."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from toolring.workers.stacks import DEEPEST, told_frame
from toolring.workers.task import Steps

MOST_TASKS: Final = 1000


def tasks() -> list[dict[str, Any]]:
    """Each that isn't over, of the loop that runs in this thread: ``name``, the ``job`` and ``tool`` that it runs, if
    it is one's, and the ``frames`` of its coroutines, the innermost first."""
    try:
        found = asyncio.all_tasks()
    except RuntimeError:
        return []  # it has not begun to run, or has ended
    told = []
    for task in sorted(found, key=lambda one: one.get_name())[:MOST_TASKS]:
        coroutine: Any = task.get_coro()
        work = None
        if isinstance(coroutine, Steps):
            work, coroutine = coroutine.run.work, coroutine.coroutine
        told.append(
            {
                "name": task.get_name(),
                "job": None if work is None else f"{work.session}-{work.id}",
                "tool": None if work is None else work.tool,
                "frames": list(_awaited(coroutine))[::-1],
            }
        )
    return told


def _awaited(coroutine: Any) -> Iterator[dict[str, Any]]:
    """What a coroutine awaits, and what that awaits, the outermost first."""
    for _ in range(DEEPEST):
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield told_frame(frame.f_code, frame.f_lineno)
                coroutine = getattr(coroutine, f"{kind}_await" if kind != "gi" else "gi_yieldfrom", None)
                break
        else:
            return
