"""What a call gives for a result that its node has stored: how it begins, and the means to read on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, Self

import msgspec

from toolring import stored
from toolring.errors import InvalidArguments, ResultGone
from toolring.preview import preview
from toolring.stored import READ, Note

PREVIEW: Final = 1000
"""Bytes of a result that was opened by its handle."""

Read = Callable[[str, int, int], dict[str, Any]]
AsyncRead = Callable[[str, int, int], Awaitable[dict[str, Any]]]


def life_of(handle: str) -> str:
    """The life of the node that has it. Raises InvalidArguments."""
    parts = stored.parted(handle)
    if parts is None:
        raise InvalidArguments(f"{handle!r:.100} is not the handle of a stored result", argument="handle")
    return parts[0]


def about(job: dict[str, Any], make: Callable[[Note], Any]) -> dict[str, Any]:
    """What a node tells of a job, with its stored result in place of the note of it."""
    if isinstance(job.get("value"), msgspec.msgpack.Ext):
        job["value"] = stored.decoder(make)(msgspec.msgpack.encode(job["value"]))
    return job


class _Stored:
    """What is known of it without asking."""

    def __init__(self, note: Note) -> None:
        self._note = note

    @property
    def handle(self) -> str:
        """Its name, for ``open_result``, in any process. Whoever has it can read the result."""
        return self._note.handle

    @property
    def size(self) -> int:
        """Bytes: of a text in UTF-8, of structured data as msgpack."""
        return self._note.size

    @property
    def media(self) -> str:
        """What its bytes are: ``text/plain; charset=utf-8`` of a str, ``application/octet-stream`` of bytes, else
        ``application/msgpack``."""
        return self._note.media

    @property
    def preview(self) -> str | bytes:
        """How it begins: bytes of bytes, else text; of structured data, as JSON that breaks off somewhere."""
        preview: str | bytes = self._note.preview
        return preview

    def __repr__(self) -> str:
        return f"<stored result {self.handle}: {self.size} bytes of {self.media}>"

    def _end(self, offset: int, length: int | None) -> int:
        """Where a range ends. Raises InvalidArguments."""
        for name, number in (("offset", offset), ("length", 0 if length is None else length)):
            if type(number) is not int or number < 0:
                raise InvalidArguments(f"{name}={number!r:.100} is not a number of bytes", argument=name)
        return self.size if length is None else min(offset + length, self.size)

    def _whole(self, data: bytes) -> Any:
        return stored.value(self.handle[-1], data)

    def _piece(self, told: Mapping[str, Any]) -> bytes:
        data = told["data"]
        if not isinstance(data, bytes) or not data:
            raise ResultGone(f"{self.handle} ends before its {self.size} bytes")
        return data


def _opened(handle: str, told: Mapping[str, Any]) -> Note:
    return Note(handle, told["size"], preview(handle[-1], memoryview(told["data"]), PREVIEW))


class StoredResult(_Stored):
    """A result that its node has stored. To read it is to ask the node, for some bytes at a time."""

    def __init__(self, read: Read, note: Note) -> None:
        super().__init__(note)
        self._read = read

    @classmethod
    def opened(cls, read: Read, handle: str) -> Self:
        """By its handle alone. Raises ResultGone, InvalidArguments."""
        life_of(handle)
        return cls(read, _opened(handle, read(handle, 0, PREVIEW)))

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Its bytes from there on, so many or all; fewer where it ends. Raises ResultGone."""
        return b"".join(self.pieces(offset, length))

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The same, some at a time."""
        end = self._end(offset, length)
        while offset < end:
            piece = self._piece(self._read(self.handle, offset, min(READ, end - offset)))
            offset += len(piece)
            yield piece

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces()

    def value(self) -> Any:
        """The result as the tool returned it."""
        return self._whole(self.read())

    def save(self, path: str | os.PathLike[str], offset: int = 0, length: int | None = None) -> int:
        """Write its bytes, or some, to a file, which is there once all are. Gives how many."""
        with _written(path) as file:
            return sum(file.write(piece) for piece in self.pieces(offset, length))


class AsyncStoredResult(_Stored):
    """What ``StoredResult`` is, awaited: ``async for piece in result``."""

    def __init__(self, read: AsyncRead, note: Note) -> None:
        super().__init__(note)
        self._read = read

    @classmethod
    async def opened(cls, read: AsyncRead, handle: str) -> Self:
        """By its handle alone. Raises ResultGone, InvalidArguments."""
        life_of(handle)
        return cls(read, _opened(handle, await read(handle, 0, PREVIEW)))

    async def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Its bytes from there on, so many or all; fewer where it ends. Raises ResultGone."""
        return b"".join([piece async for piece in self.pieces(offset, length)])

    async def pieces(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The same, some at a time."""
        end = self._end(offset, length)
        while offset < end:
            piece = self._piece(await self._read(self.handle, offset, min(READ, end - offset)))
            offset += len(piece)
            yield piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces()

    async def value(self) -> Any:
        """The result as the tool returned it."""
        return self._whole(await self.read())

    async def save(self, path: str | os.PathLike[str], offset: int = 0, length: int | None = None) -> int:
        """Write its bytes, or some, to a file, which is there once all are. Gives how many."""
        with _written(path) as file:
            return sum([file.write(piece) async for piece in self.pieces(offset, length)])


@contextmanager
def _written(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    part = f"{os.fspath(path)}.part"
    try:
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
