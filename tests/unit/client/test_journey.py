from __future__ import annotations

from typing import Any

import pytest
from msgspec import DecodeError, Raw

from tests.unit.client.peers import Peer, Sent, World
from toolring import protocol
from toolring.client.feed import Feed
from toolring.client.journey import Journey, due
from toolring.client.nodes import Nodes
from toolring.errors import (
    Busy,
    Cancelled,
    Draining,
    Expired,
    InvalidArguments,
    OutcomeUnknown,
    ToolError,
    ToolringError,
    Unreachable,
)
from toolring.protocol import ERROR, PROGRESS, Answer, Part

FULL = Busy("it is full", limit="backlog")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def nodes(world: World) -> Nodes[Peer]:
    return world.nodes("a", "b", "c")


class Trip:
    """A journey, and what was left of its time at each node."""

    def __init__(self, nodes: Nodes[Peer], world: World, tool: str = "read", until: float | None = None) -> None:
        self.left: list[float | None] = []

        def submit(peer: Peer, left: float | None) -> Sent:
            self.left.append(left)
            return peer.submit(tool)

        self.way: Journey[Peer, Sent] = Journey(nodes, tool, nodes.place("key"), until, submit, world.clock)
        self.way.start()

    def ends_in(self) -> Any:
        """What its node has said is its last word."""
        assert self.way.settled
        assert not self.way.under_way
        try:
            return self.way.outcome()
        except Exception as error:
            return error


def lose(nodes: Nodes[Peer], world: World, address: str) -> None:
    del world.alive[address]
    world.pass_by(nodes, 1.2)


