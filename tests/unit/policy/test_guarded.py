from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from toolring.policy.balance import Members
from toolring.policy.guarded import Guarded, Safe

MEMBERS = Members(("a", "b", "c"))


class Fails:
    """After two placements it does what it is told to: raises, or names whom it likes."""

    keyed = True

    def __init__(self, does: Any, members: Members = MEMBERS) -> None:
        self.does = does
        self.placed = 0
        self.told: list[int] = []

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        self.placed += 1
        if self.placed > 2:
            if isinstance(self.does, BaseException):
                raise self.does
            found: int = self.does
            return found
        return 1

    def took(self, member: int, seconds: float) -> None:
        self.told.append(member)
        if seconds > 1:
            raise ValueError("too slow")


@pytest.mark.parametrize("does", [RuntimeError("out of luck"), SystemExit(3), 999, -1, 0, True, 1.0, None])
def test_one_that_fails_is_given_up_with_one_word(does: Any) -> None:
    notes: list[tuple[str, dict[str, Any]]] = []
    fails = Fails(does)
    safe = Safe("odd", lambda _members: fails, lambda *note: notes.append(note), MEMBERS)
    assert safe.keyed
    assert [safe.place(7, [0, 5, 0]) for _ in range(2)] == [1, 1]
    assert notes == []
    placed = [safe.place(7, [None, 5, 1]) for _ in range(3)]
    assert placed == [2, 2, 2], "whoever has the least under way"
    assert fails.placed == 3
    assert [name for name, _ in notes] == ["balancer_failed"]
    assert notes[0][1]["balancer"] == "odd"
    safe.took(1, 0.5)
    assert fails.told == []


def test_one_that_learns_badly_is_given_up() -> None:
    notes: list[Any] = []
    fails = Fails(1)
    safe = Safe("odd", lambda _members: fails, lambda *note: notes.append(note), MEMBERS)
    safe.took(1, 0.5)
    assert notes == []
    safe.took(2, 1.5)
    assert notes == [("balancer_failed", {"balancer": "odd", "reason": "ValueError: too slow"})]
    assert safe.place(7, [3, 2, 1]) == 2


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), BaseException("somebody else's")])
def test_who_interrupts_a_thread_that_asks_is_no_fault_of_the_balancer(interrupt: BaseException) -> None:
    notes: list[Any] = []
    fails = Fails(interrupt)
    safe = Safe("odd", lambda _members: fails, lambda *note: notes.append(note), MEMBERS)
    for _ in range(2):
        safe.place(7, [0, 0, 0])
    with pytest.raises(type(interrupt)):
        safe.place(7, [0, 0, 0])
    fails.does = 2
    assert safe.place(7, [0, 0, 0]) == 2
    assert notes == []


def test_a_supervisor_which_nobody_interrupts_goes_on_whatever_is_raised() -> None:
    guarded = Guarded("odd", Fails(KeyboardInterrupt()), lambda *_note: None)
    ask = partial(guarded.place, 7, [0, 0, 0])
    assert [ask() for _ in range(4)] == [1, 1, None, None]
