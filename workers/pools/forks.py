"""Pools in a process that was forked: what they hold is the parent's, and so may be their locks."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    def _begin(self) -> None:
        """Start anew, and leave alone whatever is there."""


_pools: WeakSet[Forked] = WeakSet()


def begin_in_children(pool: Forked) -> None:
    """Have it begin anew in every process that is forked from this one."""
    _pools.add(pool)


def _after_fork() -> None:
    for pool in list(_pools):
        pool._begin()


os.register_at_fork(after_in_child=_after_fork)
