"""How a pool of resources behaves: its limits and durations, checked once."""

from __future__ import annotations

from math import inf
from typing import TypeGuard

import msgspec


def is_seconds(value: object) -> TypeGuard[float]:
    """Is it a number? NaN is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124


class PoolPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Durations are seconds. Raises ValueError for what makes no sense."""

    min: int = 0
    """Resources that are kept although nobody uses them."""
    max: int = 10
    """Resources at most, those included that are being made or torn down."""
    acquire_timeout: float = 5.0
    """That one who asks waits, unless he says otherwise."""
    create_timeout: float = 30.0
    """After which a creation or a check counts as failed. A task is then cancelled; a thread can't be, and keeps its
    place until it ends: what it still brings is used."""
    idle_timeout: float = 600.0
    """After which an unused resource is destroyed, down to ``min``; 0: never."""
    max_lifetime: float = 3600.0
    """After which a resource is destroyed, or up to a tenth earlier, so that they don't all end together; 0: never."""
    max_uses: int = 0
    """After which it is destroyed; 0: any number."""
    max_waiting: int = 0
    """Callers that may wait, more are refused at once; 0: any number."""
    validate_after: float = 0.5
    """A resource that was in order so recently is given out without validation."""
    keepalive: float = 0.0
    """Unused resources are validated so often; 0: only before they are given out."""
    leak_after: float = 0.0
    """One that is held for longer is reported, with where it was taken; 0: nothing is reported."""

    def __post_init__(self) -> None:
        for name in ("min", "max", "max_uses", "max_waiting"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a whole number")
        for name in ("min", "max_uses", "max_waiting"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r} is negative")
        if self.max < 1:
            raise ValueError(f"max={self.max!r} must be at least 1")
        if self.min > self.max:
            raise ValueError(f"min={self.min!r} is more than max={self.max!r}")
        for name in ("acquire_timeout", "idle_timeout", "max_lifetime", "validate_after", "keepalive", "leak_after"):
            if not is_seconds(getattr(self, name)) or not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a number of seconds")
        if not is_seconds(self.create_timeout) or not 0 < self.create_timeout < inf:
            raise ValueError(f"create_timeout={self.create_timeout!r} is not a positive number of seconds")
