from __future__ import annotations

import enum
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from msgspec import Meta

from toolring import AsyncService, Context, Service, tool
from toolring.declare import Tool
from toolring.errors import InvalidArguments, LoadError, TooDeep
from toolring.given import Wanted
from toolring.protocol import encode


@dataclass
class Point:
    x: int
    y: int = 0


class Colour(enum.Enum):
    RED = "red"


class Options(TypedDict, total=False):
    deep: bool


class Picky(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        {"good": 1}[self.name]


@tool
def search(pattern: str, path: str = ".", limit: Annotated[int, Meta(ge=1, le=100)] = 10) -> list[str]:
    """Search.

    Every line that matches.
    """
    return [pattern, path, str(limit)]


@tool
def everything(
    point: Point,
    colour: Colour = Colour.RED,
    mode: Literal["a", "b"] = "a",
    tags: list[str] | None = None,
    options: Options | None = None,
    ratio: float = 0.5,
    data: bytes = b"",
    unlike: set[Any] | None = None,
    anything: Any = None,
) -> None:
    pass


def test_a_tool_can_be_called_as_the_function_that_it_is() -> None:
    assert search("x", limit=3) == ["x", ".", "3"]
    assert getattr(search, "__name__") == "search"  # noqa: B009 - of the function that it wraps
    assert isinstance(search, Tool)
    assert repr(search) == "<tool search>"


def test_hints_and_docstring_become_schema_and_description() -> None:
    spec = search.spec
    assert spec.name == "search"
    assert spec.description == "Search.\n\nEvery line that matches."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "pattern": {"type": "string"},
            "path": {"type": "string", "default": "."},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        },
        "required": ["pattern"],
        "additionalProperties": False,
    }


def test_a_schema_of_structures_is_complete() -> None:
    schema = everything.spec.parameters
    assert schema["required"] == ["point"]
    assert set(schema["$defs"]) >= {"Point", "Colour"}
    assert schema["properties"]["point"] == {"$ref": "#/$defs/Point"}
    assert schema["properties"]["mode"]["enum"] == ["a", "b"]


def test_defaults_are_those_of_the_careful() -> None:
    spec = search.spec
    assert (spec.read_only, spec.idempotent, spec.destructive, spec.open_world) == (False, False, True, True)
    assert (spec.timeout, spec.cache, spec.affinity, spec.balancer) == (None, None, None, None)
    assert (spec.cache_strategy, spec.cache_stale, spec.cache_errors) == (None, 0, 0)
    assert (spec.cache_scope, spec.tags, spec.invalidates) == ("public", (), ())
    assert not spec.repeatable
    assert not spec.routed


def test_policy_is_frozen_in_the_spec() -> None:
    @tool(
        read_only=True,
        idempotent=True,
        timeout=1.0,
        cache=60,
        affinity="a",
        balancer="round_robin",
        cache_strategy="lru",
        cache_stale=5,
        cache_errors=1,
        cache_scope="partition",
        tags=["all", "one:{a}"],
        invalidates=("other",),
    )
    def policed(a: int) -> int:
        return a

    spec = policed.spec
    assert (spec.timeout, spec.cache, spec.affinity, spec.balancer) == (1.0, 60, "a", "round_robin")
    assert (spec.cache_strategy, spec.cache_stale, spec.cache_errors) == ("lru", 5, 1)
    assert (spec.cache_scope, spec.tags, spec.invalidates) == ("partition", ("all", "one:{a}"), ("other",))
    assert not spec.destructive
    assert spec.repeatable
    assert spec.routed
    with pytest.raises(AttributeError):
        spec.timeout = 2.0  # type: ignore[misc]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=type(spec)) == spec


def test_a_name_and_a_description_may_be_given() -> None:
    @tool(name="code.search-2", description="Other")
    def named() -> None: ...

    assert named.spec.name == "code.search-2"
    assert named.spec.description == "Other"


def test_cache_zero_is_no_cache() -> None:
    @tool(cache=0)
    def uncached() -> None: ...

    assert uncached.spec.cache is None


def test_a_skipped_side_effect_may_be_wanted() -> None:
    @tool(cache=5, cache_writes=True)
    def knows() -> None: ...

    assert knows.spec.cache == 5


