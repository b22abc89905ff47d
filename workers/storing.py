"""Large results of one tool: into the node's store, with a note in their place."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from msgspec import Raw

from toolring import stored
from toolring.blobs import Blobs
from toolring.preview import preview
from toolring.settings import ResultSettings

_DIGEST: Final = 20
"""Bytes of a handle that nobody can guess."""


class ResultStore:
    """What can't be stored is answered as if there were no store, so that nothing is lost by it."""

    def __init__(
        self, tool: str, over: int, settings: ResultSettings, blobs: Blobs, on_change: Callable[[str, str], None]
    ) -> None:
        """``over``: bytes beyond which a result is stored. ``on_change`` is told the tool's name and a reason when
        storing begins to fail, and an empty one when it works again."""
        self._tool = tool
        self._over = over
        self._settings = settings
        self._blobs = blobs
        self._on_change = on_change
        self._failing = ""

    def instead_of(self, body: bytes | Raw) -> bytes | Raw:
        """The encoded result itself, or a note of where it is."""
        if len(body) <= self._over:
            return body
        kind, data = stored.content(body)
        name = blake2b(data, digest_size=_DIGEST, key=self._settings.secret, person=kind.encode()).hexdigest() + kind
        try:
            self._blobs.put(name, data)
        except OSError as error:
            self._tell(error.strerror or str(error))
            return body
        self._tell("")
        handle = stored.handle_of(self._settings.life, name)
        return stored.told(stored.Note(handle, len(data), preview(kind, data, self._settings.preview)))

    def _tell(self, why: str) -> None:
        if why != self._failing:
            self._failing = why
            self._on_change(self._tool, why)


def is_there(blobs: Blobs, life: str, body: bytes) -> bool:
    """May this cached result be given? A note may if what it tells of is still there, which it is for longer then."""
    note = stored.note_of(body)
    if note is None:
        return True
    parts = stored.parted(note.handle)
    return parts is not None and parts[0] == life and blobs.touch(parts[1])
