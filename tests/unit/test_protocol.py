from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from toolring import protocol
from toolring.errors import ProtocolError, TooDeep
from toolring.protocol import (
    Answer,
    Answers,
    Ask,
    Batch,
    Cancel,
    Done,
    Follow,
    Halt,
    Hello,
    Job,
    Leaving,
    Loads,
    More,
    Part,
    Parts,
    Ping,
    Ready,
    Stop,
    Submit,
    Welcome,
    Work,
)
from toolring.spec import ToolSpec

numbers = st.integers(0, 2**63 - 1)
raws = st.one_of(st.none(), st.integers(-5, 300), st.text(max_size=9), st.binary(max_size=9)).map(
    lambda v: Raw(protocol.encode(v))
)
jobs = st.builds(
    Job,
    id=numbers,
    tool=st.text(max_size=9),
    args=raws,
    timeout=st.none() | st.floats(0.001, 1e6),
    route=st.binary(max_size=9),
    key=st.text(max_size=9),
    mode=st.sampled_from([0, 1]),
    partition=st.text(max_size=9),
    chunk=st.integers(0, 9),
    follow=st.none()
    | st.builds(Follow, stream=numbers, progress=st.booleans(), idle=st.none() | st.floats(0.001, 1e6)),
)
from_clients = st.one_of(
    st.builds(
        Hello, version=st.integers(0, 9), session=st.binary(min_size=16, max_size=16), caller=st.text(max_size=9)
    ),
    st.builds(Submit, jobs=st.lists(jobs, max_size=4)),
    st.builds(Cancel, ids=st.lists(numbers, max_size=4)),
    st.builds(Ping, token=numbers),
    st.builds(More, id=numbers, granted=numbers),
    st.builds(
        Ask,
        request=numbers,
        what=st.text(max_size=9),
        params=st.dictionaries(st.text(max_size=4), st.integers(0, 9), max_size=2),
    ),
)


@given(from_clients)
def test_messages_of_clients_come_out_as_they_went_in(message: Any) -> None:
    again = protocol.decode_from_client(protocol.encode(message))
    assert type(again) is type(message)
    assert protocol.encode(again) == protocol.encode(message)


@given(
    st.lists(
        st.builds(
            Answer, id=numbers, status=st.sampled_from([0, 1, 2]), value=raws, run_us=numbers, flags=st.integers(0, 3)
        ),
        max_size=5,
    )
)
def test_answers_come_out_as_they_went_in(answers: list[Answer]) -> None:
    encoded = protocol.encode(Answers(answers))
    assert protocol.encode(protocol.decode_from_node(encoded)) == encoded
    assert protocol.encode(protocol.decode_answer_list(protocol.encode(answers))) == protocol.encode(answers)
    done = protocol.decode_from_worker(protocol.encode(Done(answers)))
    assert isinstance(done, Done)
    assert [a.id for a in done.answers] == [a.id for a in answers]


def test_messages_between_supervisor_and_worker() -> None:
    batch = Batch(5, [Work("tool", Raw(b"\x80"), 1.5, "ab", 7, 2)])
    again = protocol.decode_from_supervisor(protocol.encode(batch))
    assert isinstance(again, Batch)
    assert (again.first, again.work[0].deadline, bytes(again.work[0].args)) == (5, 1.5, b"\x80")
    assert isinstance(protocol.decode_from_supervisor(protocol.encode(Stop())), Stop)
    assert protocol.decode_from_worker(protocol.encode(Ready(3))) == Ready(3)
    assert protocol.decode_from_worker(protocol.encode(Loads({"rss": 1}))) == Loads({"rss": 1})
    assert isinstance(protocol.decode_from_worker(protocol.encode(Leaving())), Leaving)
    for message in (Halt([1, 2]), More(5, 100)):
        assert protocol.decode_from_supervisor(protocol.encode(message)) == message


@given(st.lists(st.builds(Part, id=numbers, number=st.integers(-1, 2**63 - 1), value=raws), max_size=5))
def test_parts_go_from_worker_to_client_as_they_are(parts: list[Part]) -> None:
    encoded = protocol.encode(Parts(parts))
    assert protocol.encode(protocol.decode_from_worker(encoded)) == encoded
    assert protocol.encode(protocol.decode_from_node(encoded)) == encoded


