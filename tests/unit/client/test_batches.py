"""How many calls of a ``map`` are under way at once, with a node that is played and a clock that is set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from toolring import protocol
from toolring.client.batches import LONGEST, Call, Plan, Window
from toolring.client.session import Pending
from toolring.errors import Busy, Expired, InvalidArguments, ToolError, ToolringError, Unreachable
from toolring.protocol import ERROR, OK, Answer, Job

PATIENCE = 60.0
"""What one job may take."""
RETRY_AFTER = 2.0


class Node:
    """Takes so many jobs at once, and refuses the others on the spot."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.now = 100.0
        self.taken: list[Pending] = []
        self.sent: list[list[Any]] = []
        self.refused = 0

    def send(self, calls: list[Call], timeout: float | None, chunk: bool) -> Pending:
        if any("bad" in call for call in calls):
            raise InvalidArguments("this one can't be sent")
        values = [call["x"] for call in calls]
        self.sent.append(values)
        job = Job(len(self.sent), "tool", Raw(protocol.encode(values)), timeout, chunk=len(calls) if chunk else 0)
        pending = Pending(job, "session", self.now + (PATIENCE if timeout is None else timeout))
        if len(self.taken) < self.room:
            self.taken.append(pending)
        else:
            self.refused += 1
            answer(pending, Busy("full", retry_after=RETRY_AFTER))
        return pending

    def finish(self, at: int = 0) -> None:
        pending = self.taken.pop(at)
        values = protocol.decode_value(pending.job.args)
        answer(pending, [[0, value] for value in values] if pending.job.chunk else values[0])

    def window(self, jobs: int = 20, ordered: bool = True, **more: Any) -> Window[Pending]:
        plan = Plan(
            "tool",
            **{"window": jobs, "chunk": 1, "errors": "raise", "timeout": None, **more},
            ordered=ordered,
            priority="normal",
        )
        return Window(plan, self.send, None, lambda: self.now)


def answer(pending: Pending, value: Any) -> None:
    if isinstance(value, ToolringError):
        pending.answer = Answer(pending.job.id, ERROR, Raw(protocol.encode(value.to_wire())))
    else:
        pending.answer = Answer(pending.job.id, OK, Raw(protocol.encode(value)))


def fill(window: Window[Pending], calls: int, first: int = 0) -> int:
    """As many as there is room for, of so many."""
    added = 0
    while added < calls and window.has_room:
        window.add([{"x": first + added}])
        added += 1
    return added


def settle(window: Window[Pending]) -> None:
    """Until nothing is new."""
    while window.look():
        pass


def taken_out(window: Window[Pending]) -> list[Any]:
    found: list[Any] = []
    while (piece := window.ready()) is not None:
        found += window.give(piece)
    return found


# ---- a node that is busy


@pytest.mark.parametrize("where", [None, lambda job: "a"])
def test_nobody_waits_longer_for_room_than_one_call_may_take(where: Any) -> None:
    """Whatever the node says: its circuit may be open for longer."""
    node = Node(room=0)
    timeout = RETRY_AFTER / 4
    plan = Plan("tool", window=20, chunk=1, errors="return", timeout=timeout, ordered=True, priority="normal")
    window = Window(plan, node.send, None, lambda: node.now, where=where)
    began = node.now
    fill(window, 3)
    found: list[Any] = []
    while len(found) < 3:
        settle(window)
        found += taken_out(window)
        node.now = max(node.now, window.next_look()) if window.pieces else node.now
    assert {error.code for error in found} == {"BUSY"}
    assert node.now - began <= 2 * timeout


def test_no_more_are_under_way_than_were_taken() -> None:
    node = Node(room=4)
    window = node.window()
    assert fill(window, 20) == 20
    settle(window)
    assert len(node.sent) == 20
    assert window.waits
    assert not window.has_room


def test_an_answer_makes_room_for_the_oldest_that_was_refused() -> None:
    node = Node(room=4)
    window = node.window()
    fill(window, 20)
    settle(window)
    node.finish(2)
    settle(window)
    assert node.sent[20:] == [[4]]
    node.finish()
    node.finish()
    settle(window)
    assert node.sent[20:] == [[4], [5], [6]]
    assert node.refused == 16


@pytest.mark.parametrize("ordered", [True, False])
def test_it_keeps_a_narrow_node_at_work_and_is_seldom_refused(ordered: bool) -> None:
    node = Node(room=4)
    window = node.window(ordered=ordered)
    results: list[Any] = []
    read = 0
    while len(results) < 200:
        read += fill(window, 200 - read, read)
        settle(window)
        read += fill(window, 200 - read, read)
        assert len(node.taken) == min(4, 200 - len(results)), "whatever it takes, it has"
        node.finish()
        results += taken_out(window)
    assert results == (list(range(200)) if ordered else [(n, n) for n in range(200)])
    assert node.refused <= 16 + 200 / 8


