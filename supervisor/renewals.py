"""Renewals: a worker that has served long enough is replaced, and no call waits for it.

Its successor starts while it serves on. Once that is ready it takes over the slot, and the old one finishes what it
has begun, then leaves. If the successor doesn't come to life, the old one stays, and it is tried again later.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import ceil, inf
from typing import TYPE_CHECKING, Final

from toolring.protocol import Stop
from toolring.supervisor.fleet import Change, Group, Life, Slot, Worker

if TYPE_CHECKING:
    from toolring.supervisor.core import Core
    from toolring.supervisor.endings import Endings

AT_ONCE: Final = 0.25
"""No more than this share of a group's workers, and at least one, are renewed at the same time."""
LOOK_SECONDS: Final = 0.25
LEAVE_SECONDS: Final = 1.0
"""How long a worker that was told to leave, and has nothing to do, may take to be gone."""
LONGEST_DELAY: Final = 60.0


class Renewals:
    """Looks after one core's workers. ``measure`` gives the resident memory of a process in bytes."""

    def __init__(
        self,
        core: Core,
        endings: Endings,
        measure: Callable[[int], int],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._core = core
        self._endings = endings
        self._measure = measure
        self._draw = draw
        self._next_look = 0.0
        self.count = 0
        """Workers that were renewed since the start."""

    # ---- who is to be renewed

    def look(self, now: float) -> None:
        """Ask for those that are due, as far as others of their group aren't being renewed now."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        for group in self._core.fleet.groups:
            policy = group.renewal
            if not policy.wanted:
                continue
            for worker in group.ready:
                memory = self._measure(worker.pid) if policy.memory > worker.began_with else 0
                age, idle = now - worker.ready_since, now - worker.progress if worker.idle else 0.0
                if not worker.renew:
                    worker.renew = policy.reason(worker.answered, age, idle, memory, worker.luck)
                    worker.outgrown = policy.outgrown(worker.answered, memory)

    def ask(self, worker: Worker, why: str, outgrown: bool = False) -> None:
        """Somebody wants one that is ready to be renewed; ``outgrown``: for its memory."""
        worker.renew, worker.outgrown = why, outgrown

    def due(self, now: float) -> list[Slot]:
        """Slots whose successor is to be started now."""
        found: list[Slot] = []
        for group in self._core.fleet.groups:
            leaving = {one.slot for one in self._core.fleet.workers.values() if one.life is Life.RETIRING}
            busy = [slot for slot in group.slots if slot.successor is not None or slot in leaving]
            room = most_at_once(group) - len(busy)
            for slot in group.slots:
                worker = slot.worker
                wanted = worker is not None and worker.renew and worker.life is Life.READY
                if wanted and room > 0 and slot not in busy and now >= slot.renew_at:
                    found.append(slot)
                    room -= 1
        return found

    # ---- the change

    def began(self, worker: Worker) -> None:
        """A worker is ready. If it has more than it may from the start, another would, too."""
        worker.began_with = self._measure(worker.pid)
        limit = worker.slot.group.renewal.memory
        if limit and worker.began_with >= limit:
            facts = {"worker": worker.pid, "memory": worker.began_with, "max_memory": limit}
            self._core.notes.append(("memory_too_small", facts))

    def retire(self, worker: Worker, now: float) -> None:
        """It gets nothing more, and may finish what it has begun."""
        self._endings.take_back(worker)
        self._core.fleet.change(worker, Change.RETIRE, now)
        worker.next_ending = inf

    def takes_over(self, worker: Worker, now: float) -> None:
        """A successor is ready: the slot is its own, and its predecessor gets nothing more."""
        slot = worker.slot
        old = slot.worker
        slot.hand_over()
        if old is None or old.life is not Life.READY:
            return
        self.count += 1
        slot.outgrown += old.outgrown
        self._core.notes.append(
            ("worker_renewed", {"worker": old.pid, "slot": slot.index, "successor": worker.pid, "why": old.renew})
        )
        self.retire(old, now)

    def see_off(self, worker: Worker, now: float) -> None:
        """One that gets nothing more may finish what it has begun, and is then told to leave."""
        if worker.idle and worker.next_ending == inf:
            self._core.says.append((worker, Stop()))
            worker.next_ending = now + LEAVE_SECONDS

    def failed(self, worker: Worker, cause: str, now: float) -> None:
        """A successor died before it was ready: its predecessor serves on, and another is tried by and by."""
        slot = worker.slot
        slot.renew_failures += 1
        delay = min(LONGEST_DELAY, 2.0**slot.renew_failures * (0.5 + self._draw() / 2))
        slot.renew_at = now + delay
        facts = {"slot": slot.index, "successor": worker.pid, "cause": cause, "again_in": round(delay, 1)}
        self._core.notes.append(("renewal_failed", facts))


def most_at_once(group: Group) -> int:
    return max(1, ceil(len(group.open) * AT_ONCE))
