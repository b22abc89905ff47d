"""Notes and handles of stored results, and what is worth reading of an encoded one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec.msgpack import Ext

from toolring import stored
from toolring.protocol import decode_value, encode
from toolring.stored import BYTES, DATA, TEXT, Note

HANDLE = f"00aa11bb-{'0' * 40}t"
LENGTHS = (0, 1, 31, 32, 255, 256, 65_535, 65_536)


@pytest.mark.parametrize("length", LENGTHS)
def test_of_texts_and_bytes_their_own_bytes_are_read(length: int) -> None:
    kind, data = stored.content(encode("x" * length))
    assert (kind, bytes(data)) == (TEXT, b"x" * length)
    kind, data = stored.content(encode(b"x" * length))
    assert (kind, bytes(data)) == (BYTES, b"x" * length)


@pytest.mark.parametrize("result", [None, True, 7, -1, 1.5, [], {}, ["a"], {"a": b"b"}, Ext(5, b"abc")])
def test_anything_else_is_read_as_msgpack(result: Any) -> None:
    body = encode(result)
    assert stored.content(body) == (DATA, memoryview(body))


plain = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**64 - 1) | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
)


@given(plain | some.binary())
def test_what_was_stored_is_what_is_read(result: Any) -> None:
    kind, data = stored.content(encode(result))
    assert stored.value(kind, bytes(data)) == result


@given(plain | some.binary())
def test_a_result_is_no_note(result: Any) -> None:
    assert stored.note_of(encode(result)) is None


@pytest.mark.parametrize("preview", ["how it begins", b"\x00\xff", ""])
def test_a_note_comes_through_an_answer(preview: Any) -> None:
    note = Note(HANDLE, 1 << 40, preview)
    assert stored.note_of(stored.told(note)) == note
    decode = stored.decoder(lambda note: ("made", note))
    assert decode(stored.told(note)) == ("made", note)
    assert decode(encode([1, decode_value(stored.told(note))])) == [1, ("made", note)]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", encode(7), encode([1, 2, 3]), encode(["no handle", 3, ""]), encode([HANDLE, 3, 7])],
)
def test_an_extension_of_the_tools_own_stays_what_it_is(data: bytes) -> None:
    theirs = Ext(stored.NOTE, data)
    assert stored.note_of(encode(theirs)) is None
    assert stored.decoder(lambda note: 1 / 0)(encode(theirs)) == theirs
    other = Ext(7, encode([HANDLE, 3, ""]))
    assert stored.decoder(lambda note: 1 / 0)(encode(other)) == other


def test_a_handle_has_the_life_of_a_node_and_a_name() -> None:
    assert stored.parted(HANDLE) == ("00aa11bb", HANDLE[9:])
    assert stored.handle_of("00aa11bb", HANDLE[9:]) == HANDLE
    assert Note(HANDLE, 1, "").media == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "handle",
    [None, 7, b"", "", HANDLE.upper(), HANDLE[:-1], f"{HANDLE[:-1]}x", f"{HANDLE}\n", f"../{HANDLE}", f"{HANDLE}/.."],
)
def test_anything_else_is_no_handle(handle: Any) -> None:
    assert stored.parted(handle) is None


def test_a_note_is_small_and_frozen() -> None:
    note = Note(HANDLE, 1, "")
    assert len(stored.told(note)) < 100
    with pytest.raises(AttributeError):
        note.size = 2  # type: ignore[misc]
    assert msgspec.structs.astuple(note) == (HANDLE, 1, "")
