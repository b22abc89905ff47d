from __future__ import annotations

from typing import Any

import msgspec

from toolring.workers.cache.tags import renderer


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
