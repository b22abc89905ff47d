"""The tools that this node serves, as the supervisor knows them: policy, measured cost, counts. Never their code."""

from __future__ import annotations

from typing import Any, Final

from toolring.policy.balance import Balancer
from toolring.spec import ToolSpec

UNKNOWN_COST: Final = 1.0
"""Seconds that a tool is taken to run before its first answer: nothing is parked behind it."""
FLOOR_COST: Final = 8e-6
_WEIGHT: Final = 0.125


class ServedTool:
    """A tool's policy beside its figures since start; ``cost`` is an EWMA of its run time in seconds."""

    __slots__ = (
        "answered",
        "balancer",
        "cached",
        "cost",
        "errors",
        "known",
        "name",
        "repeatable",
        "run_seconds",
        "spec",
        "timeout",
    )

    def __init__(self, spec: ToolSpec, balancer: Balancer | None) -> None:
        self.spec = spec
        self.name = spec.name
        self.repeatable = spec.repeatable
        self.timeout = spec.timeout
        self.balancer = balancer
        """None: whoever is free first."""
        self.cost = UNKNOWN_COST
        self.known = False
        self.answered = 0
        self.cached = 0
        self.run_seconds = 0.0
        self.errors: dict[str, int] = {}

    def observe(self, run_us: int) -> None:
        """Learn from one run. Called for each answer: keep it short."""
        seconds = run_us * 1e-6
        self.run_seconds += seconds
        if self.known:
            cost = self.cost + _WEIGHT * (seconds - self.cost)
        else:
            self.known = True
            cost = seconds
        self.cost = cost if cost > FLOOR_COST else FLOOR_COST

    def figures(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "cached": self.cached,
            "errors": dict(self.errors),
            "run_seconds": round(self.run_seconds, 6),
            "mean_run_seconds": round(self.run_seconds / self.answered, 9) if self.answered else None,
        }