def test_the_version_changes_with_the_source() -> None:
    @tool
    def one() -> int:
        return 1

    first = one.spec.version

    @tool(name="one")
    def other() -> int:
        return 2

    assert first != other.spec.version
    assert len(first) == 16


# ---- arguments


@pytest.mark.parametrize(
    ("given", "argument", "says"),
    [
        ({"pattern": 5}, "pattern", "Expected `str`, got `int`"),
        ({}, "pattern", "missing required argument `pattern`"),
        ({"pattern": "x", "limt": 1}, "limt", "unexpected argument `limt`"),
        ({"pattern": "x", "limit": 0}, "limit", ">= 1"),
        ({"pattern": "x", "limit": 1.5}, "limit", "Expected `int`"),
        ({"pattern": "x", "limit": True}, "limit", "Expected `int`"),
        ({"pattern": None}, "pattern", "got `None`"),
    ],
)
def test_a_refusal_names_the_argument(given: dict[str, Any], argument: str, says: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        search.decode(encode(given))
    error = caught.value
    assert error.facts == {"tool": "search", "argument": argument}
    assert says in str(error)
    assert str(error).startswith("search: ")
    assert "pattern, path, limit" in str(error), "it says what there is"


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"point": {"x": "1"}}, "point"),
        ({"point": {}}, "point"),
        ({"point": {"x": 1}, "colour": "blue"}, "colour"),
        ({"point": {"x": 1}, "mode": "c"}, "mode"),
        ({"point": {"x": 1}, "tags": ["a", 2]}, "tags"),
        ({"point": {"x": 1}, "options": {"deep": 1}}, "options"),
        ({"point": {"x": 1}, "ratio": "much"}, "ratio"),
    ],
)
def test_a_refusal_names_the_argument_that_holds_the_culprit(given: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        everything.decode(encode(given))
    assert caught.value.facts["argument"] == argument


def test_defaults_are_filled_in() -> None:
    arguments: Any = search.decode(encode({"pattern": "x"}))
    assert (arguments.pattern, arguments.path, arguments.limit) == ("x", ".", 10)


def test_structures_arrive_as_themselves() -> None:
    arguments: Any = everything.decode(encode({"point": {"x": 1}, "colour": "red", "ratio": 1}))
    assert arguments.point == Point(1, 0)
    assert arguments.colour is Colour.RED
    assert arguments.ratio == 1.0


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x91\x01", b"\xc0", b"\x81", b"\x81\x01\x01", b"\x81\xa7pattern\xa1x\x00"]
)
def test_what_is_no_map_of_arguments_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArguments):
        search.decode(data)


def test_what_msgpack_allows_and_python_does_not_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="hashable"):
        everything.decode(b"\x82\xa5point\x81\xa1x\x01\xa6unlike\x91\x80")
    with pytest.raises(InvalidArguments, match="hashable"):
        everything.decode(b"\x82\xa5point\x81\xa1x\x01\xa8anything\x81\x80\x01")


def test_a_type_of_the_tool_that_breaks_is_refused_as_arguments_are() -> None:
    @tool
    def picky(who: Picky) -> None: ...

    with pytest.raises(InvalidArguments, match="KeyError"):
        picky.decode(encode({"who": {"name": "bad"}}))
    good: Any = picky.decode(encode({"who": {"name": "good"}}))
    assert good.who.name == "good"


def test_arguments_that_nest_too_deeply() -> None:
    with pytest.raises(TooDeep):
        everything.decode(b"\x82\xa5point\x81\xa1x\x01\xa8anything" + b"\x91" * 100_000 + b"\xc0")


def test_each_call_gets_its_own_mutable_defaults() -> None:
    @tool
    def collects(seen: list[list[int]] = [[]], named: dict[str, int] = {}) -> None: ...  # noqa: B006

    first: Any = collects.decode(b"\x80")
    first.seen[0].append(1)
    first.named["x"] = 1
    second: Any = collects.decode(b"\x80")
    assert second.seen == [[]]
    assert second.named == {}
    assert collects.spec.parameters["properties"]["named"]["type"] == "object"


def test_the_context_is_not_an_argument() -> None:
    @tool
    def asks(n: int, context: Context) -> None: ...

    assert asks.context_parameter == "context"
    assert list(asks.spec.parameters["properties"]) == ["n"]
    with pytest.raises(InvalidArguments):
        asks.decode(encode({"n": 1, "context": {}}))


