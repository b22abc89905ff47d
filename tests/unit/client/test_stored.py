"""Stored results as a caller has them, read from a file that stands in for the node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolring import stored
from toolring.client.stored import AsyncStoredResult, StoredResult, about, life_of
from toolring.errors import InvalidArguments, ResultGone
from toolring.protocol import decode_value, encode
from toolring.stored import READ, Note

NAME = "0" * 40
TEXT = "".join(f"line {n}\n" for n in range(20_000))


class Source:
    """Answers as a node does."""

    def __init__(self, result: Any) -> None:
        kind, data = stored.content(encode(result))
        self.data = bytes(data)
        self.handle = f"00aa11bb-{NAME}{kind}"
        self.asked: list[tuple[int, int]] = []
        self.there = len(self.data)

    def __call__(self, handle: str, offset: int, length: int) -> dict[str, Any]:
        assert handle == self.handle
        self.asked.append((offset, length))
        return {"size": len(self.data), "data": self.data[offset : min(self.there, offset + min(length, READ))]}

    async def later(self, handle: str, offset: int, length: int) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self(handle, offset, length)


Opened = Callable[[Source], Any]


def plain(source: Source) -> StoredResult:
    return StoredResult.opened(source, source.handle)


class Awaited:
    """An AsyncStoredResult that looks like a StoredResult."""

    def __init__(self, source: Source) -> None:
        self._loop = asyncio.new_event_loop()
        self._it = self._run(AsyncStoredResult.opened(source.later, source.handle))

    def _run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._it, name)
        return (lambda *given: self._run(found(*given))) if name in ("read", "value", "save") else found

    def __repr__(self) -> str:
        return repr(self._it)

    def __iter__(self) -> Any:
        async def every() -> list[bytes]:
            return [piece async for piece in self._it]

        return iter(self._run(every()))

    def __del__(self) -> None:
        self._loop.close()


both = pytest.mark.parametrize("opened", [plain, Awaited])


@both
@pytest.mark.parametrize("result", [TEXT, TEXT.encode(), [TEXT, {"a": 1}], "x" * READ, b"x" * (2 * READ)])
def test_the_whole_is_what_the_tool_returned(opened: Opened, result: Any) -> None:
    source = Source(result)
    it = opened(source)
    assert it.value() == result
    assert b"".join(it) == it.read() == source.data
    assert it.size == len(source.data)
    assert it.handle == source.handle


@both
@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 5), (7, None), (len(TEXT) - 3, 10), (len(TEXT), 5), (1 << 40, 5), (5, 1 << 40)]
)
def test_a_range_is_read_in_pieces_that_one_answer_holds(opened: Opened, offset: int, length: int | None) -> None:
    source = Source(TEXT)
    it = opened(source)
    source.asked.clear()
    end = None if length is None else offset + length
    assert it.read(offset, length) == TEXT.encode()[offset:end]
    assert all(0 < asked <= READ for _, asked in source.asked)


@both
def test_it_tells_how_it_begins(opened: Opened) -> None:
    assert opened(Source(TEXT)).preview == TEXT[:1000]
    assert opened(Source(b"\xff" * 2000)).preview == b"\xff" * 1000
    table = opened(Source([{"n": n} for n in range(1000)]))
    assert table.preview.startswith('[{"n": 0}, {"n": 1}, ')
    assert table.media == "application/msgpack"
    assert repr(table).endswith(f": {table.size} bytes of application/msgpack>")


@both
def test_it_is_saved_whole_or_in_part_or_not_at_all(opened: Opened, tmp_path: Path) -> None:
    source, path = Source(TEXT), tmp_path / "file"
    it = opened(source)
    assert it.save(path) == len(TEXT)
    assert path.read_text() == TEXT
    assert it.save(str(path), 5, 10) == 10
    assert path.read_text() == TEXT[5:15]
    source.there = READ + 5
    with pytest.raises(ResultGone, match=f"ends before its {len(TEXT)} bytes"):
        it.save(path)
    assert path.read_text() == TEXT[5:15]
    assert list(tmp_path.iterdir()) == [path]


@both
@pytest.mark.parametrize("given", [(-1,), (True,), (1.5,), (0, -1), (0, "7")])
def test_nonsense_is_refused_by_name(opened: Opened, given: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidArguments) as caught:
        opened(Source(TEXT)).read(*given)
    assert caught.value.facts["argument"] == ("offset" if len(given) == 1 else "length")


def test_a_handle_names_a_life_of_a_node() -> None:
    assert life_of(f"00aa11bb-{NAME}t") == "00aa11bb"
    for wrong in ("", "00aa11bb", f"00aa11bb-{NAME}"):
        with pytest.raises(InvalidArguments, match="is not the handle of a stored result"):
            StoredResult.opened(Source(TEXT), wrong)


def test_what_is_told_of_a_job_has_it_in_place_of_the_note() -> None:
    note = Note(f"00aa11bb-{NAME}t", 7, "how")
    told = decode_value(encode({"state": "done", "value": decode_value(stored.told(note))}))
    assert about(told, lambda one: ("made", one)) == {"state": "done", "value": ("made", note)}
    assert about({"state": "done", "value": [1]}, lambda one: 1 / 0) == {"state": "done", "value": [1]}
    assert about({"state": "queued"}, lambda one: 1 / 0) == {"state": "queued"}
