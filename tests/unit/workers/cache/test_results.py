from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring import tool
from toolring.declare import Tool
from toolring.plugins.caches.lru import LRU
from toolring.plugins.specs import Stored
from toolring.protocol import CACHED, ERROR, LAYER_SHIFT, OK, REFRESH, STALE, encode
from toolring.settings import CacheSettings
from toolring.stamps import BYTES, Stamps, of_tool
from toolring.stored import Note, told
from toolring.workers.cache import tags
from toolring.workers.cache.base import Cache
from toolring.workers.cache.guarded import Guarded
from toolring.workers.cache.results import CLAIM_SECONDS, Found, Question, ResultCache
from toolring.workers.invalidation import Invalidation


@tool(read_only=True, cache=60)
def look(a: Any = None, b: int = 2, c: set[int] | None = None) -> None: ...


@tool(read_only=True, cache=60)
def other(a: Any = None, b: int = 2, c: set[int] | None = None) -> None: ...


def made(one: Tool[..., Any] = look) -> ResultCache:
    return ResultCache(Cache(LRU(10), 10, 100_000), one.spec, CacheSettings(), Stamps(bytearray(BYTES)))


def asking(cache: ResultCache, one: Tool[..., Any], partition: str = "", **arguments: Any) -> Question:
    return cache.question(one.decode(encode(arguments)), partition)


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
        self.claimed: dict[bytes, float] = {}

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
        free = self.claimed.get(key, 0.0) <= self.clock.now
        if free:
            self.claimed[key] = self.clock.now + seconds
        return free

    def release(self, key: bytes) -> None:
        self.claimed.pop(key, None)

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
        question = asking(self.caches[worker], self.tool, partition, a=n)
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


NOTE = told(Note(f"00aa11bb-{'0' * 40}t", 7, "how it begins"))


def test_a_note_is_given_while_what_it_tells_of_is_there() -> None:
    place = Place(look, stores=2)
    there = {NOTE}
    for cache in place.caches:
        cache._is_there = there.__contains__
    assert place.load(0, NOTE) == 0.0, "nobody else may give it, who can't ask"
    assert place.value(0) == NOTE
    _, found = place.ask(0)
    assert found is not None
    assert found.hold == 0.0
    assert place.value(1) == NOTE, "by a store of this node"
    there.clear()
    assert place.value(0) is place.value(1) is None
    assert place.load(0, b"v") == pytest.approx(60), "it is made anew"
    assert place.value(0) == b"v"


def test_a_note_is_nothing_for_stores_that_other_nodes_share() -> None:
    place = Place(look, stores=2)
    place.shelves[1].shared = True
    place.caches = [place._cache(0.0, {}) for _ in range(2)]
    for cache in place.caches:
        cache._is_there = lambda _: True
    place.load(0, NOTE)
    assert [len(shelf.entries) for shelf in place.shelves] == [1, 0]
    place.load(0, b"v", n=2)
    assert [len(shelf.entries) for shelf in place.shelves] == [2, 1]


def test_without_anybody_who_knows_no_note_is_given() -> None:
    place = Place(look)
    place.load(0, NOTE)
    assert place.value(0) is None
    assert place.value(1) is None
    place.load(1, b"", n=2)
    assert place.value(1, n=2) == b""


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
    question = asking(place.caches[1], aged, a=1)
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
    question = asking(cache, look, a=1)
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
    question = asking(cache, look)
    cache.keep(question, OK, b"v", 0.1)
    assert cache.find(question) is None
    assert told == ["look", "RuntimeError: no"]


def test_the_version_of_a_tool_is_part_of_the_key() -> None:
    newer = msgspec.structs.replace(look.spec, version="newer")
    cache = ResultCache(Cache(LRU(10), 10, 100_000), newer, CacheSettings(), Stamps(bytearray(BYTES)))
    assert cache.key(look.decode(encode({"a": 1}))) != key({"a": 1})


@given(
    st.lists(st.tuples(*[st.text("ab\0\x01\xff", max_size=3)] * 3), min_size=2, max_size=2, unique=True),
)
def test_no_two_ways_to_cut_a_name_make_one_key(both: list[tuple[str, str, str]]) -> None:
    """Version, namespace and partition beside each other: each ends where it ends."""

    def made_of(version: str, namespace: str, partition: str) -> bytes:
        spec = msgspec.structs.replace(look.spec, version=version)
        settings = CacheSettings(namespace=namespace)
        cache = ResultCache(Cache(LRU(10), 10, 100_000), spec, settings, Stamps(bytearray(BYTES)))
        return cache.key(look.decode(encode({"a": 1})), partition)

    assert made_of(*both[0]) != made_of(*both[1])


