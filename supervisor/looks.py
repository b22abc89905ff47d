"""Asks workers what they do, for operators: the stacks of one, or where its time goes.

A question is a word in the worker's lane and a signal; the answer is a file of its own. Nothing here waits: whoever has
asked comes back with the question's number until there is an answer. A worker whose Python doesn't answer soon is asked
for its stacks by the other signal, which needs no more than a living process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from toolring import protocol
from toolring.errors import Busy, InvalidArguments, WorkerSilent
from toolring.lane import AT, DUMP, LOOK, PROFILE, STACKS, STEP
from toolring.looks import DUMP_FILE, MOST_BYTES, PROFILE_FILE, STACKS_FILE, get, path
from toolring.supervisor.fleet import Fleet, Life, Worker

MOST_SECONDS: Final = 3600.0
MOST_RATE: Final = 1000
SOON_SECONDS: Final = 0.3
"""From the question until Python counts as held up."""
STILL_SECONDS: Final = 0.1
"""Stacks that haven't grown for so long are whole."""
PATIENCE_SECONDS: Final = 5.0
"""From when an answer is due until a worker counts as silent."""
MOST_QUESTIONS: Final = 100
MOST_KEY: Final = 64

_THREAD: Final = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+)(?: \[(.*)\])? \(most recent call first\):")
_FRAME: Final = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')
_ROOTS: Final = (
    ("workers/runner.py", "_run"),
    ("workers/runner.py", "_plain_chunk"),
    ("workers/loop.py", "serve"),
    ("workers/async_runner.py", "_guarded"),
    ("workers/async_loop.py", "serve"),
)
"""What calls these is toolring's own, and of no interest."""


class Question:
    """One that was asked, and what is known of the answer."""

    __slots__ = ("asked", "due", "forced", "key", "profile", "size", "still", "worker")

    def __init__(self, worker: Worker, asked: float, due: float, profile: bool, key: str = "") -> None:
        self.worker = worker
        self.key = key
        """By which whoever asked may end it without having heard its number."""
        self.asked = asked
        self.due = due
        self.profile = profile
        self.forced: float | None = None
        """When the C handler was asked for the stacks."""
        self.size = 0
        """Bytes of them when last looked, and since when."""
        self.still = 0.0


