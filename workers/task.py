"""One attempt among many in an event loop: what is known of it, and whose code runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator
from typing import Any

from toolring.lane import STEP
from toolring.protocol import Answer, Work
from toolring.workers.outlet import Outlet
from toolring.workers.runnable import Runnable


class Run:
    """One attempt that is under way."""

    __slots__ = (
        "begun",
        "halted",
        "outlet",
        "put_off",
        "runnable",
        "seq",
        "shields",
        "start",
        "taken",
        "task",
        "work",
    )

    def __init__(self, seq: int, work: Work, runnable: Runnable, outlet: Outlet) -> None:
        self.seq = seq
        self.work = work
        self.runnable = runnable
        self.outlet = outlet
        self.start = time.monotonic()
        self.begun = False
        self.halted = False
        """It was told to end."""
        self.put_off = False
        """It is to be cancelled once no shield is up."""
        self.shields: list[int] = []
        """Until when each of those holds that are up (microseconds of CLOCK_MONOTONIC)."""
        self.taken = asyncio.Event()
        """Its caller has taken in more of its parts."""
        self.task: asyncio.Task[None] | None = None

    @property
    def tool(self) -> str:
        return self.work.tool

    @property
    def deadline(self) -> float:
        return self.work.deadline

    @property
    def trace(self) -> str:
        return self.work.trace

    def halt(self) -> None:
        """Cancel it, or let it be cancelled once its critical section is over; not begun yet, it looks by itself."""
        self.halted = True
        self.put_off = bool(self.shields)
        if self.begun and not self.put_off and self.task is not None:
            self.task.cancel()

    def lower(self, shield: int) -> None:
        """A shield is over, by its section's end or by its time, whichever is first."""
        if shield in self.shields:
            self.shields.remove(shield)
            if self.put_off and not self.shields:
                self.halt()

    def more(self, granted: int) -> None:
        self.outlet.granted = max(self.outlet.granted, granted)
        self.taken.set()


class Steps(Coroutine[Any, Any, None]):
    """A job's coroutine, which writes into the lane while its code runs: if the process dies of it, or it holds up the
    event loop, it is known which of many it was."""

    __slots__ = ("_close", "_send", "_throw", "_words", "coroutine", "run")

    def __init__(self, coroutine: Coroutine[Any, Any, None], words: memoryview, run: Run) -> None:
        self.coroutine = coroutine
        self._send = coroutine.send
        self._throw = coroutine.throw
        self._close = coroutine.close
        self._words = words
        self.run = run

    def send(self, value: Any) -> Any:
        self._words[STEP] = self.run.seq
        try:
            return self._send(value)
        finally:
            self._words[STEP] = 0

    def throw(self, *error: Any) -> Any:
        if not self.run.begun:  # somebody cancels every task that there is: its caller must hear of it all the same
            self.run.halted = True
            return self.send(None)
        self._words[STEP] = self.run.seq
        try:
            return self._throw(*error)
        finally:
            self._words[STEP] = 0

    def close(self) -> None:
        self._close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("a job is run by its task only")


class Answered(Exception):
    """Carries an answer that is more than a value out of a coroutine."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
