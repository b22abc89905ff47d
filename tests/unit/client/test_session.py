"""A client's side of the wire, without a socket: what is sent, when, and what after the node or the wire was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from toolring import protocol
from toolring.client.feed import Feed, Progress
from toolring.client.session import Conversation, Pending, broken, silence
from toolring.context import at_hand
from toolring.errors import (
    Busy,
    Cancelled,
    Conflict,
    Expired,
    HelloRequired,
    InvalidArguments,
    OutcomeUnknown,
    ProtocolError,
    TooLarge,
    ToolError,
    ToolringError,
    Unreachable,
)
from toolring.protocol import (
    CALL,
    ERROR,
    INLINE,
    KEEP,
    MAX_JOBS,
    OK,
    PART_BYTES,
    PROGRESS,
    Answer,
    Answers,
    Ask,
    Bye,
    Cancel,
    Follow,
    Hello,
    Job,
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

TOOLS = [
    ToolSpec(name="read", read_only=True),
    ToolSpec(name="again", idempotent=True),
    ToolSpec(name="write"),
    ToolSpec(name="near", affinity="path"),
]


class Node:
    """Plays the node."""

    def __init__(self, conversation: Conversation, name: str = "life-1") -> None:
        self.conversation = conversation
        self.name = name

    def welcome(self, resumed: bool = False, **limits: Any) -> None:
        self.say(Welcome(1, self.name, TOOLS, {"max_body": 10_000_000, **limits}, resumed))

    def say(self, message: Any, body: bytes | None = None) -> None:
        self.conversation.receive(protocol.encode(message), body)

    def parts(self, *parts: tuple[int, int, Any], body: bytes | None = None) -> None:
        """(id, number, value) of each."""
        self.say(Parts([Part(number, count, Raw(protocol.encode(value))) for number, count, value in parts]), body)

    def answer(self, *ids: int, value: Any = "done") -> None:
        self.say(Answers([Answer(number, OK, Raw(protocol.encode(value))) for number in ids]))

    def fail(self, number: int, error: ToolringError) -> None:
        self.say(Answers([Answer(number, ERROR, Raw(protocol.encode(error.to_wire())))]))


@pytest.fixture
def talk() -> Conversation:
    return Conversation("me", clock=lambda: 0.0)


@pytest.fixture
def node(talk: Conversation) -> Node:
    """Connected, and past the welcome."""
    node = Node(talk)
    talk.messages()
    node.welcome()
    return node


def submit(
    talk: Conversation, tool: str = "write", key: str | None = None, mode: int = CALL, **arguments: Any
) -> Pending:
    pending = Pending(talk.job(tool, arguments, None, key, mode), talk.name, 60.0)
    talk.add(pending)
    return pending


def sent(talk: Conversation) -> list[Any]:
    return [protocol.decode_from_client(head) for head, _ in talk.messages()]


def jobs(talk: Conversation) -> list[int]:
    return [job.id for message in sent(talk) if isinstance(message, Submit) for job in message.jobs]


def test_hello_goes_first_and_jobs_wait_for_the_welcome(talk: Conversation) -> None:
    submit(talk)
    (hello,) = sent(talk)
    assert isinstance(hello, Hello)
    assert (hello.version, len(hello.session), hello.caller) == (1, 16, "me")
    assert hello.session.hex() == talk.name
    assert sent(talk) == []
    assert not talk.has_messages
    Node(talk).welcome()
    assert talk.has_messages
    assert jobs(talk) == [1]
    assert not talk.has_messages


def test_sessions_do_not_share_a_name() -> None:
    assert Conversation("a").name != Conversation("a").name


def test_an_answer_settles_its_job_once(talk: Conversation, node: Node) -> None:
    pending = submit(talk)
    talk.messages()
    node.answer(1, value={"x": [1, 2]})
    assert pending.settled
    assert pending.outcome() == {"x": [1, 2]}
    assert talk.settled == [pending]
    assert not talk.pending
    node.answer(1, value="again")
    node.answer(99)
    assert talk.settled == [pending]
    assert pending.outcome() == {"x": [1, 2]}


def test_an_error_is_raised_as_itself(talk: Conversation, node: Node) -> None:
    pending = submit(talk)
    node.fail(1, ToolError("it broke", type="ValueError", traceback="..."))
    with pytest.raises(ToolError, match="it broke") as caught:
        pending.outcome()
    assert caught.value.facts["type"] == "ValueError"


def test_answers_in_one_message_and_in_any_order(talk: Conversation, node: Node) -> None:
    pendings = [submit(talk, n=n) for n in range(3)]
    node.answer(3, 1, 2)
    assert talk.settled == [pendings[2], pendings[0], pendings[1]]


def test_a_large_value_comes_in_a_frame_of_its_own(talk: Conversation, node: Node) -> None:
    pending = submit(talk)
    node.say(Answers([Answer(1, OK, protocol.NIL)]), protocol.encode("x" * 100))
    assert pending.outcome() == "x" * 100


# ---- out


def test_jobs_share_messages_up_to_the_limit(talk: Conversation, node: Node) -> None:
    for _ in range(MAX_JOBS + 5):
        submit(talk)
    messages = sent(talk)
    assert [len(message.jobs) for message in messages] == [MAX_JOBS, 5]
    assert [job.id for message in messages for job in message.jobs] == list(range(1, MAX_JOBS + 6))


def test_large_arguments_travel_alone_without_a_copy(talk: Conversation, node: Node) -> None:
    submit(talk)
    large = submit(talk, data=b"x" * (INLINE + 1))
    submit(talk)
    found = talk.messages()
    assert sorted(body is not None for _, body in found) == [False, True] or len(found) == 3
    (body,) = [body for _, body in found if body is not None]
    assert bytes(body) == bytes(memoryview(large.job.args))
    for head, body in found:
        message = protocol.decode_from_client(head)
        assert isinstance(message, Submit)
        assert body is None or len(message.jobs) == 1


def test_many_bytes_are_split_below_the_limit_of_a_head(talk: Conversation, node: Node) -> None:
    for _ in range(300):
        submit(talk, data=b"x" * (INLINE - 100))
    heads = [head for head, _ in talk.messages()]
    assert max(len(head) for head in heads) < protocol.MAX_HEAD
    messages = [protocol.decode_from_client(head) for head in heads]
    assert sum(len(message.jobs) for message in messages if isinstance(message, Submit)) == 300


def test_equal_arguments_are_equal_bytes(talk: Conversation) -> None:
    one, two = (
        talk.job("read", arguments, None, None, CALL)
        for arguments in ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1})
    )
    assert bytes(one.args) == bytes(two.args)
    assert bytes(talk.job("read", None, None, None, CALL).args) == b"\x80"


def test_the_affine_argument_is_the_route(talk: Conversation, node: Node) -> None:
    def route(**arguments: Any) -> bytes:
        return talk.job("near", arguments, None, None, CALL).route

    assert route(path="a", n=1) == route(n=2, path="a") == protocol.encode("a")
    assert route(path="b") != route(path="a")
    assert 0 < len(route(path="x" * 10_000)) <= protocol.MAX_NAME
    assert route(path="x" * 10_000) != route(path="x" * 10_001)
    assert talk.job("write", {"path": "a"}, None, None, CALL).route == b""


@pytest.mark.parametrize(
    ("arguments", "timeout", "key", "error"),
    [
        ({"x": object()}, None, None, InvalidArguments),
        ({"x": 2**70}, None, None, InvalidArguments),
        ({"x": b"y" * 11_000_000}, None, None, TooLarge),
        ({}, 0.0, None, InvalidArguments),
        ({}, -1.0, None, InvalidArguments),
        ({}, float("nan"), None, InvalidArguments),
        ({}, float("inf"), None, InvalidArguments),
        ({}, None, "k" * 257, InvalidArguments),
        ({}, None, "", InvalidArguments),
        ({}, None, 5, InvalidArguments),
        ({}, None, b"key", InvalidArguments),
        ({}, None, "\udc80", InvalidArguments),
        ({}, True, None, InvalidArguments),
        ({}, 10**400, None, InvalidArguments),
    ],
)
def test_what_the_node_would_refuse_does_not_even_leave(
    talk: Conversation,
    node: Node,
    arguments: dict[str, Any],
    timeout: float | None,
    key: str | None,
    error: type[ToolringError],
) -> None:
    with pytest.raises(error):
        talk.job("write", arguments, timeout, key, CALL)
    assert jobs(talk) == []


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("timeout", [-1, 0, float("nan"), "5", True, 10**400]),
        ("queue_timeout", [0, -1, float("inf"), "1"]),
        ("priority", ["urgent", "", 1, None]),
        ("key", [5, "", b"k", "k" * 257, "\udc80"]),
        ("partition", [5, None, "p" * 257]),
        ("name", [5, None, "t" * 257]),
    ],
)
def test_an_option_that_is_wrong_is_refused_by_its_name(
    talk: Conversation, node: Node, argument: str, values: list[Any]
) -> None:
    for value in values:
        given: dict[str, Any] = {"name": "write", "timeout": None, "key": None, argument: value}
        with pytest.raises(InvalidArguments) as caught:
            talk.job(given.pop("name"), None, given.pop("timeout"), given.pop("key"), CALL, **given)
        assert caught.value.facts["argument"] == argument
    assert jobs(talk) == []


def test_an_empty_key_is_told_what_it_lacks(talk: Conversation) -> None:
    with pytest.raises(InvalidArguments, match="an idempotency key has at least one character"):
        talk.job("write", None, None, "", CALL)


def test_one_part_is_one(talk: Conversation) -> None:
    pending = submit(talk, "read")
    pending.feed = Feed(1)
    for count in ("0 parts", "1 part", "2 parts"):
        assert f"after {count} of it had come" in str(broken(pending, "lost"))
        pending.feed.number += 1


def test_arguments_that_nest_too_deeply_do_not_leave(talk: Conversation) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    try:
        with pytest.raises(ProtocolError):
            talk.job("write", {"x": deep}, None, None, CALL)
    finally:
        while deep:
            deep = deep[0]


# ---- cancelling


def test_what_has_not_left_is_cancelled_here(talk: Conversation) -> None:
    talk.messages()
    kept, pending = submit(talk), submit(talk)
    talk.cancel(pending)
    with pytest.raises(Cancelled):
        pending.outcome()
    Node(talk).welcome()
    assert jobs(talk) == [kept.job.id]


def test_what_has_left_is_cancelled_by_the_node(talk: Conversation, node: Node) -> None:
    pending = submit(talk)
    talk.messages()
    talk.cancel(pending)
    assert sent(talk) == [Cancel([1])]
    assert not pending.settled
    node.fail(1, Cancelled("cancelled by its caller"))
    with pytest.raises(Cancelled):
        pending.outcome()
    talk.cancel(pending)
    assert sent(talk) == []


# ---- the wire is lost, the node isn't


def test_the_same_node_gets_everything_again_in_order_and_what_is_new_last(talk: Conversation, node: Node) -> None:
    for tool in ("write", "read", "near"):
        submit(talk, tool)
    talk.messages()
    node.answer(2)
    node.say(Refused(HelloRequired("say hello first").to_wire()))
    submit(talk, "write")
    (hello,) = sent(talk)
    assert isinstance(hello, Hello)
    assert hello.session.hex() == talk.name
    node.welcome(resumed=True)
    assert jobs(talk) == [1, 3, 4]
    assert len(talk.settled) == 1


def test_several_refusals_lead_to_one_hello(talk: Conversation, node: Node) -> None:
    for _ in range(3):
        node.say(Refused(HelloRequired("say hello first").to_wire()))
    assert len(sent(talk)) == 1


def test_the_same_node_that_forgot_the_session(talk: Conversation, node: Node) -> None:
    """Away for too long: calls were cancelled there, perhaps in the middle. Keys and kept jobs are still known."""
    pendings = [
        submit(talk, "write"),
        submit(talk, "read"),
        submit(talk, "write", key="k"),
        submit(talk, "write", mode=KEEP),
    ]
    talk.messages()
    talk.hello_again()
    talk.messages()
    node.welcome(resumed=False)
    assert jobs(talk) == [2, 3, 4]
    assert talk.settled == [pendings[0]]
    with pytest.raises(OutcomeUnknown):
        pendings[0].outcome()


# ---- the node is lost


def test_a_new_node_gets_what_may_be_repeated_and_the_rest_is_told_as_unknown(talk: Conversation, node: Node) -> None:
    pendings = [submit(talk, tool) for tool in ("read", "write", "again", "near")]
    keyed = submit(talk, "write", key="k")
    talk.messages()
    talk.hello_again()
    talk.messages()
    Node(talk, "life-2").welcome()
    assert jobs(talk) == [1, 3]
    assert talk.node == "life-2"
    for pending in (pendings[1], pendings[3], keyed):
        with pytest.raises(OutcomeUnknown) as caught:
            pending.outcome()
        assert caught.value.facts["cause"] == "node lost"
    assert not pendings[0].settled


def test_what_was_sent_to_code_that_may_not_be_repeated_is_not_whatever_comes_after(
    talk: Conversation, node: Node
) -> None:
    write = next(spec for spec in talk.tools.values() if spec.name == "write")
    pending = submit(talk, "write")
    talk.messages()
    better = [msgspec.structs.replace(write, idempotent=True)]
    node.say(Tools(better))
    later = submit(talk, "write")
    talk.messages()
    talk.hello_again()
    talk.messages()
    node.say(Welcome(1, "life-2", better, {}))
    assert jobs(talk) == []
    for one in (pending, later):
        with pytest.raises(OutcomeUnknown):
            one.outcome()
    node.say(Tools(better))  # nothing is under way that is older
    last = submit(talk, "write")
    talk.messages()
    talk.hello_again()
    talk.messages()
    node.say(Welcome(1, "life-3", better, {}))
    assert jobs(talk) == [3]
    assert not last.settled


def test_what_never_left_is_not_unknown(talk: Conversation, node: Node) -> None:
    talk.hello_again()
    pending = submit(talk, "write")
    talk.messages()
    Node(talk, "life-2").welcome()
    assert not pending.settled
    assert jobs(talk) == [1]


def test_a_tool_that_the_new_node_lacks_is_not_repeated(talk: Conversation, node: Node) -> None:
    pending = submit(talk, "read")
    talk.messages()
    talk.hello_again()
    talk.messages()
    node.say(Welcome(1, "life-2", [], {}))
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


def test_a_cancelled_job_that_is_sent_again_is_cancelled_again(talk: Conversation, node: Node) -> None:
    first, other = submit(talk, "read"), submit(talk, "read")
    talk.cancel(other)
    talk.messages()
    talk.cancel(first)
    talk.messages()
    talk.hello_again()
    talk.messages()
    Node(talk, "life-2").welcome()
    assert [type(message) for message in sent(talk)] == [Submit, Cancel]


def test_what_is_sent_again_has_the_time_that_is_left(talk: Conversation, node: Node) -> None:
    soon, late = submit(talk, "read"), submit(talk, "read")
    soon.deadline, late.deadline = 2.5, -0.5
    talk.messages()
    talk.hello_again()
    talk.messages()
    Node(talk, "life-2").welcome()
    (again,) = sent(talk)
    assert [(job.id, job.timeout) for job in again.jobs] == [(1, 2.5)]
    with pytest.raises(Expired):
        late.outcome()


def test_goodbye_and_questions_leave_behind_the_jobs_that_were_submitted_before(talk: Conversation, node: Node) -> None:
    submit(talk, "write")
    talk.ask("status")
    submit(talk, "write")
    talk.bye()
    assert [type(message).__name__ for message in sent(talk)] == ["Submit", "Ask", "Submit", "Bye"]


def test_a_question_is_asked_again_after_a_reconnect(talk: Conversation, node: Node) -> None:
    number = talk.ask("status")
    talk.messages()
    talk.hello_again()
    talk.messages()
    Node(talk, "life-2").welcome()
    assert [type(message).__name__ for message in sent(talk)] == ["Ask"]
    node.say(Told(number, {"state": "healthy"}))
    assert talk.asked[number] == {"state": "healthy"}


def test_a_refused_hello_is_told_once_and_said_again(talk: Conversation) -> None:
    talk.messages()
    Node(talk).say(Refused(Busy("full", retry_after=1.0).to_wire()))
    assert isinstance(talk.refused(), Busy)
    assert talk.refused() is None
    assert talk.has_messages


def test_a_verb_of_a_later_version_is_passed_over(talk: Conversation, node: Node) -> None:
    talk.receive(b"\x92\xa4what\x01")
    assert not talk.settled


# ---- the rest


def test_refusals_are_kept_for_whoever_waits(talk: Conversation, node: Node) -> None:
    node.say(Refused(Conflict("no").to_wire()))
    assert isinstance(talk.refusal, Conflict)
    node.say(Refused(Busy("full", retry_after=2.0).to_wire()))
    assert talk.refusal is not None
    assert talk.refusal.facts == {"retry_after": 2.0}


def test_a_refusal_before_the_welcome_is_no_reason_for_a_second_hello(talk: Conversation) -> None:
    talk.messages()
    Node(talk).say(Refused(HelloRequired("say hello first").to_wire()))
    assert sent(talk) == []


def test_questions_have_numbers_of_their_own(talk: Conversation, node: Node) -> None:
    submit(talk)
    one, two = talk.ask("status"), talk.ask("job", {"job": "x"})
    assert one != two
    assert [message for message in sent(talk) if isinstance(message, Ask)] == [
        Ask(one, "status"),
        Ask(two, "job", {"job": "x"}),
    ]
    node.say(Told(two, {"state": "done"}))
    node.say(Told(777, "nobody asked"))
    assert talk.asked == {one: None, two: {"state": "done"}}


def test_pongs_and_probes_mean_nothing(talk: Conversation, node: Node) -> None:
    talk.ping()
    assert sent(talk) == [Ping()]
    node.say(Pong())
    node.say(Probe())
    assert not talk.settled


def test_goodbye_is_said_to_those_who_said_welcome(talk: Conversation) -> None:
    talk.bye()
    assert not [message for message in sent(talk) if isinstance(message, Bye)]
    Node(talk).welcome()
    talk.bye()
    assert sent(talk) == [Bye()]


def test_an_abandoned_job_has_no_answer(talk: Conversation, node: Node) -> None:
    pending = submit(talk)
    talk.messages()
    talk.abandon(pending)
    node.answer(1)
    assert not pending.settled
    assert not talk.settled


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\x05", b"\x92\xa7answers\x05", b"\x91" * 100_000])
def test_garbage_from_the_node_is_a_protocol_error(talk: Conversation, data: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        talk.receive(data)


def test_a_job_says_who_it_is_and_how_it_went(talk: Conversation, node: Node) -> None:
    pending = submit(talk)
    assert pending.id == f"{talk.name}-1"
    assert (pending.cached, pending.replayed, pending.run_seconds) == (False, False, None)
    node.say(Answers([Answer(1, OK, Raw(b"\x01"), 1500, protocol.CACHED | protocol.REPLAYED)]))
    assert (pending.cached, pending.replayed, pending.run_seconds) == (True, True, 0.0015)


def test_an_error_of_this_side_is_raised_too(talk: Conversation) -> None:
    pending = submit(talk)
    pending.error = Unreachable("nobody there")
    assert pending.settled
    with pytest.raises(Unreachable):
        pending.outcome()


def test_unknown_elements_of_a_newer_node_are_ignored(talk: Conversation) -> None:
    talk.messages()
    talk.receive(msgspec.msgpack.encode(["welcome", 1, "n", [{"name": "x", "newer": 1}], {"newer": 2}, False, "newer"]))
    assert talk.welcomed
    assert "x" in talk.tools
    assert isinstance(submit(talk, "x").job, Job)


# ---- what comes before an answer


def follow(talk: Conversation, tool: str = "read", window: int = 1000, progress: bool = False) -> Pending:
    """A job whose parts, or progress, somebody wants."""
    feed = Feed(window)
    job = talk.job(tool, {}, None, None, CALL, follow=feed.follow(progress, None))
    pending = Pending(job, talk.name, 60.0, feed=feed)
    talk.add(pending)
    return pending


def taken(pending: Pending) -> list[Any]:
    assert pending.feed is not None
    return [pending.feed.take() for _ in range(len(pending.feed.parts))]


def test_parts_go_to_the_jobs_whose_callers_want_them(talk: Conversation, node: Node) -> None:
    one, other, nobodys = follow(talk), follow(talk), submit(talk)
    node.parts((1, 1, "a"), (2, 1, "x"), (3, 1, "nobody asked"), (77, 1, "nobody there"), (1, 2, "b"))
    assert (taken(one), taken(other)) == (["a", "b"], ["x"])
    assert nobodys.feed is None
    assert talk.told == [one, other, one]
    assert not talk.settled
    node.answer(1)
    node.parts((1, 3, "too late"))
    assert taken(one) == []


def test_a_large_part_comes_in_a_frame_of_its_own(talk: Conversation, node: Node) -> None:
    pending = follow(talk)
    node.parts((1, 1, None), body=protocol.encode("x" * 100))
    assert taken(pending) == ["x" * 100]


def test_progress_is_told_and_kept(talk: Conversation, node: Node) -> None:
    pending = follow(talk, window=0, progress=True)
    assert pending.progress is None
    node.parts((1, PROGRESS, [1, 2, "half"]), (1, PROGRESS, [2, 2, ""]))
    assert pending.progress == Progress(2, 2, "")
    assert talk.told[-1] is pending
    assert submit(talk).progress is None


@pytest.mark.parametrize("value", [[1], 5, None, "abcd"])
def test_a_word_of_progress_that_is_none_is_a_protocol_error(talk: Conversation, node: Node, value: Any) -> None:
    follow(talk, window=0, progress=True)
    with pytest.raises(ProtocolError, match="malformed"):
        node.parts((1, PROGRESS, value))


def test_more_is_said_once_enough_was_taken(talk: Conversation, node: Node) -> None:
    size = PART_BYTES + 1
    pending = follow(talk, window=4 * size)
    talk.messages()
    said = []
    for number in range(1, 7):
        node.parts((1, number, 1))
        taken(pending)
        talk.more(pending)
        said.append(sent(talk))
    assert said == [[], [More(1, 6 * size)], [], [More(1, 8 * size)], [], [More(1, 10 * size)]]
    node.parts((1, 7, 1), (1, 8, 1))
    node.answer(1)
    taken(pending)
    talk.more(pending)
    talk.more(submit(talk, "write"))
    assert jobs(talk) == [2], "nothing more is wanted of a job that is over, and of one that tells nothing"


@pytest.mark.parametrize("idle", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_an_idle_time_is_a_number_of_seconds(talk: Conversation, node: Node, idle: Any) -> None:
    with pytest.raises(InvalidArguments, match="idle_timeout") as caught:
        talk.job("read", {}, None, None, CALL, follow=Follow(0, False, idle))
    assert caught.value.facts["argument"] == "idle_timeout"
    assert talk.job("read", {}, None, None, CALL, follow=Follow(0, True, 5)).follow == Follow(0, True, 5.0)


# ---- a stream under way when the connection is lost


SAME: tuple[str, bool] = ("life-1", True)
FORGOTTEN: tuple[str, bool] = ("life-1", False)
OTHER: tuple[str, bool] = ("life-2", False)


def again(talk: Conversation, life: tuple[str, bool]) -> list[Any]:
    """Reconnect; what is said after the welcome."""
    talk.hello_again()
    talk.messages()
    Node(talk, life[0]).welcome(resumed=life[1])
    return sent(talk)


def a_part(node: Node) -> None:
    node.parts((1, 1, "a"))


def a_word(node: Node) -> None:
    node.parts((1, PROGRESS, [1, 2, ""]))


def nothing(node: Node) -> None: ...


@pytest.mark.parametrize(
    ("tool", "came", "life", "outcome"),
    [
        ("read", nothing, SAME, "sent again"),
        ("read", nothing, FORGOTTEN, "sent again"),
        ("read", nothing, OTHER, "sent again"),
        ("write", nothing, SAME, "sent again"),
        ("write", nothing, FORGOTTEN, "node lost"),
        ("write", nothing, OTHER, "node lost"),
        ("read", a_word, OTHER, "sent again"),
        ("write", a_word, OTHER, "node lost"),
        ("read", a_part, SAME, "connection lost"),
        ("read", a_part, FORGOTTEN, "connection lost"),
        ("read", a_part, OTHER, "connection lost"),
        ("write", a_part, SAME, "connection lost"),
    ],
)
def test_a_stream_begins_anew_only_as_long_as_nothing_of_it_has_come(
    talk: Conversation, node: Node, tool: str, came: Callable[[Node], None], life: tuple[str, bool], outcome: str
) -> None:
    pending = follow(talk, tool, progress=True)
    talk.messages()
    came(node)
    said = again(talk, life)
    if outcome == "sent again":
        ((job,),) = [message.jobs for message in said]
        assert (job.id, job.follow, job.timeout) == (1, Follow(1000, True), 60.0)
        assert not pending.settled
        return
    with pytest.raises(OutcomeUnknown) as caught:
        pending.outcome()
    assert caught.value.facts["cause"] == outcome
    assert talk.settled == [pending]
    assert not talk.pending
    if outcome == "connection lost":
        assert (caught.value.facts["parts"], caught.value.facts["job"]) == (1, pending.id)
        assert taken(pending) == ["a"], "what has come can be read"
        assert said == ([Cancel([1])] if life[0] == "life-1" else []), "the node that runs it is to end it"
    else:
        assert said == []


def test_what_the_node_sees_counts_up_whatever_becomes_of_a_stream(talk: Conversation, node: Node) -> None:
    """An id below the highest is taken for a job that is sent again."""
    for _ in range(2):
        submit(talk, "read")
    broken_off = follow(talk)
    submit(talk, "read")
    talk.messages()
    node.parts((3, 1, "a"))
    talk.hello_again()
    submit(talk, "write")
    talk.messages()
    node.welcome(resumed=True)
    said = sent(talk)
    assert [job.id for message in said if isinstance(message, Submit) for job in message.jobs] == [1, 2, 4, 5]
    assert [message for message in said if isinstance(message, Cancel)] == [Cancel([3])]
    assert broken_off.settled


def test_a_cancelled_stream_that_is_broken_off_is_cancelled_once(talk: Conversation, node: Node) -> None:
    pending = follow(talk)
    talk.messages()
    node.parts((1, 1, "a"))
    talk.cancel(pending)
    talk.messages()
    assert again(talk, SAME) == [Cancel([1])]
    assert pending.settled


def test_parts_that_went_astray_are_noticed(talk: Conversation, node: Node) -> None:
    """They had been sent on the connection that was lost; the node goes on with those that follow."""
    pending = follow(talk)
    talk.messages()
    assert [type(message) for message in again(talk, SAME)] == [Submit]
    node.parts((1, 3, "c"))
    assert pending.feed is not None
    assert pending.feed.lost
    error = broken(pending, "some were lost")
    assert (error.facts["parts"], error.facts["tool"], error.facts["job"]) == (1, "read", pending.id)


@pytest.mark.parametrize(("tool", "kind"), [("read", Expired), ("write", OutcomeUnknown), ("nope", OutcomeUnknown)])
def test_a_node_that_is_silent_for_too_long_is_gone(
    talk: Conversation, node: Node, tool: str, kind: type[ToolringError]
) -> None:
    error = silence(talk, submit(talk, tool), "ipc:///x")
    assert type(error) is kind
    assert error.facts == {"tool": tool, "job": f"{talk.name}-1", "cause": "node lost"}


# ---- calls that a tool makes


@pytest.mark.parametrize(
    ("left", "timeout", "default", "expected"),
    [
        (None, None, 60.0, None),
        (None, 5.0, 60.0, 5.0),
        (50.0, 5.0, 60.0, 5.0),
        (50.0, 500.0, 60.0, 50.0),
        (50.0, None, 60.0, 50.0),
        (50.0, None, 20.0, 20.0),
        (50.0, None, None, 50.0),
        (-1.0, None, 60.0, Expired),
        (-1.0, 5.0, 60.0, Expired),
        (float("inf"), None, 60.0, None),
        (float("inf"), 5.0, 60.0, 5.0),
    ],
)
@pytest.mark.parametrize("chunk", [False, True])
def test_a_call_that_a_tool_makes_has_at_most_the_tools_own_time(
    talk: Conversation,
    monkeypatch: pytest.MonkeyPatch,
    left: float | None,
    timeout: float | None,
    default: float | None,
    expected: Any,
    chunk: bool,
) -> None:
    talk.messages()
    limits: dict[str, Any] = {} if default is None else {"default_timeout": default}
    Node(talk).welcome(**limits)
    job_at_hand = None if left is None else SimpleNamespace(deadline=time.monotonic() + left, trace="")
    monkeypatch.setattr(at_hand, "job", job_at_hand)

    def job() -> Job:
        if chunk:
            return talk.chunk("read", [{}, {}], timeout, "", "normal")
        return talk.job("read", {}, timeout, None, CALL)

    if expected is Expired:
        with pytest.raises(Expired, match="not called"):
            job()
        return
    found = job().timeout
    if expected is None:
        assert found is None or found == default, "as if no tool had called"
    else:
        assert found is not None
        assert expected - 1 < found <= expected
