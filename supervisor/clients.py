"""The clients of a node: their sessions, what they ask, what they are told. The sockets are the loop's."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from msgspec import Raw

from toolring import protocol
from toolring.errors import Busy, HelloRequired, ProtocolError, TooLarge, ToolringError
from toolring.protocol import (
    INLINE,
    NIL,
    Answer,
    Answers,
    Ask,
    Bye,
    Cancel,
    Hello,
    More,
    Part,
    Parts,
    Ping,
    Pong,
    Probe,
    Refused,
    Submit,
    Told,
    Tools,
    Welcome,
)
from toolring.spec import ToolSpec
from toolring.supervisor.admin import Admin
from toolring.supervisor.core import Core
from toolring.supervisor.endings import Endings
from toolring.supervisor.errands import Errands
from toolring.supervisor.ledger import Session

_encode = protocol.encode
_ANSWERS: Final = 128
"""Answers in one message, so that its size stays bounded."""
PROBE_SECONDS: Final = 0.5
STRAY_SECONDS: Final = 30.0
"""Sessions without jobs are probed this often."""
GONE_SECONDS: Final = 1.0
"""A client may be without a connection for so long before it counts as gone: a local socket closes with its process."""
GONE_SECONDS_TCP: Final = 3.0
"""Over TCP a connection may be cut; toolring's own clients notice within 2 s, and come back."""
OUTBOX_BYTES: Final = 64 << 20
"""What is held for a client that doesn't read, before it is dropped."""


