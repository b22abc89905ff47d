"""Services as the supervisor knows them: what the workers report of their endpoints, and orders about their circuits.

It asks no service anything itself. An order is a word in shared memory, which each worker reads before its next
request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from toolring.calls import Calls
from toolring.errors import InvalidArguments
from toolring.policy.breaker import ORDERS, TABLE, Event, State
from toolring.policy.service import ServicePolicy
from toolring.supervisor.reports import OF_ENDPOINTS, Reports

_WORDS: Final = tuple(ORDERS)
_WORST: Final = ("open", "half_open")
_WINDOW: Final = ("calls", "failed", "slow")


class Standing(NamedTuple):
    """A service's, over all its endpoints."""

    asked: float
    """Requests since the start, with those that were refused."""
    failed: float
    """Of those, the ones that failed or were refused."""
    shut: int
    """Endpoints whose circuit is open now, if only for one worker."""


UNASKED: Final = Standing(0, 0, 0)


class Services:
    """All that are configured."""

    def __init__(self, policies: Mapping[str, ServicePolicy], calls: Calls) -> None:
        self._policies = policies
        self._calls = calls
        self._numbers: dict[str, int] = {}
        """Of each endpoint, by ``service@endpoint``."""
        for name, policy in policies.items():
            for base in policy.bases:
                self._numbers[f"{name}@{base}"] = len(self._numbers)

    def figures(self, reports: Reports) -> dict[str, Any]:
        """Of each service what has been counted since the start, and what there is over all workers that have reported.
        ``health`` and ``circuit`` count workers, since each learns by itself."""
        told = [report.get("services", {}) for report in reports.last.values()]
        counts = reports.services.sums
        found: dict[str, Any] = {}
        for name, policy in self._policies.items():
            mine = [report[name] for report in told if name in report]
            found[name] = {
                "version": policy.version,
                "retried": counts.get((name, "", "retried"), 0),
                "endpoints": {base: self._endpoint(name, base, mine, counts) for base in policy.bases},
            }
        return found

    def _endpoint(
        self, name: str, base: str, reports: list[Mapping[str, Any]], counts: Mapping[tuple[str, ...], float]
    ) -> dict[str, Any]:
        mine = [report["endpoints"][base] for report in reports]
        number = self._numbers[f"{name}@{base}"]
        return {
            **{key: round(counts.get((name, base, key), 0), 6) for key in OF_ENDPOINTS},
            "under_way": self._calls.total(number),
            "window": {key: sum(one.get("window", {}).get(key, 0) for one in mine) for key in _WINDOW},
            "health": dict(Counter(one["health"] for one in mine)),
            "circuit": dict(Counter(one["state"] for one in mine if "state" in one)),
            "order": _WORDS[self._calls.order(number)],
        }

    def breakers(self, reports: Reports) -> dict[str, Any]:
        """The circuits of all endpoints, as those of tools are told. The state is the worst of any worker's."""
        return {
            f"{name}@{base}": {
                "state": self._state(name, one),
                "declared": True,
                **{key: one["window"][key] for key in _WINDOW},
                "deaths": 0,
                "opened": one["opened"],
                "refused": one["refused"],
                "retry_after": None,
            }
            for name, service in self.figures(reports).items()
            for base, one in service["endpoints"].items()
        }

    def standing(self, reports: Reports) -> dict[str, Standing]:
        """What there is to be alarmed about."""
        counts = reports.services.sums
        opened = {
            (name, base)
            for report in reports.last.values()
            for name, service in report.get("services", {}).items()
            for base, one in service["endpoints"].items()
            if one.get("state") == "open"
        }
        found = {}
        for name, policy in self._policies.items():
            requests, failed, refused = (
                sum(counts.get((name, base, key), 0) for base in policy.bases)
                for key in ("requests", "failed", "refused")
            )
            shut = sum(self._shut(f"{name}@{base}", (name, base) in opened) for base in policy.bases)
            found[name] = Standing(requests + refused, failed + refused, shut)
        return found

    def _shut(self, name: str, opened: bool) -> bool:
        """Is a circuit open, by an order or by itself?"""
        word = _WORDS[self._calls.order(self._numbers[name])]
        return word == "open" or (opened and word == "auto")

    def order(self, name: str, order: str) -> dict[str, Any]:
        """Force an endpoint's circuit open or closed in all workers, have it only watched, or let it decide by itself.

        Raises InvalidArguments.
        """
        number = self._numbers.get(name)
        service = name.partition("@")[0]
        if number is None:
            known = ", ".join(self._numbers) or "no service"
            raise InvalidArguments(f"there is no endpoint {name!r}; there is {known}", argument="tool")
        if self._policies[service].circuit is None:
            why = f"the endpoints of {service} have no circuits: services.{service}.breaker is false"
            raise InvalidArguments(why, argument="tool")
        if order not in ORDERS:
            known = ", ".join(ORDERS)
            raise InvalidArguments(f"a circuit can't be told to {order!r}; there is {known}", argument="order")
        self._calls.give(number, _WORDS.index(order))
        return {"tool": name, "order": order, "state": self._ordered(service, order)}

    def _ordered(self, service: str, word: str) -> str:
        """The state of a circuit that was told so."""
        circuit, order = self._policies[service].circuit, ORDERS[word]
        state = TABLE[State.CLOSED][order] if circuit is None or order is not Event.AUTO else circuit.begins
        return state.name.lower()

    def _state(self, service: str, one: Mapping[str, Any]) -> str:
        """A worker that was told otherwise hears of it with its next request."""
        if one["order"] == _WORDS[0]:
            for state in _WORST:
                if one["circuit"].get(state):
                    return state
        return self._ordered(service, one["order"])