def test_a_partition_gets_its_own_results_only() -> None:
    place = Place(look)
    for partition in ("a", "b"):
        question, found = place.ask(0, 1, partition)
        assert found is None
        place.caches[0].keep(question, OK, partition.encode(), 0.1)
    for worker in (0, 1):
        for partition in ("a", "b"):
            _, found = place.ask(worker, 1, partition)
            assert found is not None
            assert found.value == partition.encode()
        assert place.value(worker) is None


def test_one_result_can_be_invalidated_by_its_key() -> None:
    place = Place(aged)
    question, _ = place.ask(0)
    Invalidation(place.stamps, place.caches[0].stores)([tags.of_key(question.key)])
    place.caches[0].keep(question, OK, b"old", 0.1)
    place.load(0, b"other", 2)
    assert [place.value(worker, n) for worker in (0, 1) for n in (1, 2)] == [None, b"other"] * 2


def test_what_a_nearer_store_was_filled_with_ends_when_the_further_one_does() -> None:
    place = Place(look, stores=3)
    place.load(0, b"v")
    place.shelves[0].entries.clear()
    place.shelves[1].entries.clear()
    place.clock.now += 30
    assert place.value(1) == b"v"
    place.shelves[2].entries.clear()
    place.caches[0].memory.clear()
    place.clock.now += 29
    assert place.value(0) == b"v", "from the nearest"
    place.clock.now += 1.1
    assert [place.value(worker) for worker in (0, 1)] == [None, None]


def test_a_store_gives_what_is_outdated_as_such_until_its_end() -> None:
    place = Place(aged)
    place.load(0, b"v")
    place.clock.now += 60
    _, found = place.ask(1)
    assert found is not None
    assert found.flags == CACHED | STALE | REFRESH | 2 << LAYER_SHIFT
    assert found.left == pytest.approx(-10)
    assert found.hold == 0
    place.clock.now += 9.9
    assert [place.value(worker) for worker in (0, 1)] == [b"v", b"v"]
    place.clock.now += 0.2
    assert [place.value(worker) for worker in (0, 1)] == [None, None]


def test_a_store_that_knows_nothing_newer_leaves_it_at_the_memorys() -> None:
    place = Place(aged)
    place.load(0, b"v")
    place.clock.now += 51
    _, found = place.ask(0)
    assert found is not None
    assert found.flags >> LAYER_SHIFT == 1


@pytest.mark.parametrize("left", [0.5, 1.0, 3.0])
def test_the_chance_of_an_early_renewal_is_that_of_xfetch(left: float) -> None:
    """exp(-left / (cost * early)), as in the paper."""
    clock, cost, early, tries = Clock(), 1.5, 2.0, 4000
    cache = ResultCache(
        Cache(LRU(10), 10, 100_000, clock),
        look.spec,
        CacheSettings(early=early),
        Stamps(bytearray(BYTES)),
        clock=clock,
        rng=random.Random(7),
    )
    question = asking(cache, look, a=1)
    assert cache.find(question) is None
    cache.keep(question, OK, b"v", cost)
    clock.now += 60 - left
    found = [cache.find(question) for _ in range(tries)]
    share = sum(bool(one and one.flags & REFRESH) for one in found) / tries
    assert share == pytest.approx(math.exp(-left / (cost * early)), abs=0.03)


@given(
    age=st.floats(0, 80),
    cost=st.floats(0, 100),
    chance=st.floats(0, 1, exclude_max=True),
    early=st.floats(0, 10),
    local=st.floats(0.001, 100),
    shared=st.booleans(),
)
def test_nobody_may_hold_a_result_beyond_its_time(
    age: float, cost: float, chance: float, early: float, local: float, shared: bool
) -> None:
    place = Place(aged, rng=chance, early=early, local=local)
    place.shelves[0].shared = shared
    assert 0 <= place.load(0, b"v", cost=cost) <= (min(50, local) if shared else 50) + 1e-6
    place.clock.now += age
    for worker in (0, 1):
        _, found = place.ask(worker)
        assert (found is None) == (age >= 70 - 1e-9) or 69.99 < age < 70.01
        if found is not None:
            assert 0 <= found.hold <= max(0.0, 50 - age) + 1e-6
            assert not shared or found.hold <= local + 1e-6
            assert bool(found.flags & STALE) == (found.left <= 0)