class Clients:
    """Sessions by the route that the transport knows them by.

    ``post`` sends a head and a body (or None) to a route without waiting; it returns False if that can't be done
    now, and calls ``unreachable`` if nobody is there.
    """

    def __init__(
        self,
        core: Core,
        endings: Endings,
        admin: Admin,
        errands: Errands,
        node: str,
        post: Callable[[bytes, bytes, Any], bool],
    ) -> None:
        self._core = core
        self._endings = endings
        self._admin = admin
        self._errands = errands
        self._node = node
        self._post = post
        self._routes: dict[bytes, Session] = {}
        self._clogged: set[Session] = set()
        self._next_probe = 0.0
        self._next_stray = 0.0
        self.gone_seconds = GONE_SECONDS

    # ---- what they send

    def handle(self, route: bytes, head: bytes, body: Any, now: float) -> None:
        """Take in one message; ``body`` has a ``buffer`` or is None. What is wrong with it is told to its sender."""
        try:
            self._handle(route, head, body, now)
        except ToolringError as error:
            self.refuse(route, error)

    def _handle(self, route: bytes, head: bytes, body: Any, now: float) -> None:
        if len(head) > protocol.MAX_HEAD:
            raise TooLarge(f"a head of {len(head)} bytes; the limit is {protocol.MAX_HEAD}", limit=protocol.MAX_HEAD)
        message = protocol.decode_from_client(head)
        session = self._routes.get(route)
        if session is None:
            if type(message) is not Hello:
                raise HelloRequired("say hello first")
            self._welcome(route, message, now)
        elif type(message) is Submit:
            jobs = message.jobs
            if body is not None:
                if len(jobs) != 1:
                    raise ProtocolError("a second frame holds the arguments of exactly one job")
                jobs[0].args = body
                if len(body) <= INLINE:  # it will be part of a message to a worker
                    protocol.check_value(body.buffer)
                    jobs[0].args = Raw(body.buffer)
            refusal = protocol.refuse_jobs(jobs)
            if refusal is not None:
                raise refusal
            self._core.door.submit(session, jobs, now)
        elif type(message) is Cancel:
            for job_id in message.ids:
                entry = session.jobs.get(job_id)
                if entry is not None:
                    self._endings.cancel(entry, now)
        elif isinstance(message, More):
            self._core.streams.more(session, message.id, message.granted)
        elif isinstance(message, Ask):
            self.deliver(session)  # what is counted has been told
            steps = self._admin.lengthy(message.what, message.params, now)
            if steps is not None:
                self._errands.add(self._told(session, message.request, steps))
            else:
                told = Told(message.request, self._admin.answer(message.what, message.params, now))
                self._reply(session, _encode(told))
        elif isinstance(message, Hello):
            self._welcome(route, message, now)
        elif isinstance(message, Bye):
            self._forget(session, now, "it said goodbye")
        elif isinstance(message, Ping):
            self._reply(session, _encode(Pong(message.token)))

    def _told(self, session: Session, request: int, steps: Generator[None, None, dict[str, Any]]) -> Iterator[None]:
        found = yield from steps
        if self._core.sessions.get(session.token) is session:
            self._reply(session, _encode(Told(request, found)))

    def _welcome(self, route: bytes, hello: Hello, now: float) -> None:
        if hello.version != protocol.VERSION:
            raise ProtocolError(
                f"protocol version {hello.version}; this node speaks {protocol.VERSION}", version=protocol.VERSION
            )
        if len(hello.session) != 16 or len(hello.caller) > protocol.MAX_NAME:
            raise ProtocolError(f"a session is 16 bytes, a caller's name at most {protocol.MAX_NAME} characters")
        core = self._core
        session = core.sessions.get(hello.session)
        other = self._routes.get(route)
        if other is not None and other is not session:
            self._forget(other, now, "its connection introduced another session")
        resumed = session is not None
        if session is None:
            if len(core.sessions) >= core.limits.clients:
                raise Busy(
                    f"{len(core.sessions)} clients are connected; that is the limit", limit="clients", retry_after=5.0
                )
            session = core.sessions[hello.session] = Session(hello.session, route, hello.caller)
        else:
            self._routes.pop(session.route, None)
            session.route = route
            session.silent_since = None
            self._endings.reconnected(session, now)
        self._routes[route] = session
        own = core.limits
        limits = {
            "max_body": own.max_body,
            "per_client": own.per_client,
            "default_timeout": own.default_timeout,
        }
        self._post(route, _encode(Welcome(protocol.VERSION, self._node, self._specs(), limits, resumed)), None)
        self._unclog(session)

    def _specs(self) -> list[ToolSpec]:
        return [tool.spec for tool in self._core.tools.values() if not tool.spec.internal]

    def announce(self) -> None:
        """Other tools are served from now on, or the same under another policy."""
        told = _encode(Tools(self._specs()))
        for session in self._core.sessions.values():
            self._reply(session, told)

    # ---- what they are told

    def deliver(self, session: Session) -> None:
        """Send a session's answers, many in one message, large ones by themselves."""
        if session.parts:
            self._deliver_parts(session)
        out = session.out
        session.out = []
        batch: list[Answer] = []
        for answer in out:
            value = answer.value
            if len(value) > INLINE:
                large = Answer(answer.id, answer.status, NIL, answer.run_us, answer.flags, 0, answer.parts)
                self._reply(session, _encode(Answers([large])), value)
                continue
            batch.append(answer)
            if len(batch) == _ANSWERS:
                self._reply(session, _encode(Answers(batch)))
                batch = []
        if batch:
            self._reply(session, _encode(Answers(batch)))

    def _deliver_parts(self, session: Session) -> None:
        parts, session.parts = session.parts, []
        batch: list[Part] = []
        for part in parts:
            large = len(part.value) > INLINE
            if batch and (large or len(batch) == _ANSWERS):
                self._reply(session, _encode(Parts(batch)))
                batch = []
            if large:
                self._reply(session, _encode(Parts([Part(part.id, part.number, NIL)])), part.value)
            else:
                batch.append(part)
        if batch:
            self._reply(session, _encode(Parts(batch)))

    def _reply(self, session: Session, head: bytes, body: Any = None) -> None:
        if not session.outbox and self._post(session.route, head, body):
            return
        session.outbox.append((head, body))
        session.outbox_bytes += len(head) + (len(body) if body is not None else 0)
        self._clogged.add(session)

    def refuse(self, route: bytes, error: ToolringError) -> None:
        self._core.refused[error.code] = self._core.refused.get(error.code, 0) + 1
        self._post(route, _encode(Refused(error.to_wire())), None)

    # ---- whether they are there

    def probe(self, now: float) -> None:
        """Now and then: find clients that are gone, and hand over what those who don't read couldn't take before."""
        if now < self._next_probe:
            return
        self._next_probe = now + PROBE_SECONDS
        stray = now >= self._next_stray
        if stray:
            self._next_stray = now + STRAY_SECONDS
        for session in list(self._clogged):
            self._unclog(session)
        probe = _encode(Probe())
        for session in list(self._core.sessions.values()):
            if session.outbox_bytes > OUTBOX_BYTES:
                self._forget(session, now, "it does not read its answers")
            elif session.silent_since is not None:
                if now - session.silent_since > self.gone_seconds:
                    self._forget(session, now, "it is gone")
            elif session.jobs or stray or session.outbox:
                self._post(session.route, probe, None)

    def unreachable(self, route: bytes, now: float) -> None:
        """The transport has no connection to a route."""
        session = self._routes.get(route)
        if session is not None and session.silent_since is None:
            session.silent_since = now

    def _unclog(self, session: Session) -> None:
        while session.outbox and self._post(session.route, *session.outbox[0]):
            head, body = session.outbox.popleft()
            session.outbox_bytes -= len(head) + (len(body) if body is not None else 0)
        if not session.outbox:
            self._clogged.discard(session)

    def _forget(self, session: Session, now: float, why: str) -> None:
        core = self._core
        if session.jobs:
            self._core.notes.append(("client_lost", {"session": session.name, "jobs": len(session.jobs), "why": why}))
        self._endings.leave(session, now)
        core.sessions.pop(session.token, None)
        core.accounts.leave(session)
        self._routes.pop(session.route, None)
        self._clogged.discard(session)
        session.outbox.clear()
