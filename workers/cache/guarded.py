"""A store that may fail, hang or be slow, made harmless: whatever it does, it is a miss behind a breaker."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, MutableSequence, Sequence
from types import FrameType
from typing import Any, Final

from toolring.plugins.specs import CacheStore, Stored

FAILURES: Final = 3
"""Failures in a row that open the breaker; one operation that had to be cut short does so alone."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
OWED: Final = 0
PAID: Final = 1

_FAILED: Final = object()


class LayerTimeout(BaseException):
    """Raised by the timer inside a store's operation. A BaseException: the store's own handlers let it pass."""


class Guarded:
    """One worker's use of one store. No method raises an Exception or takes much longer than ``timeout`` seconds.

    The store is made at its first use, and anew after an operation was cut short, since nobody knows what state that
    left it in. ``debts`` are two words in memory that the node's workers share: an invalidation that could not be
    carried out is owed, and until somebody has cleared the store instead, nobody uses it.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], CacheStore],
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        debts: MutableSequence[int] | memoryview | None = None,
        on_change: Callable[[str, str], None] = lambda *_: None,
        shared: bool | None = None,
    ) -> None:
        self.name = name
        self._shared = shared
        self._make = make
        self._timeout = timeout
        self._clock = clock
        self._rng = rng or random.Random()
        self._debts: Any = [0, 0] if debts is None else debts
        self._on_change = on_change
        self._store: CacheStore | None = None
        self._failed = 0
        self._pause = FIRST_PAUSE
        self._closed_from: float | None = None
        """While the breaker is open: when the next operation may try."""
        self.hits = self.misses = self.stores = self.failures = self.timeouts = self.skipped = 0
        self.seconds = 0.0

    @property
    def shared(self) -> bool:
        """Do other nodes use it too? While that isn't known, they may."""
        return self._shared is not False

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, Any]:
        """What the store has, and the token for ``put``; None and None if it can't be asked."""
        found, token = self._use(lambda store: _answer(store.get(key, tags)), (None, None))
        self.hits += found is not None
        self.misses += found is None
        return found, token

    def put(self, key: bytes, tags: Sequence[bytes], token: Any, entry: Stored) -> None:
        if token is None:
            return  # the store could not be asked before the load, so it can't know what that is worth
        if self._use(lambda store: store.put(key, tags, token, entry), _FAILED) is not _FAILED:
            self.stores += 1

    def invalidate(self, tags: Sequence[bytes]) -> None:
        if self._use(lambda store: store.invalidate(tags), _FAILED) is _FAILED:
            self._debts[OWED] = int.from_bytes(os.urandom(7), "big") | 1

    def claim(self, key: bytes, seconds: float) -> bool:
        """True too if the store can't be asked: better made twice than never."""
        return bool(self._use(lambda store: store.claim(key, seconds), True))

    def release(self, key: bytes) -> None:
        self._use(lambda store: store.release(key), None)

    def stats(self) -> dict[str, Any]:
        """Its own counts; sizes as the store tells them, if it does."""
        asleep = self._store is None or self._closed_from is not None
        own: dict[str, Any] = {} if asleep else self._use(lambda store: _numbers(store.stats()), {})
        return {
            **own,
            "hits": self.hits,
            "misses": self.misses,
            "stores": self.stores,
            "failures": self.failures,
            "timeouts": self.timeouts,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 6),
            "state": "closed" if self._closed_from is None else "open",
        }

    def close(self) -> None:
        if self._store is not None:
            self._use(lambda store: store.close(), None)
            self._store = None

    # ---- one operation

    def _use(self, operation: Callable[[CacheStore], Any], otherwise: Any) -> Any:
        if self._closed_from is not None and self._clock() < self._closed_from:
            self.skipped += 1
            return otherwise
        began = time.monotonic()
        try:
            with _Timer(self._timeout):
                if self._store is None:
                    self._store = self._make()
                    self._shared = bool(self._store.shared)
                if self._debts[OWED] != self._debts[PAID]:
                    owed = self._debts[OWED]
                    self._store.invalidate([b"*"])
                    self._debts[PAID] = owed
                result = operation(self._store)
        except LayerTimeout:
            self.timeouts += 1
            self._abandon()
            self._failure(f"it took more than {self._timeout:g} s", at_once=True)
            return otherwise
        except Exception as error:
            self._failure(f"{type(error).__name__}: {error}", at_once=self._store is None)
            return otherwise
        finally:
            self.seconds += time.monotonic() - began
        self._success()
        return result

    def _success(self) -> None:
        self._failed = 0
        if self._closed_from is not None:
            self._closed_from = None
            self._pause = FIRST_PAUSE
            self._on_change(self.name, "it works again")

    def _failure(self, reason: str, at_once: bool) -> None:
        self.failures += 1
        self._failed += 1
        if not at_once and self._failed < FAILURES and self._closed_from is None:
            return
        if self._closed_from is None:
            self._on_change(self.name, f"left out for a while: {reason}")
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._abandon()
        self._closed_from = self._clock() + self._pause * (0.5 + self._rng.random())

    def _abandon(self) -> None:
        store, self._store = self._store, None
        try:
            with _Timer(self._timeout):
                if store is not None:
                    store.close()
        except (Exception, LayerTimeout):
            pass  # nothing is expected of it any more


def _numbers(stats: Any) -> dict[str, Any]:
    return {str(name): value for name, value in stats.items() if isinstance(value, int | float)}


def _answer(found: Any) -> tuple[Stored | None, Any]:
    """What a ``get`` gave, if it is what it should be. Raises TypeError."""
    if isinstance(found, tuple) and len(found) == 2 and (found[0] is None or type(found[0]) is Stored):
        return found
    raise TypeError(f"get() gave {found!r:.100}, not an entry and a token")


class _Timer:
    """Cuts a block of the main thread short by SIGALRM, and leaves a tool's own use of that as it was."""

    __slots__ = ("_armed", "_began", "_handler", "_rest", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._armed = threading.current_thread() is threading.main_thread()
        if self._armed:
            self._handler = signal.getsignal(signal.SIGALRM)
            if self._handler is not _cut:
                signal.signal(signal.SIGALRM, _cut)
            self._began = time.monotonic()
            _armed[0] = True
            self._rest = signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        if self._armed:
            _armed[0] = False
            left, interval = self._rest
            if left:  # a tool left a timer behind: it goes on, late rather than never
                left = max(1e-6, left - (time.monotonic() - self._began))
            signal.setitimer(signal.ITIMER_REAL, left, interval)
            if self._handler is not _cut and self._handler not in (signal.SIG_DFL, None):
                signal.signal(signal.SIGALRM, self._handler)


_armed = [False]


def _cut(_number: int, _frame: FrameType | None) -> None:
    if _armed[0]:
        _armed[0] = False
        raise LayerTimeout
