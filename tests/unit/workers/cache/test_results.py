from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring import tool
from toolring.declare import Tool
from toolring.plugins.caches.lru import LRU
from toolring.plugins.specs import Stored
from toolring.protocol import ERROR, LAYER_SHIFT, OK, REFRESH, STALE, encode
from toolring.settings import CacheSettings
from toolring.stamps import BYTES, Stamps, of_tool
from toolring.workers.cache import tags
from toolring.workers.cache.base import Cache
from toolring.workers.cache.guarded import Guarded
from toolring.workers.cache.results import Found, Question, ResultCache
from toolring.workers.invalidation import Invalidation


@tool(read_only=True, cache=60)
def look(a: Any = None, b: int = 2, c: set[int] | None = None) -> None: ...


@tool(read_only=True, cache=60)
def other(a: Any = None, b: int = 2, c: set[int] | None = None) -> None: ...


def made(one: Tool[..., Any] = look) -> ResultCache:
    return ResultCache(Cache(LRU(10), 10, 100_000), one.spec, CacheSettings(), Stamps(bytearray(BYTES)))


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


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A store as a dict, with a clock for its times and a stamp for each tag."""

    shared = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.entries: dict[bytes, tuple[Stored, float, Any]] = {}
        self.tags: dict[bytes, int] = {}
        self.claimed: set[bytes] = set()

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, Any]:
        token = tuple(self.tags.get(tag, 0) for tag in tags)
        found = self.entries.get(key)
        if found is None or found[2] != token:
            return None, token
        entry, put, _ = found
        fresh = entry.fresh - (self.clock.now - put)
        return (None if fresh + entry.stale <= 0 else replace(entry, fresh=fresh)), token

    def put(self, key: bytes, tags: Sequence[bytes], token: Any, entry: Stored) -> None:
        self.entries[key] = (entry, self.clock.now, token)

    def invalidate(self, tags: Sequence[bytes]) -> None:
        for tag in tags:
            self.tags[tag] = self.tags.get(tag, 0) + 1

    def claim(self, key: bytes, seconds: float) -> bool:
        free = key not in self.claimed
        self.claimed.add(key)
        return free

    def release(self, key: bytes) -> None:
        self.claimed.discard(key)

    def stats(self) -> dict[str, int]:
        return {}

    def close(self) -> None: ...


def _same(shelf: Shelf) -> Shelf:
    return shelf


class Place:
    """Two workers with a memory each, one set of stamps, and stores that both use."""

    def __init__(self, one: Tool[..., Any], stores: int = 1, rng: float = 0.0, **settings: Any) -> None:
        self.clock = Clock()
        self.stamps = Stamps(bytearray(BYTES))
        self.shelves = [Shelf(self.clock) for _ in range(stores)]
        self.tool = one
        self.caches = [self._cache(rng, settings) for _ in range(2)]

    def _cache(self, rng: float, settings: dict[str, Any]) -> ResultCache:
        given = CacheSettings(**settings)
        stores = [Guarded("shelf", partial(_same, shelf), 1.0, clock=self.clock) for shelf in self.shelves]
        memory = Cache(LRU(10), 10, 100_000, self.clock)
        fixed = random.Random()
        fixed.random = lambda: rng  # type: ignore[method-assign]
        return ResultCache(memory, self.tool.spec, given, self.stamps, stores, clock=self.clock, rng=fixed)

    def ask(self, worker: int, n: int = 1, partition: str = "") -> tuple[Question, Found | None]:
        question = self.caches[worker].question(self.tool.decode(encode({"a": n})), partition)
        return question, self.caches[worker].find(question)

    def load(self, worker: int, value: bytes, n: int = 1, status: int = OK, cost: float = 0.1) -> float:
        question, found = self.ask(worker, n)
        assert found is None
        return self.caches[worker].keep(question, status, value, cost)

    def value(self, worker: int, n: int = 1) -> bytes | None:
        _, found = self.ask(worker, n)
        return None if found is None else found.value


@tool(read_only=True, cache=50, cache_stale=20, cache_errors=5, tags=("a:{a}",))
def aged(a: int) -> None: ...


@tool(cache=50, cache_writes=True)
def writes(a: int) -> None: ...


def test_results_are_kept_for_the_tools_time() -> None:
    place = Place(look)
    hold = place.load(0, b"v")
    assert hold == pytest.approx(60)
    place.clock.now += 59.9
    assert place.value(0) == b"v"
    place.clock.now += 0.2
    assert place.value(0) is None


def test_what_remains_of_its_time_goes_with_it_into_the_memory() -> None:
    place = Place(look)
    place.load(0, b"v")
    place.clock.now += 40
    _, found = place.ask(1)
    assert found is not None
    assert (found.value, found.flags >> LAYER_SHIFT) == (b"v", 2)
    assert found.hold == pytest.approx(20)
    _, again = place.ask(1)
    assert again is not None
    assert again.flags >> LAYER_SHIFT == 1
    place.clock.now += 20.1
    assert place.value(1) is None


def test_nearer_stores_are_filled_from_further_ones() -> None:
    place = Place(look, stores=2)
    place.load(0, b"v")
    place.shelves[0].entries.clear()
    place.clock.now += 10
    assert place.value(1) == b"v"
    ((entry, _, _),) = place.shelves[0].entries.values()
    assert entry.fresh == pytest.approx(50)


@pytest.mark.parametrize("names", [[b"*"], [of_tool("aged")], [tags.named("a:1")]])
def test_what_was_loaded_before_an_invalidation_is_never_given_after_it(names: list[bytes]) -> None:
    place = Place(aged)
    question, _ = place.ask(0)
    Invalidation(place.stamps, place.caches[0].stores)(names)
    place.caches[0].keep(question, OK, b"old", 0.1)
    assert [place.value(worker) for worker in (0, 1)] == [None, None]


def test_an_invalidation_reaches_every_memory_and_store() -> None:
    place = Place(aged)
    place.load(0, b"v")
    assert place.value(1) == b"v"
    Invalidation(place.stamps, place.caches[0].stores)([tags.named("a:1")])
    assert [place.value(worker) for worker in (0, 1)] == [None, None]


def test_other_tags_stay() -> None:
    place = Place(aged)
    place.load(0, b"one", 1)
    place.load(0, b"two", 2)
    Invalidation(place.stamps, place.caches[0].stores)([tags.named("a:1")])
    assert [place.value(0, n) for n in (1, 2)] == [None, b"two"]
    counts = place.caches[0].memory.stats()
    assert (counts["hits"], counts["misses"]) == (1, 3), "what is no longer true is a miss"


def test_an_outdated_one_is_given_for_a_while_and_says_so() -> None:
    place = Place(aged, stores=0)
    place.load(0, b"v")
    place.clock.now += 51
    _, found = place.ask(0)
    assert found is not None
    assert found.flags & STALE
    assert found.flags & REFRESH
    assert found.hold == 0
    place.clock.now += 20
    assert place.value(0) is None


def test_a_newer_copy_in_a_store_wins_over_an_outdated_memory() -> None:
    place = Place(aged)
    place.load(0, b"old")
    place.clock.now += 51
    question = place.caches[1].question(aged.decode(encode({"a": 1})))
    assert place.caches[1].find(question, renew=True) is None
    place.caches[1].keep(question, OK, b"new", 0.1)
    _, found = place.ask(0)
    assert found is not None
    assert found.value == b"new"
    assert not found.flags & STALE


@pytest.mark.parametrize(("chance", "early"), [(0.0, False), (1 - 1e-9, True)])
def test_what_was_dear_is_renewed_before_its_time_by_chance(chance: float, early: bool) -> None:
    place = Place(look, rng=chance)
    place.load(0, b"v", cost=3.0)
    place.clock.now += 55
    _, found = place.ask(0)
    assert found is not None
    assert bool(found.flags & REFRESH) == early


@pytest.mark.parametrize("one", [look, writes])
def test_nobody_runs_a_write_unasked_nor_anything_if_it_is_off(one: Tool[..., Any]) -> None:
    place = Place(one, rng=1 - 1e-9, early=0.0 if one is look else 1.0)
    place.load(0, b"v", cost=30.0)
    _, found = place.ask(0)
    assert found is not None
    assert not found.flags & REFRESH


def test_errors_are_kept_only_if_the_tool_says_so() -> None:
    place, other = Place(aged), Place(look)
    assert place.load(0, b"e", status=ERROR) == 0.0
    _, found = place.ask(1)
    assert found is not None
    assert (found.status, found.hold) == (ERROR, 0.0)
    place.clock.now += 5.1
    assert place.value(1) is None
    other.load(0, b"e", status=ERROR)
    assert other.value(0) is None


def test_what_other_nodes_share_is_asked_for_again_soon() -> None:
    place = Place(look, local=2.0)
    place.shelves[0].shared = True
    assert place.load(0, b"v") == pytest.approx(2.0)
    place.clock.now += 2.1
    _, found = place.ask(0)
    assert found is not None
    assert found.flags >> LAYER_SHIFT == 2


def test_what_is_dear_is_not_renewed_each_time_it_is_asked_for_again() -> None:
    """To be asked for again soon is not to be outdated soon."""
    place = Place(look, rng=0.5, local=1.0)
    place.shelves[0].shared = True
    assert place.load(0, b"v", cost=5.0) == pytest.approx(1.0)
    _, found = place.ask(1)
    assert found is not None
    assert not found.flags & REFRESH
    assert found.hold == pytest.approx(1.0)


@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_beside_a_store_that_other_nodes_share_a_file_keeps_nothing_for_long(order: tuple[bool, bool]) -> None:
    place = Place(look, stores=2, local=2.0)
    for shelf, shared in zip(place.shelves, order, strict=True):
        shelf.shared = shared
    for cache in place.caches:  # known from the start, as a factory tells it
        for store, shared in zip(cache.stores, order, strict=True):
            store._shared = shared
    far = place.shelves[order.index(True)]
    place.load(0, b"old")
    assert place.value(1) == b"old"
    far.invalidate([of_tool("look")])  # by another node
    place.clock.now += 2.1
    assert [place.value(worker) for worker in (0, 1)] == [None, None]


def test_what_is_made_while_nobody_knows_who_shares_is_kept_briefly() -> None:
    def fails() -> Shelf:
        raise OSError("out of reach")

    clock = Clock()
    store = Guarded("far", fails, 1.0, clock=clock)
    memory = Cache(LRU(10), 10, 100_000, clock)
    cache = ResultCache(memory, look.spec, CacheSettings(), Stamps(bytearray(BYTES)), [store], clock=clock)
    question = cache.question(look.decode(encode({"a": 1})))
    assert cache.find(question) is None
    assert cache.keep(question, OK, b"v", 0.0) == pytest.approx(1.0)


def test_a_claim_waits_for_who_makes_it_and_takes_over_if_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(look)
    place.shelves[0].shared = True
    first, _ = place.ask(0)
    assert place.caches[0].claim(first, 1e9) is None
    second, _ = place.ask(1)

    def meanwhile(_seconds: float) -> None:
        place.caches[0].keep(first, OK, b"v", 0.1)
        place.caches[0].release(first)

    monkeypatch.setattr("toolring.workers.cache.results.time.sleep", meanwhile)
    found = place.caches[1].claim(second, 1e9)
    assert found is not None
    assert found.value == b"v"

    def in_vain(seconds: float) -> None:
        place.clock.now += seconds

    place.caches[0].claim(place.ask(0, 7)[0], 1e9)
    monkeypatch.setattr("toolring.workers.cache.results.time.sleep", in_vain)
    assert place.caches[1].claim(place.ask(1, 7)[0], 1e9) is None


def test_partitions_and_namespaces_do_not_share() -> None:
    place, elsewhere = Place(look), Place(look, namespace="elsewhere")
    keys = {place.ask(0, 1, p)[0].key for p in ("", "a", "b")} | {elsewhere.ask(0)[0].key}
    assert len(keys) == 4


def test_a_strategy_that_raises_makes_misses_of_everything() -> None:
    class Broken(LRU):
        def added(self, key: bytes) -> None:
            raise RuntimeError("no")

    told: list[str] = []
    cache = ResultCache(
        Cache(Broken(3), 3, 10_000), look.spec, CacheSettings(), Stamps(bytearray(BYTES)), (), lambda *a: told.extend(a)
    )
    question = cache.question(look.decode(encode({})))
    cache.keep(question, OK, b"v", 0.1)
    assert cache.find(question) is None
    assert told == ["look", "RuntimeError: no"]
