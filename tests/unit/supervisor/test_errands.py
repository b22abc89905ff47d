from __future__ import annotations

from collections.abc import Iterator

from toolring.supervisor.errands import STEP_SECONDS, Errands


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_errand_goes_on_for_a_little_at_a_time() -> None:
    clock = Clock()
    done: list[int] = []

    def steps() -> Iterator[None]:
        for number in range(10):
            clock.now += STEP_SECONDS / 2
            done.append(number)
            yield

    errands = Errands(lambda why: None, clock)
    errands.add(steps())
    errands.go_on()
    assert done == [0, 1]
    errands.go_on()
    assert done == [0, 1, 2, 3]
    while errands:
        errands.go_on()
    assert done == list(range(10))


def test_one_that_breaks_is_told_of_and_the_next_has_its_turn() -> None:
    told: list[str] = []

    def broken() -> Iterator[None]:
        yield
        raise ValueError("no")

    errands = Errands(told.append)
    errands.add(broken())
    errands.add(iter(()))
    while errands:
        errands.go_on()
    assert told == ["ValueError: no"]
