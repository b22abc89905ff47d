"""Where this process is: the stacks of its threads, as plain data, and at any moment: nothing here takes a lock or
reads a source file.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from types import CodeType, FrameType
from typing import Any, Final

DEEPEST: Final = 500
"""Frames of one stack that are told."""


def threads(main: FrameType | None, roots: Collection[CodeType]) -> list[dict[str, Any]]:
    """Each thread with its ``name``, its ``frames``, the innermost first, the main thread first. ``main`` is where that
    was when it was asked; what called one of the ``roots`` isn't told."""
    names = {one.ident: one.name for one in list(threading._active.values())}  # type: ignore[attr-defined]
    first = threading.main_thread().ident
    found = {ident: frame for ident, frame in sys._current_frames().items() if ident != first}
    told = [{"thread": first, "name": "MainThread", "frames": [] if main is None else _frames(main, roots)}]
    for ident, frame in found.items():
        told.append({"thread": ident, "name": names.get(ident, ""), "frames": _frames(frame, roots)})
    return told


def _frames(frame: FrameType, roots: Collection[CodeType]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    at: FrameType | None = frame
    while at is not None and len(told) < DEEPEST:
        told.append(told_frame(at.f_code, at.f_lineno))
        if at.f_code in roots:
            break
        at = at.f_back
    return told


def told_frame(code: CodeType, line: int | None) -> dict[str, Any]:
    return {"file": code.co_filename, "line": line or 0, "function": code.co_qualname}
