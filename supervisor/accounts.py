"""Accounts: one a caller, with what it may do and what it was given so far."""

from __future__ import annotations

from collections.abc import Mapping

from toolring.config import CallerSection
from toolring.policy.limits import RateLimit
from toolring.supervisor.ledger import Session

REMEMBERED = 1000
"""Callers whose accounts are kept while they are not connected."""
OTHERS = "*"
"""The section for callers that have none of their own."""


class Account:
    """One caller: a name with all its sessions, or a session without a name."""

    __slots__ = ("finish", "in_flight", "name", "rate", "sessions", "waiting", "weight")

    def __init__(self, name: str, weight: float = 1.0, rate: RateLimit | None = None, in_flight: int = 0) -> None:
        self.name = name
        self.weight = weight
        self.rate = rate
        self.in_flight = in_flight
        """Jobs that it may have in hand; 0: any number."""
        self.finish = 0.0
        """On the virtual clock: when what it was given so far would be done, had it its share and no more."""
        self.waiting = 0
        self.sessions: set[Session] = set()

    def jobs(self) -> int:
        """Those in hand, over all its sessions."""
        return sum(len(session.jobs) for session in self.sessions)


class Accounts:
    """Accounts of those who are connected. Clients of one name share theirs; one without a name is by itself."""

    def __init__(self, callers: Mapping[str, CallerSection]) -> None:
        self._callers = callers
        self._named: dict[str, Account] = {}
        self._idle: dict[str, None] = {}
        """Names that nobody is connected under, those for longest first."""
        self.house = Account("")
        """For what runs for nobody in particular."""

    def of(self, session: Session) -> Account:
        """The account of a session, which may be new."""
        name = session.caller
        account = self._named.get(name) if name else None
        if account is None:
            account = self._open(name)
            if name:
                self._named[name] = account
        self._idle.pop(name, None)
        account.sessions.add(session)
        session.account = account
        return account

    def _open(self, name: str) -> Account:
        section = (self._callers.get(name) if name else None) or self._callers.get(OTHERS) or CallerSection()
        rate = RateLimit(section.rate, section.burst) if section.rate else None
        return Account(name, section.weight, rate, section.in_flight)

    def leave(self, session: Session) -> None:
        """A session is gone. The account of a name stays for a while, so that coming back wipes nothing out."""
        account = session.account
        if account is None:
            return
        account.sessions.discard(session)
        if account.name and not account.sessions:
            self._idle[account.name] = None
            if len(self._idle) > REMEMBERED:
                forgotten = next(iter(self._idle))
                del self._idle[forgotten], self._named[forgotten]
