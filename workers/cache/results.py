"""Results of one tool in a worker's cache: from validated arguments to a key that nobody can forge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from toolring.spec import ToolSpec
from toolring.workers.cache.base import Cache

_encode = msgspec.msgpack.encode
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


class ResultCache:
    """A tool's share of a worker's cache. Values are encoded results, returned undecoded."""

    __slots__ = ("_name", "_on_broken", "_prefix", "_ttl", "broken", "store")

    def __init__(self, cache: Cache, spec: ToolSpec, on_broken: Callable[[str, str], None] = lambda *_: None) -> None:
        self.store = cache
        self.broken = False
        """Set once the strategy has raised; ``on_broken`` is told the tool's name and the reason."""
        self._name = spec.name
        self._on_broken = on_broken
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
        """The encoded result, or None. A strategy that raises makes every look-up a miss from then on."""
        if not self.broken:
            try:
                return self.store.get(key)
            except Exception as error:
                self._fail(error)
        return None

    def put(self, key: bytes, value: bytes) -> None:
        if not self.broken:
            try:
                self.store.put(key, value, self._ttl)
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.broken = True
        self._on_broken(self._name, f"{type(error).__name__}: {error}")
