"""A pool's ledger with a clock in hand, whose jobs are done when a test says so; and how to wait for one's threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import ref

from toolring.workers.pools import figures
from toolring.workers.pools.entry import Entry, Held, Hold, Job, Task
from toolring.workers.pools.ledger import Ledger
from toolring.workers.pools.plan import plan
from toolring.workers.pools.policy import PoolPolicy

PATIENCE = 20.0


def eventually(true: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not true():
        assert time.monotonic() < until
        pause.wait(0.002)


class Shell:
    def __init__(self, checks: bool = False, **policy: Any) -> None:
        self.now = 100.0
        self.rings = 0
        self.made = 0
        self.pause: float | None = None
        self.jobs: list[Job] = []
        self.told: list[Held] = []
        self.kept: list[Hold] = []
        """Claims, so that none is lost before a test says so."""
        self.ledger = Ledger("db", PoolPolicy(**policy), checks, self.ring, self.lost, lambda: self.now, lambda: 0.5)

    def ring(self) -> None:
        self.rings += 1

    def lost(self, guard: ref[Hold]) -> None:
        self.ledger.drop(guard)

    def look(self) -> list[str]:
        """What is to be begun."""
        jobs, self.pause = plan(self.ledger, self.now)
        self.told += [job.held for job in jobs if job.held]
        self.jobs += [job for job in jobs if not job.held]
        return [job.task.name for job in jobs]

    def do(self, well: bool = True) -> None:
        """All that is under way ends, well or not."""
        jobs, self.jobs = self.jobs, []
        for task, entry, _ in jobs:
            if task is Task.CHECK:
                self.ledger.checked(entry, well)
            elif task is Task.CLOSE:
                self.ledger.gone(entry)
            elif well:
                self.made += 1
                self.ledger.made(entry, self.made)
            else:
                self.ledger.failed(entry, OSError("nobody is there"))

    def run(self) -> None:
        """Look and do until there is nothing more to do."""
        while self.look():
            self.do()

    def ask(self) -> Hold:
        """A claim, with a resource or in line."""
        hold = Hold()
        self.kept.append(hold)
        if self.ledger.take(hold) is None:
            self.ledger.wait(hold, lambda: None)
        return hold

    def got(self, hold: Hold) -> Any:
        """The number of its resource; None: it waits."""
        if hold.waiter is not None and hold.waiter.entry is not None:
            self.ledger.accept(hold)
        return hold.entry and hold.entry.resource

    def take(self) -> Hold:
        """A claim that has a resource, whatever has to be done for it."""
        hold = self.ask()
        if self.got(hold) is None:
            self.run()
            assert self.got(hold) is not None
        return hold

    def stats(self) -> dict[str, float]:
        return figures.stats(self.ledger)

    def entry(self) -> Entry:
        return self.ledger.entries[0]