def test_a_spec_travels_in_a_welcome() -> None:
    spec = ToolSpec(name="x", parameters={"type": "object"}, read_only=True, timeout=1.5, cache=60.0, affinity="p")
    welcome = protocol.decode_from_node(protocol.encode(Welcome(1, "node", [spec], {"max_body": 5})))
    assert isinstance(welcome, Welcome)
    assert welcome.tools == [spec]


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_worse(data: bytes) -> None:
    with suppress(ProtocolError):
        protocol.decode_from_client(data)


@given(from_clients, st.data())
def test_a_damaged_message_is_refused_or_read_and_nothing_worse(message: Any, data: st.DataObject) -> None:
    encoded = bytearray(protocol.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for broken in (bytes(encoded), bytes(encoded[:cut])):
        try:
            protocol.decode_from_client(broken)
        except ProtocolError:
            pass


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.sampled_from(["hello", "submit", "cancel", "more", "ping", "ask", "done", "parts", "nothing"]),
    st.lists(values, max_size=5),
)
def test_a_verb_with_anything_behind_it(verb: str, rest: list[Any]) -> None:
    try:
        protocol.decode_from_client(msgspec.msgpack.encode([verb, *rest]))
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x90",
        b"\xdd\xff\xff\xff\xff",
        b"\x92\xa6submit\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffx",
        b"\x94\xa3ask\x01\xa1x\x81\xa1p\x81\x80\x01",
        b"\x94\xa3ask\x01\xa1x\x81\xa1p\xc7\x0c\xff" + b"\xff" * 12,
        b"\x92\xa4ping\xa2\xff\xfe",
        b"\x93\xa5hello\x01\xc4\x00",
    ],
)
def test_known_tricks(data: bytes) -> None:
    with suppress(ProtocolError):
        assert isinstance(protocol.decode_from_client(data), Hello)


def test_deep_nesting_is_refused_as_such() -> None:
    with pytest.raises(TooDeep):
        protocol.decode_from_client(b"\x94\xa3ask\x01\xa1x\x81\xa1p" + b"\x91" * 200_000 + b"\xc0")


def test_deep_arguments_do_not_hurt_who_passes_them_on() -> None:
    head = b"\x92\xa6submit\x91\x93\x01\xa1t" + b"\x91" * 200_000 + b"\xc0"
    with pytest.raises(ProtocolError):
        protocol.decode_from_client(head)


def test_new_trailing_elements_are_ignored() -> None:
    """So that fields may be added without a new version."""
    message = protocol.decode_from_client(msgspec.msgpack.encode(["ping", 7, "new", {"field": 1}]))
    assert message == Ping(7)
    job = ["submit", [[1, "tool", {"a": 1}, None, b"", "", 0, "new"]], "new"]
    assert isinstance(protocol.decode_from_client(msgspec.msgpack.encode(job)), Submit)


def test_arguments_stay_as_they_came() -> None:
    """Undecoded, byte for byte: even an encoding that we would not have chosen."""
    odd = b"\xde\x00\x01\xd9\x01a\xcf\x00\x00\x00\x00\x00\x00\x00\x01"
    message = protocol.decode_from_client(b"\x92\xa6submit\x91\x93\x01\xa1t" + odd)
    assert isinstance(message, Submit)
    assert bytes(message.jobs[0].args) == odd


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (Job(1, "t" * 257, Raw(b"\x80")), "at most 256"),
        (Job(1, "t", Raw(b"\x80"), key="k" * 257), "at most 256"),
        (Job(1, "t", Raw(b"\x80"), route=b"r" * 257), "at most 256"),
        (Job(1, "t", Raw(b"\x80"), timeout=0.0), "not a positive"),
        (Job(1, "t", Raw(b"\x80"), timeout=-1.0), "not a positive"),
        (Job(1, "t", Raw(b"\x80"), timeout=float("nan")), "not a positive"),
        (Job(1, "t", Raw(b"\x80"), queue_timeout=0.0), "queue_timeout 0.0 is not a positive"),
        (Job(1, "t", Raw(b"\x80"), partition="p" * 257), "at most 256"),
        (Job(1, "t", Raw(b"\x80"), priority=2), "none of -1 to 1"),
        (Job(1, "t", Raw(b"\x80"), chunk=-1), "a chunk of -1 calls"),
        (Job(1, "t", Raw(b"\x80"), chunk=65_537), "the limit is 65536"),
        (Job(1, "t", Raw(b"\x80"), follow=Follow(stream=-1)), "-1 bytes of parts"),
        (Job(1, "t", Raw(b"\x80"), key="k", follow=Follow(stream=1)), "a stream is one call"),
        (Job(1, "t", Raw(b"\x80"), mode=1, follow=Follow(stream=1)), "a stream is one call"),
        (Job(1, "t", Raw(b"\x80"), chunk=2, follow=Follow(stream=1)), "a stream is one call"),
        (Job(1, "t", Raw(b"\x80"), follow=Follow(idle=0.0)), "idle 0.0 is not a positive"),
        (Job(1, "t", Raw(b"\x80"), follow=Follow(idle=-1.0)), "idle -1.0 is not a positive"),
        (Job(1, "t", Raw(b"\x80"), follow=Follow(100, True, float("nan"))), "idle nan is not a positive"),
    ],
)
def test_jobs_that_are_refused(job: Job, why: str) -> None:
    good = Job(2, "t", Raw(b"\x80"))
    refusal = protocol.refuse_jobs([good, job])
    assert refusal is not None
    assert why in str(refusal)
    assert "job 1: " in str(refusal)
    assert protocol.refuse_jobs([good]) is None


