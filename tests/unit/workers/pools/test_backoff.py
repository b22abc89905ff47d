from __future__ import annotations

from itertools import pairwise

from toolring.workers.pools.backoff import FIRST_PAUSE, LONGEST_PAUSE, Backoff


def pauses(rng: float, count: int) -> list[float]:
    backoff, found = Backoff(lambda: rng), []
    for _ in range(count):
        backoff.failed(OSError(), 100.0)
        found.append(backoff.again - 100.0)
    return found


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    found = pauses(1.0, 2000)
    assert abs(found[0] - FIRST_PAUSE) < 1e-9
    assert all(b >= a for a, b in pairwise(found))
    assert abs(found[2] - 4 * FIRST_PAUSE) < 1e-9
    assert found[-1] == LONGEST_PAUSE


def test_it_may_be_as_short_as_half_so_that_not_all_come_at_once() -> None:
    assert abs(pauses(0.0, 1)[0] - FIRST_PAUSE / 2) < 1e-9


def test_a_success_forgets_it_all() -> None:
    backoff = Backoff(lambda: 1.0)
    error = OSError("gone")
    backoff.failed(error, 100.0)
    assert (backoff.failures, backoff.error) == (1, error)
    backoff.succeeded()
    assert (backoff.failures, backoff.error) == (0, None)
    assert backoff.again < 0
