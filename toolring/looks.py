"""What workers and supervisor share so that one can be asked what it does, whatever it is at.

A worker that runs a tool doesn't read its socket. So it is asked by a word of its lane and a signal, and it answers
into a file that it opened when it started: one for each kind of answer. The number of the question stands in front, and
is written last.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

DUMP_FILE: Final = "dump"
PROFILE_FILE: Final = "profile"
STACKS_FILE: Final = "stacks"
"""Text, as ``faulthandler`` writes it."""
MOST_BYTES: Final = 16 << 20
"""Of an answer."""

_HEAD: Final = struct.Struct("<QQ")


def path(directory: str | Path, lane: int, kind: str) -> Path:
    """The file of a lane's worker for one kind of answer."""
    return Path(directory) / f"{lane}.{kind}"


def put(fd: int, number: int, answer: bytes) -> None:
    """Write the answer to a question, with its number last: who reads finds all of it, or not this number."""
    os.pwrite(fd, _HEAD.pack(0, 0), 0)
    at = 0
    while at < len(answer):  # a signal may cut a write short
        at += os.pwrite(fd, answer[at:], _HEAD.size + at)
    os.pwrite(fd, _HEAD.pack(number, len(answer)), 0)


def get(file: Path, number: int) -> bytes | None:
    """The answer to that question; None: there is none yet."""
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD.size)
            if len(head) < _HEAD.size or _HEAD.unpack(head)[0] != number:
                return None
            return opened.read(min(_HEAD.unpack(head)[1], MOST_BYTES))
    except OSError:
        return None