@pytest.mark.parametrize(
    "job",
    [
        Job(1, "t", Raw(b"\x80"), follow=Follow()),
        Job(1, "t", Raw(b"\x80"), follow=Follow(1, True, 0.5)),
        Job(1, "t", Raw(b"\x80"), timeout=0.1, partition="p", priority=1, follow=Follow(2**40)),
        Job(1, "t", Raw(b"\x80"), key="k", mode=1, follow=Follow(0, True, 1)),
        Job(1, "t", Raw(b"\x90"), chunk=65_536, follow=Follow(0, True)),
    ],
)
def test_jobs_that_may_be_followed(job: Job) -> None:
    assert protocol.refuse_jobs([job]) is None


@pytest.mark.parametrize(
    ("sent", "follow"),
    [
        ([[]], Follow()),
        ([[100]], Follow(100)),
        ([[100, True, 5]], Follow(100, True, 5.0)),
        ([[0, False, None, "newer"]], Follow()),
        ([None], None),
        ([], None),
    ],
)
def test_what_is_left_out_of_a_follow_is_not_wanted(sent: list[Any], follow: Follow | None) -> None:
    job = [1, "t", {}, None, b"", "", 0, "", 0, None, 0, *sent]
    message = protocol.decode_from_client(msgspec.msgpack.encode(["submit", [job]]))
    assert isinstance(message, Submit)
    assert message.jobs[0].follow == follow


@pytest.mark.parametrize("follow", [5, "all", {"stream": 1}, [1.5], [1, 1], [1, True, "x"], [-1, True, 0, 0, 0]])
def test_a_follow_that_is_none_is_refused(follow: Any) -> None:
    job = [1, "t", {}, None, b"", "", 0, "", 0, None, 0, follow]
    try:
        message = protocol.decode_from_client(msgspec.msgpack.encode(["submit", [job]]))
    except ProtocolError:
        return
    assert isinstance(message, Submit)
    assert protocol.refuse_jobs(message.jobs) is not None


def test_too_many_jobs_at_once_are_refused() -> None:
    job = Job(1, "t", Raw(b"\x80"))
    assert protocol.refuse_jobs([job] * protocol.MAX_JOBS) is None
    refusal = protocol.refuse_jobs([job] * (protocol.MAX_JOBS + 1))
    assert refusal is not None
    assert "4096" in str(refusal)


@given(st.binary(max_size=50))
def test_a_frame_is_checked_before_it_becomes_part_of_a_message(data: bytes) -> None:
    """A short body is embedded in a batch for a worker: what isn't one whole value would tear the batch."""
    try:
        protocol.check_value(data)
    except ProtocolError:
        return
    batch = protocol.decode_from_supervisor(protocol.encode(Batch(1, [Work("t", Raw(data), 1.0, "s", 7, 1)])))
    assert isinstance(batch, Batch)
    assert bytes(batch.work[0].args) == data
    assert batch.work[0].id == 7
