"""Both ends of the client's wire, joined by two lists: the conversation of the SDK and the node's half."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.simulation import Node
from tests.unit.supervisor.steps import memory_of
from toolring import protocol
from toolring.calls import alone
from toolring.client.session import Conversation, Pending
from toolring.config import Config, Loaded
from toolring.errors import ToolringError
from toolring.protocol import CALL, INLINE, KEEP, Bye, Hello, Ping, Pong, Probe, Refused, Submit
from toolring.supervisor.admin import Admin
from toolring.supervisor.clients import GONE_SECONDS, OUTBOX_BYTES, PROBE_SECONDS, Clients
from toolring.supervisor.errands import Errands
from toolring.supervisor.ledger import Session
from toolring.supervisor.looks import Looks
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services

ROUTE = b"\0route"


class Wire(Node):
    """A node whose clients are at the end of a wire; what it posts is in ``out``."""

    def __init__(self) -> None:
        super().__init__(clients=0)
        for served in self.core.tools.values():
            served.observe(10)
        self.admin = Admin(
            self.core,
            self.watch,
            "here",
            {"pid": 1},
            Loaded(Config(), {}),
            Services({}, alone()),
            memory_of(self),
            Looks(self.core.fleet, Path(), lambda _pid, _number: None, lambda _pid: False),
            Results(None, "here", 600.0),
        )
        self.errands = Errands(lambda why: None)
        self.served = Clients(self.core, self.watch.endings, self.admin, self.errands, "here", self.post)
        self.out: list[tuple[bytes, bytes, Any]] = []
        self.full: set[bytes] = set()
        self.gone: set[bytes] = set()

    def post(self, route: bytes, head: bytes, body: Any) -> bool:
        if route in self.gone:
            self.served.unreachable(route, self.now)
            return False
        if route in self.full:
            return False
        self.out.append((route, head, body))
        return True

    def tell(self, session: Session) -> None:
        self.served.deliver(session)

    def handle(self, message: Any, route: bytes = ROUTE, body: bytes | None = None) -> None:
        head = message if isinstance(message, bytes) else protocol.encode(message)
        self.served.handle(route, head, None if body is None else zmq.Frame(body), self.now)
        self.turn()

    def told(self, route: bytes = ROUTE) -> list[Any]:
        """What a route was told since it was last asked."""
        found = [protocol.decode_from_node(head) for to, head, _ in self.out if to == route]
        self.out = [post for post in self.out if post[0] != route]
        return found

    def work(self, size: int = 0) -> None:
        for _ in range(2):
            for worker in list(self.workers.values()):
                worker.outcome = ("ok", 10, size)
                while worker.step() or worker.sent:
                    while worker.sent:
                        self.deliver(worker)


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def hello(number: int = 1, version: int = protocol.VERSION) -> Hello:
    return Hello(version, bytes([number]) * 16, "me")


def codes(told: list[Any]) -> list[str]:
    return [message.error["code"] for message in told if isinstance(message, Refused)]


def carry(wire: Wire, conversation: Conversation, route: bytes = ROUTE) -> None:
    """Everything that is under way arrives."""
    while conversation.has_messages or any(to == route for to, _, _ in wire.out):
        for head, body in conversation.messages():
            wire.handle(head, route, None if body is None else bytes(body))
        for to, head, body in wire.out:
            if to == route:
                conversation.receive(head, body)
        wire.out = [post for post in wire.out if post[0] != route]


def call(conversation: Conversation, tool: str, n: int = 1, size: int = 0, mode: int = CALL) -> Pending:
    job = conversation.job(tool, {"n": n, "pad": b"x" * size}, None, None, mode)
    pending = Pending(job, conversation.name, time.monotonic() + 60)
    conversation.add(pending)
    return pending


def test_a_call_from_end_to_end(wire: Wire) -> None:
    conversation = Conversation("me")
    small, large = call(conversation, "read", 1), call(conversation, "write", 2, INLINE + 10)
    carry(wire, conversation)
    wire.work()
    carry(wire, conversation)
    assert (small.outcome()["n"], large.outcome()["n"]) == (1, 2)
    assert conversation.node == "here"
    assert set(conversation.tools) == {
        "again",
        "brittle",
        "supple",
        "few",
        "polite",
        "slow",
        "read",
        "write",
        "near",
        "push",
        "brief",
        "cached",
    }


def test_a_large_result_travels_in_a_frame_of_its_own(wire: Wire) -> None:
    conversation = Conversation("me")
    pending = call(conversation, "read")
    carry(wire, conversation)
    wire.work(size=INLINE + 10)
    assert [len(body) > INLINE for _, _, body in wire.out if body is not None] == [True]
    carry(wire, conversation)
    assert len(pending.outcome()["pad"]) == INLINE + 10


def test_nothing_is_heard_before_hello(wire: Wire) -> None:
    wire.handle(Ping())
    wire.handle(Submit([]))
    assert codes(wire.told()) == ["HELLO_REQUIRED", "HELLO_REQUIRED"]
    wire.handle(hello())
    wire.handle(Ping(3))
    welcome, pong = wire.told()
    assert not welcome.resumed
    assert pong == Pong(3)


@pytest.mark.parametrize("bad", [hello(version=2), Hello(1, b"short", "me"), Hello(1, b"x" * 16, "c" * 257)])
def test_a_hello_that_does_not_fit_is_refused(wire: Wire, bad: Hello) -> None:
    wire.handle(bad)
    assert codes(wire.told()) == ["PROTOCOL"]
    assert not wire.core.sessions


def test_a_session_goes_on_over_a_new_connection(wire: Wire) -> None:
    wire.handle(hello(), b"old")
    wire.handle(hello(), b"new")
    (welcome,) = wire.told(b"new")
    assert welcome.resumed
    wire.handle(Ping(), b"old")
    assert codes(wire.told(b"old")) == ["HELLO_REQUIRED"]
    assert len(wire.core.sessions) == 1


def test_answers_go_where_the_session_is_now(wire: Wire) -> None:
    conversation = Conversation("me")
    pending = call(conversation, "write")
    carry(wire, conversation, b"old")
    conversation.hello_again()
    carry(wire, conversation, b"new")
    wire.work()
    assert wire.told(b"old") == []
    carry(wire, conversation, b"new")
    assert pending.outcome()["n"] == 1
    assert len(wire.runs) == 1


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81", b"\x80\x80", b"\x91" * 5000])
def test_a_short_second_frame_that_is_not_one_value_is_refused(wire: Wire, body: bytes) -> None:
    wire.handle(hello())
    wire.told()
    wire.handle(Submit([protocol.Job(1, "read", protocol.NIL)]), body=body)
    assert codes(wire.told())[0] in ("PROTOCOL", "TOO_DEEP")
    assert wire.core.in_hand() == 0


def test_a_second_frame_belongs_to_one_job(wire: Wire) -> None:
    wire.handle(hello())
    wire.told()
    two = [protocol.Job(number, "read", protocol.NIL) for number in (1, 2)]
    wire.handle(Submit(two), body=b"\x80")
    assert codes(wire.told()) == ["PROTOCOL"]


def test_a_head_that_is_too_large_is_refused(wire: Wire) -> None:
    wire.handle(b"\0" * (protocol.MAX_HEAD + 1))
    assert codes(wire.told()) == ["TOO_LARGE"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60), st.none() | st.binary(max_size=20))
def test_garbage_is_refused_to_its_sender_and_hurts_nobody(wire: Wire, head: bytes, body: bytes | None) -> None:
    wire.handle(hello())
    wire.told()
    wire.handle(head, body=body)
    wire.handle(Ping(9))
    assert wire.told()[-1] == Pong(9)


def test_goodbye_cancels_calls_at_once_and_keeps_what_was_submitted(wire: Wire) -> None:
    conversation = Conversation("me")
    call(conversation, "read")
    call(conversation, "write", mode=KEEP)
    carry(wire, conversation)
    wire.handle(Bye())
    assert not wire.core.sessions
    wire.work()
    assert {run.tool for run in wire.runs} == {"write"}


def test_a_client_that_is_gone_is_forgotten_after_a_while(wire: Wire) -> None:
    conversation = Conversation("me")
    call(conversation, "read")
    carry(wire, conversation)
    wire.gone.add(ROUTE)
    wire.served.probe(wire.now)
    assert wire.core.sessions, "it may come back"
    wire.now += GONE_SECONDS + PROBE_SECONDS
    wire.served.probe(wire.now)
    assert not wire.core.sessions
    assert wire.core.in_hand() == 0


def test_a_client_that_comes_back_in_time_is_not_forgotten(wire: Wire) -> None:
    conversation = Conversation("me")
    pending = call(conversation, "write")
    carry(wire, conversation)
    wire.gone.add(ROUTE)
    wire.served.probe(wire.now)
    wire.work()
    wire.now += GONE_SECONDS - 0.1
    conversation.hello_again()
    carry(wire, conversation, b"new")
    wire.now += PROBE_SECONDS
    wire.served.probe(wire.now)
    carry(wire, conversation, b"new")
    assert pending.outcome()["n"] == 1


def test_who_does_not_read_gets_it_later_and_others_now(wire: Wire) -> None:
    slow, quick = Conversation("slow"), Conversation("quick")
    carry(wire, slow, b"slow")
    late, soon = call(slow, "read", 1), call(quick, "read", 2)
    carry(wire, slow, b"slow")
    carry(wire, quick, b"quick")
    wire.full.add(b"slow")
    wire.work()
    carry(wire, quick, b"quick")
    assert soon.outcome()["n"] == 2
    assert not late.settled
    wire.full.clear()
    wire.served.probe(wire.now)
    carry(wire, slow, b"slow")
    assert late.outcome()["n"] == 1


def test_who_never_reads_is_dropped_in_the_end(wire: Wire) -> None:
    wire.handle(hello())
    wire.full.add(ROUTE)
    (session,) = wire.core.sessions.values()
    wire.handle(Ping())
    session.outbox_bytes = OUTBOX_BYTES + 1
    wire.served.probe(wire.now)
    assert not wire.core.sessions


def test_a_probe_asks_only_those_who_wait(wire: Wire) -> None:
    wire.served.probe(wire.now)
    idle, busy = Conversation("idle"), Conversation("busy")
    carry(wire, idle, b"idle")
    call(busy, "read")
    carry(wire, busy, b"busy")
    wire.now += PROBE_SECONDS
    wire.served.probe(wire.now)
    assert [type(told) for told in wire.told(b"busy")] == [Probe]
    assert wire.told(b"idle") == []


def test_questions_are_answered(wire: Wire) -> None:
    conversation = Conversation("me")
    carry(wire, conversation)
    status = conversation.ask("status")
    unknown = conversation.ask("weather")
    job = conversation.ask("job", {"job": "nobody-1"})
    carry(wire, conversation)
    assert conversation.asked[status]["node"] == "here"
    assert conversation.asked[status]["clients"] == 1
    assert [worker["state"] for worker in conversation.asked[status]["workers"]] == ["starting"] * 3
    assert conversation.asked[unknown]["error"]["code"] == "PROTOCOL"
    assert conversation.asked[job]["error"]["code"] == "UNKNOWN_JOB"


def test_a_job_is_followed_by_its_name(wire: Wire) -> None:
    conversation = Conversation("me")
    pending = call(conversation, "write", mode=KEEP)
    states = []

    def ask() -> None:
        number = conversation.ask("job", {"job": pending.id})
        carry(wire, conversation)
        states.append(conversation.asked[number]["state"])

    carry(wire, conversation)
    ask()
    wire.work()
    ask()
    assert states == ["queued", "done"]


def test_cancelling_what_is_unknown_is_nothing(wire: Wire) -> None:
    wire.handle(hello())
    wire.told()
    wire.handle(protocol.Cancel([1, 2**40, -3]))
    assert wire.told() == []


def test_a_refused_client_can_tell_why(wire: Wire) -> None:
    wire.core.limits = wire.core.limits._replace(clients=0)
    conversation = Conversation("me")
    carry(wire, conversation)
    assert isinstance(conversation.refusal, ToolringError)
    assert conversation.refusal.code == "BUSY"
