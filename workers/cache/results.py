"""Results of one tool in a worker's cache: from validated arguments to a key that nobody can forge."""

from __future__ import annotations

import hashlib

import msgspec

from toolring.spec import ToolSpec
from toolring.workers.cache.base import Cache

_encode = msgspec.msgpack.encode
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


class ResultCache:
    """A tool's share of a worker's cache. Values are encoded results, returned undecoded."""

    __slots__ = ("_prefix", "_ttl", "store")

    def __init__(self, cache: Cache, spec: ToolSpec) -> None:
        self.store = cache
        self._prefix = _canonical([spec.name, spec.version])
        self._ttl = spec.cache or 0.0

    def key(self, arguments: msgspec.Struct) -> bytes:
        """Tool, its version and the arguments in a typed canonical form: 1, 1.0, True and "1" all differ.

        Made here, from validated arguments with defaults filled in; a digest sent by a client is never trusted.
        The key is a blake2b digest of 256 bits, so that equal digests mean equal arguments.
        """
        try:
            canonical = _canonical(arguments)
        except TypeError:  # keys or members that have no order: equal arguments may miss, different ones never hit
            canonical = _encode(arguments)
        return hashlib.blake2b(self._prefix + canonical, digest_size=32).digest()

    def get(self, key: bytes) -> bytes | None:
        return self.store.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.store.put(key, value, self._ttl)
