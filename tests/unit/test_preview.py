"""How results begin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec.msgpack import Ext

from toolring.preview import preview
from toolring.protocol import encode
from toolring.stored import BYTES, DATA, TEXT

ALL = 1 << 20

plain = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**64 - 1) | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
)


def of(result: Any, most: int = ALL) -> Any:
    return preview(DATA, memoryview(encode(result)), most)


@given(plain)
def test_what_is_small_is_shown_whole_as_json(result: Any) -> None:
    assert of(result) == json.dumps(result, ensure_ascii=False)


@given(plain, some.integers(0, 60))
def test_what_is_large_breaks_off(result: Any, most: int) -> None:
    begins, whole = of(result, most), json.dumps(result, ensure_ascii=False)
    assert len(begins.encode()) <= most
    assert whole.startswith(begins)
    assert len(begins.encode()) > most - 4 or begins == whole


@given(plain, some.data())
def test_the_first_bytes_are_enough(result: Any, data: some.DataObject) -> None:
    body = encode(result)
    cut = data.draw(some.integers(0, len(body)))
    begins = preview(DATA, memoryview(body)[:cut], ALL)
    assert isinstance(begins, str)
    whole = json.dumps(result, ensure_ascii=False)
    assert whole.startswith(begins)


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ([b"abc", 1], '["<3 bytes>", 1]'),
        ({"a": Ext(5, b"123"), "b": Ext(5, b"1234")}, '{"a": "<extension>", "b": "<extension>"}'),
        ({1: [True, None]}, "{1: [true, null]}"),
        ([[], {}, [[]]], "[[], {}, [[]]]"),
        ([1.5, -1, -200, 40_000], "[1.5, -1, -200, 40000]"),
    ],
)
def test_what_json_has_no_word_for(result: Any, shown: str) -> None:
    assert of(result) == shown


def test_a_text_is_not_cut_within_a_letter() -> None:
    assert preview(TEXT, memoryview("äöü".encode()), 3) == "ä"
    assert preview(TEXT, memoryview("äöü".encode()), 4) == "äö"
    assert preview(TEXT, memoryview(b""), 4) == ""


def test_of_bytes_it_is_the_first() -> None:
    assert preview(BYTES, memoryview(b"\xff\x00\x01"), 2) == b"\xff\x00"


@given(some.binary())
def test_whatever_the_bytes_are_it_does_not_fail(data: bytes) -> None:
    assert len(str(preview(DATA, memoryview(data), 100)).encode()) <= 100
