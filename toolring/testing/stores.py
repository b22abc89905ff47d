"""The contract of a store that caches stand before."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from toolring.plugins.specs import CacheStore, Stored, StoreSettings

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
