"""The wire as any language would speak it: pyzmq, msgpack as a generic codec, and nothing of toolring.

What is malformed is refused by type, and never hurts a client that calls at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.process.kit import Background, Node, eventually, lines

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode
EMPTY = msgspec.Raw(b"\x80")


class Plain:
    """A DEALER and nothing else."""

    def __init__(self, address: str, token: bytes | None = None, caller: str = "", hello: bool = True) -> None:
        self.context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = 10_000
        self.socket.connect(address)
        self.token = token or os.urandom(16)
        self.welcome: list[Any] = []
        if hello:
            self.send(["hello", 1, self.token, caller])
            try:
                self.welcome = self.receive("welcome")
            except BaseException:
                self.close()
                raise

    def send(self, message: Any, *more: bytes) -> None:
        self.socket.send_multipart([encode(message), *more])

    def receive(self, verb: str) -> list[Any]:
        """The next message of one kind; probes and others are passed over."""
        while True:
            head, *body = self.socket.recv_multipart()
            message: list[Any] = decode(head)
            if message[0] == verb:
                if body and verb == "answers":
                    message[1][0][2] = decode(body[0])
                return message

    def answers(self, count: int) -> dict[int, list[Any]]:
        """Answers by job, each heard once."""
        found: dict[int, list[Any]] = {}
        while len(found) < count:
            for answer in self.receive("answers")[1]:
                assert answer[0] not in found, "answered twice"
                found[answer[0]] = answer
        return found

    def call(self, number: int, tool: str, arguments: Any, *more: Any) -> list[Any]:
        self.send(["submit", [[number, tool, arguments, *more]]])
        return self.answers(1)[number]

    def receive_any(self) -> list[Any]:
        head = self.socket.recv_multipart()[0]
        # a result may be nested deeper than this process can decode
        try:
            message: list[Any] = decode(head)
        except RecursionError:
            return ["answers", [[0, 0, None]]]
        return message

    def answer_of(self, number: int) -> int:
        """The status alone of the one job under way."""
        while (message := self.receive_any())[0] != "answers":
            pass
        assert message[1][0][0] in (0, number)
        return int(message[1][0][1])

    def refusal(self) -> dict[str, Any]:
        error: dict[str, Any] = self.receive("refused")[1]
        return error

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def plain(node: Node) -> Iterator[Plain]:
    one = Plain(node.address)
    yield one
    one.close()


def test_hello_submit_answers(node: Node, plain: Plain) -> None:
    version, name, tools, limits = plain.welcome[1:5]
    assert version == 1
    assert name == node.status()["node"]
    assert {"echo", "note", "gate"} <= {tool["name"] for tool in tools}
    assert limits["max_body"] > 0
    job, status, value, run_us, flags = plain.call(7, "echo", {"x": {"a": [1, None, "ü"]}})[:5]
    assert (job, status, value, flags) == (7, 0, {"a": [1, None, "ü"]}, 0)
    assert run_us >= 0


def test_many_jobs_in_one_message(plain: Plain) -> None:
    plain.send(["submit", [[n, "echo", {"x": n}] for n in range(1, 2001)]])
    assert {n: answer[2] for n, answer in plain.answers(2000).items()} == {n: n for n in range(1, 2001)}


def test_arguments_in_a_frame_of_their_own(plain: Plain) -> None:
    value = "y" * 300_000
    plain.send(["submit", [[1, "echo", None]]], encode({"x": value}))
    assert plain.answers(1)[1][1:3] == [0, value]
    plain.send(["submit", [[2, "echo", None]]], encode({"x": "small"}))
    assert plain.answers(1)[2][1:3] == [0, "small"]


def test_errors_are_data(plain: Plain) -> None:
    codes = {
        1: ("fail", {"message": "no"}, "TOOL_ERROR"),
        2: ("nothing", {}, "UNKNOWN_TOOL"),
        3: ("echo", {}, "INVALID_ARGUMENTS"),
        4: ("echo", {"x": 1, "y": 2}, "INVALID_ARGUMENTS"),
        5: ("echo", [1], "INVALID_ARGUMENTS"),
        6: ("echo", 5, "INVALID_ARGUMENTS"),
        7: ("nap", {"seconds": "long"}, "INVALID_ARGUMENTS"),
        8: ("unsendable", {}, "INVALID_RESULT"),
    }
    for number, (tool, arguments, code) in codes.items():
        answer = plain.call(number, tool, arguments)
        assert answer[1] == 1
        assert answer[2]["code"] == code, answer
        assert answer[2]["tool"] == tool
    assert plain.call(9, "nap", {"seconds": "long"})[2]["argument"] == "seconds"


def test_cancel_and_ping(plain: Plain, spot: Path) -> None:
    plain.send(["submit", [[1, "gate", {"path": str(spot)}]]])
    eventually(lambda: lines(spot), "it runs")
    plain.send(["cancel", [1, 999]])
    assert plain.answers(1)[1][2]["code"] == "CANCELLED"
    plain.send(["ping", 42])
    assert plain.receive("pong")[1] == 42


def test_a_deadline_on_the_wire(plain: Plain, spot: Path) -> None:
    assert plain.call(1, "gate", {"path": str(spot)}, 0.1)[2]["code"] == "EXPIRED"


def test_a_job_sent_again_after_a_reconnect_runs_once(node: Node, plain: Plain, spot: Path) -> None:
    """The answer was lost with the connection; the job may not be repeated."""
    plain.send(["submit", [[1, "note", {"path": str(spot), "number": 1}]]])
    eventually(lambda: lines(spot), "it ran")
    plain.close()
    again = Plain(node.address, token=plain.token)
    try:
        status, value = again.call(1, "note", {"path": str(spot), "number": 1})[1:3]
        assert (status, value) == (0, 1) or value["code"] == "OUTCOME_UNKNOWN"
        assert lines(spot) == ["1"]
        again.send(["submit", [[2, "note", {"path": str(spot), "number": 2}]]])
        while 2 not in (told := again.answers(1)):
            assert set(told) == {1}, "the first one's own answer may be on its way, too"
        assert told[2][1:3] == [0, 2]
    finally:
        again.close()


def test_a_running_job_is_answered_on_the_new_connection(node: Node, plain: Plain, spot: Path) -> None:
    plain.send(["submit", [[1, "gate_once", {"path": str(spot)}]]])
    eventually(lambda: lines(spot), "it runs")
    plain.close()
    again = Plain(node.address, token=plain.token)
    try:
        again.send(["submit", [[1, "gate_once", {"path": str(spot)}]]])
        again.send(["ping", 7])
        assert again.receive("pong")[1] == 7  # the node has read what came before
        Path(f"{spot}.open").touch()
        assert again.answers(1)[1][2]["attempt"] == 1
        assert len(lines(spot)) == 1
    finally:
        again.close()


# ---- what is refused


def _nested(depth: int) -> msgspec.Raw:
    return msgspec.Raw(b"\x81\xa1x" + b"\x91" * depth + b"\x01")


REFUSED = {
    "no message at all": ([b""], "PROTOCOL"),
    "not msgpack": ([b"\xc1\xc1"], "PROTOCOL"),
    "truncated": ([b"\x92\xa6submit\x91\x93\x01"], "PROTOCOL"),
    "unknown verb": ([encode(["dance", 1])], "PROTOCOL"),
    "a map": ([encode({"verb": "submit"})], "PROTOCOL"),
    "wrong types": ([encode(["submit", [["one", "echo", {}]]])], "PROTOCOL"),
    "too few fields": ([encode(["submit", [[1, "echo"]]])], "PROTOCOL"),
    "a worker's verb": ([encode(["done", []])], "PROTOCOL"),
    "bad UTF-8": ([b"\x92\xa6submit\x91\x93\x01\xa4\xff\xfe\xfd\xfc\x80"], "PROTOCOL"),
    "an array that claims 4 G elements": ([b"\x92\xa6submit\xdd\xff\xff\xff\xff"], "PROTOCOL"),
    "too many frames": ([encode(["ping", 1]), b"", b""], "PROTOCOL"),
    "a hundred frames": ([b"x"] * 100, "PROTOCOL"),
    "too many jobs": ([encode(["submit", [[n, "echo", EMPTY] for n in range(5000)]])], "PROTOCOL"),
    "two jobs, one body": ([encode(["submit", [[1, "echo", None], [2, "echo", None]]]), encode({"x": 1})], "PROTOCOL"),
    "a body that is no msgpack": ([encode(["submit", [[1, "echo", None]]]), b"\xc1"], "PROTOCOL"),
    "an empty body": ([encode(["submit", [[1, "echo", None]]]), b""], "PROTOCOL"),
    "a truncated body": ([encode(["submit", [[1, "echo", None]]]), b"\x81\xa1x"], "PROTOCOL"),
    "a body with a tail": ([encode(["submit", [[1, "echo", None]]]), encode({"x": 1}) + b"\x01\x02"], "PROTOCOL"),
    "a negative timeout": ([encode(["submit", [[1, "echo", {"x": 1}, -1.0]]])], "PROTOCOL"),
    "no number": ([encode(["submit", [[1, "echo", {"x": 1}, float("nan")]]])], "PROTOCOL"),
    "a name that is too long": ([encode(["submit", [[1, "e" * 5000, {"x": 1}]]])], "PROTOCOL"),
    "a key that is too long": ([encode(["submit", [[1, "echo", {"x": 1}, None, b"", "k" * 5000]]])], "PROTOCOL"),
    "another version": ([encode(["hello", 99, b"x" * 16, ""])], "PROTOCOL"),
    "a short session": ([encode(["hello", 1, b"x", ""])], "PROTOCOL"),
    "100,000 levels": ([encode(["submit", [[1, "echo", _nested(100_000)]]])], "TOO_DEEP"),
    "100,000 levels in a question": ([b"\x94\xa3ask\x01\xa6status" + bytes(_nested(100_000))], "TOO_DEEP"),
    "a head that is too large": ([encode(["submit", [[1, "echo", {"x": b"x" * (9 << 20)}]]])], "TOO_LARGE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_has_a_type_and_hurts_nobody(node: Node, plain: Plain, case: str) -> None:
    frames, code = REFUSED[case]
    other = Plain(node.address)
    try:
        other.send(["submit", [[1, "nap", {"seconds": 0.02, "x": 5}]]])
        plain.socket.send_multipart(frames)
        error = plain.refusal()
        assert error["code"] == code, error
        assert error["message"]
        assert other.answers(1)[1][1:3] == [0, 5]
        assert plain.call(77, "echo", {"x": 1})[1:3] == [0, 1], "the refused client may go on"
    finally:
        other.close()


def test_no_hello(node: Node) -> None:
    stranger = Plain(node.address, hello=False)
    try:
        stranger.send(["submit", [[1, "echo", {"x": 1}]]])
        assert stranger.refusal()["code"] == "HELLO_REQUIRED"
    finally:
        stranger.close()


@pytest.mark.parametrize("where", ["head", "body"])
def test_every_depth_is_answered(node: Node, plain: Plain, where: str) -> None:
    """Around the recursion limit, client, supervisor and worker give up at different depths; none may fall."""
    before = sorted(node.workers())
    outcomes = set()
    for number, depth in enumerate([*range(850, 1040, 2), 1500, 5000, 60_000], 1):
        body = bytes(_nested(depth))
        if where == "head":
            plain.send(["submit", [[number, "echo", msgspec.Raw(body), 10]]])
        else:
            plain.send(["submit", [[number, "echo", None, 10]]], body)
        while (message := plain.receive_any())[0] not in ("answers", "refused"):
            pass
        error = message[1][0][2] if message[0] == "answers" else message[1]
        outcomes.add(error["code"] if isinstance(error, dict) else "OK")
    assert outcomes <= {"OK", "TOO_DEEP", "INVALID_RESULT"}
    assert sorted(node.workers()) == before, "a worker fell"


def test_every_depth_of_a_result_is_answered(node: Node, plain: Plain) -> None:
    before = sorted(node.workers())
    for number, depth in enumerate([*range(850, 1040, 2), 5000], 1):
        plain.send(["submit", [[number, "nested", {"depth": depth}, 10]]])
        assert plain.answer_of(number) in (0, 1)
    assert sorted(node.workers()) == before, "a worker fell"


def test_a_result_that_is_not_msgpack_hurts_only_its_own_job(node: Node, plain: Plain) -> None:
    other = Plain(node.address)
    try:
        for number, data in enumerate((b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xdd\xff\xff\xff\xff"), 1):
            other.send(["submit", [[number, "nap", {"seconds": 0.01, "x": number}]]])
            plain.send(["submit", [[number, "raw", {"data": data}, 5]]])
            status, value = plain.answers(1)[number][1:3]
            assert status == 1, value
            assert other.answers(1)[number][1:3] == [0, number]
    finally:
        other.close()


@pytest.mark.parametrize(
    "facts",
    [
        {"code": 404},
        {"code": [1]},
        {"code": {"a": 1}},
        {"message": 5},
        {"job": []},
        {"worker": {}},
        {"deep": {"a": [1]}},
    ],
    ids=str,
)
def test_a_tools_own_facts_can_be_anything(plain: Plain, facts: dict[str, Any]) -> None:
    status, error = plain.call(1, "odd_error", {"facts": facts}, 5)[1:3]
    assert status == 1
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)


def test_questions(node: Node, plain: Plain) -> None:
    plain.send(["ask", 1, "status", {}])
    assert plain.receive("told")[2]["state"] == "healthy"
    plain.send(["ask", 2, "job", {"job": "x" * 1000}])
    assert plain.receive("told")[2]["error"]["code"] == "UNKNOWN_JOB"
    plain.send(["ask", 3, "nothing"])
    assert plain.receive("told")[2]["error"]["code"] == "PROTOCOL"


# ---- fuzzing: a neighbour calls all the while


SEEDS = [
    encode(["hello", 1, b"s" * 16, "me"]),
    encode(["submit", [[1, "echo", {"x": [1, {"a": b"b"}]}, 1.5, b"r", "k", 1], [2, "echo", {"x": 2}]]]),
    encode(["cancel", [1, 2, 3]]),
    encode(["ask", 1, "status", {"a": 1}]),
    encode(["ping", 3]),
]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A valid message with some bytes changed, dropped or doubled."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from("cdi"))
        if how == "c":
            data[at] = draw(st.integers(0, 255))
        elif how == "i":
            data.insert(at, draw(st.integers(0, 255)))
        elif len(data) > 1:
            del data[at]
    return bytes(data)


FRAMES = st.lists(st.one_of(mangled(), st.binary(max_size=60)), min_size=1, max_size=4)


@pytest.mark.parametrize("hello", [True, False])
def test_fuzz(shared: Node, hello: bool) -> None:
    victim = Plain(shared.address)
    attacker = Plain(shared.address, hello=hello)
    numbers = iter(range(1, 10**9))

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(FRAMES, min_size=1, max_size=8))
    def attack(messages: list[list[bytes]]) -> None:
        for frames in messages:
            attacker.socket.send_multipart(frames)
        number = next(numbers)
        assert victim.call(number, "echo", {"x": number})[1:3] == [0, number]

    before = sorted(shared.workers())
    try:
        attack()
    finally:
        attacker.close()
        victim.close()
    assert sorted(shared.workers()) == before
    shared.until_whole()


def test_a_flood_of_refusals(node: Node, plain: Plain) -> None:
    """Thousands of bad messages whose refusals nobody reads."""
    flood = Plain(node.address)
    try:
        sent = Background(lambda: [flood.socket.send(b"\xc1") for _ in range(20_000)])
        for n in range(100):
            assert plain.call(n, "echo", {"x": n})[2] == n
        sent.result()
    finally:
        flood.close()
