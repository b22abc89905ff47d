"""What the workers tell of themselves, now and then: the last of each that lives, and counts that go on over all that
there ever were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from toolring.workers.pools.figures import COUNTS

_COUNTED: Final = (*COUNTS, "wait_seconds")
"""Of a pool: what adds up."""
OF_ENDPOINTS: Final = ("requests", "failed", "seconds", "opened", "refused")
"""Of a service's endpoint: the same."""


class Reports:
    """Those of one node's workers, by their identities."""

    def __init__(self) -> None:
        self.last: dict[bytes, dict[str, Any]] = {}
        self.pools = Grown()
        """By pool and count."""
        self.evictions = Grown()
        """By strategy."""
        self.services = Grown()
        """By service, endpoint and count; of a service as a whole the endpoint is empty."""
        self._waits: dict[str, float] = {}
        """The longest, by pool."""

    def heard(self, identity: bytes, figures: dict[str, Any]) -> None:
        self.last[identity] = figures
        for name, pool in figures.get("resources", {}).items():
            for count in _COUNTED:
                if count in pool:
                    self.pools.saw(identity, (name, count), pool[count])
            self._waits[name] = max(self._waits.get(name, 0.0), pool.get("longest_wait", 0.0))
        for strategy, cache in figures.get("cache", {}).items():
            self.evictions.saw(identity, (strategy,), cache.get("evictions", 0))
        for name, service in figures.get("services", {}).items():
            self.services.saw(identity, (name, "", "retried"), service["retried"])
            for base, endpoint in service["endpoints"].items():
                for count in OF_ENDPOINTS:
                    self.services.saw(identity, (name, base, count), endpoint.get(count, 0))

    def forget(self, identity: bytes) -> None:
        """A worker has ended; what it has counted stays counted."""
        self.last.pop(identity, None)
        self.pools.forget(identity)
        self.evictions.forget(identity)
        self.services.forget(identity)

    def resources(self) -> dict[str, dict[str, float]]:
        """Of the pools that anybody has now: what there is over all workers; what has been counted since the start."""
        found: dict[str, dict[str, float]] = {}
        for report in self.last.values():
            for name, pool in report.get("resources", {}).items():
                into = found.setdefault(name, dict.fromkeys(pool, 0))
                for key, value in pool.items():
                    into[key] = into.get(key, 0) + value
        for name, into in found.items():
            into.update({count: total for (pool, count), total in self.pools.sums.items() if pool == name})
            if "longest_wait" in into:
                into["longest_wait"] = self._waits[name]
        return found

    def caches(self) -> dict[str, dict[str, Any]]:
        """Of the memories of the workers that live, by strategy."""
        return _added(report.get("cache", {}) for report in self.last.values())

    def stores(self) -> dict[str, dict[str, Any]]:
        """The same, of what is behind them."""
        return _added(report.get("stores", {}) for report in self.last.values())


class Grown:
    """Counts that workers keep by themselves, added up over all that there ever were, so that no sum goes back."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], float] = {}
        self._last: dict[bytes, dict[tuple[str, ...], float]] = {}

    def saw(self, identity: bytes, key: tuple[str, ...], count: float) -> None:
        """A worker's count stands there."""
        last = self._last.setdefault(identity, {})
        self.sums[key] = self.sums.get(key, 0) + max(0, count - last.get(key, 0))
        last[key] = count

    def forget(self, identity: bytes) -> None:
        """A worker that is gone counts no more."""
        self._last.pop(identity, None)


def _added(figures: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Numbers of the same name added up over the workers; of words, the last that is not "closed".

    A store's sizes are told by each worker that uses it, and are one file's: the largest counts.
    """
    total: dict[str, dict[str, Any]] = {}
    for one in figures:
        for name, values in one.items():
            into = total.setdefault(name, {})
            for key, value in values.items():
                if key in ("entries", "bytes") and "state" in values:
                    into[key] = max(into.get(key, 0), value)
                elif isinstance(value, int | float):
                    into[key] = into.get(key, 0) + value
                elif into.get(key) in (None, "closed"):
                    into[key] = value
    return total
