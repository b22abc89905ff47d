from __future__ import annotations

import pytest

from toolring.policy.renewal import Renewal


def test_nothing_is_wanted_of_those_that_may_be_any() -> None:
    assert not Renewal().wanted
    assert Renewal().reason(10**9, 1e9, 1e9, 10**12, 1.0) == ""


@pytest.mark.parametrize(
    ("policy", "below", "above", "what"),
    [
        (Renewal(jobs=100), (99, 0, 0, 0), (100, 0, 0, 0), "max_jobs is 100"),
        (Renewal(age=100.0), (0, 99, 0, 0), (0, 100, 0, 0), "max_age is 100 s"),
        (Renewal(idle=100.0), (1, 0, 99, 0), (1, 0, 100, 0), "max_idle is 100 s"),
        (Renewal(memory=100), (1, 0, 0, 100), (1, 0, 0, 101), "max_memory is 100"),
    ],
)
def test_each_limit(
    policy: Renewal, below: tuple[int, int, int, int], above: tuple[int, int, int, int], what: str
) -> None:
    assert policy.wanted
    assert policy.reason(*below, 0.0) == ""
    assert what in policy.reason(*above, 0.0)


def test_luck_makes_them_leave_one_after_the_other() -> None:
    policy = Renewal(jobs=1000, age=1000.0, memory=1000)
    assert policy.reason(800, 0, 0, 0, luck=1.0)
    assert not policy.reason(799, 0, 0, 0, luck=1.0)
    assert policy.reason(900, 0, 0, 0, luck=0.5)
    assert policy.reason(0, 800, 0, 0, luck=1.0)
    assert not policy.reason(1, 0, 0, 1000, luck=1.0), "memory has its limit"


def test_one_that_never_did_anything_has_nothing_to_renew() -> None:
    assert not Renewal(idle=1.0).reason(0, 0, 100, 0, luck=0.0)
    assert not Renewal(memory=1).reason(0, 0, 0, 100, luck=0.0)
