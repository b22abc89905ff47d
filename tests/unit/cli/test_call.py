from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring import tool
from toolring.cli.call import parse
from toolring.errors import InvalidArguments
from toolring.protocol import encode
from toolring.spec import ToolSpec


@tool
def sample(
    text: str = "",
    number: int = 0,
    ratio: float = 0.0,
    flag: bool = False,
    maybe: int | None = None,
    words: list[str] | None = None,
    either: int | str = 0,
    mode: Literal["a", "b"] = "a",
    level: Literal[1, 2] = 1,
    table: dict[str, int] | None = None,
    anything: Any = None,
) -> None: ...


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("text=5", "text", "5"),
        ("text=", "text", ""),
        ("text=a=b", "text", "a=b"),
        ("text=true", "text", "true"),
        ("number=5", "number", 5),
        ("number=-5", "number", -5),
        ("number=five", "number", "five"),
        ("ratio=5", "ratio", 5.0),
        ("ratio=1e-3", "ratio", 0.001),
        ("flag=true", "flag", True),
        ("flag=False", "flag", False),
        ("flag=yes", "flag", "yes"),
        ("maybe=", "maybe", None),
        ("maybe=null", "maybe", None),
        ("maybe=3", "maybe", 3),
        ('words=["a", "b"]', "words", ["a", "b"]),
        ("either=5", "either", "5"),
        ("mode=b", "mode", "b"),
        ("level=2", "level", 2),
        ('table={"x": 1}', "table", {"x": 1}),
        ("anything=5", "anything", "5"),
        ("anything:=5", "anything", 5),
        ("text:=null", "text", None),
        ('number:={"a": [1]}', "number", {"a": [1]}),
        ("unknown=5", "unknown", "5"),
    ],
)
def test_the_schema_says_how_a_word_is_read(word: str, key: str, value: Any) -> None:
    found = parse([word], sample.spec)
    assert found == {key: value}
    assert type(found[key]) is type(value)


@pytest.mark.parametrize("word", ["text", "", "=5", ":=5", "--flag"])
def test_what_is_not_key_and_value_is_refused(word: str) -> None:
    with pytest.raises(InvalidArguments, match="is not key=value") as caught:
        parse([word], sample.spec)
    assert caught.value.facts["argument"] == word


@pytest.mark.parametrize("word", ["n:=", "n:={", "n:=[1", "n:=" + "[" * 100_000])
def test_what_claims_to_be_json_must_be(word: str) -> None:
    with pytest.raises(InvalidArguments, match="is not JSON"):
        parse([word], sample.spec)


def test_without_a_schema_all_is_text() -> None:
    assert parse(["n=5", "flag=true"], None) == {"n": "5", "flag": "true"}


def test_a_key_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="number is given twice"):
        parse(["number=1", "number:=2"], sample.spec)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sample.arguments.__struct_fields__), st.sampled_from(["=", ":="]), st.text(max_size=12)
        )
    )
)
def test_any_words_give_arguments_or_a_refusal(words: list[tuple[str, str, str]]) -> None:
    try:
        parse(["".join(word) for word in words], sample.spec)
    except InvalidArguments:
        pass


@pytest.mark.parametrize("text", ["9" * 400, "[" * 100_000, "1e999", "NaN"])
def test_numbers_and_nesting_beyond_reason_are_left_to_the_node(text: str) -> None:
    assert "ratio" in parse([f"ratio={text}"], sample.spec)


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_what_was_printed_is_read_again(number: int, ratio: float, flag: bool) -> None:
    values = parse([f"number={number}", f"ratio={ratio}", f"flag={flag}"], sample.spec)
    arguments: Any = sample.decode(encode(values))
    assert (arguments.number, arguments.ratio, arguments.flag) == (number, ratio, flag)


def test_a_reference_in_a_schema_is_followed() -> None:
    spec = ToolSpec(
        name="x",
        parameters={"properties": {"level": {"$ref": "#/$defs/Level"}}, "$defs": {"Level": {"enum": [1, 2]}}},
    )
    assert parse(["level=2"], spec) == {"level": 2}