def test_an_answer_is_the_last_word(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    way = trip.way
    assert way.node == nodes.preference("key")[0]
    assert not way.settled
    way.job.answered(7)
    assert trip.ends_in() == 7
    assert way.tried == []
    other = Trip(nodes, world)
    other.way.job.answered(ToolError("it raised", worker=1))
    assert isinstance(other.ends_in(), ToolError)


def test_what_may_be_repeated_moves_on_from_a_node_that_is_lost_with_what_is_left_of_its_time(
    nodes: Nodes[Peer], world: World
) -> None:
    trip = Trip(nodes, world, until=world.now + 5.0)
    first = trip.way.job
    lose(nodes, world, trip.way.node)
    assert isinstance(first.error, Unreachable)
    assert trip.way.goes_on(first)
    assert trip.way.goes_on(first), "whoever asks later hears the same"
    assert [*trip.way.tried, trip.way.node] == nodes.preference("key")
    assert trip.left == [5.0, pytest.approx(5.0 - (world.now - 100.0))]
    trip.way.job.answered("from the next")
    assert trip.ends_in() == "from the next"


def test_without_a_time_of_its_own_it_keeps_what_the_first_node_gave_it(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    ends = trip.way.deadline
    lose(nodes, world, trip.way.node)
    assert not trip.way.settled
    assert trip.left == [None, pytest.approx(ends - world.now)]


def test_what_may_not_be_repeated_is_told_as_unknown(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world, "write")
    address = trip.way.node
    lose(nodes, world, address)
    error = trip.ends_in()
    assert isinstance(error, OutcomeUnknown)
    assert error.facts["node"] == address
    assert error.facts["cause"] == "node lost"


def test_what_had_not_left_for_its_node_moves_on_whatever_it_is(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world, "write")
    trip.way.job.error = Unreachable("closed", sent=False)
    assert not trip.way.settled
    assert len(trip.way.tried) == 1


@pytest.mark.parametrize("tool", ["read", "write"])
def test_a_refusal_is_passed_on_until_all_of_its_list_have_refused(nodes: Nodes[Peer], world: World, tool: str) -> None:
    trip = Trip(nodes, world, tool)
    trip.way.job.answered(FULL, run_us=0)
    assert not trip.way.settled
    trip.way.job.answered(FULL, run_us=0)
    error = trip.ends_in()
    assert isinstance(error, Busy)
    assert error.message == "it is full"
    assert trip.way.refusal is not None
    assert trip.way.tried == nodes.preference("key")


def test_a_tool_that_says_that_it_is_busy_has_run(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    trip.way.job.answered(Busy("what it asks is busy", worker=1))
    assert isinstance(trip.ends_in(), Busy)
    assert trip.way.tried == []
    assert trip.way.refusal is None


@pytest.mark.parametrize("told", [{"earlier": {"code": "TOOL_ERROR"}}, {"deaths": 1}])
def test_one_that_ran_and_is_refused_another_run_is_no_refusal(
    nodes: Nodes[Peer], world: World, told: dict[str, Any]
) -> None:
    trip = Trip(nodes, world)
    trip.way.job.answered(Busy("it is full", **told), run_us=0)
    assert isinstance(trip.ends_in(), Busy)
    assert trip.way.tried == []


def test_what_cannot_be_understood_is_its_answer(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    trip.way.job.answer = Answer(trip.way.job.job.id, ERROR, Raw(b"\xc1"), 0)
    assert trip.way.settled
    assert trip.way.over
    with pytest.raises((ToolringError, DecodeError)):
        trip.way.outcome()


def test_a_node_that_drains_is_told_of(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    trip.way.job.answered(Draining("it stops"), run_us=0)
    assert not trip.way.settled
    assert [state.name for node, state in nodes.all() if node.address in trip.way.tried] == ["DOWN"]


def test_a_refusal_says_more_than_that_nobody_else_is_there(world: World) -> None:
    nodes = world.nodes("a", "b")
    trip = Trip(nodes, world)
    lose(nodes, world, next(address for address in list(world.alive) if address != trip.way.node))
    trip.way.job.answered(FULL, run_us=0)
    assert isinstance(trip.ends_in(), Busy)


def test_a_job_that_is_lost_when_nobody_else_is_there_waits_for_the_first_that_is(world: World) -> None:
    nodes = world.nodes("a", "b")
    trip = Trip(nodes, world)
    first, second = nodes.preference("key")
    world.alive.clear()
    world.pass_by(nodes, 3.0)
    assert not trip.way.settled
    assert trip.way.adrift
    assert not trip.way.over
    world.alive[second] = "another life"
    nodes.look()
    assert not trip.way.settled
    assert not trip.way.adrift
    assert (trip.way.tried, trip.way.node) == ([first], second)
    trip.way.job.answered("from the next")
    assert trip.ends_in() == "from the next"


@pytest.mark.parametrize("replication", [1, 2])
def test_one_that_all_of_its_list_have_lost_goes_back_to_who_returns(world: World, replication: int) -> None:
    nodes = world.nodes("a", "b", "c", replication=replication)
    trip = Trip(nodes, world)
    mine, others = nodes.preference("key"), set(world.alive)
    for _ in range(replication):
        lose(nodes, world, trip.way.node)
        assert not trip.way.settled
    assert trip.way.adrift
    assert sorted(trip.way.tried) == sorted(mine)
    assert others - set(mine) == set(world.alive), "somebody is there, but has no part in it"
    world.alive[mine[-1]] = "another life"
    nodes.look()
    assert not trip.way.settled
    assert trip.way.node == mine[-1]
    trip.way.job.answered(7)
    assert trip.ends_in() == 7
    assert sorted(trip.way.tried) == sorted(mine), "each once"


def test_nobody_is_waited_for_longer_than_for_a_first_node_and_the_error_names_who_was_tried(world: World) -> None:
    nodes = world.nodes("a", "b")
    trip = Trip(nodes, world)
    world.alive.clear()
    world.pass_by(nodes, 1.2)
    assert not trip.way.settled
    world.pass_by(nodes, nodes.patience - 0.2)
    assert not trip.way.settled
    world.pass_by(nodes, 0.4)
    error = trip.ends_in()
    assert isinstance(error, Unreachable)
    assert error.facts["tried"] == [trip.way.node]


def test_one_that_waits_for_a_node_ends_with_its_time_or_its_caller_or_the_cluster(world: World) -> None:
    nodes = world.nodes("a", "b")
    until = world.now + 3.0
    late, left, closed = Trip(nodes, world, until=until), Trip(nodes, world), Trip(nodes, world)
    world.alive.clear()
    world.pass_by(nodes, 1.2)
    for trip in (late, left, closed):
        assert not trip.way.settled
        assert trip.way.adrift
    left.way.cancel()
    assert isinstance(left.ends_in(), Cancelled)
    world.pass_by(nodes, 2.0)
    assert isinstance(late.ends_in(), Expired)
    nodes.close()
    assert isinstance(closed.ends_in(), Unreachable)


def test_a_job_whose_time_is_up_when_it_would_move_on_has_expired(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world, until=world.now + 1.0)
    lose(nodes, world, trip.way.node)
    assert isinstance(trip.ends_in(), Expired)


def test_a_job_that_was_cancelled_does_not_move_on(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    trip.way.cancel()
    assert trip.way.job.cancelled
    lose(nodes, world, trip.way.node)
    assert isinstance(trip.ends_in(), Cancelled)


def test_one_that_stays_is_lost_with_its_node(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    job = trip.way.job
    trip.way.stay()
    lose(nodes, world, trip.way.node)
    assert isinstance(trip.ends_in(), Unreachable)
    assert trip.way.job is job


def test_a_stream_has_begun_with_its_first_part_or_word(nodes: Nodes[Peer], world: World) -> None:
    way = Trip(nodes, world).way
    job = way.job
    assert not way.has_begun(job)
    job.feed = Feed(100)
    assert not way.has_begun(job)
    job.feed.arrived(Part(job.job.id, 1, Raw(protocol.encode("a part"))))
    assert way.has_begun(job)
    job.feed.take()
    assert way.has_begun(job)
    job.feed = Feed(100)
    job.feed.arrived(Part(job.job.id, PROGRESS, Raw(protocol.encode([1.0, None, "a word"]))))
    assert way.has_begun(job)


def test_a_fault_while_it_moves_on_is_its_answer(nodes: Nodes[Peer], world: World) -> None:
    """Nobody may be there to hear of it otherwise."""
    trip = Trip(nodes, world)
    trip.way._submit = lambda peer, left: 1 / 0  # type: ignore[assignment,return-value]
    lose(nodes, world, trip.way.node)
    assert isinstance(trip.ends_in(), ZeroDivisionError)


def test_nothing_moves_on_from_a_cluster_that_is_closed(nodes: Nodes[Peer], world: World) -> None:
    trip = Trip(nodes, world)
    nodes.close()
    error = trip.ends_in()
    assert isinstance(error, Unreachable)
    assert "the cluster was closed" in str(error)


def test_a_timeout_is_a_positive_number_of_seconds() -> None:
    assert due("read", None) is None
    with pytest.raises(InvalidArguments):
        due("read", -1.0)