class Looks:
    """The questions to the workers of one fleet. ``send`` sends a process a signal, ``stopped`` tells whether it is."""

    def __init__(
        self,
        fleet: Fleet,
        directory: Path,
        send: Callable[[int, int], None],
        stopped: Callable[[int], bool],
    ) -> None:
        self._fleet = fleet
        self._directory = directory
        self._send = send
        self._stopped = stopped
        self._number = 0
        self._questions: dict[int, Question] = {}

    def dump(self, which: Any, now: float) -> dict[str, int]:
        """Ask a worker for its stacks. Raises InvalidArguments, or WorkerSilent."""
        worker = self._chosen(which)
        number = self._ask(Question(worker, now, now, False))
        worker.lane.words[DUMP] = number
        self._send(worker.pid, LOOK)
        return {"number": number, "worker": worker.slot.index, "pid": worker.pid}

    def profile(self, which: Any, seconds: Any, rate: Any, now: float, key: Any = "") -> dict[str, int]:
        """Ask a worker where its time goes, from now on for so many seconds. ``key`` is the asker's own name for it."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.1 <= seconds <= MOST_SECONDS:
            why = f"seconds={seconds!r:.100} is not a number of seconds, 0.1 to {MOST_SECONDS:.0f}"
            raise InvalidArguments(why, argument="seconds")
        if type(rate) is not int or not 1 <= rate <= MOST_RATE:
            raise InvalidArguments(f"rate={rate!r:.100} is not a number a second, 1 to {MOST_RATE}", argument="rate")
        if type(key) is not str or len(key) > MOST_KEY:
            raise InvalidArguments(f"key={key!r:.100} is not a text of at most {MOST_KEY} letters", argument="key")
        worker = self._chosen(which)
        for one in self._questions.values():
            if one.worker is worker and one.profile and now < one.due:
                why = f"worker {worker.slot.index} is being profiled already, for {one.due - now:.1f} s more"
                raise Busy(why, worker=worker.pid, retry_after=round(one.due - now, 3))
        number = self._ask(Question(worker, now, now + seconds, True, key))
        worker.lane.words[PROFILE] = number << 32 | rate << 16 | round(seconds * 10)
        self._send(worker.pid, LOOK)
        return {"number": number, "worker": worker.slot.index, "pid": worker.pid}

    def unprofile(self, number: Any, key: Any = "") -> dict[str, int]:
        """End a profile before its time, by its number or its asker's key: nobody wants to know any more."""
        if number is None and key:
            number = next((number for number, one in self._questions.items() if one.profile and one.key == key), None)
        question = self._questions.get(number) if type(number) is int else None
        if question is None or not question.profile:
            named = repr(key if number is None and key else number)
            raise InvalidArguments(f"no profile {named:.100} is being made", argument="number")
        del self._questions[number]
        words = question.worker.lane.words
        if words[PROFILE] >> 32 == number:
            words[PROFILE] = 0
        return {"number": number}

    def report(self, number: Any, now: float) -> dict[str, Any]:
        """``pending``: nothing yet, or the answer to a question, which is given once. Raises WorkerSilent if there will
        be none."""
        question = self._questions.get(number) if type(number) is int else None
        if question is None:
            raise InvalidArguments(f"no question {number!r:.100} was asked here lately", argument="number")
        try:
            found = self._answer(question, number, now)
        except (WorkerSilent, OSError) as error:
            del self._questions[number]
            if isinstance(error, WorkerSilent):
                raise
            text = f"{_name(question.worker)} has nowhere to answer: {error}; another one in its place will have"
            raise WorkerSilent(text, worker=question.worker.pid, cause="no file") from None
        if found is None:
            return {"pending": True}
        del self._questions[number]
        worker = question.worker
        return {"pending": False, "worker": worker.slot.index, "pid": worker.pid, **found}

    def _ask(self, question: Question) -> int:
        self._number += 1
        self._questions[self._number] = question
        if len(self._questions) > MOST_QUESTIONS:
            del self._questions[min(self._questions)]
        return self._number

    def _chosen(self, which: Any) -> Worker:
        """By its slot's number or its pid. One that was never ready would die of the signal."""
        number = which if type(which) is int else -1
        able = [one for one in self._fleet.workers.values() if one.ready_since and one.pid]
        for worker in able:
            if number == worker.pid or (number == worker.slot.index and worker.slot.worker is worker):
                self._look_at(worker)
                return worker
        known = ", ".join(f"{w.slot.index} (pid {w.pid})" for w in able)
        raise InvalidArguments(f"no worker {which!r:.100} is ready; there is {known or 'none now'}", argument="worker")

    def _look_at(self, worker: Worker) -> None:
        """Raises WorkerSilent for one that can't answer."""
        if worker.life is Life.GONE:
            raise WorkerSilent(f"{_name(worker)} has ended meanwhile", worker=worker.pid, cause="gone")
        if self._stopped(worker.pid):
            text = f"{_name(worker)} is stopped by a signal and tells nothing; kill -CONT {worker.pid} lets it go on"
            raise WorkerSilent(text, worker=worker.pid, cause="stopped")

    def _answer(self, question: Question, number: int, now: float) -> dict[str, Any] | None:
        worker = question.worker
        kind = PROFILE_FILE if question.profile else DUMP_FILE
        told = get(path(self._directory, worker.lane.index, kind), number)
        if told is not None:
            try:
                found = protocol.decode_value(told)
                return found if question.profile else {"by": "python", **found}
            except (ValueError, TypeError):
                raise WorkerSilent(f"the answer of {_name(worker)} can't be read", worker=worker.pid) from None
        self._look_at(worker)
        if question.profile:
            if now - question.due > PATIENCE_SECONDS:
                text = f"{_name(worker)} gave no profile: code in C holds its interpreter; toolring dump shows where"
                raise WorkerSilent(text, worker=worker.pid, cause="held up")
            return None
        return self._stacks(question, now)

    def _stacks(self, question: Question, now: float) -> dict[str, Any] | None:
        """Of one whose Python didn't answer at once."""
        worker = question.worker
        file = path(self._directory, worker.lane.index, STACKS_FILE)
        if question.forced is None:
            if now - question.asked > SOON_SECONDS:
                os.truncate(file, 0)
                question.forced = question.still = now
                self._send(worker.pid, STACKS)
            return None
        text = file.read_bytes()[:MOST_BYTES].decode(errors="replace")
        if len(text) != question.size:
            question.size, question.still = len(text), now
        if text.endswith("\n") and now - question.still >= STILL_SECONDS:
            return {"by": "c", "threads": threads_of(text), "tasks": None, "tool": _at_work(worker)}
        if now - question.forced > PATIENCE_SECONDS:
            raise WorkerSilent(f"{_name(worker)} takes no signal: it is deep in the kernel", worker=worker.pid)
        return None


def threads_of(text: str) -> list[dict[str, Any]]:
    """What ``faulthandler`` has written, in the form in which Python's answers are; the main thread, which it writes
    last, comes first."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if head := _THREAD.fullmatch(line):
            found.append({"thread": int(head[1], 16), "name": (head[2] or "").strip(), "frames": []})
        elif found and (frame := _FRAME.fullmatch(line)):
            at = int(frame[2]) if frame[2].isdigit() else 0
            frames = found[-1]["frames"]
            if not (frames and frames[-1]["root"]):
                root = any(frame[1].endswith(file) and frame[3] == name for file, name in _ROOTS)
                frames.append({"file": frame[1], "line": at, "function": frame[3], "root": root})
    for one in found:
        for told in one["frames"]:
            del told["root"]
    found.reverse()
    if found and not found[0]["name"]:
        found[0]["name"] = "MainThread"
    return found


def _at_work(worker: Worker) -> str:
    """The tool whose code its main thread runs, as far as its lane tells."""
    words = worker.lane.words
    entry = worker.line.get(words[STEP] if worker.many else words[AT] >> 2)
    return "" if entry is None else entry.tool.name


def _name(worker: Worker) -> str:
    return f"worker {worker.slot.index} (pid {worker.pid})"
