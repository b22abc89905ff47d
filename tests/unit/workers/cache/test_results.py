from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from toolring import tool
from toolring.declare import Tool
from toolring.plugins.caches.lru import LRU
from toolring.protocol import encode
from toolring.workers.cache.base import Cache
from toolring.workers.cache.results import ResultCache


@tool(read_only=True, cache=60)
def look(a: Any = None, b: int = 2, c: set[int] | None = None) -> None: ...


@tool(read_only=True, cache=60)
def other(a: Any = None, b: int = 2, c: set[int] | None = None) -> None: ...


def made(one: Tool[..., Any] = look) -> ResultCache:
    return ResultCache(Cache(LRU(10), 10, 100_000), one.spec)


def key(arguments: dict[str, Any], one: Tool[..., Any] = look) -> bytes:
    return made(one).key(one.decode(encode(arguments)))


def test_defaults_and_order_make_no_difference() -> None:
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1}) == key({"a": 1})
    assert key({"a": {"x": 1, "y": 2}}) == key({"a": {"y": 2, "x": 1}})
    assert key({"c": [3, 1, 2]}) == key({"c": [1, 2, 3, 3]}), "a set has no order"


def test_tools_do_not_share_results() -> None:
    assert key({"a": 1}) != key({"a": 1}, other)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-3, 3)
    | st.text("ab", max_size=2)
    | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2) | st.integers(0, 2), inner, max_size=3)
    ),
    max_leaves=6,
)


def typed(value: Any) -> Any:
    """Equality that tells 1 from 1.0, True and "1", and knows no order of keys."""
    if isinstance(value, list):
        return ("list", tuple(typed(item) for item in value))
    if isinstance(value, dict):
        return ("dict", frozenset((typed(key), typed(item)) for key, item in value.items()))
    return (type(value).__name__, repr(value))


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return all(plain(item) for item in value) if isinstance(value, list) else True


@given(values, values)
def test_equal_keys_mean_equal_arguments(one: Any, two: Any) -> None:
    same = typed(one) == typed(two)
    if same and plain(one):
        assert key({"a": one}) == key({"a": two})
    if not same:
        assert key({"a": one}) != key({"a": two})


def test_results_are_kept_for_the_tools_time() -> None:
    cache = made()
    cache.put(b"k", b"v")
    assert cache.get(b"k") == b"v"
