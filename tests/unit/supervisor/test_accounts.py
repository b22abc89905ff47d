from __future__ import annotations

from toolring.config import CallerSection
from toolring.supervisor.accounts import OTHERS, REMEMBERED, Accounts
from toolring.supervisor.ledger import Session


def session(caller: str, number: int = 1) -> Session:
    return Session(number.to_bytes(16, "big"), b"", caller)


def test_clients_of_one_name_share_an_account_and_nameless_ones_have_their_own() -> None:
    accounts = Accounts({})
    assert accounts.of(session("a")) is accounts.of(session("a", 2))
    assert accounts.of(session("")) is not accounts.of(session("", 2))


def test_sections_are_for_their_name_and_the_star_for_the_others() -> None:
    accounts = Accounts({"a": CallerSection(weight=3.0), OTHERS: CallerSection(rate=5.0, in_flight=7)})
    named, other, nameless = (accounts.of(session(name)) for name in ("a", "b", ""))
    assert (named.weight, named.rate, named.in_flight) == (3.0, None, 0)
    for one in (other, nameless):
        assert (one.weight, one.in_flight) == (1.0, 7)
        assert one.rate is not None


def test_an_account_outlives_its_sessions_but_not_for_ever() -> None:
    accounts = Accounts({})
    first = session("a")
    account = accounts.of(first)
    accounts.leave(first)
    assert not account.sessions
    again = session("a", 2)
    assert accounts.of(again) is account, "coming back wipes nothing out"
    accounts.leave(again)
    for number in range(REMEMBERED):
        one = session(f"n{number}")
        accounts.of(one)
        accounts.leave(one)
    assert accounts.of(session("a", 3)) is not account


def test_who_is_connected_is_never_forgotten() -> None:
    accounts = Accounts({})
    here = accounts.of(session("a"))
    for number in range(REMEMBERED + 10):
        one = session(f"n{number}")
        accounts.of(one)
        accounts.leave(one)
    assert accounts.of(session("a", 2)) is here