def test_a_tool_may_share_its_name_with_a_type_of_its_arguments() -> None:
    @tool(name="Point")
    def point(p: Point) -> None: ...

    assert point.spec.parameters["$defs"]["Point"]["type"] == "object"
    assert list(point.spec.parameters["properties"]) == ["p"]


# ---- declarations that make no sense


async def coroutine() -> None: ...
async def stream() -> Any:
    yield 1


def generator() -> Iterator[int]:
    yield 1


def varargs(*args: int) -> None: ...
def keywords(**kwargs: int) -> None: ...
def positional(a: int, /) -> None: ...
def unresolved(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def unsupported(a: type) -> None: ...
def twice(a: Context, b: Context) -> None: ...
def fine(a: int = 1) -> None: ...
def together(a: list[int]) -> None: ...
def listed(a: list[int]) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "policy", "says"),
    [
        (fine, {"idle_timeout": 1.0}, "needs a generator, or a Context"),
        (generator, {"idle_timeout": 0}, "idle_timeout"),
        (fine, {"group": "no room"}, "a group's name"),
        (fine, {"memory": -1}, "bytes"),
        (fine, {"batch_delay": 1.0}, "without batch="),
        (fine, {"batch": 2}, "one parameter, a list"),
        (together, {"batch": 1}, "from 2 to"),
        (together, {"batch": 4, "cache": 1, "read_only": True}, "looked up one by one"),
        (together, {"batch": 4, "affinity": "a"}, "share a run"),
        (together, {"batch": 4, "invalidates": ("x",)}, "its arguments are many"),
        (listed, {"batch": 4}, "not for generators"),
        (varargs, {}, "name each argument"),
        (keywords, {}, "name each argument"),
        (positional, {}, "positional-only"),
        (unresolved, {}, "Missing"),
        (unsupported, {}, "can't be validated"),
        (twice, {}, "Context twice"),
        (lambda: None, {}, "a name has"),
        (fine, {"name": ""}, "a name has"),
        (fine, {"name": "has space"}, "a name has"),
        (fine, {"name": "1st"}, "a name has"),
        (fine, {"name": "x" * 129}, "a name has"),
        (fine, {"timeout": 0}, "timeout"),
        (fine, {"timeout": float("nan")}, "timeout"),
        (fine, {"timeout": float("inf")}, "timeout"),
        (fine, {"cache": -1}, "cache"),
        (fine, {"cache": float("inf"), "read_only": True}, "cache"),
        (fine, {"cache": 1}, "read_only=True"),
        (fine, {"cache": 1, "idempotent": True}, "read_only=True"),
        (fine, {"affinity": "b"}, r"not one of its arguments \(a\)"),
        (fine, {"tags": ("x",), "read_only": True}, "without cache=SECONDS"),
        (fine, {"tags": ("x:{b}",), "read_only": True, "cache": 1}, r"not one of its arguments \(a\)"),
        (fine, {"invalidates": ("x:{b}",)}, r"not one of its arguments \(a\)"),
        (fine, {"cache_scope": "everybody", "read_only": True, "cache": 1}, "public, caller, partition"),
        (fine, {"cache": 1, "cache_writes": True, "cache_stale": 1}, "runs the tool unasked"),
    ],
)
def test_a_bad_declaration_is_refused_where_it_stands(function: Any, policy: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadError, match=says) as caught:
        tool(**policy)(function)
    assert "tool" in caught.value.facts


class Opaque: ...


class Holds(msgspec.Struct):
    inner: Opaque


class Dangles(msgspec.Struct):
    inner: Missing  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (object, "type <class 'object'> is not supported"),
        (complex, "type <class 'complex'> is not supported"),
        (list[Opaque], f"type {Opaque!r} is not supported"),
        (Holds, f"type {Opaque!r} is not supported"),
        (list[int] | tuple[int, ...], "Type unions may not contain more than one array-like"),
        (Annotated[int, msgspec.Meta(min_length=1)], "Can only set `min_length` on a str, bytes, or collection"),
    ],
)
def test_an_argument_of_an_unsupported_type_is_named(kind: Any, reason: str) -> None:
    def echo(a: int, x: Any = None, b: str = "") -> None: ...

    echo.__annotations__["x"] = kind
    with pytest.raises(LoadError) as caught:
        tool(echo)
    says = str(caught.value)
    assert says.startswith(f"tool 'echo': argument 'x' can't be validated: {reason}")
    assert says.endswith("; use typing.Any, or a type that msgspec knows")
    assert "schema_hook" not in says
    assert caught.value.facts == {"tool": "echo"}


