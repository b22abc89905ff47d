"""Results of one tool: from validated arguments to a key that nobody can forge, through the layers and back.

A look-up asks the worker's memory, then the stores behind it, nearest first; what one of them has is kept by those
before it for what remains of its time. Nothing is given that was loaded before one of its tags was invalidated.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from toolring.plugins.specs import Stored
from toolring.protocol import CACHED, LAYER_SHIFT, OK, REFRESH, STALE
from toolring.settings import CacheSettings
from toolring.spec import ToolSpec
from toolring.stamps import ALL, Stamps, of_tool, place
from toolring.stored import EXTENSIONS, note_of
from toolring.workers.cache import tags
from toolring.workers.cache.base import OVERHEAD, Cache
from toolring.workers.cache.guarded import Guarded

MEMORY: Final = 1
"""The number of the worker's memory among the layers; 0 is what the supervisor holds, the stores follow."""
CLAIM_SECONDS: Final = 5.0
_NEWER: Final = 0.01
"""The share of a TTL by which a store's copy must outlive the memory's to have been made later."""
_FIRST_LOOK: Final = 0.005
_LAST_LOOK: Final = 0.1

_encode = msgspec.msgpack.encode
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


class Kept(NamedTuple):
    """An entry of the worker's memory. ``expires``: when its result is outdated; ``until``: when it has to be asked for
    again, whatever it is worth; ``seen``: its tags' stamps."""

    value: bytes
    status: int
    expires: float
    until: float
    cost: float
    seen: tuple[int, ...]


class Found(NamedTuple):
    """``flags`` as in an Answer; ``left``: seconds until it expires, negative if it has; ``hold``: those for which
    others may give it without asking again."""

    value: bytes
    status: int
    flags: int
    left: float
    hold: float


class Question:
    """One look-up: its key and tags, and how things stood before what it asks for was loaded."""

    __slots__ = ("key", "places", "seen", "tags", "tokens")

    def __init__(self, key: bytes, names: tuple[bytes, ...], places: tuple[int, ...], seen: tuple[int, ...]) -> None:
        self.key = key
        self.tags = names
        self.places = places
        self.seen = seen
        self.tokens: list[Any] = []


