from __future__ import annotations

from typing import Any

import pytest

from toolring.policy.histogram import Histogram
from toolring.protocol import Counted
from toolring.supervisor.measured import Measured

SITE = [("site", "a")]


def shown(measured: Measured) -> dict[tuple[str, ...], Any]:
    return {
        (family.name, *key): (one.n, one.total) if isinstance(one, Histogram) else one
        for family, values in measured.families()
        for key, one in values.items()
    }


def test_counts_and_times_of_all_workers_add_up_and_gauges_stand_by_worker() -> None:
    measured = Measured()
    for slot in (0, 1):
        measured.heard(
            slot,
            Counted(
                [
                    ("counter", "pages", SITE, 2.0, {}),
                    ("gauge", "depth", [], 5.0 + slot, {}),
                    ("timer", "parse", SITE, 300.0, {100: 1, 200: 1}),
                ]
            ),
        )
    measured.heard(1, Counted([("gauge", "depth", [], 9.0, {})]))
    assert shown(measured) == {
        ("toolring_user_pages", "a"): 4.0,
        ("toolring_user_depth", "0"): 5.0,
        ("toolring_user_depth", "1"): 9.0,
        ("toolring_user_parse_seconds", "a"): (4, 600),
    }
    measured.forget_workers([1])
    assert ("toolring_user_depth", "0") not in shown(measured)
    assert shown(measured)["toolring_user_pages", "a"] == 4.0


def test_a_gauge_goes_with_the_process_that_told_of_it() -> None:
    measured = Measured()
    old, new = (Counted([("gauge", "depth", [], value, {}), ("counter", "pages", [], 1.0, {})]) for value in (5.0, 7.0))
    measured.heard(0, old, 1)
    measured.heard(1, old, 1)
    measured.heard(0, new, 2)
    measured.heard(0, old, 1)
    assert shown(measured)["toolring_user_depth", "0"] == 7.0, "its successor has told already"
    measured.gone(0, 1)
    assert shown(measured)["toolring_user_depth", "0"] == 7.0
    measured.gone(0, 2)
    measured.gone(1, 1)
    assert shown(measured) == {("toolring_user_pages",): 4.0}
    measured.heard(2, Counted([("counter", "depth", [], 1.0, {})]))
    assert measured.left_out == 0, "nobody holds the name any more"


def test_a_name_that_is_something_else_elsewhere_is_left_out_and_counted() -> None:
    measured = Measured()
    measured.heard(0, Counted([("counter", "pages", SITE, 1.0, {})]))
    measured.heard(1, Counted([("counter", "pages", [], 1.0, {}), ("timer", "pages", SITE, 9.0, {1: 3})], 2))
    assert measured.left_out == 6
    assert shown(measured) == {("toolring_user_pages", "a"): 1.0}


def test_there_is_an_end_to_the_series() -> None:
    measured = Measured(most=3)
    for number in range(5):
        measured.heard(0, Counted([("counter", "users", [("user", str(number))], 1.0, {})]))
    measured.heard(0, Counted([("counter", "users", [("user", "1")], 1.0, {})]))
    assert shown(measured) == {("toolring_user_users", str(number)): 1.0 + (number == 1) for number in range(3)}
    assert measured.left_out == 2


def test_names_take_no_room_beyond_it() -> None:
    measured = Measured(most=3)
    for number in range(5):
        measured.heard(0, Counted([("counter", f"name_{number}", [], 1.0, {})]))
    assert [family.name for family, _ in measured.families()] == [f"toolring_user_name_{n}" for n in range(3)]
    measured.heard(0, Counted([("timer", "name_4", [], 9.0, {9: 1})]))
    assert measured.left_out == 3


def test_names_of_gauges_that_no_worker_has_any_more_make_room() -> None:
    measured = Measured(most=1)
    measured.heard(0, Counted([("gauge", "depth", [], 1.0, {})]))
    measured.forget_workers([1])
    assert measured.families() == []
    measured.heard(1, Counted([("counter", "depth", SITE, 2.0, {})]))
    assert shown(measured) == {("toolring_user_depth", "a"): 2.0}


def test_to_other_code_a_name_may_be_something_else() -> None:
    measured = Measured(most=3)
    old, new = Counted([("counter", "pages", SITE, 1.0, {})]), Counted([("counter", "pages", [], 5.0, {})])
    for told in (old, Counted([("counter", "words", [], 1.0, {})]), new):
        measured.heard(0, told)
    measured.turned_over()
    measured.heard(0, old)  # the last of a worker that leaves
    assert shown(measured) == {("toolring_user_pages", "a"): 2.0, ("toolring_user_words",): 1.0}
    for told in (new, old, new):
        measured.heard(1, told)
    assert shown(measured) == {("toolring_user_pages",): 10.0, ("toolring_user_words",): 1.0}
    assert measured.left_out == 2
    measured.heard(1, Counted([("counter", "pages_2", [], 1.0, {})]))
    assert len(shown(measured)) == 3, "what gave way takes no room"


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="weather"):
        Measured().heard(0, Counted([("weather", "x", [], 1.0, {})]))


@pytest.mark.parametrize("amount", [float("inf"), float("nan")])
@pytest.mark.parametrize("kind", ["counter", "gauge", "timer"])
def test_an_amount_that_is_no_number_is_refused(kind: str, amount: float) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        Measured().heard(0, Counted([(kind, "x", [], amount, {})]))
