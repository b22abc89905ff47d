"""The stores that need no server, under the contract that a plugin's author runs."""

from __future__ import annotations

from toolring.plugins.stores.lmdb import LmdbStore
from toolring.plugins.stores.sqlite import SqliteStore
from toolring.testing import CacheStoreContract


class TestSqlite(CacheStoreContract):
    factory = SqliteStore


class TestLmdb(CacheStoreContract):
    factory = LmdbStore
