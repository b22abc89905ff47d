"""Scaling: how many of a group's slots are in use, between its least and its most.

Slots are opened and parked from the front, so that as many workers always have the same shares of keys. Who is parked
finishes what it has begun, like one that is renewed.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from toolring.policy.scaling import Scaler, Seen
from toolring.supervisor.fleet import Group, Life, Slot

if TYPE_CHECKING:
    from toolring.supervisor.core import Core
    from toolring.supervisor.renewals import Renewals


class Scaling:
    """That of one core's groups."""

    def __init__(self, core: Core, renewals: Renewals) -> None:
        self._core = core
        self._renewals = renewals
        self._scalers: dict[Group, Scaler] = {}

    def look(self, now: float, may_park: bool) -> None:
        """Open or park slots of the groups that are to be scaled. Fewer only if somebody ``may_park``."""
        for group in self._core.fleet.groups:
            policy = group.plan.scaling
            if policy is None:
                continue
            scaler = self._scalers.get(group)
            if scaler is None:
                scaler = self._scalers[group] = Scaler(policy, now)
            used = group.open
            wanted = scaler.wanted(self._seen(group, len(used), now), now)
            if wanted > len(used):
                self._open(group, group.slots[len(used) : wanted], now)
            elif wanted < len(used) and may_park:
                self._park(group, group.slots[wanted : len(used)], now)

    def forget(self) -> None:
        """Groups that are no more."""
        self._scalers = {group: one for group, one in self._scalers.items() if group in self._core.fleet.groups}

    def _seen(self, group: Group, used: int, now: float) -> Seen:
        """Where a worker has many under way at once, each is so small a part of one."""
        share = 1 / (group.many or 1)
        busy = sum(min(1.0, len(w.line) * share) if group.many else not w.idle for w in group.ready)
        lines = [group.line, group.apart, *(slot.waiting for slot in group.slots)]
        since = min(line.turn()[1] for line in lines)
        waiting = sum(line.size for line in lines) if since < inf else 0  # some were answered meanwhile
        return Seen(len(group.ready), used - len(group.ready), busy, waiting * share, max(0.0, now - since))

    def _open(self, group: Group, slots: list[Slot], now: float) -> None:
        for slot in slots:
            slot.parked, slot.start_at = False, now
        self._note(group, len(slots))

    def _park(self, group: Group, slots: list[Slot], now: float) -> None:
        """Those whose worker is about to come are left for later."""
        parked = 0
        for slot in reversed(slots):
            worker = slot.worker
            if slot.successor is not None or (worker is not None and worker.life is not Life.READY):
                break
            slot.parked, slot.start_at = True, None
            if worker is not None:
                self._renewals.retire(worker, now)
            self._core.placing.release(slot, now, -1.0)
            parked += 1
        if parked:
            self._note(group, -parked)

    def _note(self, group: Group, change: int) -> None:
        facts = {"group": group.name, "workers": len(group.open), "change": change}
        self._core.notes.append(("group_scaled", facts))
