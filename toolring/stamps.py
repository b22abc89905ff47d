"""Stamps: shared words that tell every process of a node whether what it holds of a tag is still true.

Whoever invalidates a tag writes a fresh random stamp at the tag's place; whoever keeps something under the tag
remembers the stamp from *before* it was loaded, and gives it only while the stamp is the same. So an invalidation
reaches all workers at once, costs one store, and can't race a load that began before it. Two tags that share a
place are invalidated together, which costs a miss and never a wrong answer.

Each word is an aligned 8-byte store. Writers never read before they write, so none can undo another's.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

WORDS: Final = 16_384
BYTES: Final = WORDS * 8
ALL: Final = 0
"""Everything there is."""
ANY: Final = 1
"""Anything at all: while this is the same, so is every other."""
DEBTS: Final = 2
"""From here two words for each layer behind the memory: the invalidation that it missed, and the last made up for."""
MAX_LAYERS: Final = 7
_FIRST: Final = DEBTS + 2 * MAX_LAYERS


class Stamps:
    """The words at the end of the node's shared memory."""

    __slots__ = ("words",)

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self.words = memoryview(memory)[len(memory) - BYTES :].cast("Q")

    def debts(self, layer: int) -> memoryview:
        """Two words, owed and paid. Any worker that finds them different clears the layer before it uses it."""
        return self.words[DEBTS + 2 * layer : DEBTS + 2 * layer + 2]

    def invalidate(self, tags: Iterable[bytes]) -> None:
        """From now on nothing is true that was loaded under one of these tags."""
        words = self.words
        for tag in tags:
            words[place(tag)] = fresh()
        words[ANY] = fresh()  # last: whoever sees it old acts before this invalidation is complete

    def doubt(self) -> None:
        """Something may have changed that nobody can name: everything is invalid, in the layers behind too."""
        for layer in range(MAX_LAYERS):
            self.debts(layer)[0] = fresh()
        self.words[ALL] = fresh()
        self.words[ANY] = fresh()


SOME_TAG: Final = b"tags"
"""Invalidated together with each tag, for the supervisor: it holds results whose tags it doesn't know."""


def of_tool(name: str) -> bytes:
    """Every result of a tool."""
    return b"tool:" + name.encode()


def some_key(name: str) -> bytes:
    """Invalidated together with each single result of a tool, for the supervisor."""
    return b"keys:" + name.encode()


def place(tag: bytes) -> int:
    """The word of a tag; ``b"*"`` is everything."""
    if tag == b"*":
        return ALL
    return _FIRST + int.from_bytes(blake2b(tag, digest_size=8).digest(), "big") % (WORDS - _FIRST)


def fresh() -> int:
    """A stamp that no word has ever held; from the system, since forked workers share their random state."""
    return int.from_bytes(os.urandom(8), "big") | 1
