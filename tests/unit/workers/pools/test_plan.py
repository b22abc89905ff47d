from __future__ import annotations

from tests.unit.workers.pools.shell import Shell
from toolring.workers.pools.backoff import FIRST_PAUSE


def filled(count: int, **more: object) -> Shell:
    """A pool with as many at rest."""
    pool = Shell(**more)  # type: ignore[arg-type]
    holds = [pool.ask() for _ in range(count)]
    pool.run()
    for hold in holds:
        pool.got(hold)
        pool.ledger.give(hold)
    return pool


def test_an_unused_pool_has_nothing_to_do_and_nothing_to_wait_for() -> None:
    pool = Shell()
    assert pool.look() == []
    assert pool.pause is None


def test_the_least_number_is_made_and_made_again_after_a_loss() -> None:
    pool = Shell(min=2, max=4)
    assert pool.look() == ["CREATE", "CREATE"]
    pool.do()
    pool.ledger.give(pool.take(), broken=True)
    assert pool.look() == ["CREATE", "CLOSE"]
    pool.do()
    assert pool.look() == []
    assert pool.stats()["idle"] == 2


def test_one_that_was_used_just_now_is_not_checked() -> None:
    pool = filled(1, checks=True, validate_after=0.5)
    pool.now += 0.4
    hold = pool.ask()
    assert pool.got(hold) == 1
    pool.ledger.give(hold)
    pool.now += 0.6
    assert pool.got(pool.ask()) is None
    assert pool.look() == ["CHECK"]


def test_one_that_fails_its_check_is_replaced_and_its_caller_does_not_notice() -> None:
    pool = filled(1, checks=True, max=1)
    pool.now += 60.0
    hold = pool.ask()
    assert pool.look() == ["CHECK"]
    pool.do(well=False)
    assert pool.look() == ["CLOSE"]
    pool.do()
    assert pool.look() == ["CREATE"]
    pool.do()
    assert pool.got(hold) == 2
    assert (pool.stats()["invalid"], pool.stats()["timeouts"]) == (1, 0)


def test_lifetimes_differ_so_that_not_all_end_at_once() -> None:
    pool = Shell(max=2, max_lifetime=100.0)
    draws = iter([0.0, 1.0])
    pool.ledger._rng = lambda: next(draws)
    pool.ask(), pool.ask()
    pool.look()
    pool.do()
    assert [entry.ends - pool.now for entry in pool.ledger.entries] == [100.0, 90.0]


def test_one_that_is_too_old_is_torn_down_at_rest_or_when_it_comes_back() -> None:
    pool = filled(2, max_lifetime=100.0, idle_timeout=0.0)
    hold = pool.take()
    pool.look()
    assert pool.pause == 95.0
    pool.now += 95.0
    assert pool.look() == ["CLOSE"]
    pool.do()
    waiting = pool.ask()
    pool.look()
    pool.ledger.give(hold)
    assert pool.got(waiting) is None, "that one is too old"


def test_what_is_not_needed_is_torn_down_to_the_least_number_the_coldest_first() -> None:
    pool = filled(4, min=1, max=4, idle_timeout=10.0, max_lifetime=0.0)
    pool.now += 5.0
    hold = pool.take()
    used = pool.got(hold)
    pool.ledger.give(hold)
    pool.now += 5.0
    assert pool.look() == ["CLOSE"] * 3
    pool.do()
    assert pool.got(pool.ask()) == used
    assert (pool.look(), pool.pause) == ([], 10.0)


def test_idle_ones_are_checked_every_so_often() -> None:
    pool = filled(2, checks=True, keepalive=30.0, idle_timeout=0.0, max_lifetime=0.0)
    pool.look()
    assert pool.pause == 30.0
    pool.now += 29.0
    assert pool.look() == []
    pool.now += 1.0
    assert pool.look() == ["CHECK", "CHECK"]
    pool.do()
    assert pool.look() == []
    assert pool.pause == 30.0


def test_creations_that_fail_are_tried_one_at_a_time_and_later_each_time() -> None:
    pool = Shell(max=4)
    holds = [pool.ask() for _ in range(3)]
    assert pool.look() == ["CREATE"] * 3
    pool.do(well=False)
    assert pool.look() == []
    assert pool.pause is not None
    pauses = []
    for _ in range(3):
        pauses.append(pool.pause)
        pool.now += pool.pause
        assert pool.look() == ["CREATE"]
        pool.do(well=False)
        pool.look()
    assert pauses[0] > FIRST_PAUSE
    assert pauses[0] < pauses[1] < pauses[2]
    pool.now += pool.pause
    pool.look()
    pool.do()
    assert pool.look() == ["CREATE"] * 2, "it works again"
    pool.do()
    assert [pool.got(hold) for hold in holds] == [1, 2, 3]


def test_a_creation_that_hangs_keeps_its_place_and_counts_as_failed() -> None:
    pool = Shell(max=2, create_timeout=30.0)
    hold = pool.ask()
    assert pool.look() == ["CREATE"]
    assert pool.pause == 30.0
    pool.now += 30.0
    assert pool.look() == []
    pool.now += 1.0
    assert pool.look() == ["CREATE"], "another is tried"
    assert (pool.stats()["create_errors"], pool.stats()["total"]) == (1, 2)
    assert isinstance(pool.ledger.backoff.error, TimeoutError)
    hung, _ = pool.jobs
    pool.ledger.made(hung.entry, 7)
    assert pool.got(hold) == 7, "better late than never"


def test_a_check_that_hangs_keeps_its_place_and_counts_as_failed() -> None:
    pool = filled(1, checks=True, max=2, create_timeout=30.0, leak_after=50.0)
    pool.now += 60.0
    hold = pool.ask()
    assert pool.look() == ["CHECK"]
    assert pool.pause == 30.0
    pool.now += 30.0
    assert pool.look() == ["CREATE"], "another is made, without a pause: creations don't fail"
    hung, made = pool.jobs
    pool.ledger.made(made.entry, 2)
    assert pool.got(hold) == 2
    assert (pool.stats()["invalid"], pool.stats()["checking"], pool.stats()["total"]) == (1, 1, 2)
    waiting = pool.ask()
    assert pool.look() == [], "there is no room"
    pool.ledger.checked(hung.entry, True)
    assert pool.got(waiting) == 1, "better late than never"
    pool.now += 50.0
    assert pool.look() == ["REPORT", "REPORT"], "its next holder's leak is told"


def test_a_check_that_fails_after_it_hung_counts_once() -> None:
    pool = filled(1, checks=True, max=1, create_timeout=30.0)
    pool.now += 60.0
    hold = pool.ask()
    pool.look()
    pool.now += 30.0
    assert pool.look() == []
    pool.do(well=False)
    pool.run()
    assert pool.got(hold) == 2
    assert pool.stats()["invalid"] == 1


def test_one_that_is_held_too_long_is_reported_once_with_its_place() -> None:
    pool = Shell(leak_after=20.0)
    pool.take()
    pool.entry().where = "tools.py:7 in look"
    pool.now += 20.0
    assert pool.look() == ["REPORT"]
    assert pool.told == [("out", 20.0, "tools.py:7 in look")]
    pool.now += 20.0
    assert pool.look() == []
    assert pool.stats()["leaks"] == 1


def test_a_resource_on_its_way_is_not_asked_for_again() -> None:
    pool = Shell(min=2, max=4)
    pool.look()
    pool.ask(), pool.ask()
    assert pool.look() == []
    pool.ask()
    assert pool.look() == ["CREATE"]
