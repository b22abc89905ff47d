"""What the pools for threads and for asyncio have in common."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import Parameter, isgeneratorfunction, signature
from typing import Any, ClassVar, Final, Generic, TypeVar
from weakref import ref

import msgspec

from toolring.given import GivenPool
from toolring.workers.pools.entry import Held, Hold
from toolring.workers.pools.forks import begin_in_children
from toolring.workers.pools.ledger import Ledger
from toolring.workers.pools.policy import PoolPolicy, is_seconds

T = TypeVar("T")

MOST_FRAMES: Final = 6
_OURS: Final = __name__.rpartition(".")[0]


class Base(GivenPool, Generic[T]):
    """``create`` returns a resource, or is a generator function that yields one and tears it down afterwards.

    ``validate``, ``reset`` and ``destroy`` take a resource: is it in order (False or an exception: no), make it ready
    for the next (likewise), tear it down. ``on_leak`` takes a ``Held``. The rest is as in ``PoolPolicy``.
    """

    _is_generator: ClassVar[Callable[[Any], Any]] = isgeneratorfunction
    _refused: ClassVar[tuple[tuple[Callable[[Any], Any], str], ...]] = ()
    """Kinds of ``create`` that it can't call."""

    def __init__(
        self,
        create: Callable[[], Iterator[T]]
        | Callable[[], AsyncIterator[T]]
        | Callable[[], Awaitable[T]]
        | Callable[[], T],
        *,
        min: int = 0,
        max: int = 10,
        acquire_timeout: float = 5.0,
        create_timeout: float = 30.0,
        idle_timeout: float = 600.0,
        max_lifetime: float = 3600.0,
        max_uses: int = 0,
        max_waiting: int = 0,
        validate: Callable[[T], Any] | None = None,
        validate_after: float = 0.5,
        keepalive: float = 0.0,
        reset: Callable[[T], Any] | None = None,
        destroy: Callable[[T], Any] | None = None,
        leak_after: float = 0.0,
        on_leak: Callable[[Held], Any] | None = None,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        for setting, function in {"create": create, "validate": validate, "reset": reset, "destroy": destroy}.items():
            if not callable(function) and (setting == "create" or function is not None):
                raise TypeError(f"{setting}={function!r} is not a function")
        if on_leak is not None and not callable(on_leak):
            raise TypeError(f"on_leak={on_leak!r} is not a function")
        if wanted := _asks_for(create):
            raise TypeError(f"create={create!r} is called without arguments, and asks for {', '.join(wanted)}")
        for found, what in self._refused:
            if found(create):
                raise ValueError(f"create={create!r} is {what}")
        self._yields = type(self)._is_generator(create)
        if self._yields and destroy is not None:
            raise ValueError(f"destroy={destroy!r}: a generator tears down what it made after its yield")
        if keepalive and validate is None:
            raise ValueError(f"keepalive={keepalive!r} needs validate")
        self.name = name
        self.policy = PoolPolicy(
            min=min,
            max=max,
            acquire_timeout=acquire_timeout,
            create_timeout=create_timeout,
            idle_timeout=idle_timeout,
            max_lifetime=max_lifetime,
            max_uses=max_uses,
            max_waiting=max_waiting,
            validate_after=validate_after,
            keepalive=keepalive,
            leak_after=leak_after,
        )
        self._create: Callable[[], Any] = create
        self._validate, self._reset, self._destroy, self._on_leak = validate, reset, destroy, on_leak
        self._clock, self._rng = clock, rng
        self._ledgers: list[Ledger] = []
        """The last is in use. Those of parent processes stay: a generator that is forgotten would be torn down."""
        self._begin()
        begin_in_children(self)

    def _begin(self) -> None:
        raise NotImplementedError

    def _tell_leaks(self, on_leak: Callable[[Held], Any]) -> None:
        """Tell this of leaks, if nobody else is told already."""
        if self._on_leak is None:
            self._on_leak = on_leak

    def configure(self, **settings: Any) -> None:
        """Decide some of its policy, or its ``name``, anew. Raises ValueError for what makes no sense, RuntimeError
        once it was used: started, waited for or closed, here or in a parent process."""
        if any(ledger.used for ledger in self._ledgers):
            raise RuntimeError(f"{self!r} was used already")
        self.name = settings.pop("name", self.name)
        for setting in settings:
            if setting not in PoolPolicy.__struct_fields__:
                raise ValueError(f"there is no {setting!r}; there is {', '.join(PoolPolicy.__struct_fields__)}")
        if settings.get("keepalive") and self._validate is None:
            raise ValueError(f"keepalive={settings['keepalive']!r} needs validate")
        try:
            self.policy = msgspec.convert({**msgspec.structs.asdict(self.policy), **settings}, PoolPolicy)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        self._ledgers.clear()
        self._begin()

    @staticmethod
    def _patience(timeout: float) -> float:
        """What one who asks waits, if he says it. Raises ValueError."""
        if not is_seconds(timeout) or timeout < 0:
            raise ValueError(f"timeout={timeout!r} is not a number of seconds")
        return timeout

    def _open(self, bell: Callable[[], Any], lost: Callable[[ref[Hold]], Any]) -> Ledger:
        ledger = Ledger(self.name, self.policy, self._validate is not None, bell, lost, self._clock, self._rng)
        ledger.closed = bool(self._ledgers) and self._ledgers[-1].closed
        self._ledgers.append(ledger)
        return ledger

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or hex(id(self))}>"


def _asks_for(create: Callable[..., Any]) -> list[str]:
    """Its parameters without a default."""
    try:
        parameters = signature(create).parameters.values()
    except (TypeError, ValueError):  # what is written in C may not tell
        return []
    given = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is Parameter.empty and one.kind not in given]


def place() -> str:
    """The frames outside of this package that lead here, the innermost first."""
    frame, found = sys._getframe(1), list[str]()
    while frame is not None and len(found) < MOST_FRAMES:
        if found or not frame.f_globals.get("__name__", "").startswith(_OURS):
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(found)
