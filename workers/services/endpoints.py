"""A service's endpoints as one process knows them: who gets the next request, and how the last ones went.

No I/O. Any thread may ask; a lock is held for the decision only, never while a request is under way.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from toolring import logs
from toolring.calls import Calls, alone
from toolring.errors import ServiceUnavailable
from toolring.policy.breaker import ORDERS, Breaker, Event, State
from toolring.policy.guarded import Safe
from toolring.policy.pool import Factory, Pool
from toolring.policy.retry import RetryBudget
from toolring.policy.ring import hash64
from toolring.policy.service import ServicePolicy

_ORDERS: Final = tuple(ORDERS.values())


class Ticket(NamedTuple):
    """One attempt, which has an endpoint; to be given back by ``ended``."""

    endpoint: int
    began: float
    permit: int | None
    """Of the endpoint's circuit, if it has one."""


class Endpoint:
    """What is counted of one."""

    __slots__ = ("base", "breaker", "failed", "order", "requests", "seconds", "under_way")

    def __init__(self, base: str, breaker: Breaker | None) -> None:
        self.base = base
        self.breaker = breaker
        self.order = 0
        """The operator's last word that the breaker has heard."""
        self.requests = 0
        self.failed = 0
        self.seconds = 0.0
        self.under_way = 0


class Endpoints:
    """All of one service."""

    def __init__(
        self,
        name: str,
        policy: ServicePolicy,
        factory: Factory,
        calls: Calls | None = None,
        first: int = 0,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """``first``: the number of its first endpoint among those of all services that share ``calls``."""
        self.name = name
        self.policy = policy
        self.clock = clock
        self.draw = draw
        self.budget = RetryBudget()
        self.retried = 0
        self._calls = calls or alone()
        self._first = first
        self._lock = threading.Lock()
        circuit = policy.circuit
        self.all = [Endpoint(base, None if circuit is None else Breaker(circuit)) for base in policy.bases]
        loads = _Loads(self._calls, first, len(self.all))
        safe = partial(Safe, policy.balancer, factory, partial(_tell, name))
        self._pool = Pool(dict.fromkeys(policy.bases, 1.0), loads, safe, policy.ejection, draw=draw, clock=clock)

    # ---- around an attempt

    def take(self, route: str, tried: Collection[int]) -> Ticket:
        """The endpoint for an attempt: one that wasn't tried yet, if there is one that may be used.

        Raises ServiceUnavailable if all circuits are open; nothing may be sent then.
        """
        with self._lock:
            now = self.clock()
            point = hash64(route.encode()) if self._pool.keyed and route else int(self.draw() * 2**64)
            shut = {index for index, one in enumerate(self.all) if self._refuses(index, one, now)}
            index = self._pool.choose(point, {*tried, *shut})
            if index is None:
                index = self._pool.choose(point, shut)
            if index is None:
                self._turned_away(self._pool.choose(point), now)
                raise self._all_shut(now)
            one = self.all[index]
            permit = None if one.breaker is None else one.breaker.permit(now)
            self._pool.began(index)
            one.requests += 1
            self._count(index, 1)
            return Ticket(index, now, permit)

    def has_other(self, tried: Collection[int]) -> bool:
        """Is there one that wasn't tried, and whose circuit lets something through?"""
        with self._lock:
            now = self.clock()
            return any(index not in tried and not self._refuses(index, one, now) for index, one in enumerate(self.all))

    def ended(self, ticket: Ticket, failed: bool | None) -> None:
        """An attempt is over. ``failed`` is None if that says nothing of the endpoint."""
        with self._lock:
            now = self.clock()
            seconds = now - ticket.began
            one = self.all[ticket.endpoint]
            self._count(ticket.endpoint, -1)
            self._pool.ended(ticket.endpoint, seconds, failed)
            one.seconds += seconds
            if failed:
                one.failed += 1
            if one.breaker is None or ticket.permit is None:
                return
            if failed is None:
                one.breaker.cancel(ticket.permit)
            else:
                one.breaker.record(ticket.permit, failed, seconds, now)

    def checked(self, index: int, passed: bool) -> None:
        """A health check of an endpoint passed or failed."""
        with self._lock:
            self._pool.health.checked(index, passed)

    def may_retry(self) -> bool:
        """Take one from the budget of retries."""
        with self._lock:
            if not self.budget.take(self.clock()):
                return False
            self.retried += 1
            return True

    def called(self) -> None:
        """A request begins, not an attempt at one."""
        with self._lock:
            self.budget.called()

    # ---- looking at it

    def figures(self) -> dict[str, Any]:
        """Of this process; ``under_way`` is the whole node's."""
        with self._lock:
            now = self.clock()
            return {
                "retried": self.retried,
                "endpoints": {
                    one.base: {
                        "health": self._pool.health.members[index].state.name.lower(),
                        "requests": one.requests,
                        "failed": one.failed,
                        "seconds": round(one.seconds, 6),
                        "under_way": one.under_way,
                        **({} if one.breaker is None else _circuit(one.breaker, now)),
                    }
                    for index, one in enumerate(self.all)
                },
            }

    # ---- within the lock

    def _refuses(self, index: int, one: Endpoint, now: float) -> bool:
        breaker = one.breaker
        order = self._calls.order(self._first + index)
        if order != one.order:
            one.order = order
            if breaker is not None:
                breaker.order(_ORDERS[order] if order < len(_ORDERS) else Event.AUTO)
        return breaker is not None and breaker.refuses(now)

    def _turned_away(self, index: int | None, now: float) -> None:
        """Nothing is sent anywhere: the circuit of the endpoint that would have had it counts that."""
        breaker = None if index is None else self.all[index].breaker
        if breaker is not None:
            breaker.permit(now)  # there is none

    def _count(self, index: int, by: int) -> None:
        one = self.all[index]
        one.under_way += by
        self._calls.own(self._first + index, one.under_way)

    def _all_shut(self, now: float) -> ServiceUnavailable:
        after = min((one.breaker.retry_after(now) for one in self.all if one.breaker is not None), default=1.0)
        forced = [one for one in self.all if one.breaker is not None and one.breaker.state is State.FORCED_OPEN]
        why = "an operator opened them" if len(forced) == len(self.all) else "too many requests failed"
        return ServiceUnavailable(
            f"{self.name}: the circuits of all its {len(self.all)} endpoints are open: {why}; nothing was sent",
            service=self.name,
            retry_after=round(max(0.01, after), 3),
        )


def _tell(service: str, name: str, facts: dict[str, Any]) -> None:
    logs.bound(service=service).warning(name, **facts)


class _Loads(Sequence[float]):
    """Requests that the whole node has under way at each, looked up for those only that somebody asks for."""

    def __init__(self, calls: Calls, first: int, count: int) -> None:
        self._calls = calls
        self._first = first
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return float(self._calls.total(self._first + index))

    def __iter__(self) -> Iterator[float]:
        return iter([self[index] for index in range(self._count)])


def _circuit(breaker: Breaker, now: float) -> dict[str, Any]:
    return {
        "state": breaker.state.name.lower(),
        "opened": breaker.opened,
        "refused": breaker.refused,
        "window": breaker.counts(now)._asdict(),
    }
