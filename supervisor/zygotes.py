"""The zygotes of a node, one for each generation of the tools' code: the one that serves, perhaps one that comes, and
those whose last workers still finish what they have begun."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection, Iterator
from typing import Final

from toolring.settings import WorkerSettings
from toolring.supervisor.fleet import Worker
from toolring.supervisor.spawner import Spawner, process_state

LOOK_SECONDS: Final = 1.0
GONE: Final = ("Z", "X", "")
STOPPED: Final = ("T", "t")
HANG_SECONDS: Final = 5.0
"""How long one that was let go may take to be gone."""


class Zygotes:
    """By generation. Use from the main thread only."""

    def __init__(
        self,
        settings: WorkerSettings,
        memory: mmap.mmap,
        process_state: Callable[[int], str] = process_state,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._state = process_state
        self._next_look = 0.0
        self._live: dict[int, Spawner] = {}
        self._leaving: list[tuple[Spawner, float]] = []

    def __getitem__(self, code: int) -> Spawner:
        return self._live[code]

    def __contains__(self, code: int) -> bool:
        return code in self._live

    def open(self, code: int, first: bool = False) -> None:
        """Start one; it begins to load the tools at once. The ``first`` of all comes before any thread.

        Raises OSError if the machine has no room for it.
        """
        spawner = Spawner(self._settings, self._memory)
        spawner.open(first)
        self._live[code] = spawner

    def fds(self) -> Iterator[tuple[int, int]]:
        """Where to hear of each, and its generation."""
        return ((spawner.fd, code) for code, spawner in self._live.items())

    def silent(self, workers: Collection[Worker], now: float, patience: float) -> dict[int, str]:
        """Those that do nothing although something is wanted of them, and why: one that is stopped, and should start
        somebody or tell of somebody's end; and one that has answered nothing for longer than ``patience``."""
        if now < self._next_look:
            return {}
        self._next_look = now + LOOK_SECONDS
        found = {}
        for code, spawner in self._live.items():
            own = [worker for worker in workers if worker.code == code]
            waits = max((now - worker.started for worker in own if not worker.pid), default=0.0)
            if waits > patience:
                found[code] = f"it has not answered for {waits:.1f} s"
            elif spawner.pid and self._state(spawner.pid) in STOPPED:
                dead = [worker.pid for worker in own if worker.pid and self._state(worker.pid) in GONE]
                if dead or waits > LOOK_SECONDS:
                    found[code] = "it is stopped (SIGSTOP)"
        return found

    def let_go(self, code: int, now: float) -> None:
        """Nobody needs it any more."""
        spawner = self._live.pop(code)
        spawner.hang_up()
        listens = bool(spawner.start_method)  # else it may import for a while before it notices
        self._leaving.append((spawner, now + HANG_SECONDS if listens else now))

    def sweep(self, wanted: Collection[int], now: float) -> None:
        """Let go of all but these, and see off those that were let go."""
        for code in [code for code in self._live if code not in wanted]:
            self.let_go(code, now)
        self._leaving = [(spawner, until) for spawner, until in self._leaving if not spawner.gone(kill=now >= until)]

    def close(self) -> None:
        """End them all. Their workers die with them."""
        for spawner, _ in self._leaving:
            spawner.close()
        for spawner in self._live.values():
            spawner.close()
