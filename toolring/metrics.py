"""What a tool's own code counts and times: ``from toolring import metrics, monitor``.

Kept in the worker's memory and told to the supervisor once a second after work, as what was added since: so counts of
all workers add up, and those of a worker that is gone stay. Everything is bounded, since a label may be anything.
"""

from __future__ import annotations

import inspect
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from enum import StrEnum
from functools import wraps
from math import inf
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, overload

from toolring import logs
from toolring.policy.histogram import Histogram
from toolring.protocol import Counted

P = ParamSpec("P")
R = TypeVar("R")

MOST_SERIES: Final = 500
"""Of one process, between two reports; what comes beyond is left out, and counted."""
MOST_LABELS: Final = 5
MOST_CHARACTERS: Final = 100
"""Of a label's value; what is longer is cut."""
MOST_AMOUNT: Final = 1e100
"""However many such are added, the sum is finite."""
MOST_SECONDS: Final = 1e9
"""More is no duration: a time of day, or another unit."""
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TAKEN: Final = ("_total", "_count", "_sum", "_bucket", "_seconds", "_created", "_info")
_TAKEN_LABELS: Final = ("le", "quantile", "worker")
_LABEL: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    TIMER = "timer"


class Key(NamedTuple):
    kind: Kind
    name: str
    labels: tuple[tuple[str, str], ...]
    """Sorted by their names."""


def count(name: str, amount: float = 1, **labels: object) -> None:
    """Add to a counter. Raises ValueError for an amount that is negative or not finite, or a name or label that can't
    be one."""
    number = _number(name, amount, MOST_AMOUNT)
    if number < 0:
        raise ValueError(f"metric {name!r}: a counter only grows, not by {amount!r}")
    _measured.add(_key(Kind.COUNTER, name, labels), number)


def gauge(name: str, value: float, **labels: object) -> None:
    """Set what stands at a value now, in this worker. Raises ValueError for a value that is not finite, or a name or
    label that can't be one."""
    number = _number(name, value, MOST_AMOUNT)
    _measured.put(_key(Kind.GAUGE, name, labels), number)


def observe(name: str, seconds: float, **labels: object) -> None:
    """Record how long something took. Raises ValueError for seconds that are no duration, or a name or label that can't
    be one."""
    number = _number(name, seconds, MOST_SECONDS, least=0.0)
    _measured.time(_key(Kind.TIMER, name, labels), int(number * 1e6))


@contextmanager
def timer(name: str, **labels: object) -> Iterator[None]:
    """``with metrics.timer("parse", format="json"):`` - record how long the block takes, however it ends."""
    key = _key(Kind.TIMER, name, labels)
    began = time.perf_counter()
    try:
        yield
    finally:
        _measured.time(key, int((time.perf_counter() - began) * 1e6))


