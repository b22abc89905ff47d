from __future__ import annotations

from pathlib import Path

from toolring.plugins.specs import Stored, StoreSettings
from toolring.plugins.stores.lmdb import LmdbStore

TAGS = (b"*", b"tag:x")


def test_a_full_file_is_emptied_and_goes_on(tmp_path: Path) -> None:
    store = LmdbStore(StoreSettings(str(tmp_path), "", 1 << 20, 1.0))
    _, token = store.get(b"k" * 32, TAGS)
    kept = 0
    for number in range(2000):
        key = b"%032d" % number
        _, now = store.get(key, TAGS)
        store.put(key, TAGS, now, Stored(b"v" * 2000, 0, 60.0, 0.0, 0.1))
        found, _ = store.get(key, TAGS)
        kept += found is not None
        assert found is None or found.value == b"v" * 2000
    assert kept > 1900
    assert (tmp_path / "results.lmdb").stat().st_size <= 1 << 20
    store.put(b"k" * 32, TAGS, token, Stored(b"old", 0, 60.0, 0.0, 0.1))
    assert store.get(b"k" * 32, TAGS)[0] is None, "a token from before it was emptied is worth nothing"
    store.close()


def test_what_is_over_leaves(tmp_path: Path) -> None:
    now = [1e9]
    store = LmdbStore(StoreSettings(str(tmp_path), "", 1 << 24, 1.0), lambda: now[0])
    for number in range(100):
        key = b"%032d" % number
        store.put(key, TAGS, store.get(key, TAGS)[1], Stored(b"v", 0, 10.0, 0.0, 0.1))
    now[0] += 11.0
    for number in range(60):
        key = b"n%031d" % number
        store.put(key, TAGS, store.get(key, TAGS)[1], Stored(b"v", 0, 10.0, 0.0, 0.1))
    assert store.stats()["entries"] < 100
    store.close()
