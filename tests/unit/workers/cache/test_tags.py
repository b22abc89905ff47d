from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest

from toolring.stamps import SOME_TAG, of_tool, some_key
from toolring.workers.cache.tags import named, of_key, renderer


class Arguments(msgspec.Struct):
    id: Any = None
    kind: Any = None


def tags(*templates: str, **arguments: Any) -> tuple[bytes, ...]:
    return renderer(templates)(Arguments(**arguments))


def test_arguments_stand_in_their_places() -> None:
    assert tags("users", "user:{id}", "{kind}/{id}", id=7, kind="a") == (b"tag:users", b"tag:user:7", b"tag:a/7")


def test_a_number_and_its_text_are_one_value() -> None:
    assert tags("user:{id}", id=1) == tags("user:{id}", id="1")


def test_what_is_no_text_is_written_canonically() -> None:
    assert tags("{id}", id={"b": 1, "a": None}) == tags("{id}", id={"a": None, "b": 1}) == (b'tag:{"a":null,"b":1}',)


def test_a_value_is_not_read_as_a_template() -> None:
    assert tags("{id}", id="{kind}", kind="x") == (b"tag:{kind}",)


def test_tags_of_other_templates_or_values_differ() -> None:
    made = [tags(template, id=value) for template in ("user:{id}", "item:{id}", "{id}") for value in (1, 2, None, True)]
    assert len(set(made)) == len(made)


def test_without_a_place_nothing_is_looked_at() -> None:
    render = renderer(("users", "all"))
    assert render(Arguments(id=object())) == (b"tag:users", b"tag:all")


def test_an_argument_may_stand_twice_and_be_a_default() -> None:
    assert tags("{id}:{id}", "{kind}", id=1) == (b"tag:1:1", b"tag:null")


def test_no_tag_is_taken_for_a_tool_a_key_or_everything() -> None:
    assert named("*") != b"*"
    assert named("tool:x") != of_tool("x")
    assert named("tags") != SOME_TAG
    assert of_key(b"x") != named("x") != some_key("x")


def test_what_is_one_text_is_one_tag_whatever_its_type() -> None:
    class Kind(Enum):
        A = "a"

    some, day = UUID(int=7), date(2026, 11, 24)
    for value in (some, day, Decimal("1.5"), Kind.A):
        text = value.value if isinstance(value, Kind) else str(value)
        assert tags("x:{id}", id=value) == tags("x:{id}", id=text)
    assert tags("x:{id}", id=1.0) == tags("x:{id}", id=1) == (b"tag:x:1",)


@pytest.mark.parametrize("value", [{1: 1}, {None: 1}, {b"x": 1, "y": 2}, msgspec.msgpack.Ext(1, b"x"), float("nan")])
def test_anything_that_can_be_sent_makes_a_tag(value: Any) -> None:
    (tag,) = tags("x:{id}", id=value)
    assert tag.startswith(b"tag:x:")
    assert tags("x:{id}", id=value) == (tag,)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (-2.0, "-2"), (True, "true"), (None, "null"), (b"a", "YQ==")]
)
def test_an_operator_can_type_any_plain_value(value: Any, text: str) -> None:
    assert tags("x:{id}", id=value) == tags("x:{id}", id=text) == (b"tag:x:" + text.encode(),)


def test_numbers_are_told_apart() -> None:
    numbers = [0, 1, -1, 0.5, 1e300, 2**64, float("inf"), float("-inf"), float("nan"), True]
    assert len({tags("{id}", id=number) for number in numbers}) == len(numbers)
