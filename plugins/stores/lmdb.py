"""Results in one LMDB file of the node's user: as SQLite's, and faster. Needs ``toolring[lmdb]``.

Written without waiting for the disk: after a power failure the file may be damaged, and each entry's checksum tells.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec

from toolring.plugins.specs import Stored, StoreSettings
from toolring.plugins.stores.sqlite import make_private

FILE: Final = "results.lmdb"
DEAD: Final = 4
"""Entries looked at after each put, round and round: those that are over leave."""


class _Row(msgspec.Struct, array_like=True):
    value: bytes
    status: int
    created: float
    expires: float
    dies: float
    cost: float
    stamps: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode
_MARK: Final = 16


class LmdbStore:
    """See ``CacheStore``. Times in the file are of the wall clock, which outlives the machine's start."""

    shared = False

    def __init__(self, settings: StoreSettings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._max_bytes = settings.max_bytes
        directory = Path(settings.directory)
        make_private(directory)
        self._path = directory / FILE
        self._swept = b""
        self._open()

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, bytes]:
        with self._env.begin() as transaction:
            stamps = self._stamps(transaction, tags)
            found = transaction.get(key, db=self._entries)
        row = _read(key, found)
        now = self._clock()
        if row is None or row.stamps != stamps or not row.created <= now < row.dies:
            return None, stamps
        return Stored(row.value, row.status, row.expires - now, row.dies - row.expires, row.cost), stamps

    def put(self, key: bytes, tags: Sequence[bytes], token: bytes, entry: Stored) -> None:
        now = self._clock()
        expires = now + entry.fresh
        body = _encode(_Row(entry.value, entry.status, now, expires, expires + entry.stale, entry.cost, token))
        if len(body) > self._max_bytes // 8:
            return
        try:
            self._write(key, _mark(key, body) + body, now)
        except lmdb.MapFullError:
            self._empty()

    def invalidate(self, tags: Sequence[bytes]) -> None:
        try:
            self._write_tags(tags)
        except lmdb.MapFullError:
            self._empty()

    def claim(self, key: bytes, seconds: float) -> bool:
        return True

    def release(self, key: bytes) -> None:
        pass

    def stats(self) -> dict[str, int]:
        with self._env.begin() as transaction:
            about = transaction.stat(self._entries)
        pages = about["leaf_pages"] + about["overflow_pages"] + about["branch_pages"]
        return {"entries": about["entries"], "bytes": pages * about["psize"]}

    def close(self) -> None:
        _let_go(str(self._path))

    # ---- the file

    def _open(self) -> None:
        old = os.umask(0o077)
        try:
            self._env = _shared(str(self._path), self._max_bytes)
        except lmdb.InvalidError:  # not a file of LMDB's
            for suffix in ("", "-lock"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._path}{suffix}")
            raise
        finally:
            os.umask(old)
        self._entries = self._env.open_db(b"entries")
        self._tags = self._env.open_db(b"tags")
        with self._env.begin(write=True) as transaction:  # a token from an earlier file is worth nothing in this one
            transaction.put(b"*", os.urandom(8), db=self._tags, overwrite=False)

    def _write(self, key: bytes, body: bytes, now: float) -> None:
        with self._env.begin(write=True) as transaction:
            transaction.put(key, body, db=self._entries)
            self._sweep(transaction, now)

    def _write_tags(self, tags: Sequence[bytes]) -> None:
        with self._env.begin(write=True) as transaction:
            for tag in tags:
                transaction.put(_short(tag), os.urandom(8), db=self._tags)

    def _stamps(self, transaction: Any, tags: Sequence[bytes]) -> bytes:
        """How the tags stand, as one digest; one that was never invalidated is not there."""
        found = [transaction.get(_short(tag), default=b"-", db=self._tags) for tag in tags]
        return blake2b(b"|".join(found), digest_size=16).digest()

    def _sweep(self, transaction: Any, now: float) -> None:
        """Go on from where the last sweep ended, for a few entries."""
        with transaction.cursor(db=self._entries) as cursor:
            more = cursor.set_range(self._swept)
            for _ in range(DEAD):
                if not more:
                    self._swept = b""
                    return
                key = bytes(cursor.key())
                row = _read(key, cursor.value())
                self._swept = key
                more = cursor.delete() if row is None or row.dies <= now else cursor.next()

    def _empty(self) -> None:
        """The file is full: everything leaves. The tags too: no entry is left that could bear their old stamps."""
        with self._env.begin(write=True) as transaction:
            transaction.drop(self._entries, delete=False)
            transaction.drop(self._tags, delete=False)
            transaction.put(b"*", os.urandom(8), db=self._tags)  # for what is being loaded under the old ones


_here: dict[str, tuple[Any, int]] = {}
"""Files that this process has open, and how often: LMDB allows each only once."""


def _shared(path: str, size: int) -> Any:
    found, users = _here.get(path, (None, 0))
    if found is None:
        found = lmdb.open(path, map_size=size, max_dbs=2, subdir=False, sync=False, readahead=False)
    _here[path] = (found, users + 1)
    return found


def _let_go(path: str) -> None:
    found, users = _here.pop(path)
    if users > 1:
        _here[path] = (found, users - 1)
    else:
        found.close()


def _short(tag: bytes) -> bytes:
    """LMDB's keys have at most 511 bytes."""
    return tag if len(tag) <= 64 else blake2b(tag, digest_size=32).digest()


def _mark(key: bytes, body: bytes) -> bytes:
    return blake2b(key + body, digest_size=_MARK).digest()


def _read(key: bytes, found: bytes | None) -> _Row | None:
    if found is None or _mark(key, found[_MARK:]) != found[:_MARK]:
        return None
    row: _Row = _decode(found[_MARK:])
    return row
