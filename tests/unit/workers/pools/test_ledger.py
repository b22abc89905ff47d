from __future__ import annotations

from math import inf

import pytest

from tests.unit.workers.pools.shell import Shell
from toolring.errors import PoolClosed, PoolExhausted, PoolTimeout
from toolring.workers.pools.entry import Hold


def test_ten_at_once_get_no_more_than_two() -> None:
    pool = Shell(max=2)
    holds = [pool.ask() for _ in range(10)]
    assert pool.look() == ["CREATE", "CREATE"]
    pool.do()
    assert pool.look() == []
    assert [pool.got(hold) for hold in holds] == [1, 2] + [None] * 8
    assert (pool.stats()["total"], pool.stats()["created"], pool.stats()["waiting"]) == (2, 2, 8)


def test_who_waits_is_served_in_turn_and_a_newcomer_not_before() -> None:
    pool = Shell(max=1)
    first = pool.take()
    second, third = pool.ask(), pool.ask()
    pool.ledger.give(first)
    fourth = pool.ask()
    assert [pool.got(hold) for hold in (second, third, fourth)] == [1, None, None]
    pool.ledger.give(second)
    assert [pool.got(hold) for hold in (third, fourth)] == [1, None]


def test_a_hand_over_needs_nobody_to_look() -> None:
    pool = Shell(max=1)
    first = pool.take()
    rings = pool.rings
    second = pool.ask()
    pool.ledger.give(first)
    assert pool.got(second) == 1
    assert pool.rings == rings


def test_the_last_used_is_the_next() -> None:
    pool = Shell(max=3)
    holds = [pool.ask() for _ in range(3)]
    pool.run()
    for hold in holds:
        pool.got(hold)
    for hold in (holds[2], holds[0], holds[1]):
        pool.ledger.give(hold)
    assert [pool.got(pool.ask()) for _ in range(3)] == [2, 1, 3]


def test_given_back_twice_it_goes_to_one() -> None:
    pool = Shell(max=1)
    hold = pool.take()
    pool.ledger.give(hold)
    with pytest.raises(RuntimeError, match="given back already"):
        pool.ledger.give(hold)
    assert pool.got(pool.ask()) == 1
    with pytest.raises(RuntimeError, match="given back already"):
        pool.ledger.give(hold)
    assert pool.got(pool.ask()) is None
    with pytest.raises(RuntimeError, match="never taken"):
        pool.ledger.give(Hold())


def test_one_that_is_used_up_is_replaced_and_its_waiter_served() -> None:
    pool = Shell(max=1, max_uses=2)
    pool.ledger.give(pool.take())
    hold, waiting = pool.take(), pool.ask()
    pool.ledger.give(hold)
    pool.run()
    assert pool.got(waiting) == 2
    assert (pool.stats()["created"], pool.stats()["destroyed"], pool.stats()["uses"]) == (2, 1, 3)


def test_no_replacement_is_begun_before_the_teardown_has_ended() -> None:
    pool = Shell(max=1)
    hold = pool.take()
    waiting = pool.ask()
    pool.ledger.give(hold, broken=True)
    assert pool.look() == ["CLOSE"]
    assert pool.look() == []
    pool.do()
    assert pool.look() == ["CREATE"]
    pool.do()
    assert pool.got(waiting) == 2


def test_a_refusal_is_at_once_and_counts() -> None:
    pool = Shell(max=1, max_waiting=1)
    pool.take()
    pool.ask()
    with pytest.raises(
        PoolExhausted, match=r"pool db: no more than 1 may wait; 1 of at most 1: 1 active, .* 1 waiting"
    ):
        pool.ask()
    assert pool.stats()["refused"] == 1


def test_a_time_out_states_the_counts_and_the_error_of_the_last_creation() -> None:
    pool = Shell(max=2)
    pool.take()
    hold = pool.ask()
    assert pool.look() == ["CREATE"]
    pool.do(well=False)
    pool.now += 3.0
    with pytest.raises(PoolTimeout) as caught:
        pool.ledger.accept(hold)
    error = caught.value
    assert str(error) == (
        "pool db: nothing within 3 s; 1 of at most 2: 1 active, 0 idle, 0 creating, 0 checking, 0 closing, 0 waiting; "
        "the last creation failed: OSError: nobody is there"
    )
    assert isinstance(error.__cause__, OSError)
    assert {**error.facts} == {
        "pool": "db",
        "max": 2,
        "total": 1,
        "active": 1,
        "idle": 0,
        "creating": 0,
        "checking": 0,
        "closing": 0,
        "waiting": 0,
        "waited": 3.0,
        "cause": "OSError: nobody is there",
    }
    assert (pool.stats()["timeouts"], pool.stats()["longest_wait"]) == (1, 3.0)


def test_what_was_handed_to_one_who_leaves_goes_on_to_the_next() -> None:
    pool = Shell(max=1)
    hold = pool.take()
    second, third = pool.ask(), pool.ask()
    pool.ledger.give(hold)
    pool.ledger.leave(second)
    assert pool.got(third) == 1
    pool.ledger.leave(third)
    assert (pool.stats()["idle"], pool.stats()["waiting"]) == (1, 0)


def test_what_was_lost_is_torn_down() -> None:
    pool = Shell(max=1)
    pool.take()
    pool.kept.clear()
    assert pool.look() == ["CLOSE"]
    pool.do()
    held = pool.take()
    pool.ask()
    pool.kept.clear()
    pool.ledger.give(held)
    assert pool.look() == []
    assert (pool.stats()["dropped"], pool.stats()["idle"], pool.stats()["waiting"]) == (1, 1, 0)


def test_what_was_handed_to_one_who_is_lost_is_torn_down() -> None:
    pool = Shell(max=1)
    first, second = pool.take(), pool.ask()
    pool.ledger.give(first)
    del second
    pool.kept.clear()
    assert pool.look() == ["CLOSE"]


def test_after_a_close_nothing_is_given_out_and_what_comes_back_is_torn_down() -> None:
    pool = Shell(max=2)
    out, idle = pool.take(), pool.take()
    pool.ledger.give(idle)
    woken: list[str] = []
    pool.ledger.close(lambda: woken.append("empty"))
    with pytest.raises(PoolClosed, match="pool db is closed"):
        pool.ask()
    assert pool.look() == ["CLOSE"]
    pool.do()
    assert (woken, pool.pause) == ([], inf), "something is out still"
    pool.ledger.give(out)
    assert pool.look() == ["CLOSE"]
    pool.do()
    assert (woken, pool.look(), pool.pause) == (["empty"], [], None)


def test_a_close_ends_the_waiting_and_what_is_under_way_is_torn_down() -> None:
    pool = Shell(max=1)
    hold = pool.ask()
    pool.look()
    pool.ledger.close(lambda: None)
    with pytest.raises(PoolClosed):
        pool.ledger.accept(hold)
    pool.do()
    assert pool.look() == ["CLOSE"]


def test_one_whose_block_failed_is_checked_before_the_next_gets_it() -> None:
    pool = Shell(checks=True, max=1)
    pool.ledger.give(pool.take(), suspect=True)
    hold = pool.ask()
    assert pool.got(hold) is None
    assert pool.look() == ["CHECK"]
    pool.do()
    assert pool.got(hold) == 1


def test_one_that_is_too_old_is_not_given_out_although_nobody_has_looked_yet() -> None:
    pool = Shell(max=1, max_lifetime=60.0)
    pool.ledger.give(pool.take())
    pool.now += 60.0
    hold = pool.ask()
    assert pool.got(hold) is None
    pool.run()
    assert pool.got(hold) == 2