@overload
def monitor(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def monitor(*, name: str = "", **labels: str) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def monitor(function: Callable[..., Any] | None = None, /, *, name: str = "", **labels: str) -> Any:
    """Time each call of a function, under its own name or another; ``error`` is the type of what it raises, or empty.

    For plain, async, generator and async generator functions. Of a generator that is the time from its first step to
    its end, its consumer's included. Below ``@tool``, if it stands on the same function.
    """
    if function is None:
        return lambda one: monitor_as(one, name or _named(one), labels)
    return monitor_as(function, name or _named(function), labels)


def monitor_as(function: Callable[..., Any], name: str, labels: dict[str, str]) -> Callable[..., Any]:
    if "error" in labels:
        raise ValueError(f"metric {name!r}: error can't be its label; monitor sets it itself")
    _key(Kind.TIMER, name, {**labels, "error": ""})  # what is wrong with it is wrong at once

    @contextmanager
    def timed() -> Iterator[None]:
        began, error = time.perf_counter(), ""
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            observe(name, time.perf_counter() - began, error=error, **labels)

    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def stream(*args: Any, **kwargs: Any) -> Any:
            with timed():
                async with aclosing(function(*args, **kwargs)) as parts:
                    sent = None
                    while True:
                        try:
                            part = await parts.asend(sent)
                        except StopAsyncIteration:
                            return
                        sent = yield part

        return stream
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Any:
            with timed():
                return (yield from function(*args, **kwargs))

        return generate
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def wait(*args: Any, **kwargs: Any) -> Any:
            with timed():
                return await function(*args, **kwargs)

        return wait

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with timed():
            return function(*args, **kwargs)

    return call


class Measured:
    """Of one process. Any of its threads may write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shapes: dict[str, tuple[Kind, tuple[str, ...]]] = {}
        """By name: its kind and its labels' names. A name that was used once is never used for anything else."""
        self.clear()

    def clear(self) -> None:
        """In a process that was forked: what its parent counted is its parent's."""
        self._lock = threading.Lock()
        self._counts: dict[Key, float] = {}
        self._gauges: dict[Key, float] = {}
        self._times: dict[Key, Histogram] = {}
        self._left_out = 0
        self._told = False

    def add(self, key: Key, amount: float) -> None:
        with self._lock:
            if key in self._counts or self._room(key):
                self._counts[key] = self._counts.get(key, 0) + amount

    def put(self, key: Key, value: float) -> None:
        with self._lock:
            if key in self._gauges or self._room(key):
                self._gauges[key] = value

    def time(self, key: Key, micros: int) -> None:
        with self._lock:
            if key in self._times or self._room(key):
                self._times.setdefault(key, Histogram()).record(micros)

    def drain(self) -> Counted | None:
        """What was added since the last time; None: nothing was."""
        with self._lock:
            counts, gauges, times, left_out = self._counts, self._gauges, self._times, self._left_out
            self._counts, self._gauges, self._times, self._left_out = {}, {}, {}, 0
        if not (counts or gauges or times or left_out):
            return None
        numbers = {**counts, **gauges}
        told: list[Any] = [(*key[:2], list(key.labels), amount, {}) for key, amount in numbers.items()]
        told += [(*key[:2], list(key.labels), float(made.total), made.counts) for key, made in times.items()]
        return Counted(told, left_out)

    def shape(self, kind: Kind, name: str, labels: tuple[str, ...]) -> None:
        """Raises ValueError if the name is something else already."""
        wanted = (kind, labels)
        known = self._shapes.get(name)
        if known is None:
            known = self._shapes.setdefault(name, wanted) if len(self._shapes) < MOST_SERIES else wanted
        if known != wanted:
            was, new = (f"a {one[0]} with {', '.join(one[1]) or 'no labels'}" for one in (known, wanted))
            raise ValueError(f"metric {name!r} is {was}; it can't be {new} as well")

    def _room(self, key: Key) -> bool:
        if len(self._counts) + len(self._gauges) + len(self._times) < MOST_SERIES:
            return True
        self._left_out += 1
        if not self._told:
            self._told = True
            logs.bound().warning("metrics_left_out", metric=key.name, limit=MOST_SERIES, labels=dict(key.labels))
        return False


def _key(kind: Kind, name: str, labels: dict[str, Any]) -> Key:
    known = _keys.get((kind, name, *labels))
    if known is None:
        _check(name, labels)
        names = tuple(sorted(labels))
        _measured.shape(kind, name, names)
        if len(_keys) < MOST_SERIES:
            _keys[kind, name, *labels] = names
        known = names
    return Key(kind, name, tuple((label, _value(labels[label])) for label in known))


def _value(given: object) -> str:
    """Of a label. A file's name may have characters that can't be encoded, and so can't be told."""
    text = str(given)[:MOST_CHARACTERS]
    return text if text.isascii() else text.encode(errors="replace").decode()


def _check(name: str, labels: dict[str, Any]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MOST_CHARACTERS or name.endswith(_TAKEN):
        what = f"lower-case words with _ between, no more than {MOST_CHARACTERS} characters"
        raise ValueError(f"{name!r} can't name a metric; {what}, and not ending in {', '.join(_TAKEN)}")
    taken = [label for label in labels if label in _TAKEN_LABELS]
    if taken:
        raise ValueError(f"metric {name!r}: {', '.join(taken)} can't be its labels; toolring and Prometheus set them")
    wrong = [label for label in labels if not _LABEL.fullmatch(label)]
    if wrong:
        what = "a letter, then letters, digits and _, all lower case, no more than 32"
        raise ValueError(f"metric {name!r}: {', '.join(map(repr, wrong))} can't be its labels; {what}")
    if len(labels) > MOST_LABELS:
        raise ValueError(f"metric {name!r}: {', '.join(labels)} can't be its labels; there may be {MOST_LABELS}")


def _number(name: str, value: float, most: float, least: float | None = None) -> float:
    """Of any type of number. What can't be told to the supervisor is refused here, where its tool hears of it."""
    try:
        number = float(value)
    except OverflowError:
        number = inf
    least = -most if least is None else least
    if not least <= number <= most:
        raise ValueError(f"metric {name!r}: {number!r} is not a number from {least:g} to {most:g}")
    return number


def _named(function: Callable[..., Any]) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", getattr(function, "__name__", "").lower()).strip("_")
    return f"{words}_calls" if words.endswith(_TAKEN) else words or "function"


_keys: dict[tuple[str, ...], tuple[str, ...]] = {}
"""Names and labels that were found good, in the order in which they are given; the labels sorted."""
_measured = Measured()
measured: Final = _measured
os.register_at_fork(after_in_child=_measured.clear)
