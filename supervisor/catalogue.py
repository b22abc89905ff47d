"""The tools that this node serves, as the supervisor knows them: policy, measured cost, counts. Never their code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from toolring.errors import ToolError
from toolring.policy.guarded import Guarded
from toolring.policy.retry import RetryBudget
from toolring.protocol import LAYER_SHIFT, STALE
from toolring.spec import ToolSpec
from toolring.supervisor.circuits import Circuit
from toolring.supervisor.sharing import places
from toolring.supervisor.valves import Valve

if TYPE_CHECKING:
    from toolring.supervisor.fleet import Group
    from toolring.supervisor.ledger import Entry

_NOWHERE = cast("Group", None)
UNKNOWN_COST: Final = 1.0
"""Seconds that a tool is taken to run before its first answer: nothing is parked behind it."""
FLOOR_COST: Final = 8e-6
_WEIGHT: Final = 0.125


class ServedTool:
    """A tool's policy beside its figures since start; ``cost`` is an EWMA of its run time in seconds."""

    __slots__ = (
        "always",
        "answered",
        "balancer",
        "budget",
        "cached",
        "cached_errors",
        "circuit",
        "cost",
        "errors",
        "group",
        "guarded",
        "held",
        "hits",
        "idle",
        "joined",
        "known",
        "learn",
        "memory",
        "name",
        "places",
        "public",
        "queue_timeout",
        "renewed",
        "repeatable",
        "retried",
        "run_seconds",
        "spec",
        "stale",
        "valves",
    )

    def __init__(self, spec: ToolSpec, balancer: Guarded | None) -> None:
        self.cost = UNKNOWN_COST
        self.known = False
        self.answered = 0
        self.cached = 0
        self.cached_errors = 0
        self.held = 0
        """Answers that the supervisor gave itself."""
        self.hits: dict[int, int] = {}
        """Cached answers by the layer behind it that gave them."""
        self.joined = 0
        self.stale = 0
        self.renewed = 0
        self.run_seconds = 0.0
        self.errors: dict[str, int] = {}
        self.retried = 0
        self.group: Group = _NOWHERE
        """Whose workers run it; set by the core that it is served by, as its valves are."""
        self.valves: tuple[Valve, ...] = ()
        """Its own limits, if it has any, and then those of its group."""
        self.circuit = Circuit(spec.breaker)
        self.guarded = False
        """Its jobs need more than to be placed and answered: it has valves, a circuit that is armed, a balancer that
        learns, or a group that is failing."""
        self.always = True
        """Has its code said so ever since the start, that it may be repeated?"""
        self.becomes(spec, balancer)

    def becomes(self, spec: ToolSpec, balancer: Guarded | None) -> None:
        """It is served under this policy from now on. What was counted and learnt of it stays."""
        self.spec = spec
        self.name = spec.name
        self.repeatable = spec.repeatable
        self.always = self.always and spec.repeatable
        self.queue_timeout = spec.queue_timeout
        self.idle = spec.idle_timeout is not None
        self.balancer = balancer
        """None: whoever is free first."""
        self.learn = balancer.took if balancer is not None and balancer.learns else None
        self.places = places(spec) if spec.cache else ()
        """The stamps that decide about its results; empty: it is not cached."""
        self.public = spec.cache_scope == "public"
        self.budget = RetryBudget() if spec.retries else None
        self.memory = spec.memory
        self.guard()

    def guard(self) -> None:
        group = self.group
        failing = group is not _NOWHERE and group.failing
        self.guarded = bool(self.valves) or self.circuit.armed or self.learn is not None or failing

    @property
    def runs(self) -> int:
        """Those that came to an end by themselves, with an answer or to be tried again."""
        return self.answered + self.retried - self.cached - self.joined

    def observe(self, run_us: int, calls: int = 0) -> None:
        """Learn from one run, of so many calls if it was a chunk. Called for each answer: keep it short."""
        seconds = run_us * 1e-6
        self.run_seconds += seconds
        if calls:
            seconds /= calls
        if self.known:
            cost = self.cost + _WEIGHT * (seconds - self.cost)
        else:
            self.known = True
            cost = seconds
        self.cost = cost if cost > FLOOR_COST else FLOOR_COST

    def failed(self, error: Mapping[str, Any], calls: int = 1) -> None:
        """Count an error of so many calls by its code."""
        code = str(error.get("code", ToolError.code))
        self.errors[code] = self.errors.get(code, 0) + calls

    def calls_failed(self, failed: Mapping[str, int]) -> None:
        """Count errors of a chunk's calls."""
        for code, count in failed.items():
            self.errors[code] = self.errors.get(code, 0) + count

    def longest(self, entry: Entry) -> float | None:
        """Seconds that the present run of a job may last: those of one run for each that it consists of."""
        spec = entry.begun_as or self.spec
        if spec.timeout is None or not entry.chunk or entry.members is not None:
            return spec.timeout
        return spec.timeout * -(-entry.chunk // (spec.batch or 1))

    def hit(self, flags: int) -> None:
        """Count a cached answer by what its flags say."""
        self.cached += 1
        layer = flags >> LAYER_SHIFT
        self.hits[layer] = self.hits.get(layer, 0) + 1
        if flags & STALE:
            self.stale += 1

    def caching(self, layers: Sequence[str]) -> dict[str, Any]:
        """Exact counts since the node's start. ``runs``: calls that no layer could answer."""
        asked = self.answered
        return {
            "calls": asked,
            "hits": {layer: self.hits.get(number, 0) if number else self.held for number, layer in enumerate(layers)},
            "joined": self.joined,
            "stale": self.stale,
            "errors": self.cached_errors,
            "runs": self.runs,
            "renewed": self.renewed,
            "hit_ratio": round((self.cached + self.joined) / asked, 6) if asked else None,
        }

    def figures(self) -> dict[str, Any]:
        ran = self.answered - self.joined - self.held  # by a worker: run, or from its cache
        return {
            "answered": self.answered,
            "cached": self.cached,
            "errors": dict(self.errors),
            "retried": self.retried,
            "run_seconds": round(self.run_seconds, 6),
            "mean_run_seconds": round(self.run_seconds / ran, 9) if ran else None,
        }
