"""How a large result begins, as text: for people, and for agents that decide whether to read on. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Final

from toolring.stored import BYTES, TEXT

_CONSTANTS: Final = {0xC0: "null", 0xC2: "false", 0xC3: "true"}
_NUMBERS: Final = {
    **{0xCA: ">f", 0xCB: ">d"},
    **{0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
    **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
}
_SIZED: Final = {
    **{0xD9: ("text", 1), 0xDA: ("text", 2), 0xDB: ("text", 4)},
    **{0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4)},
    **{0xC7: ("extension", 1), 0xC8: ("extension", 2), 0xC9: ("extension", 4)},
    **{0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)},
}
"""What begins with this byte, and how many bytes tell its size."""

_BROKEN_OFF: Final = -1
"""Where the next value is, if this one is more than is shown or than there is."""


def preview(kind: str, data: memoryview, most: int) -> str | bytes:
    """The first bytes of a stored result, at most so many. Of structured data, what its first bytes are as JSON;
    ``data`` need not be all of it."""
    if kind == BYTES:
        return bytes(data[:most])
    if kind == TEXT:
        return bytes(data[:most]).decode("utf-8", "ignore")
    found, size = [], 0
    for piece in _json(data, most):
        found.append(piece)
        size += len(piece)
        if size >= most:
            break
    return "".join(found).encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


class _Level:
    """An array or a map that is not at its end."""

    __slots__ = ("close", "left", "pairs", "seen")

    def __init__(self, pairs: bool, count: int) -> None:
        self.pairs = pairs
        self.left = 2 * count if pairs else count
        self.close = "}" if pairs else "]"
        self.seen = 0

    def before_next(self) -> str:
        self.left -= 1
        self.seen += 1
        if self.seen == 1:
            return ""
        return ": " if self.pairs and self.seen % 2 == 0 else ", "


def _json(data: memoryview, most: int) -> Iterator[str]:
    """Piece by piece, as far as the bytes go."""
    at, levels = 0, list[_Level]()
    while at < len(data):
        if levels:
            yield levels[-1].before_next()
        try:
            text, at, level = _one(data, at, most)
        except struct.error:
            return
        yield text
        if at == _BROKEN_OFF:
            return
        if level is not None:
            levels.append(level)
        while levels and not levels[-1].left:
            yield levels.pop().close
        if not levels:
            return


def _one(data: memoryview, at: int, most: int) -> tuple[str, int, _Level | None]:
    """The value that begins there, and where the next does; of an array or a map its first brace, of a text as much as
    is shown. Raises struct.error if there is less of it."""
    first = data[at]
    at += 1
    if first <= 0x7F or first >= 0xE0:
        return str(first if first <= 0x7F else first - 256), at, None
    if first in _CONSTANTS:
        return _CONSTANTS[first], at, None
    if first in _NUMBERS:
        form = _NUMBERS[first]
        return json.dumps(struct.unpack_from(form, data, at)[0]), at + struct.calcsize(form), None
    kind, size, at = _sized(data, first, at)
    if kind in ("array", "map"):
        level = _Level(kind == "map", size)
        return "{" if level.pairs else "[", at, level
    if kind == "text":
        text = json.dumps(bytes(data[at : at + min(size, most)]).decode("utf-8", "ignore"), ensure_ascii=False)
        if size > most or at + size > len(data):
            return text[:-1], _BROKEN_OFF, None
        return text, at + size, None
    return json.dumps(f"<{size} bytes>" if kind == "bytes" else "<extension>"), at + size, None


def _sized(data: memoryview, first: int, at: int) -> tuple[str, int, int]:
    """What begins so, its size, and where it does."""
    if first in _SIZED:
        kind, width = _SIZED[first]
        size = int(struct.unpack_from({1: ">B", 2: ">H", 4: ">I"}[width], data, at)[0])
        return kind, size, at + width + (kind == "extension")
    if first >= 0xD4:
        return "extension", 1 << (first - 0xD4), at + 1
    if first >= 0xA0:
        return "text", first & 0x1F, at
    return ("array" if first >= 0x90 else "map"), first & 0x0F, at
