"""Results in Redis or Valkey, for nodes on several machines. Needs ``toolring[redis]``.

Each tag is a key with a random stamp; an entry bears a digest of its tags' stamps from before it was loaded. A tag's
key that is missing, whether it never was or Redis evicted it, gets a new stamp, which no entry bears. Times to live are
Redis's own, so no clocks are compared. The size is Redis's concern (``maxmemory``); ``max_bytes`` says nothing here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
import redis

from toolring.plugins.specs import Stored, StoreSettings

PREFIX: Final = b"toolring:"
LONGEST: Final = 7 * 24 * 3600.0
"""Seconds that anything lives. A tag's stamp is renewed by each use, so it outlives the entries that bear it."""
_RELEASE: Final = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class _Row(msgspec.Struct, array_like=True):
    value: bytes
    status: int
    stale: float
    cost: float
    stamps: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


class RedisStore:
    """See ``CacheStore``. One connection, made at the first use; every operation is one exchange, seldom two."""

    shared = True

    def __init__(self, settings: StoreSettings) -> None:
        self._redis: Any = redis.Redis.from_url(
            settings.url,
            socket_timeout=settings.timeout,
            socket_connect_timeout=settings.timeout,
            single_connection_client=True,
            retry=None,
            retry_on_error=[],
        )
        self._owner = os.urandom(16)

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, bytes]:
        name = PREFIX + b"entry:" + key
        pipe = self._redis.pipeline(transaction=True)  # entry and stamps of one moment
        pipe.get(name).pttl(name).mget([_tag(tag) for tag in tags])
        found, left, stamps = pipe.execute()
        if None in stamps:
            stamps = self._stamped(tags)
        token = blake2b(b"".join(stamps), digest_size=16).digest()
        if found is None or left <= 0:
            return None, token
        try:
            row = _decode(found)
        except msgspec.MsgspecError:
            return None, token
        if row.stamps != token:
            return None, token
        return Stored(row.value, row.status, left / 1000 - row.stale, row.stale, row.cost), token

    def put(self, key: bytes, tags: Sequence[bytes], token: bytes, entry: Stored) -> None:
        stale = min(entry.stale, LONGEST / 2)
        lives = int(1000 * (min(entry.fresh, LONGEST / 2 - 1) + stale))
        if lives <= 0:
            self._redis.delete(PREFIX + b"entry:" + key)
            return
        row = _Row(entry.value, entry.status, stale, entry.cost, token)
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(PREFIX + b"entry:" + key, _encode(row), px=lives)
        for tag in tags:
            pipe.expire(_tag(tag), int(2 * LONGEST))
        pipe.execute()

    def invalidate(self, tags: Sequence[bytes]) -> None:
        pipe = self._redis.pipeline(transaction=True)
        for tag in tags:
            pipe.set(_tag(tag), os.urandom(8), ex=int(2 * LONGEST))
        pipe.execute()

    def claim(self, key: bytes, seconds: float) -> bool:
        return bool(self._redis.set(PREFIX + b"claim:" + key, self._owner, nx=True, px=int(1000 * seconds)))

    def release(self, key: bytes) -> None:
        self._redis.eval(_RELEASE, 1, PREFIX + b"claim:" + key, self._owner)

    def stats(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._redis.close()

    def _stamped(self, tags: Sequence[bytes]) -> list[bytes]:
        """The stamps, after those that were missing were made; another process may be faster."""
        pipe = self._redis.pipeline(transaction=True)
        for tag in tags:
            pipe.set(_tag(tag), os.urandom(8), nx=True, ex=int(2 * LONGEST))
        pipe.mget([_tag(tag) for tag in tags])
        stamps: list[bytes] = pipe.execute()[-1]
        return stamps


def _tag(tag: bytes) -> bytes:
    return PREFIX + b"tag:" + tag
