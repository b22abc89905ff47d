"""Results into the store, and notes in their place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from toolring import stored
from toolring.blobs import Blobs
from toolring.protocol import encode
from toolring.settings import ResultSettings
from toolring.stored import Note
from toolring.workers.storing import ResultStore, is_there

LIFE = "00aa11bb"


class Place:
    def __init__(self, directory: Path, most: int = 1 << 20, over: int = 100) -> None:
        self.settings = ResultSettings(str(directory), LIFE, b"secret" * 5, 0, 20, most)
        self.blobs = Blobs(str(directory), most)
        self.changes: list[tuple[str, str]] = []
        self.store = ResultStore("big", over, self.settings, self.blobs, lambda *change: self.changes.append(change))

    def note(self, result: Any) -> Note:
        note = stored.note_of(bytes(self.store.instead_of(encode(result))))
        assert note is not None
        return note

    def read(self, note: Note) -> bytes:
        parts = stored.parted(note.handle)
        assert parts is not None
        assert parts[0] == LIFE
        return self.blobs.read(parts[1], 0, 1 << 30, 100.0)[1]


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_only_what_is_larger_is_stored(here: Place, tmp_path: Path) -> None:
    small = encode("x" * 98)
    assert len(small) == 100
    assert here.store.instead_of(small) is small
    assert list(tmp_path.iterdir()) == []
    assert here.note("x" * 99).size == 99


@pytest.mark.parametrize(
    ("result", "media", "preview"),
    [
        ("ä" * 200, "text/plain; charset=utf-8", "ä" * 10),
        (b"\xff" * 200, "application/octet-stream", b"\xff" * 20),
        ([{"n": n} for n in range(100)], "application/msgpack", '[{"n": 0}, {"n": 1},'),
    ],
)
def test_the_note_tells_of_what_is_there(here: Place, result: Any, media: str, preview: Any) -> None:
    note = here.note(result)
    assert (note.media, note.preview) == (media, preview)
    data = here.read(note)
    assert len(data) == note.size
    assert stored.value(note.handle[-1], data) == result


def test_raw_results_are_stored_too(here: Place) -> None:
    body = here.store.instead_of(Raw(encode(["x" * 200])))
    note = stored.note_of(bytes(body))
    assert note is not None
    assert msgspec.msgpack.decode(here.read(note)) == ["x" * 200]


def test_equal_results_are_one_and_different_ones_are_not(here: Place, tmp_path: Path) -> None:
    assert here.note("x" * 200) == here.note("x" * 200)
    assert here.note("x" * 200).handle != here.note("x" * 201).handle
    assert here.note("x" * 200).handle[:-1] != here.note(b"x" * 200).handle[:-1], "nor is text the same as bytes"


def test_nobody_who_lacks_the_secret_can_tell_a_handle_from_the_result(here: Place, tmp_path: Path) -> None:
    other = Place(tmp_path)
    other.settings = other.settings._replace(secret=b"another")
    other.store = ResultStore("big", 100, other.settings, other.blobs, lambda *_: None)
    assert other.note("x" * 200).handle != here.note("x" * 200).handle


def test_what_can_not_be_stored_is_given_as_it_is_and_told_once(tmp_path: Path) -> None:
    here = Place(tmp_path, most=1000)
    large = encode("x" * 2000)
    assert here.store.instead_of(large) is large
    assert here.store.instead_of(large) is large
    assert [(tool, why[:9]) for tool, why in here.changes] == [("big", "2000 byte")]
    here.note("x" * 500)
    here.note("x" * 501)
    assert here.changes[1:] == [("big", "")]


def test_a_directory_that_is_gone_is_no_reason_to_lose_a_result(tmp_path: Path) -> None:
    directory = tmp_path / "results"
    here = Place(directory)
    body = encode("x" * 2000)
    assert here.store.instead_of(body) is body
    assert here.changes == [("big", os.strerror(2))]


def test_a_note_may_be_given_again_while_its_result_is_there(here: Place, tmp_path: Path) -> None:
    body = bytes(here.store.instead_of(encode("x" * 200)))
    assert is_there(here.blobs, LIFE, body)
    assert not is_there(here.blobs, "another0", body)
    for path in tmp_path.iterdir():
        path.unlink()
    assert not is_there(here.blobs, LIFE, body)
    assert is_there(here.blobs, LIFE, encode("x" * 200)), "what is no note is there itself"
