"""Contract suites for plugin authors: one import, and pytest runs the whole contract on your own plugin.

    from toolring.testing import CacheStoreContract, CacheStrategyContract

    class TestMine(CacheStrategyContract):
        factory = MyStrategy

    class TestMyStore(CacheStoreContract):
        def settings(self, directory):
            return StoreSettings(directory, "", 1 << 24, 1.0)

        factory = MyStore

Needs hypothesis, which toolring itself does not install: ``pip install pytest hypothesis``.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from toolring.plugins.specs import (
    AlertEvent,
    Buckets,
    CacheStore,
    CacheStrategy,
    MetricFamily,
    MetricsSink,
    SinkSettings,
    Stored,
    StoreSettings,
)
from toolring.policy.balance import REQUESTS, SECONDS, Balancer, Members
from toolring.policy.ring import hash64
from toolring.workers.cache.base import OVERHEAD, Cache

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover - whoever tests toolring has it
    raise ImportError("toolring.testing needs hypothesis: pip install pytest hypothesis") from error

__all__ = [
    "FAMILIES",
    "FIGURES",
    "BalancerContract",
    "CacheStoreContract",
    "CacheStrategyContract",
    "MetricsSinkContract",
]

_NOTHING: Any = object()
_KEYS = [b"a", b"b", b"c", b"dd", b"eee", b"ffff"]
_get = st.tuples(st.just("get"), st.sampled_from(_KEYS))
_put = st.tuples(
    st.just("put"),
    st.sampled_from(_KEYS),
    st.sampled_from([None, b"", b"one", b"two", b"v" * 100, b"w" * 300]),
    st.sampled_from([None, 1e9, 5.0, 2.0, 1.0, 0.0, -1.0]),
)
_step = st.one_of(
    *[_put] * 4,
    *[_get] * 3,
    st.tuples(st.just("peek"), st.sampled_from(_KEYS)),
    st.tuples(st.just("delete"), st.sampled_from(_KEYS)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("clock"), st.sampled_from([0.0, 0.5, 1.0, 3.0, -2.0])),
)


class BalancerContract:
    """What whoever places jobs asks of a balancer.

    ``factory`` takes the Members, as ``toolring_balancers`` offers it.
    """

    factory: ClassVar[Any]

    def _balancer(self, members: Members) -> Balancer:
        factory: Callable[[Members], Balancer] = inspect.getattr_static(type(self), "factory")
        return factory(members)

    @staticmethod
    def _members(count: int, seed: int = 0, **more: Any) -> Members:
        names = tuple(f"member-{number}" for number in range(count))
        return Members(names, random=random.Random(seed).random, **more)

    def test_nobody_places_a_job_where_nobody_can_take_it(self) -> None:
        loads = st.lists(st.none() | st.integers(0, 20), min_size=1, max_size=8)
        able = loads.filter(lambda found: any(load is not None for load in found))

        @settings(max_examples=100, deadline=None)
        @given(able, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), st.sampled_from([SECONDS, REQUESTS]))
        def check(loads: list[float | None], points: list[int], unit: str) -> None:
            balancer = self._balancer(self._members(len(loads), unit=unit))
            for point in points:
                at = balancer.place(point if balancer.keyed else 0, loads)
                assert loads[at] is not None, f"place() chose member {at} of {loads}"
                if hasattr(balancer, "took"):
                    balancer.took(at, 0.01)

        check()

    def test_everybody_gets_something(self) -> None:
        balancer = self._balancer(self._members(4))
        held = [0] * 4
        for number in range(4000):
            at = balancer.place(hash64(b"%d" % number) if balancer.keyed else 0, held)
            held[at] += 1
        assert min(held) > 400, f"of 4,000 jobs the members got {held}"

    def test_the_same_key_goes_to_the_same_member_in_every_process(self) -> None:
        one, other = (self._balancer(self._members(5, seed)) for seed in (1, 2))
        if not one.keyed:
            return
        for number in range(200):
            point = hash64(b"%d" % number)
            assert one.place(point, [0] * 5) == other.place(point, [0] * 5)

    def test_a_lost_member_takes_no_other_members_keys_along(self) -> None:
        balancer = self._balancer(self._members(5))
        if not balancer.keyed:
            return
        for number in range(500):
            point = hash64(b"%d" % number)
            home = balancer.place(point, [0] * 5)
            if home != 2:
                assert balancer.place(point, [0, 0, None, 0, 0]) == home


class CacheStrategyContract:
    """What a cache asks of its strategy, and what callers then may ask of the cache.

    ``factory`` takes the most entries that the cache may hold, as ``toolring_cache_strategies`` offers it.
    """

    factory: ClassVar[Any]
    examples: ClassVar[int] = 100
    """Random histories for each property."""

    def _strategy(self, max_entries: int) -> CacheStrategy:
        factory: Callable[[int], CacheStrategy] = inspect.getattr_static(type(self), "factory")
        return factory(max_entries)

    def test_every_key_can_leave_and_come_back(self) -> None:
        strategy = self._strategy(8)
        for _ in range(3):
            present = set(_KEYS)
            for key in _KEYS:
                strategy.added(key)
            while present:
                victim = strategy.victim()
                assert victim in present, f"victim() named {victim!r}, which is not there"
                strategy.removed(victim)
                present.remove(victim)

    def test_victim_alone_changes_nothing(self) -> None:
        strategy = self._strategy(8)
        for key in _KEYS:
            strategy.added(key)
        for key in _KEYS:
            strategy.victim()
            strategy.touched(key)
        for key in _KEYS:
            strategy.removed(key)

    def test_any_key_may_leave_at_any_time(self) -> None:
        """Expired and deleted entries leave without being the victim."""
        for gone in _KEYS:
            strategy = self._strategy(8)
            for key in _KEYS:
                strategy.added(key)
            strategy.removed(gone)
            for _ in range(len(_KEYS) - 1):
                victim = strategy.victim()
                assert victim != gone, f"victim() named {gone!r}, which had left"
                strategy.removed(victim)

    def test_a_cache_with_it_agrees_with_a_slow_and_obvious_one(self) -> None:
        @settings(max_examples=self.examples, deadline=None)
        @given(st.lists(_step, min_size=20, max_size=60), st.integers(1, 5), st.sampled_from([600, 1200, 100_000]))
        def check(steps: list[tuple[Any, ...]], max_entries: int, max_bytes: int) -> None:
            Trial(self._strategy, max_entries, max_bytes).run(steps)

        check()


class _Witness:
    """Passes everything on to the strategy, and holds both sides to the contract."""

    def __init__(self, strategy: CacheStrategy) -> None:
        self._strategy = strategy
        self.keys: set[bytes] = set()
        self.left: list[bytes] = []

    def added(self, key: bytes) -> None:
        assert key not in self.keys, f"{key!r} was added twice"
        self._strategy.added(key)
        self.keys.add(key)

    def touched(self, key: bytes) -> None:
        assert key in self.keys, f"{key!r} was touched and is not there"
        self._strategy.touched(key)

    def removed(self, key: bytes) -> None:
        assert key in self.keys, f"{key!r} left twice"
        self._strategy.removed(key)
        self.keys.remove(key)
        self.left.append(key)

    def victim(self) -> bytes:
        victim = self._strategy.victim()
        assert victim in self.keys, f"victim() named {victim!r}, which is not there"
        return victim


class Trial:
    """A cache beside its model: a plain dict of value, expiry and nothing clever."""

    def __init__(self, factory: Callable[[int], CacheStrategy], max_entries: int, max_bytes: int) -> None:
        self.now = 100.0
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self.witness = _Witness(factory(max_entries))
        self.cache = Cache(self.witness, max_entries, max_bytes, lambda: self.now)
        self.model: dict[bytes, tuple[bytes | None, float]] = {}
        self.hits = self.misses = 0

    def run(self, steps: list[tuple[Any, ...]]) -> None:
        for name, *arguments in steps:
            getattr(self, name)(*arguments)
            self.check()

    def get(self, key: bytes) -> None:
        value, expiry = self.model.get(key, (_NOTHING, math.inf))
        if self.now >= expiry:
            del self.model[key]
            value = _NOTHING
        self.hits += value is not _NOTHING
        self.misses += value is _NOTHING
        assert self.cache.get(key, _NOTHING) == value

    def peek(self, key: bytes) -> None:
        """Neither an access nor counted; what is over stays where it is."""
        value, expiry = self.model.get(key, (_NOTHING, math.inf))
        expected = _NOTHING if self.now >= expiry else value
        assert self.cache.peek(key, _NOTHING) == expected
        assert (key in self.cache) == (expected is not _NOTHING)

    def put(self, key: bytes, value: bytes | None, ttl: float | None) -> None:
        weight = _weight(key, value)
        self.model.pop(key, None)
        self.witness.left.clear()
        before = dict(self.model)
        lasts = math.inf if ttl is None else ttl
        kept = self.cache.put(key, value, ttl, weight)
        assert kept == (lasts > 0 and weight <= self.max_bytes)
        for gone in self.witness.left:
            if gone in self.model:
                full = len(self.model) >= self.max_entries
                full = full or self._bytes() + weight > self.max_bytes
                assert full or self.model[gone][1] <= self.now, f"{gone!r} left though there was room"
                del self.model[gone]
        live = [gone for gone in self.witness.left if gone in before and before[gone][1] > self.now]
        dead = [left for left, (_, expiry) in self.model.items() if expiry <= self.now]
        assert not (live and dead), f"{live} left, although {dead} had expired"
        if kept:
            self.model[key] = (value, self.now + lasts)

    def delete(self, key: bytes) -> None:
        assert self.cache.delete(key) == (self.model.pop(key, None) is not None)

    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    def clock(self, seconds: float) -> None:
        """Time passes, stands still, or (as no monotonic clock should) goes back."""
        self.now += seconds

    def check(self) -> None:
        assert self.witness.keys == set(self.model)
        assert len(self.cache) == len(self.model) <= self.max_entries
        assert self.cache.bytes == self._bytes() <= self.max_bytes
        stats = self.cache.stats()
        assert (stats["hits"], stats["misses"]) == (self.hits, self.misses)

    def _bytes(self) -> int:
        return sum(_weight(key, value) for key, (value, _) in self.model.items())


def _weight(key: bytes, value: bytes | None) -> int:
    return len(key) + len(value or b"") + OVERHEAD


_ALL = (b"*", b"tool:a")
_TAGS = {b"k" * 32: (*_ALL, b"tag:x"), b"l" * 32: (*_ALL, b"tag:x", b"tag:y"), b"m" * 32: _ALL}
_some_key = st.sampled_from(list(_TAGS))
_some_tags = st.lists(st.sampled_from([b"*", b"tool:a", b"tag:x", b"tag:y"]), min_size=1, max_size=2)
_store_step = st.one_of(
    st.tuples(st.just("look"), _some_key),
    st.tuples(st.just("keep"), _some_key, st.binary(max_size=40)),
    st.tuples(st.just("invalidate"), _some_tags),
)


class CacheStoreContract:
    """What the cache asks of a store. ``factory`` makes one of ``StoreSettings``, as ``toolring_cache_stores`` offers
    it; ``settings`` gives those for a store of the test's own, in an empty directory.
    """

    factory: ClassVar[Any]
    examples: ClassVar[int] = 25

    def settings(self, directory: str) -> StoreSettings:
        return StoreSettings(directory, "", 1 << 26, 5.0)

    @contextmanager
    def _stores(self, count: int) -> Iterator[list[CacheStore]]:
        make: Callable[[StoreSettings], CacheStore] = inspect.getattr_static(type(self), "factory")
        with tempfile.TemporaryDirectory() as directory:
            stores = [make(self.settings(directory)) for _ in range(count)]
            try:
                stores[0].invalidate([b"*"])  # a server may hold what an earlier test left
                yield stores
            finally:
                for store in stores:
                    store.close()

    def test_what_was_put_is_got_by_every_process_that_shares_it(self) -> None:
        with self._stores(2) as (one, two):
            for value in (b"", b"value", bytes(1_000_000)):
                entry = Stored(value, 1, 50.0, 20.0, 0.25)
                _, token = one.get(b"k" * 32, _ALL)
                one.put(b"k" * 32, _ALL, token, entry)
                found, _ = two.get(b"k" * 32, _ALL)
                assert found is not None
                assert (found.value, found.status, found.cost) == (value, 1, 0.25)
                assert 0 < found.fresh <= 50.0
                assert abs(found.stale - 20.0) < 0.01

    def test_what_is_over_is_gone_and_what_is_outdated_says_so(self) -> None:
        with self._stores(1) as (store,):
            _, token = store.get(b"k" * 32, _ALL)
            store.put(b"k" * 32, _ALL, token, Stored(b"v", 0, -5.0, 20.0, 0.1))
            found, _ = store.get(b"k" * 32, _ALL)
            assert found is not None
            assert -6 < found.fresh <= -5.0 + 0.01
            store.put(b"k" * 32, _ALL, token, Stored(b"v", 0, -5.0, 4.0, 0.1))
            assert store.get(b"k" * 32, _ALL)[0] is None

    def test_a_token_is_never_none(self) -> None:
        with self._stores(1) as (store,):
            assert store.get(b"k" * 32, _ALL)[1] is not None

    def test_a_claim_is_one_process_s_until_it_is_given_back(self) -> None:
        with self._stores(2) as (one, two):
            if not one.shared:
                assert one.claim(b"k" * 32, 60.0)
                return
            assert one.claim(b"c" * 32, 60.0)
            assert not two.claim(b"c" * 32, 60.0)
            two.release(b"c" * 32)
            assert not two.claim(b"c" * 32, 60.0), "only the one who holds it gives it back"
            one.release(b"c" * 32)
            assert two.claim(b"c" * 32, 60.0)
            two.release(b"c" * 32)

    def test_nothing_is_given_that_was_loaded_before_one_of_its_tags_was_invalidated(self) -> None:
        @settings(max_examples=self.examples, deadline=None)
        @given(st.lists(st.tuples(st.integers(0, 1), _store_step), min_size=5, max_size=30))
        def check(steps: list[tuple[int, tuple[Any, ...]]]) -> None:
            with self._stores(2) as stores:
                model: dict[bytes, bytes] = {}
                tokens: dict[bytes, Any] = {key: stores[0].get(key, tags)[1] for key, tags in _TAGS.items()}
                current = dict.fromkeys(_TAGS, True)
                for who, (name, *given_) in steps:
                    store = stores[who]
                    if name == "invalidate":
                        store.invalidate(given_[0])
                        for key, tags in _TAGS.items():
                            if set(tags) & set(given_[0]):
                                model.pop(key, None)
                                current[key] = False
                    elif name == "keep":
                        key, value = given_
                        store.put(key, _TAGS[key], tokens[key], Stored(value, 0, 60.0, 0.0, 0.1))
                        if current[key]:
                            model[key] = value
                        else:
                            model.pop(key, None)
                    else:
                        (key,) = given_
                        found, tokens[key] = store.get(key, _TAGS[key])
                        current[key] = True
                        assert (None if found is None else found.value) == model.get(key)

        check()


_TIMES = {"count": 2, "mean": 0.0015, "p50": 0.001, "p95": 0.002, "p99": 0.002}
_TALLY: dict[str, Any] = {
    "jobs": 3,
    "operations": 4,
    "failed": 1,
    "errors": {"TOOL_ERROR": 1},
    "retried": 0,
    "lost": 0,
    "cached": 0,
    "jobs_per_second": 0.05,
    "operations_per_second": 0.05,
    "argument_bytes_per_second": 1.5,
    "result_bytes_per_second": 2.5,
    "response": _TIMES,
    "queue": _TIMES,
    "run": _TIMES,
    "overhead": {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None},
}
_COUNTS = {
    "jobs": 3,
    "operations": 3,
    "failed": 1,
    "cached": 0,
    "retried": 0,
    "argument_bytes": 90,
    "result_bytes": 150,
}
FIGURES: dict[str, Any] = {
    "node": "0123456789abcdef",
    "address": "ipc:///run/user/1000/toolring/node.sock",
    "pid": 4711,
    "start_method": "fork",
    "state": "healthy",
    "uptime": 61.25,
    "clients": 1,
    "restarts": 0,
    "renewed": 0,
    "workers": [
        {"id": 0, "group": "default", "pid": 4713, "state": "ready", "generation": 1, "jobs": 0, "answered": 3}
    ],
    "ending": [],
    "groups": {"default": {"workers": 1, "ready": 1, "least": 1, "most": 1}},
    "jobs": {"accepted": 3, "answered": 3, "waiting": 0, "running": 0, "kept": 0, "refused": {"BUSY": 2}},
    "tools": {"echo": {"answered": 3, "cached": 0, "errors": {"TOOL_ERROR": 1}, "retried": 0}},
    "sinks": {"mine": {"sent": 6, "dropped": 0, "failed": 0, "state": "closed"}},
    "counts": {"echo": {**_COUNTS, "errors": {"TOOL_ERROR": 1}}},
    "metrics": {
        "window": "1m",
        "seconds": 58.5,
        "total": _TALLY,
        "tools": {"echo": {"group": "default", **_TALLY}},
        "left_out": 0,
        "errors": [{"tool": "echo", "group": "default", "code": "TOOL_ERROR", "count": 1}],
        "groups": {"default": _TALLY},
        "workers": {"0": {key: value for key, value in _TALLY.items() if key != "response"}},
        "refused": {"BUSY": 2},
        "exits": [{"during": "ready", "cause": "killed by SIGKILL", "count": 1}],
        "processes": {"supervisor": {"cpu_seconds": 1.5, "resident_bytes": 40_000_000, "open_fds": 30}},
        "network": {"received_bytes": 0, "sent_bytes": 0},
        "user": {"pages": [{"labels": {"site": "a"}, "value": 3}]},
    },
}
"""A sink is given such figures, and more."""

_OF_TOOLS = ("tool", "group")
_ECHO = ("echo", "default")
FAMILIES: tuple[MetricFamily, ...] = (
    MetricFamily("toolring_start_time_seconds", "gauge", "seconds", "When it started.", (), [((), 1.7e9)]),
    MetricFamily("toolring_workers", "gauge", "", "Workers.", ("group", "state"), [(("default", "ready"), 1)]),
    MetricFamily("toolring_jobs", "counter", "", "Final answers.", _OF_TOOLS, [(_ECHO, 3)]),
    MetricFamily(
        "toolring_job_errors", "counter", "", "Failures.", (*_OF_TOOLS, "code"), [((*_ECHO, "TOOL_ERROR"), 1)]
    ),
    MetricFamily(
        "toolring_job_run_seconds",
        "histogram",
        "seconds",
        "Runs.",
        _OF_TOOLS,
        [(_ECHO, Buckets([0.001, 0.01, 1.0], [0, 2, 1, 0], 0.25))],
    ),
    MetricFamily("toolring_pool_resources", "gauge", "", "Resources.", ("pool", "state"), []),
)
"""One that asks for ``families`` is given such in the figures, and more."""

_ODD_NAMES: tuple[str, ...] = ("with space", "a.b/c:d|e#f", "naïve-é", "x" * 200, "{}", '"')


def _done(given: Any, what: str) -> None:
    """It has run when it has returned: nobody awaits it, or iterates over it."""
    if inspect.iscoroutine(given):
        given.close()
    lazy = inspect.isawaitable(given) or inspect.isgenerator(given) or inspect.isasyncgen(given)
    assert not lazy, f"{what} has not run: it must be a plain function, since nobody awaits it"


class MetricsSinkContract:
    """What a node asks of a metrics sink. ``factory`` takes the SinkSettings, as ``toolring_metrics_sinks`` offers it;
    ``settings`` gives those for a sink of the test's own, in an empty directory.
    """

    factory: ClassVar[Any]

    def settings(self, directory: str) -> SinkSettings:
        return SinkSettings(interval=0.1, file=f"{directory}/figures.jsonl", statsd="127.0.0.1:9")

    @contextmanager
    def _sink(self) -> Iterator[MetricsSink]:
        make: Callable[[SinkSettings], MetricsSink] = inspect.getattr_static(type(self), "factory")
        with tempfile.TemporaryDirectory() as directory:
            sink = make(self.settings(directory))
            try:
                yield sink
            finally:
                _done(sink.close(), "close()")  # type: ignore[func-returns-value]

    @staticmethod
    def _figures(sink: MetricsSink) -> dict[str, Any]:
        """For this sink alone, whatever it does to them."""
        figures = copy.deepcopy(FIGURES)
        if getattr(sink, "families", False):
            figures["families"] = copy.deepcopy(FAMILIES)
        return figures

    @staticmethod
    def _emit(sink: MetricsSink, figures: dict[str, Any]) -> None:
        _done(sink.emit(figures), "emit()")  # type: ignore[func-returns-value]

    def test_it_takes_figures_again_and_again_and_changes_nothing_in_them(self) -> None:
        with self._sink() as sink:
            for number in range(3):
                figures, before = self._figures(sink), self._figures(sink)
                figures["uptime"] = before["uptime"] = 61.25 + number
                self._emit(sink, figures)
                assert figures == before, "other sinks get the same figures"

    def test_it_takes_figures_of_a_node_that_has_done_nothing_and_counts_nothing(self) -> None:
        with self._sink() as sink:
            figures = {key: value for key, value in self._figures(sink).items() if key not in ("metrics", "counts")}
            figures.update(workers=[], groups={}, tools={}, sinks={})
            if "families" in figures:
                figures["families"] = [dataclasses.replace(family, samples=[]) for family in FAMILIES]
            self._emit(sink, figures)

    def test_it_takes_any_name_and_figures_that_it_does_not_know(self) -> None:
        with self._sink() as sink:
            figures = self._figures(sink)
            figures["something_new"] = {"deep": [1, None, {"er": 2.5}]}
            for name in _ODD_NAMES:
                figures["counts"][name] = figures["counts"]["echo"]
                figures["metrics"]["tools"][name] = figures["metrics"]["tools"]["echo"]
            if "families" in figures:
                samples = [((name, "default"), 1) for name in _ODD_NAMES]
                new = MetricFamily("toolring_something_new", "counter", "", "New.", _OF_TOOLS, samples)
                figures["families"] = [*figures["families"], new]
            self._emit(sink, figures)

    def test_it_may_be_used_in_another_thread_than_it_was_made_in(self) -> None:
        failed: list[BaseException] = []

        def use() -> None:
            try:
                self._emit(sink, self._figures(sink))
            except BaseException as error:
                failed.append(error)

        with self._sink() as sink:
            thread = threading.Thread(target=use)
            thread.start()
            thread.join(10)
            assert not thread.is_alive(), "emit() hangs"
        if failed:
            raise failed[0]

    def test_it_takes_alerts_if_it_has_a_method_for_them(self) -> None:
        with self._sink() as sink:
            alert = getattr(sink, "alert", None)
            if alert is None:
                return
            firing = AlertEvent(
                "tool_failing", "firing", "warning", "error_rate", "echo", "", 0.75, "above", 0.5, 60.0, "it fails"
            )
            gone = dataclasses.replace(firing, state="resolved", tool="", value=None, text="")
            for event in (firing, gone):
                _done(alert(event), "alert()")
