"""From the list that a function takes to what one call must bring."""

from __future__ import annotations

import collections.abc
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct

from toolring.batches import Item, of_one_call
from toolring.errors import LoadError


class Question(Struct):
    text: str
    factor: Annotated[int, Meta(ge=1)] = 1
    tags: list[str] = []


class Renamed(Struct, rename="camel", kw_only=True):
    first_word: str = "a"
    second_word: str


@dataclass
class Point:
    x: int
    y: Annotated[int, Meta(ge=0)] = 0
    trail: list[int] = field(default_factory=list)
    length: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.length = float(self.x + self.y)


@dataclass(kw_only=True, frozen=True)
class Named:
    last: str = "z"
    first: str


@dataclass
class Seeded:
    x: int
    seed: InitVar[int] = 5
    y: int = 0

    def __post_init__(self, seed: int) -> None:
        self.y = self.x + seed


def of(element: Any, parameter: str = "requests") -> tuple[Item, type[Struct]]:
    """The item, and the arguments of one call as a struct."""
    item, fields = of_one_call("look", [(parameter, list[element])])
    assert item.parameter == parameter
    return item, msgspec.defstruct("arguments", fields, kw_only=True, forbid_unknown_fields=True)


def one(element: Any, arguments: dict[str, Any], parameter: str = "requests") -> Any:
    """The element that these arguments become."""
    item, struct = of(element, parameter)
    return item.make(msgspec.convert(arguments, struct))


@pytest.mark.parametrize(
    ("element", "arguments", "made"),
    [
        (Question, {"text": "a"}, Question("a", 1, [])),
        (Question, {"text": "a", "factor": 3, "tags": ["x"]}, Question("a", 3, ["x"])),
        (Renamed, {"second_word": "b"}, Renamed(first_word="a", second_word="b")),
        (Point, {"x": 1}, Point(1, 0, [])),
        (Point, {"x": 1, "y": 2, "trail": [3]}, Point(1, 2, [3])),
        (Named, {"first": "a"}, Named(first="a", last="z")),
        (str, {"requests": "a"}, "a"),
        (Annotated[int, Meta(ge=1)], {"requests": 5}, 5),
        (dict[str, int], {"requests": {"a": 1}}, {"a": 1}),
        (list[int], {"requests": [1]}, [1]),
        (int | None, {"requests": None}, None),
        (Any, {"requests": {"x": [1]}}, {"x": [1]}),
        (Question | None, {"requests": None}, None),
    ],
)
def test_what_one_call_brings_becomes_one_element(element: Any, arguments: dict[str, Any], made: Any) -> None:
    found = one(element, arguments)
    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize(
    ("element", "arguments"),
    [
        (Question, {}),
        (Question, {"text": 1}),
        (Question, {"text": "a", "factor": 0}),
        (Question, {"text": "a", "other": 0}),
        (Renamed, {"secondWord": "b"}),
        (Point, {"x": 1, "y": -1}),
        (Point, {"x": 1, "length": 2.0}),
        (Named, {"last": "b"}),
        (str, {"requests": 1}),
        (str, {"request": "a"}),
        (Annotated[int, Meta(ge=1)], {"requests": 0}),
    ],
)
def test_what_does_not_fit_the_element_is_refused(element: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        one(element, arguments)


def test_a_default_is_made_anew_for_each_call() -> None:
    for element in (Question, Point):
        item, struct = of(element)
        first, second = (
            item.make(msgspec.convert({"text": "a"} if element is Question else {"x": 1}, struct)) for _ in "ab"
        )
        given = "tags" if element is Question else "trail"
        getattr(first, given).append(1)
        assert getattr(second, given) == []


class Whatever:
    """Equal to anything, as some mocks and arrays are."""

    def __eq__(self, _: object) -> bool:
        return True

    __hash__ = object.__hash__


ANYTHING = Whatever()


@dataclass
class Lax:
    x: Any = ANYTHING


def test_a_default_is_one_whatever_it_is_equal_to() -> None:
    assert one(Lax, {}).x is ANYTHING


def test_what_a_dataclass_wants_beside_its_fields_has_its_default() -> None:
    assert one(Seeded, {"x": 1}) == Seeded(1, 5)


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        [("a", list[int]), ("b", list[int])],
        [("a", list[int], [])],
        [("a", int)],
        [("a", list)],
        [("a", Any)],
        [("a", set[int])],
        [("a", tuple[int, ...])],
        [("a", collections.abc.Sequence[int])],
        [("a", list[int] | None)],
    ],
    ids=str,
)
def test_a_function_that_takes_no_list_is_refused(parameters: list[Any]) -> None:
    with pytest.raises(LoadError, match=r"tool 'look': batch= needs a function with one parameter, a list"):
        of_one_call("look", parameters)