def test_it_grows_again_slowly() -> None:
    node = Node(room=2)
    window = node.window(jobs=10)
    read = fill(window, 10)
    settle(window)
    node.room = 100
    widths = []
    for _ in range(60):
        node.finish()
        taken_out(window)
        settle(window)
        read += fill(window, 1000, read)
        widths.append(len(node.taken))
    assert widths == [2 + (n + 1) // 8 for n in range(60)]


def test_what_was_answered_meanwhile_counts_as_taken() -> None:
    """Whoever takes the results may have been away for long."""
    node = Node(room=4)
    window = node.window()
    fill(window, 20)
    for _ in range(4):
        node.finish()
    assert taken_out(window) == [0, 1, 2, 3]
    settle(window)
    assert node.sent[20:24] == [[4], [5], [6], [7]]


# ---- one that says nothing


def test_where_nothing_is_under_way_one_is_tried_when_the_node_said() -> None:
    node = Node(room=0)
    window = node.window()
    fill(window, 20)
    settle(window)
    for count in (21, 22, 23):
        assert window.next_look() == node.now + RETRY_AFTER
        node.now += RETRY_AFTER / 2
        assert not window.look()
        node.now += RETRY_AFTER / 2
        settle(window)
        assert len(node.sent) == count
        assert node.sent[-1] == [0]
    node.room = 1
    node.now += RETRY_AFTER
    settle(window)
    for number in range(1, 5):
        node.finish()
        settle(window)
        assert node.sent[-1] == [number], "an answer came, so nobody waits for the clock"


def test_a_long_job_does_not_hold_up_the_others() -> None:
    node = Node(room=1)
    window = node.window()
    fill(window, 20)
    settle(window)
    node.room = 3  # another caller's jobs are over
    for under_way in (2, 3, 3):
        node.now += RETRY_AFTER
        settle(window)
        assert len(node.taken) == under_way


def test_what_is_not_yet_read_is_tried_too() -> None:
    node = Node(room=1)
    window = node.window()
    read = fill(window, 2)
    settle(window)
    node.finish()
    settle(window)
    assert (len(node.taken), window.waits, window.has_room) == (1, False, False)
    node.room = 2
    node.now = window.next_look()
    assert window.look()
    assert fill(window, 5, read) == 1
    assert len(node.taken) == 2


def test_a_node_that_is_not_busy_is_not_looked_at_by_the_clock() -> None:
    node = Node(room=100)
    window = node.window()
    assert fill(window, 50) == 20
    assert window.next_look() == float("inf")
    node.now += 1000
    assert not window.look()


# ---- for how long


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_it_ends_as_busy_when_nothing_is_answered_for_as_long_as_a_job_may_take(timeout: float | None) -> None:
    node = Node(room=0)
    window = node.window(ordered=False, errors="return", timeout=timeout)
    began = node.now
    fill(window, 3)
    settle(window)
    while not (given := taken_out(window)):
        node.now = window.next_look()
        settle(window)
    assert node.now - began == pytest.approx(timeout or PATIENCE, abs=RETRY_AFTER)
    assert [(index, type(error)) for index, error in given] == [(n, Busy) for n in range(3)]
    assert fill(window, 10, 3) == 1, "the next is tried once"
    settle(window)
    assert [type(error) for _, error in taken_out(window)] == [Busy]


def test_as_long_as_others_are_answered_none_is_given_up() -> None:
    node = Node(room=1)
    window = node.window(timeout=5.0)
    fill(window, 20)
    results: list[Any] = []
    while len(results) < 20:
        settle(window)
        node.now += 4.0
        node.finish()
        results += taken_out(window)
    assert results == list(range(20))


def test_a_limit_of_the_tool_or_its_error_is_an_answer() -> None:
    node = Node(room=2)
    window = node.window(errors="return")
    fill(window, 4)
    settle(window)
    answer(node.taken.pop(0), ToolError("it broke"))
    settle(window)
    assert node.sent[4:] == [[2]]
    assert isinstance(taken_out(window)[0], ToolError)


# ---- several nodes


class Cluster:
    """A narrow node for even numbers, another for odd ones."""

    def __init__(self, even: int, odd: int) -> None:
        self.now = 100.0
        self.nodes = [Node(even), Node(odd)]
        self.at: dict[int, str] = {}

    def send(self, calls: list[Call], timeout: float | None, chunk: bool) -> Pending:
        number = calls[0]["x"] % 2
        node = self.nodes[number]
        node.now = self.now
        pending = node.send(calls, timeout, chunk)
        self.at[id(pending)] = ("even", "odd")[number]
        return pending

    def window(self, jobs: int) -> Window[Pending]:
        plan = Plan("tool", jobs, 1, False, "return", None, "normal")
        return Window(plan, self.send, None, lambda: self.now, lambda pending: self.at[id(pending)])


def test_a_node_that_is_busy_does_not_hold_up_one_that_is_not() -> None:
    cluster = Cluster(even=0, odd=1000)
    busy, idle = cluster.nodes
    window = cluster.window(20)
    read, results = 0, list[Any]()
    for _ in range(5):
        read += fill(window, 1000, read)
        settle(window)
        assert len(window.pieces) == 20, "there are no more than the caller wanted"
        while idle.taken:
            idle.finish()
        results += taken_out(window)
    assert [x for x, _ in results] == [x for x in range(read) if x % 2], "all of those that are for it"
    assert len(results) > 10
    assert len(busy.sent) == read - len(results), "and the busy one was asked once for each"


def test_what_a_busy_node_refuses_is_sent_again_when_it_has_answered_another_or_has_said_and_then_seldom() -> None:
    cluster = Cluster(even=1, odd=1)
    busy, other = cluster.nodes
    window = cluster.window(20)
    for x in (0, 2, 4, 1):
        window.add([{"x": x}])
    settle(window)
    other.finish()
    settle(window)
    assert busy.sent == [[0], [2], [4]], "what another has answered says nothing of it"
    busy.finish()
    settle(window)
    assert busy.sent[3:] == [[2]]
    assert window.next_look() == cluster.now + RETRY_AFTER
    for count in (5, 6):
        cluster.now = window.next_look()
        assert window.look()
        settle(window)
        assert busy.sent[count - 1 :] == [[4]]
    assert RETRY_AFTER >= LONGEST
    assert window.next_look() == cluster.now + RETRY_AFTER, "as it says, if that is long"


def test_what_is_to_be_sent_again_does_not_wait_for_more_to_be_read() -> None:
    cluster = Cluster(even=0, odd=1)
    window = cluster.window(20)
    window.add([{"x": 0}])
    settle(window)
    assert window.waits
    assert not window.send_again()
    cluster.now = window.next_look()
    cluster.nodes[0].room = 1
    assert window.send_again()
    assert len(cluster.nodes[0].taken) == 1


@pytest.mark.parametrize("error", [Unreachable("nobody is there"), Expired("too late")])
def test_what_cannot_be_sent_or_not_again_is_told_in_its_place(error: ToolringError) -> None:
    cluster = Cluster(even=0, odd=0)
    window = cluster.window(20)
    window.add([{"x": 0}])
    settle(window)

    def send(calls: list[Call], timeout: float | None, chunk: bool) -> Pending:
        raise error

    window._send = send
    window.add([{"x": 1}])
    cluster.now = window.next_look()
    settle(window)
    window.add([{"x": 2}], Unreachable("nobody was there"))
    assert [(n, type(each)) for n, each in taken_out(window)] == [(0, type(error)), (1, type(error)), (2, Unreachable)]
    assert not window.pieces


# ---- chunks


def test_a_chunk_is_sent_again_as_one() -> None:
    node = Node(room=1)
    window = node.window(jobs=4, chunk=2, timeout=5.0)
    for first in (0, 2):
        window.add([{"x": first}, {"x": first + 1}])
    settle(window)
    node.finish()
    settle(window)
    assert node.sent == [[0, 1], [2, 3], [2, 3]]
    assert (node.taken[0].job.chunk, node.taken[0].job.timeout) == (2, 5.0)
    node.finish()
    assert taken_out(window) == [0, 1, 2, 3]


def test_of_a_chunk_that_cannot_be_sent_each_goes_by_itself() -> None:
    node = Node(room=2)
    window = node.window(jobs=8, chunk=4, errors="return")
    window.add([{"x": 0}, {"x": 1}, {"bad": 2}, {"x": 3}])
    settle(window)
    results: list[Any] = []
    while len(results) < 4:
        settle(window)
        if node.taken:
            node.finish()
        results += taken_out(window)
    assert results[:2] + results[3:] == [0, 1, 3]
    assert isinstance(results[2], InvalidArguments)


@given(
    steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5), st.floats(0, 3)), max_size=60),
    jobs=st.integers(1, 20),
    ordered=st.booleans(),
)
def test_whatever_the_node_does_each_call_has_one_result_in_its_place(
    steps: list[tuple[int, int, float]], jobs: int, ordered: bool
) -> None:
    node = Node(room=5)
    window = node.window(jobs=jobs, ordered=ordered, timeout=1e9)
    read, results = 0, list[Any]()
    for room, finish, seconds in [*steps, *[(20, 20, RETRY_AFTER)] * 200]:
        node.room = room
        read += fill(window, 100 - read, read)
        settle(window)
        assert len(node.taken) <= len(window.pieces) <= jobs
        for _ in range(min(finish, len(node.taken))):
            node.finish(len(node.taken) // 2)
        node.now += seconds
        results += taken_out(window)
    assert (results if ordered else sorted(results)) == (list(range(100)) if ordered else [(n, n) for n in range(100)])
