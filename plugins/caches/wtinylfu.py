"""W-TinyLFU: a newcomer must have been asked for more often than the one that would leave for it.

A small LRU window takes all newcomers; what falls out of it competes with the next to leave of the main part, a
segmented LRU. How often a key was asked for is estimated by a sketch, which forgets half of what it knows now and
then. Einziger, Friedman, Manes: TinyLFU: a highly efficient cache admission policy (ACM ToS 2017). One in many
that lost though it is often asked for comes in all the same (as in Caffeine): else a key whose count is far too high,
by collisions, would stay the next to leave, win against everybody, and the main part would stand still.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final

WINDOW: Final = 0.01
"""The window's share of the entries."""
PROTECTED: Final = 0.8
"""The share of the main part that is kept for what was used again there."""
OFTEN: Final = 6
LUCKY: Final = 1 / 128
"""The share of those asked for so often that come in although they lost. (With no such bound, loops larger than the
cache would lose by it.)"""


class Sketch:
    """Counts of keys up to 15, in a fixed space: too high if keys collide, never too low between two halvings.

    A count-min sketch with conservative update (Cormode and Muthukrishnan 2005; Estan and Varghese 2002).
    """

    __slots__ = ("_counts", "_left", "_mask", "_sample")

    def __init__(self, entries: int) -> None:
        width = 1 << max(6, (entries - 1).bit_length() + 3)
        self._mask = width - 1
        self._counts = [bytearray(width) for _ in range(4)]
        self._sample = self._left = 10 * max(entries, 8)
        """Additions after which all counts are halved."""

    def add(self, key: bytes) -> None:
        places = self._places(key)
        values = [row[place] for row, place in zip(self._counts, places, strict=True)]
        least = min(values)
        if least < 15:
            for row, place, value in zip(self._counts, places, values, strict=True):
                if value == least:
                    row[place] = least + 1
        self._left -= 1
        if not self._left:
            self._left = self._sample // 2
            self._counts = [row.translate(_HALVES) for row in self._counts]

    def __getitem__(self, key: bytes) -> int:
        return min([row[place] for row, place in zip(self._counts, self._places(key), strict=True)])

    def _places(self, key: bytes) -> tuple[int, int, int, int]:
        mask = self._mask
        bits = hash(key)  # 64 good ones; what places of rows share would make keys collide in all rows at once
        return bits & mask, (bits >> 13) & mask, (bits >> 26) & mask, (bits >> 39) & mask


_HALVES: Final = bytes(value // 2 for value in range(256))


class WTinyLFU:
    """Three LRU queues: the window, and the probation and protected parts of the main one."""

    __slots__ = ("_probation", "_protected", "_rng", "_sketch", "_window")

    def __init__(self, max_entries: int) -> None:
        self._window: OrderedDict[bytes, None] = OrderedDict()
        self._probation: OrderedDict[bytes, None] = OrderedDict()
        self._protected: OrderedDict[bytes, None] = OrderedDict()
        self._sketch = Sketch(max_entries)
        self._rng = random.Random(0)

    def added(self, key: bytes) -> None:
        self._sketch.add(key)
        window = self._window
        window[key] = None
        if len(window) > self._room():  # nobody had to leave for it
            oldest, _ = window.popitem(last=False)
            self._probation[oldest] = None

    def _room(self) -> int:
        """Of the window; a share of what there is, since a limit in bytes may bind before that of entries."""
        total = len(self._window) + len(self._probation) + len(self._protected)
        return max(1, int(WINDOW * total))

    def touched(self, key: bytes) -> None:
        self._sketch.add(key)
        if key in self._window:
            self._window.move_to_end(key)
        elif key in self._protected:
            self._protected.move_to_end(key)
        else:
            del self._probation[key]
            self._protected[key] = None
            if len(self._protected) > PROTECTED * (len(self._protected) + len(self._probation)):
                oldest, _ = self._protected.popitem(last=False)
                self._probation[oldest] = None

    def removed(self, key: bytes) -> None:
        for queue in (self._window, self._probation, self._protected):
            if key in queue:
                del queue[key]
                return

    def victim(self) -> bytes:
        window, main = self._window, self._probation or self._protected
        if not main:
            return next(iter(window))
        oldest = next(iter(main))
        if len(window) < self._room():
            return oldest
        candidate = next(iter(window))  # the newcomer is about to push it out of the window
        count = self._sketch[candidate]
        if count <= self._sketch[oldest] and (count < OFTEN or self._rng.random() >= LUCKY):
            return candidate
        del window[candidate]
        self._probation[candidate] = None
        return oldest