class ResultCache:
    """A tool's share of a worker's memory and of the stores behind it. Values are encoded results, never decoded."""

    def __init__(
        self,
        memory: Cache,
        spec: ToolSpec,
        settings: CacheSettings,
        stamps: Stamps,
        stores: Sequence[Guarded] = (),
        on_broken: Callable[[str, str], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        is_there: Callable[[bytes], bool] = lambda value: note_of(value) is None,
    ) -> None:
        """``is_there``: is what this value tells of still to be had, if it is only a note of a stored result?"""
        self.memory = memory
        self.stores = stores
        self.broken = False
        """Set once the strategy has raised; ``on_broken`` is told the tool's name and the reason."""
        self._is_there = is_there
        self._name = spec.name
        self._on_broken = on_broken
        self._clock = clock
        self._rng = rng or random.Random()
        self._prefix = _canonical([spec.name, spec.version, settings.namespace])
        self._ttl = spec.cache or 0.0
        self._stale = spec.cache_stale
        self._errors = spec.cache_errors
        self.keeps_errors = self._errors > 0
        self._early = settings.early if spec.read_only else 0.0
        self._local = settings.local
        self._words = stamps.words
        self._render = tags.renderer(spec.tags)
        self._own = (b"*", of_tool(spec.name))
        self._all = stamps.words[ALL]

    @property
    def shared(self) -> bool:
        """May another node be making the same result right now?"""
        return any(store.shared for store in self.stores)

    # ---- what is asked for

    def key(self, arguments: msgspec.Struct, partition: str = "") -> bytes:
        """Tool, its version, partition and the arguments in a typed canonical form: 1, 1.0, True and "1" all differ.

        Made here, from validated arguments with defaults filled in; a digest sent by a client is never trusted.
        The key is a blake2b digest of 256 bits and compared in full, so that equal keys mean equal arguments.
        """
        try:
            canonical = _canonical(arguments)
        except TypeError:  # keys or members that have no order: equal arguments may miss, different ones never hit
            canonical = _encode(arguments)
        head = self._prefix + _encode(partition)
        return hashlib.blake2b(head + canonical, digest_size=32).digest()

    def question(self, arguments: msgspec.Struct, partition: str = "") -> Question:
        """May raise anything, for values of the tool's own types: they answer as they like."""
        key = self.key(arguments, partition)
        names = (*self._own, tags.of_key(key), *self._render(arguments))
        places = tuple([place(name) for name in names])
        words = self._words
        return Question(key, names, places, tuple([words[at] for at in places]))

    # ---- look up

    def find(self, question: Question, renew: bool = False) -> Found | None:
        """What is known, or None. With ``renew`` nothing is, but a later ``keep`` is prepared."""
        found = None if renew else self._remembered(question)
        if found is not None and not found.flags & REFRESH:
            return found
        least = found.left + _NEWER * self._ttl if found is not None else -math.inf
        for number, store in enumerate(self.stores):
            stored, token = store.get(question.key, question.tags)
            question.tokens.append(token)
            if stored is not None and self._brief(number) and stored.fresh > self._local:
                continue  # kept when no other node could have invalidated it
            if stored is not None and not renew and stored.fresh > least:
                arrived = self._arrived(question, number, stored)
                if arrived is not None:
                    return arrived
        return found

    def _remembered(self, question: Question) -> Found | None:
        if self.broken:
            return None
        memory = self.memory
        try:
            if self._words[ALL] != self._all:
                self._all = self._words[ALL]
                memory.clear()
            kept = memory.get(question.key)
            if kept is None:
                return None
            if kept.seen != question.seen:
                memory.delete(question.key)
                memory.hits -= 1
                memory.misses += 1
                return None
        except Exception as error:
            self._fail(error)
            return None
        return self._found(kept, MEMORY)

    def _arrived(self, question: Question, number: int, stored: Stored) -> Found | None:
        """A store had it: those before it keep it for what remains of its time."""
        for nearer in range(number):
            self._put(question, nearer, stored)
        kept = self._remember(question, stored)
        return self._found(kept, MEMORY + 1 + number)

    def _found(self, kept: Kept, layer: int) -> Found | None:
        """What an entry is worth now; None once its time is over."""
        now = self._clock()
        flags = CACHED | layer << LAYER_SHIFT
        left = kept.expires - now
        if kept.until <= now or (kept.value[:1] in EXTENSIONS and not self._is_there(kept.value)):
            return None
        if left <= 0:
            return Found(kept.value, kept.status, flags | STALE | REFRESH, left, 0.0)
        hold, due = self._hold(kept, now)
        return Found(kept.value, kept.status, flags | REFRESH if due else flags, left, hold)

    def _hold(self, kept: Kept, now: float) -> tuple[float, bool]:
        """For how many seconds others may give it without asking; and is it time to renew it?"""
        if kept.status != OK or kept.value[:1] in EXTENSIONS:  # a note: others can't know whether it is still there
            return 0.0, False
        left = kept.expires - now
        if self._early:
            left -= self._advance(kept.cost)
            if left <= 0:
                return 0.0, True
        return min(left, kept.until - now), False

    def _advance(self, cost: float) -> float:
        """How much before its end to renew an entry: seldom much more than it costs to make, and never all at once.

        Vattani, Chierichetti, Lowenstein: Optimal probabilistic cache stampede prevention (VLDB 2015).
        """
        return -cost * self._early * math.log(1.0 - self._rng.random())

    # ---- keep

    def keep(self, question: Question, status: int, value: bytes, cost: float) -> float:
        """Keep what was loaded in ``cost`` seconds; for how long others may give it without asking (seconds)."""
        fresh = self._ttl if status == OK else self._errors
        if fresh <= 0:
            return 0.0
        stored = Stored(value, status, fresh, self._stale if status == OK else 0.0, cost)
        noted = note_of(value) is not None
        for number, store in enumerate(self.stores):
            if not (noted and store.shared):  # other nodes couldn't read what it tells of
                self._put(question, number, stored)
        hold, _ = self._hold(self._remember(question, stored), self._clock())
        return max(0.0, hold)

    def _put(self, question: Question, number: int, stored: Stored) -> None:
        if self._brief(number):
            stored = Stored(stored.value, stored.status, min(stored.fresh, self._local), 0.0, 0.0)
        self.stores[number].put(question.key, question.tags, question.tokens[number], stored)

    def _brief(self, number: int) -> bool:
        """Other nodes may invalidate what this store holds, and can tell another store only."""
        return not self.stores[number].shared and self.shared

    def _remember(self, question: Question, stored: Stored) -> Kept:
        lasts = stored.fresh + stored.stale
        if self.shared:
            lasts = min(lasts, self._local)
        now = self._clock()
        kept = Kept(stored.value, stored.status, now + stored.fresh, now + lasts, stored.cost, question.seen)
        if not self.broken:
            try:
                weight = len(question.key) + len(stored.value) + OVERHEAD
                self.memory.put(question.key, kept, lasts, weight)
            except Exception as error:
                self._fail(error)
        return kept

    # ---- one at a time, over all nodes that share a store

    def claim(self, question: Question, until: float) -> Found | None:
        """Wait while another node makes the same result, at most until it could be dead; what it made, or None.

        None means: make it yourself, and ``release`` the claim afterwards.
        """
        for step in self.claims(question, until):
            if isinstance(step, Found):
                return step
            time.sleep(step)
        return None

    def claims(self, question: Question, until: float) -> Iterator[float | Found]:
        """The same, step by step: seconds to wait before the next, or what another node has made."""
        until = min(until, self._clock() + 2 * CLAIM_SECONDS)
        for number, store in enumerate(self.stores):
            if not store.shared:
                continue
            wait = _FIRST_LOOK
            granted = False
            while not granted and self._clock() < until:
                granted = store.claim(question.key, CLAIM_SECONDS)
                if not granted:
                    yield wait
                    wait = min(2 * wait, _LAST_LOOK)
                stored, token = store.get(question.key, question.tags)  # who held the claim may just have finished
                question.tokens[number] = token
                found = None if stored is None else self._arrived(question, number, stored)
                if found is not None:
                    self.release(question)
                    yield found
                    return

    def release(self, question: Question) -> None:
        for store in self.stores:
            if store.shared:
                store.release(question.key)

    def _fail(self, error: Exception) -> None:
        self.broken = True
        self._on_broken(self._name, f"{type(error).__name__}: {error}")
