"""What is kept of freed memory, and when it is given back."""

from __future__ import annotations

from toolring.heap import SPARE_BYTES, Rest


class World:
    def __init__(self, size: int) -> None:
        self.size = size
        self.free = 0
        self.given = 0

    def resident(self) -> int:
        return self.size + self.free

    def give_back(self) -> None:
        self.free = 0
        self.given += 1


def test_what_is_kept_is_given_back_if_it_is_worth_it() -> None:
    world = World(1000)
    rest = Rest(world.resident, world.give_back)
    rest()
    world.free = SPARE_BYTES
    rest()
    assert world.given == 0
    world.free += 1
    rest()
    assert (world.given, world.free) == (1, 0)


def test_what_is_in_use_is_asked_for_once() -> None:
    world = World(1000)
    rest = Rest(world.resident, world.give_back)
    world.size += 10 * SPARE_BYTES
    for _ in range(3):
        rest()
    assert world.given == 1
    world.size = 1000
    rest()
    world.free = SPARE_BYTES + 1
    rest()
    assert world.given == 2, "and anew from the least that it ever needed"
