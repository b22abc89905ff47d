"""Objects that cost more to make than to make ready again."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Any, Generic, TypeVar

from toolring.workers.pools.forks import begin_in_children

T = TypeVar("T")


class ObjectPool(Generic[T]):
    """``with pool.acquire() as thing``. Nobody waits: if none is idle, ``create`` makes one. Thread-safe.

    ``reset`` makes an object ready for the next, when it comes back; False or an exception says that it can't be used
    again. No more than ``max_idle`` are kept.
    """

    def __init__(self, create: Callable[[], T], *, reset: Callable[[T], Any] | None = None, max_idle: int = 32) -> None:
        if max_idle < 0:
            raise ValueError(f"max_idle={max_idle!r} is negative")
        self._create, self._reset, self._max_idle = create, reset, max_idle
        self._created = self._reused = self._destroyed = 0
        self._begin()
        begin_in_children(self)

    def _begin(self) -> None:
        self._lock = Lock()
        self._idle: list[T] = []

    def acquire(self) -> ObjectLease[T]:
        return ObjectLease(self)

    def stats(self) -> dict[str, int]:
        with self._lock:
            return {
                "idle": len(self._idle),
                "created": self._created,
                "reused": self._reused,
                "destroyed": self._destroyed,
            }

    def _take(self) -> T:
        with self._lock:
            if self._idle:
                self._reused += 1
                return self._idle.pop()
            self._created += 1
        return self._create()

    def _give(self, thing: T, fit: bool) -> None:
        try:
            if fit and self._reset is not None:
                fit = False  # unless it comes through
                fit = self._reset(thing) is not False
        except Exception:
            pass
        finally:
            with self._lock:
                if fit and len(self._idle) < self._max_idle:
                    self._idle.append(thing)
                else:
                    self._destroyed += 1


class ObjectLease(Generic[T]):
    """One claim on an object."""

    __slots__ = ("_pool", "_things")

    def __init__(self, pool: ObjectPool[T]) -> None:
        self._pool = pool
        self._things: tuple[T, ...] = ()

    def take(self) -> T:
        if self._things:
            raise RuntimeError("this lease holds an object already")
        self._things = (self._pool._take(),)
        return self._things[0]

    __enter__ = take

    def give(self, broken: bool = False) -> None:
        """Back to the pool, or ``broken`` and never seen again. Raises RuntimeError if it holds nothing."""
        things, self._things = self._things, ()
        if not things:
            raise RuntimeError("this lease holds nothing: it was given back already, or never taken")
        self._pool._give(things[0], not broken)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # What an interrupt has cut short is in nobody knows what state.
        self.give(kind is not None and not issubclass(kind, Exception))