def test_a_kept_error_is_no_reason_to_renew() -> None:
    place = Place(aged, rng=1 - 1e-9)
    place.load(0, b"e", status=ERROR, cost=30.0)
    place.clock.now += 4.9
    for worker in (0, 1):
        _, found = place.ask(worker)
        assert found is not None
        assert not found.flags & (REFRESH | STALE)


def test_a_success_takes_the_place_of_an_error() -> None:
    place = Place(aged)
    place.load(0, b"e", status=ERROR)
    question = asking(place.caches[0], aged, a=1)
    assert place.caches[0].find(question, renew=True) is None
    place.caches[0].keep(question, OK, b"v", 0.1)
    assert [place.value(worker) for worker in (0, 1)] == [b"v", b"v"]


def test_what_another_node_invalidated_is_seen_within_the_local_time() -> None:
    place = Place(look, local=2.0)
    place.shelves[0].shared = True
    place.load(0, b"old")
    place.shelves[0].invalidate([of_tool("look")])  # its stamps are not ours
    place.clock.now += 1.9
    assert place.value(0) == b"old"
    place.clock.now += 0.2
    assert place.value(0) is None


class Sleeps:
    """Time passes while a worker waits, and something else may happen."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.slept = 0.0
        self.then: Any = None
        monkeypatch.setattr("toolring.workers.cache.results.time.sleep", self)

    def __call__(self, seconds: float) -> None:
        self.slept += seconds
        self.place.clock.now += seconds
        if self.then is not None:
            self.then()


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> tuple[Place, Sleeps]:
    """Two workers of two nodes, as it were: the first has claimed a key."""
    place = Place(look)
    place.shelves[0].shared = True
    first, _ = place.ask(0)
    assert place.caches[0].claim(first, 1e9) is None
    return place, Sleeps(place, monkeypatch)


def test_whoever_has_a_claim_that_is_free_waits_for_nobody(far: tuple[Place, Sleeps]) -> None:
    place, sleeps = far
    question, _ = place.ask(1, 7)
    assert place.caches[1].claim(question, 1e9) is None
    assert sleeps.slept == 0


def test_the_claim_of_one_who_died_runs_out(far: tuple[Place, Sleeps]) -> None:
    place, sleeps = far
    question, _ = place.ask(1)
    assert place.caches[1].claim(question, 1e9) is None
    assert CLAIM_SECONDS <= sleeps.slept < CLAIM_SECONDS + 0.2
    third, _ = place.ask(0)
    assert place.caches[0].claim(third, place.clock.now + 1) is None, "it is claimed anew, and waited for in vain"
    assert sleeps.slept > CLAIM_SECONDS + 1


def test_one_who_renews_claims_for_ever_is_not_waited_for_as_long(far: tuple[Place, Sleeps]) -> None:
    place, sleeps = far
    question, _ = place.ask(1)
    sleeps.then = lambda: place.shelves[0].claimed.update({question.key: math.inf})
    assert place.caches[1].claim(question, 1e9) is None
    assert 2 * CLAIM_SECONDS <= sleeps.slept < 2 * CLAIM_SECONDS + 0.2


def test_nobody_waits_beyond_a_deadline(far: tuple[Place, Sleeps]) -> None:
    place, sleeps = far
    question, _ = place.ask(1)
    assert place.caches[1].claim(question, place.clock.now + 0.5) is None
    assert 0.5 <= sleeps.slept < 0.7


def test_a_failed_maker_lets_the_next_one_try_at_once(far: tuple[Place, Sleeps]) -> None:
    place, sleeps = far
    first, _ = place.ask(0)
    question, _ = place.ask(1)
    sleeps.then = lambda: place.caches[0].release(first)
    assert place.caches[1].claim(question, 1e9) is None
    assert sleeps.slept < 0.1
    assert place.caches[1].keep(question, OK, b"v", 0.1) > 0
    assert place.value(0) == b"v"


def test_what_is_made_after_a_wait_for_nothing_bears_the_state_after_it(far: tuple[Place, Sleeps]) -> None:
    """An invalidation while it waited must not make the result that it then makes itself worthless."""
    place, sleeps = far
    first, _ = place.ask(0)
    question, _ = place.ask(1)

    def invalidated() -> None:
        place.shelves[0].invalidate([of_tool("look")])
        sleeps.then = lambda: place.caches[0].release(first)

    sleeps.then = invalidated
    assert place.caches[1].claim(question, 1e9) is None
    place.caches[1].keep(question, OK, b"v", 0.1)
    place.clock.now += 2
    assert place.value(0) == b"v"


def test_a_store_of_this_node_alone_is_claimed_by_nobody() -> None:
    place = Place(look)
    question, _ = place.ask(0)
    assert place.caches[0].claim(question, 1e9) is None
    assert not place.shelves[0].claimed
    assert not place.caches[0].shared
    assert not Place(look, stores=0).caches[0].shared


@pytest.mark.parametrize("method", ["added", "touched", "removed", "victim"])
def test_whatever_a_strategy_raises_the_stores_still_answer(method: str) -> None:
    class Broken(LRU):
        pass

    def raises(*_: object) -> None:
        raise RuntimeError(method)

    strategy, clock, told = Broken(1), Clock(), list[str]()
    setattr(Broken, method, raises)
    shelf = Shelf(clock)
    store = Guarded("shelf", partial(_same, shelf), 1.0, clock=clock)
    cache = ResultCache(
        Cache(strategy, 1, 100_000, clock),
        look.spec,
        CacheSettings(),
        Stamps(bytearray(BYTES)),
        [store],
        lambda *words: told.extend(words),
        clock,
    )
    for n in (1, 2, 2, 1):
        question = asking(cache, look, a=n)
        found = cache.find(question)
        if found is None:
            cache.keep(question, OK, b"%d" % n, 0.1)
        else:
            assert found.value == b"%d" % n
    assert cache.broken
    assert told == ["look", f"RuntimeError: {method}"], "said once"
    found = cache.find(asking(cache, look, a=1))
    assert found is not None
    assert found.flags >> LAYER_SHIFT == 2


@pytest.mark.parametrize("value", [{1: 1}, {None: 1}, {b"x": 1}, msgspec.msgpack.Ext(5, b"x"), float("nan"), b"\xff"])
def test_whatever_a_client_sends_has_a_key_and_tags(value: Any) -> None:
    @tool(read_only=True, cache=60, tags=("a:{a}",))
    def tagged(a: Any) -> None: ...

    place = Place(tagged)
    question = asking(place.caches[0], tagged, a=value)
    assert place.caches[0].find(question) is None
    place.caches[0].keep(question, OK, b"v", 0.1)
    found = place.caches[1].find(asking(place.caches[1], tagged, a=value))
    assert found is not None
    Invalidation(place.stamps, place.caches[0].stores)([question.tags[-1]])
    assert place.caches[1].find(asking(place.caches[1], tagged, a=value)) is None


class Ticks(Clock):
    """No two looks at it are at one moment."""

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.mark.parametrize("status", [OK, ERROR])
def test_at_the_very_end_of_its_time_nothing_is_run_unasked(status: int) -> None:
    clock = Ticks()
    spec = msgspec.structs.replace(writes.spec, cache_errors=50.0)
    cache = ResultCache(
        Cache(LRU(10), 10, 100_000, clock), spec, CacheSettings(), Stamps(bytearray(BYTES)), clock=clock
    )
    question = cache.question(writes.decode(encode({"a": 1})))
    seen = set()
    for step in range(40):
        cache.find(question)
        cache.keep(question, status, b"v", 0.1)
        clock.now += 50 - 10e-6 + step * 5e-7
        found = cache.find(question)
        seen.add(found is None)
        assert found is None or not found.flags & (REFRESH | STALE)
    assert seen == {True, False}


def test_who_gets_the_claim_just_after_the_result_was_made_does_not_make_it_again() -> None:
    place = Place(look)
    place.shelves[0].shared = True
    first, _ = place.ask(0)
    second, _ = place.ask(1)
    assert place.caches[0].claim(first, 1e9) is None
    place.caches[0].keep(first, OK, b"v", 0.1)
    place.caches[0].release(first)
    found = place.caches[1].claim(second, 1e9)
    assert found is not None
    assert found.value == b"v"
    assert not place.shelves[0].claimed, "what was claimed in vain is given back"
