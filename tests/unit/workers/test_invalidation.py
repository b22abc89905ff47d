from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from toolring import tool
from toolring.declare import Tool
from toolring.errors import InvalidArguments, UnknownTool
from toolring.plugins.caches.lru import LRU
from toolring.plugins.specs import Stored
from toolring.protocol import OK, encode
from toolring.settings import CacheSettings
from toolring.spec import INVALIDATE
from toolring.stamps import BYTES, SOME_TAG, Stamps, of_tool, place, some_key
from toolring.workers.cache import tags
from toolring.workers.cache.base import Cache
from toolring.workers.cache.guarded import Guarded
from toolring.workers.cache.results import ResultCache
from toolring.workers.invalidation import Invalidation, operator_tool
from toolring.workers.runnable import Runnable


@tool(read_only=True, cache=60, tags=("user:{id}",))
def look(id: int, deep: bool = False) -> None: ...


@tool(read_only=True, cache=60, cache_scope="partition")
def mine(id: int) -> None: ...


@tool(read_only=True, cache=60, cache_scope="caller")
def own(id: int) -> None: ...


@tool(invalidates=("user:{id}", "users"))
def write(id: int) -> None: ...


@tool
def plain(id: int) -> None: ...


class Store:
    """Records what it is told, and how the stamps were then."""

    shared = False

    def __init__(self, stamps: Stamps) -> None:
        self.stamps = stamps
        self.told: list[list[bytes]] = []
        self.before: list[list[int]] = []

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, Any]:
        return None, ()

    def put(self, key: bytes, tags: Sequence[bytes], token: Any, entry: Stored) -> None: ...

    def invalidate(self, tags: Sequence[bytes]) -> None:
        self.told.append(list(tags))
        self.before.append([self.stamps.words[place(tag)] for tag in tags])

    def claim(self, key: bytes, seconds: float) -> bool:
        return True

    def release(self, key: bytes) -> None: ...

    def stats(self) -> dict[str, int]:
        return {}

    def close(self) -> None: ...


def _same(store: Store) -> Store:
    return store


class Place:
    """A worker's tools, and a store behind them."""

    def __init__(self) -> None:
        self.stamps = Stamps(bytearray(BYTES))
        self.store = Store(self.stamps)
        self.stores = [Guarded("store", partial(_same, self.store), 1.0)]
        self.invalidate = Invalidation(self.stamps, self.stores)
        self.runnables = {one.spec.name: self._made(one) for one in (look, mine, own, write, plain)}

    def _made(self, one: Tool[..., Any]) -> Runnable:
        if not one.spec.cache:
            return Runnable(one, None, self.invalidate.by(one))
        memory = Cache(LRU(10), 10, 100_000)
        return Runnable(one, ResultCache(memory, one.spec, CacheSettings(), self.stamps, self.stores))

    def told(self, **arguments: Any) -> list[bytes]:
        """What the operator's tool has forgotten under these arguments."""
        operator = operator_tool(self.invalidate, self.runnables)
        assert operator.spec.name == INVALIDATE
        before = len(self.store.told)
        count: int = operator(**arguments)
        (names,) = self.store.told[before:]
        assert count == len(names)
        assert all(self.stamps.words[place(name)] for name in names)
        return names


def key(place: Place, name: str, partition: str = "", **arguments: Any) -> bytes:
    cache = place.runnables[name].cache
    assert cache is not None
    return tags.of_key(cache.key(place.runnables[name].decode(encode(arguments)), partition))


def test_a_run_invalidates_its_tags_and_tells_the_supervisor() -> None:
    place = Place()
    changes = place.runnables["write"].changes
    assert changes is not None
    changes(write.decode(encode({"id": 7})))
    assert place.store.told == [[b"tag:user:7", b"tag:users", SOME_TAG]]


class Changing(msgspec.Struct):
    """A type of the tool's own, whose values can't be written down."""

    name: Any

    def __post_init__(self) -> None:
        self.name = object()