def test_an_argument_is_named_whose_own_hints_are_wrong() -> None:
    def echo(a: int, x: Dangles) -> None: ...

    with pytest.raises(LoadError) as caught:
        tool(echo)
    assert str(caught.value) == "tool 'echo': argument 'x' can't be validated: name 'Missing' is not defined"


def test_an_argument_of_one_call_of_many_is_named() -> None:
    def echo(items: list[object]) -> list[object]:
        return items

    with pytest.raises(LoadError, match="tool 'echo': argument 'items' can't be validated: type <class 'object'>"):
        tool(batch=2)(echo)


# ---- what kind of function it is


class Holder:
    async def waits(self, n: int) -> int:
        return n

    def yields(self, n: int) -> Iterator[int]:
        yield n

    @staticmethod
    async def static(n: int) -> int:
        return n

    @classmethod
    async def made(cls, n: int) -> AsyncIterator[int]:
        yield n


class Waits:
    """An object that is called as a function is."""

    async def __call__(self, n: int, context: Context) -> int:
        return n


class Yields:
    def __call__(self, n: int, context: Context) -> Iterator[int]:
        yield n


class Streams:
    prefix: str = ""

    async def __call__(self, n: int, context: Context) -> AsyncIterator[int]:
        yield n


class Plain:
    def __call__(self, n: int, context: Context) -> int:
        return n


async def waits(n: int) -> int:
    return n


async def streams(n: int) -> AsyncIterator[int]:
    yield n


def yields(n: int) -> Iterator[int]:
    yield n


def returns_a_generator(n: int) -> Iterator[int]:
    return iter([n])


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("function", "concurrent", "is_stream"),
    [
        (fine, False, False),
        (waits, True, False),
        (streams, True, True),
        (yields, False, True),
        (returns_a_generator, False, False),
        (logged(waits), True, False),
        (lambda n: n, False, False),
        (Holder().waits, True, False),
        (Holder().yields, False, True),
        (Holder.static, True, False),
        (Holder.made, True, True),
        (Waits(), True, False),
        (Yields(), False, True),
        (Streams(), True, True),
        (Plain(), False, False),
    ],
    ids=lambda value: getattr(value, "__qualname__", type(value).__name__) if callable(value) else None,
)
def test_its_kind_is_the_functions_own(function: Any, concurrent: bool, is_stream: bool) -> None:
    spec = tool(name="one")(function).spec
    assert (spec.concurrent, spec.streams) == (concurrent, is_stream)
    assert spec.group == ("async" if concurrent else "default")


@pytest.mark.parametrize("function", [Waits(), Yields(), Streams(), Plain()], ids=lambda one: type(one).__name__)
def test_an_object_that_can_be_called_has_the_signature_of_its_call(function: Any) -> None:
    one = tool(name="one", description="")(function)
    assert one.spec.parameters["properties"] == {"n": {"type": "integer"}}
    assert one.context_parameter == "context"
    assert one.spec.asks
    with pytest.raises(InvalidArguments):
        one.decode(encode({"n": "x"}))


@pytest.mark.parametrize(
    ("function", "policy", "group"),
    [
        (fine, {}, "default"),
        (waits, {}, "async"),
        (streams, {}, "async"),
        (fine, {"group": "heavy"}, "heavy"),
        (waits, {"group": "io"}, "io"),
        (waits, {"group": "default"}, "default"),
        (fine, {"group": "async"}, "async"),
    ],
)
def test_a_group_is_the_kinds_unless_somebody_says_otherwise(function: Any, policy: dict[str, Any], group: str) -> None:
    one = tool(**policy)(function) if policy else tool(function)
    assert one.spec.group == group
    assert one.under({}).spec.group == group
    assert one.under({"group": "other"}).spec.group == "other"
    assert one.under({"group": "other"}).under({}).spec.group == group
    assert one.under({"memory": 5}).spec.group == group


