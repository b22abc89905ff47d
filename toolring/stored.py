"""Results that are kept in files instead of being sent: how an answer says so, and what the bytes of a file are.

The value of such an answer is a note, a msgpack extension of type ``NOTE``. So it passes through everything that an
answer passes through (caches, chunks, kept results) as the small value that it is, and only clients know it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from toolring.protocol import decode_value, encode

NOTE: Final = 83
"""The type of the extension."""
READ: Final = 64 << 10
"""The most bytes of a stored result in one answer of a node."""

TEXT: Final = "t"
"""Text: its bytes are UTF-8."""
BYTES: Final = "b"
"""Bytes, as the tool gave them."""
DATA: Final = "m"
"""Anything else, as msgpack."""

MEDIA: Final = {TEXT: "text/plain; charset=utf-8", BYTES: "application/octet-stream", DATA: "application/msgpack"}

_NAME: Final = re.compile(r"[0-9a-f]{40}[tbm]")
_HANDLE: Final = re.compile(rf"([0-9a-f]{{8}})-({_NAME.pattern})")
_HEAD: Final = {0xD9: 2, 0xDA: 3, 0xDB: 5, 0xC4: 2, 0xC5: 3, 0xC6: 5}
"""Bytes before those of a text, or of bytes, by msgpack's first one."""
EXTENSIONS: Final = frozenset({b"\xc7", b"\xc8", b"\xc9", b"\xd4", b"\xd5", b"\xd6", b"\xd7", b"\xd8"})
"""With one of these begins what may be a note, and nearly nothing else."""


class Note(msgspec.Struct, array_like=True, frozen=True):
    """What is told of a stored result in its place."""

    handle: str
    """Whoever has it can read the result: it can't be guessed, not even from the result."""
    size: int
    preview: Any
    """How it begins: bytes of bytes, else text; of structured data, as JSON."""

    @property
    def media(self) -> str:
        return MEDIA[self.handle[-1]]


def content(body: bytes | Raw) -> tuple[str, memoryview]:
    """The kind of an encoded result, and the bytes that are worth reading: of a text or bytes, without their head."""
    view = memoryview(body)
    first = view[0]
    if 0xA0 <= first <= 0xBF:
        return TEXT, view[1:]
    if first in _HEAD:
        return (TEXT if first >= 0xD9 else BYTES), view[_HEAD[first] :]
    return DATA, view


def value(kind: str, data: bytes) -> Any:
    """The result whose bytes these are, all of them."""
    if kind == TEXT:
        return data.decode()
    return data if kind == BYTES else decode_value(data)


def handle_of(node: str, name: str) -> str:
    """``name`` is that of the file in the store of this life of a node."""
    return f"{node}-{name}"


def parted(handle: Any) -> tuple[str, str] | None:
    """The life of a node, and the name of a file there; None: that is no handle."""
    found = _HANDLE.fullmatch(handle) if isinstance(handle, str) else None
    return None if found is None else (found[1], found[2])


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def told(note: Note) -> bytes:
    """A note as the value of an answer."""
    return encode(msgspec.msgpack.Ext(NOTE, encode(note)))


_note = msgspec.msgpack.Decoder(Note).decode


def note_of(body: bytes) -> Note | None:
    """The note that an encoded result is; None: it is the result itself."""
    if body[:1] not in EXTENSIONS:
        return None
    found = decode_value(body)
    return _read(found.code, found.data) if isinstance(found, msgspec.msgpack.Ext) else None


def decoder(make: Callable[[Note], Any]) -> Callable[[Any], Any]:
    """Decodes results. ``make`` makes of a note what the caller gets in the result's place."""

    def of_extension(code: int, data: memoryview) -> Any:
        note = _read(code, data)
        return msgspec.msgpack.Ext(code, bytes(data)) if note is None else make(note)

    return msgspec.msgpack.Decoder(ext_hook=of_extension).decode


def _read(code: int, data: Any) -> Note | None:
    """An extension that a tool itself returned, of the same type, is its own affair."""
    if code != NOTE:
        return None
    try:
        note = _note(data)
    except msgspec.DecodeError:
        return None
    fits = isinstance(note.preview, str | bytes) and parted(note.handle) is not None
    return note if fits else None