def test_a_run_whose_tags_nobody_can_write_down_invalidates_everything() -> None:
    @tool(invalidates=("user:{id}",))
    def strange(id: Changing) -> None: ...

    place = Place()
    changes = place.invalidate.by(strange)
    assert changes is not None
    changes(strange.decode(encode({"id": {"name": 1}})))
    assert place.store.told == [[b"*"]]


def test_what_invalidates_nothing_costs_nothing() -> None:
    assert Place().runnables["plain"].changes is None


def test_stores_hear_of_it_before_the_memories() -> None:
    """Else a memory could load from a store, under the new stamps, what the store was about to drop."""
    place = Place()
    place.invalidate([b"tag:x"])
    assert place.store.before == [[0]]


def test_a_store_that_fails_stops_nobody() -> None:
    def fails() -> Store:
        raise OSError("gone")

    stamps, debts = Stamps(bytearray(BYTES)), [0, 0]
    Invalidation(stamps, [Guarded("store", fails, 1.0, debts=debts)])([b"tag:x"])
    assert stamps.words[place(b"tag:x")]
    assert debts[0] != debts[1], "it is owed"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, [b"*"]),
        ({"tags": ["user:7", "b"]}, [b"tag:user:7", b"tag:b", SOME_TAG]),
        ({"tool": "look"}, [of_tool("look")]),
        ({"tool": "plain"}, [of_tool("plain")]),
        ({"tool": "look", "tags": ["b"]}, [b"tag:b", SOME_TAG, of_tool("look")]),
    ],
)
def test_the_operator_names_everything_tools_or_tags(arguments: dict[str, Any], names: list[bytes]) -> None:
    assert Place().told(**arguments) == names


def test_the_operator_names_one_result_by_its_arguments() -> None:
    place = Place()
    wanted = [key(place, "look", id=7), some_key("look")]
    assert place.told(tool="look", arguments={"id": 7}) == wanted
    assert place.told(tool="look", arguments={"id": 7, "deep": False}) == wanted, "defaults are filled in"
    assert place.told(tool="look", arguments={"id": 7, "deep": True}) != wanted
    assert place.told(tool="mine", arguments={"id": 7}, partition="p") == [
        key(place, "mine", "p", id=7),
        some_key("mine"),
    ]
    assert place.told(tool="own", arguments={"id": 7}, partition="me")[0] == key(place, "own", "me", id=7)


def test_one_result_goes_and_the_others_stay() -> None:
    place = Place()
    cache = place.runnables["look"].cache
    assert cache is not None

    def known(number: int) -> bool:
        question = cache.question(look.decode(encode({"id": number})))
        found = cache.find(question)
        if found is None:
            cache.keep(question, OK, b"v", 0.1)
        return found is not None

    assert [known(7), known(8)] == [False, False]
    assert [known(7), known(8)] == [True, True]
    place.told(tool="look", arguments={"id": 7})
    assert [known(7), known(8)] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"arguments": {"id": 7}}, InvalidArguments, "without the tool"),
        ({"tool": "no_such"}, UnknownTool, "no_such"),
        ({"tool": "plain", "arguments": {"id": 7}}, InvalidArguments, "plain is not cached"),
        ({"tool": "look", "arguments": {"idd": 7}}, InvalidArguments, "idd"),
        ({"tool": "look", "arguments": {"id": 7}, "partition": "p"}, InvalidArguments, "it has no partitions"),
        ({"tool": "mine", "arguments": {"id": 7}}, InvalidArguments, "say whose result is meant"),
        ({"tool": "own", "arguments": {"id": 7}}, InvalidArguments, "say whose result is meant"),
    ],
)
def test_what_nobody_can_mean_is_refused_and_nothing_is_forgotten(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    place = Place()
    with pytest.raises(error, match=says):
        operator_tool(place.invalidate, place.runnables)(**arguments)
    assert not place.store.told
    assert not any(place.stamps.words)


def test_the_operators_tool_may_be_repeated_and_is_listed_nowhere() -> None:
    place = Place()
    spec = operator_tool(place.invalidate, place.runnables).spec
    assert spec.internal
    assert spec.repeatable
    assert not spec.cache
