from __future__ import annotations

import re

import pytest

from toolring.policy.balance import Members
from toolring.policy.ranges import Ranges, in_order

MEMBERS = Members(("one", "two", "three"))
STARTS = {"two": b"m", "one": b"", "three": b"tango"}


def owner(key: bytes, loads: list[float | None] | None = None) -> str:
    return MEMBERS.names[Ranges(MEMBERS, STARTS).place(in_order(key), loads or [0, 0, 0])]


@pytest.mark.parametrize(
    ("key", "name"),
    [(b"", "one"), (b"lz", "one"), (b"m", "two"), (b"tanga", "two"), (b"tango", "three"), (b"\xff" * 20, "three")],
)
def test_a_key_belongs_to_the_range_that_it_lies_in(key: bytes, name: str) -> None:
    assert owner(key) == name


def test_the_member_of_the_next_range_takes_over() -> None:
    assert owner(b"n", [0, None, 0]) == "three"
    assert owner(b"z", [0, 0, None]) == "one"
    with pytest.raises(ValueError, match="no member"):
        owner(b"n", [None, None, None])


@pytest.mark.parametrize(
    ("starts", "why"),
    [
        ({"one": b"", "two": b"m"}, "don't fit: three"),
        ({**STARTS, "four": b"x"}, "don't fit: four"),
        ({**STARTS, "one": b"a"}, "nobody's range begins with the first key"),
        ({**STARTS, "three": b"m"}, "two ranges begin with the same eight bytes"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(starts: dict[str, bytes], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Ranges(MEMBERS, starts)