def test_the_spec_says_what_the_function_is_like_under_any_policy() -> None:
    @tool(idle_timeout=2.0, memory=600)
    async def one(n: int, context: Context) -> AsyncIterator[int]:
        yield n

    for spec in (one.spec, one.under({"timeout": 5.0}).spec):
        assert (spec.concurrent, spec.streams, spec.asks, spec.idle_timeout, spec.memory) == (
            True,
            True,
            True,
            2.0,
            600,
        )
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=type(spec)) == spec


# ---- many calls in one run


class Question(msgspec.Struct):
    text: str
    factor: Annotated[int, Meta(ge=1)] = 1
    tags: list[str] = []


@dataclass
class Request:
    point: Point
    trail: list[int] = field(default_factory=list)
    note: str | None = None


@pytest.mark.parametrize(
    ("element", "properties", "required"),
    [
        (
            Question,
            {
                "text": {"type": "string"},
                "factor": {"type": "integer", "minimum": 1, "default": 1},
                "tags": {"type": "array", "items": {"type": "string"}, "default": []},
            },
            ["text"],
        ),
        (
            Request,
            {
                "point": {"$ref": "#/$defs/Point"},
                "trail": {"type": "array", "items": {"type": "integer"}, "default": []},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            },
            ["point"],
        ),
        (Annotated[str, Meta(min_length=1)], {"items": {"type": "string", "minLength": 1}}, ["items"]),
        (Any, {"items": {}}, ["items"]),
    ],
)
def test_a_call_of_many_brings_the_fields_of_one(element: Any, properties: Any, required: list[str]) -> None:
    def many(items: Any, context: Context) -> list[Any]:
        return items

    many.__annotations__.update(items=list[element], context=Context)
    one = tool(batch=4, batch_delay=0.01, read_only=True)(many)
    parameters = dict(one.spec.parameters)
    definitions = parameters.pop("$defs", {})
    assert parameters == {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    assert set(definitions) == ({"Point"} if element is Request else set())
    assert (one.spec.batch, one.spec.batch_delay, one.context_parameter) == (4, 0.01, "context")
    assert one.item is not None
    assert one.item.parameter == "items"
    assert one.under({"batch_delay": 1.0}).item == one.item
    assert one.under({"batch_delay": 1.0}).spec.batch_delay == 1.0


def test_what_a_call_brings_becomes_an_element_of_the_list() -> None:
    @tool(batch=4)
    async def asked(questions: list[Question]) -> list[int]:
        return [len(question.text) * question.factor for question in questions]

    @tool(batch=4)
    def requested(requests: list[Request]) -> list[Any]:
        return requests

    assert asked.spec.concurrent
    assert asked.spec.group == "async"
    assert asked.item is not None
    assert asked.item.make(asked.decode(encode({"text": "ab", "factor": 2}))) == Question("ab", 2)
    assert requested.item is not None
    assert requested.item.make(requested.decode(encode({"point": {"x": 1}}))) == Request(Point(1, 0))
    with pytest.raises(InvalidArguments) as caught:
        asked.decode(encode({"text": "ab", "factor": 0}))
    assert caught.value.facts["argument"] == "factor"
    assert requested([Request(Point(1))]) == [Request(Point(1))], "it can be called as the function that it is"


# ---- services


def test_a_parameter_may_ask_for_a_service() -> None:
    @tool(read_only=True)
    def read(id: int, shop: Service, other: Annotated[Service, "back-office"], context: Context) -> None: ...

    assert read.arguments.__struct_fields__ == ("id",)
    assert read.services == {"shop": Wanted("shop", False), "other": Wanted("back-office", False)}
    assert read.under({"timeout": 3.0}).services == read.services

    @tool(read_only=True)
    async def wait(shop: AsyncService) -> None: ...

    assert wait.services == {"shop": Wanted("shop", True)}


def test_plain_tools_take_plain_services_and_async_tools_async_ones() -> None:
    with pytest.raises(LoadError, match="'shop': a plain function takes Service"):

        @tool
        def read(shop: AsyncService) -> None: ...

    with pytest.raises(LoadError, match="'shop': an async function takes AsyncService"):

        @tool
        async def wait(shop: Service) -> None: ...
