"""Looks for jobs by words: those in hand, the oldest first, then those that are over, the latest first. In steps, since
there may be very many."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from heapq import heapify, heapreplace, merge
from typing import Any, Final, NamedTuple

from toolring.supervisor.core import Core
from toolring.supervisor.history import Held
from toolring.supervisor.job_desk import JobDesk
from toolring.supervisor.ledger import Entry
from toolring.supervisor.story import row

MOST_FOUND: Final = 500
STATES: Final = ("", "hand", "failed", "done")
_STEP: Final = 16
_SEARCHED: Final = ("job", "tool", "caller", "state", "code")

Rows = list[dict[str, Any]]
Steps = Generator[None, None, Rows]


class Wanted(NamedTuple):
    words: str = ""
    """All of them are to be found in the job's name, its tool, its caller, its state or its error's code."""
    state: str = ""
    """hand: not over yet; failed; done; empty: any."""
    limit: int = 100


def search(core: Core, desk: JobDesk, wanted: Wanted, now: float) -> Generator[None, None, dict[str, Any]]:
    """``jobs``, and whether there may be ``more`` that match."""
    words, limit = wanted.words.lower().split(), wanted.limit
    found: Rows = []
    if wanted.state in ("", "hand"):
        found = yield from _of_those_in_hand(desk, words, limit + 1, now)
    if wanted.state != "hand" and len(found) <= limit:
        found += yield from _of_those_over(core, words, wanted.state, limit + 1 - len(found), now)
    return {"jobs": found[:limit], "more": len(found) > limit}


def _of_those_in_hand(desk: JobDesk, words: list[str], limit: int, now: float) -> Steps:
    oldest: list[tuple[float, int, dict[str, Any]]] = []
    for number, entry in enumerate(desk.in_hand()):
        if number % _STEP == _STEP - 1:
            yield
        if entry.final:
            continue  # by now
        told = desk.listed(entry, now)
        told |= {"seconds": told.pop("age"), "code": "", "ago": None, "run": None}
        if not _matches(told, words):
            continue
        key = (-entry.accepted, -number, told)
        if len(oldest) < limit:
            oldest.append(key)
            if len(oldest) == limit:
                heapify(oldest)
        elif key > oldest[0]:
            heapreplace(oldest, key)
    return [told for _, _, told in sorted(oldest, key=lambda one: one[:2], reverse=True)]


def _of_those_over(core: Core, words: list[str], state: str, limit: int, now: float) -> Steps:
    found: Rows = []
    for number, one in enumerate(_over(core, state)):
        if number % _STEP == _STEP - 1:
            yield
        if not one.tool.spec.internal and _matches(told := row(one, now), words):
            found.append(told)
            if len(found) == limit:
                break
    return found


def _matches(told: dict[str, Any], words: list[str]) -> bool:
    if not words:
        return True
    text = "\0".join(str(told[name]) for name in _SEARCHED).lower()
    return all(word in text for word in words)


def _over(core: Core, state: str) -> Iterator[Entry | Held]:
    history = core.history
    if history is None:
        return
    failed: list[Entry | Held] = [*history.failures()] if state != "done" else []
    done = history.others() if state != "failed" else []
    yield from merge(reversed(failed), reversed(done), key=lambda one: -one.ended)
