from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from tests.unit.client.peers import Peer, World, address_of
from toolring.client import routes
from toolring.client.nodes import RENEW_SECONDS, Nodes
from toolring.errors import ConfigError, InvalidArguments, ProtocolError, Unreachable
from toolring.policy.balance import Members
from toolring.policy.health import State

A, B, C = (address_of(name) for name in "abc")


@pytest.fixture
def world() -> World:
    return World()


def states(nodes: Nodes[Peer]) -> list[str]:
    return [state.name for _, state in nodes.all()]


def test_a_node_is_up_from_its_first_answer_on(world: World) -> None:
    nodes = world.nodes("a", "b")
    assert states(nodes) == ["UP", "UP"]
    world.alive.clear()
    nodes = Nodes([A], world.connect, "random", None, {}, 1.0, clock=world.clock)
    nodes.look()
    assert states(nodes) == ["DOWN"]
    assert not nodes.there
    world.alive[A] = "a1"
    nodes.look()
    assert states(nodes) == ["UP"]
    assert nodes.there


def test_a_node_that_is_silent_is_lost_with_what_it_had_and_waited_for_by_another_client(world: World) -> None:
    nodes = world.nodes("a", "b")
    peer = world.peer(A)
    job = peer.submit()
    del world.alive[A]
    world.pass_by(nodes, 0.8)
    assert peer.ended is None
    world.pass_by(nodes, 0.4)
    assert peer.ended == (f"the node {A} gives no sign of life", True)
    assert isinstance(job.error, Unreachable)
    assert states(nodes) == ["DOWN", "UP"]
    assert world.peer(A) is not peer
    waits = world.peer(A)
    world.pass_by(nodes, RENEW_SECONDS - 1.0)
    assert world.peer(A) is waits
    world.pass_by(nodes, 1.5)
    assert world.peer(A) is not waits, "one that was never there is made anew, though seldom"
    world.alive[A] = "a2"
    nodes.look()
    assert states(nodes) == ["UP", "UP"]


def test_a_process_that_was_held_up_gives_everybody_their_time_again(world: World) -> None:
    nodes = world.nodes("a")
    del world.alive[A]
    world.now += 30.0
    nodes.look()
    assert world.peer(A).ended is None
    world.pass_by(nodes, 1.2)
    assert states(nodes) == ["DOWN"]


def test_nobody_is_chosen_who_is_down_or_was_tried(world: World) -> None:
    nodes = world.nodes("a", "b", "c", replication=3)
    first, second, third = nodes.preference("key")
    point = nodes.place("key")

    def chosen(*tried: str) -> str | None:
        node = nodes.choose(point, tried)
        return None if node is None else node.address

    assert chosen() == first
    assert chosen(first) == second
    del world.alive[second]
    world.pass_by(nodes, 1.2)
    assert chosen(first) == third
    assert chosen(first, third) is None
    assert nodes.preference("key") == [first, second, third], "the list is the same"


def test_a_node_that_drains_gets_nothing_until_its_next_life(world: World) -> None:
    nodes = world.nodes("a")
    node = nodes.choose(0, ())
    assert node is not None
    nodes.drains(node)
    world.pass_by(nodes, 0.6)
    assert states(nodes) == ["DOWN"]
    assert world.peer(A).ended is None, "it has work to finish"
    del world.alive[A]
    world.pass_by(nodes, 1.4)
    world.alive[A] = "a2"
    nodes.look()
    assert states(nodes) == ["UP"]


def test_whoever_waits_for_a_first_node_sleeps_between_looks_and_hears_when_it_was_long_enough(world: World) -> None:
    nodes = world.nodes("a")
    assert list(nodes.missing()) == []
    del world.alive[A]
    world.pass_by(nodes, 1.2)
    began = world.now

    def wait() -> None:
        for pause in nodes.missing(until=began + 2.0):
            world.now += pause

    with pytest.raises(Unreachable, match=f"no node answers: {A}"):
        wait()
    assert world.now - began == pytest.approx(2.0, abs=0.01)
    waits = nodes.missing()
    next(waits)
    world.alive[A] = "a2"
    assert list(waits) == []


def test_one_that_is_only_ejected_is_there(world: World) -> None:
    nodes = world.nodes("a", "b")
    for _ in range(3):
        node = nodes.choose(0, ())
        assert node is not None
        nodes.ended(node, 0.0, True)
    ejected = next(node for node, state in nodes.all() if state is State.EJECTED)
    del world.alive[B if ejected.address == A else A]
    world.pass_by(nodes, 1.2)
    assert sorted(states(nodes)) == ["DOWN", "EJECTED"]
    assert nodes.there
    assert nodes.choose(0, ()) is ejected, "nobody else is left"


def test_a_node_that_is_removed_answers_what_it_has_and_is_noticed_to_be_lost_meanwhile(world: World) -> None:
    nodes = world.nodes("a", "b", "c")
    job, other = world.peer(B).submit(), world.peer(C).submit()
    for address in (B, C):
        nodes.remove(address)
    world.pass_by(nodes, 3.0)
    assert world.peer(B).ended is None
    job.answered()
    del world.peer(B)._conversation.pending[job.job.id]
    nodes.look()
    assert world.peer(B).ended == ("the node was removed", False)
    del world.alive[C]
    world.pass_by(nodes, 1.2)
    assert isinstance(other.error, Unreachable)
    assert world.peer(C).ended == (f"the node {C} gives no sign of life", True)


def test_a_change_that_is_refused_changes_nothing(world: World) -> None:
    nodes = world.nodes("a", "b", replication=2)
    with pytest.raises(ConfigError, match=r"has the node .* already"):
        nodes.add(A, 1.0)
    assert world.peers[-1].ended is not None
    with pytest.raises(ConfigError, match="needs as many nodes"):
        nodes.remove(A)
    with pytest.raises(ConfigError, match=r"no node ipc:///c.sock"):
        nodes.remove(C)
    assert [node.address for node, _ in nodes.all()] == [A, B]
    nodes.add(C, 2.0)
    assert states(nodes) == ["UP", "UP", "DOWN"]


def test_once_it_is_closed_nothing_is_up_and_each_use_says_so(world: World) -> None:
    nodes = world.nodes("a", "b")
    del world.alive[B]
    world.pass_by(nodes, 1.2)
    nodes.close()
    assert world.peer(A).ended == ("the cluster was closed", False)
    assert world.peer(B).ended == ("the cluster was closed", True), "nobody is there to hear of it"
    assert states(nodes) == [State.DOWN.name] * 2
    for use in (lambda: nodes.choose(0, ()), lambda: nodes.add(C, 1.0), lambda: nodes.remove(A)):
        with pytest.raises(Unreachable, match="the cluster was closed"):
            use()
    count = len(world.peers)
    world.pass_by(nodes, 10.0)
    assert len(world.peers) == count, "and nobody is waited for"


def test_where_a_call_stands_is_its_route_or_its_affine_argument_or_all_of_them(world: World) -> None:
    nodes = world.nodes("a", "b")
    assert nodes.point("kin", {"who": "x", "n": 1}, None) == nodes.point("kin", {"who": "x", "n": 2}, None)
    assert nodes.point("kin", {"who": "x"}, None) == nodes.place("x")
    assert nodes.point("kin", {"who": "x"}, "y") == nodes.place("y")
    assert nodes.point("kin", {"who": ["x"]}, None) == nodes.point("kin", {"who": ["x"], "n": 1}, None)
    assert nodes.point("read", {"n": 1}, None) != nodes.point("read", {"n": 2}, None)
    assert nodes.point("read", {"n": 1}, None) == nodes.point("unknown", {"n": 1}, None)
    assert world.nodes("a", strategy="random").point("read", {"n": 1}, None) == 0
    ranges = world.nodes("a", "b", strategy="range", ranges={A: "", B: "m"})
    with pytest.raises(InvalidArguments, match="a range needs route="):
        ranges.point("read", {"n": 1}, None)
    assert ranges.point("kin", {"who": "x"}, None) == ranges.place("x")


def test_what_is_lost_ends_even_if_there_is_no_room_for_another_client_which_is_tried_again(world: World) -> None:
    nodes = world.nodes("a", "b", "c")
    jobs = [world.peer(address).submit() for address in (A, B)]
    del world.alive[A], world.alive[B]
    world.short = True
    world.pass_by(nodes, 1.2)
    assert [type(job.error) for job in jobs] == [Unreachable] * 2
    assert states(nodes) == ["DOWN", "DOWN", "UP"]
    world.alive.update({A: "a2", B: "b2"})
    world.pass_by(nodes, 0.4)
    assert states(nodes) == ["DOWN", "DOWN", "UP"], "those that were ended are of no use"
    world.short = False
    world.pass_by(nodes, 0.4)
    assert states(nodes) == ["UP"] * 3


def test_a_node_that_cannot_be_understood_is_lost_and_the_others_are_looked_at(world: World) -> None:
    nodes = world.nodes("a", "b")
    odd, job = world.peer(A), world.peer(A).submit()
    odd.fault = ProtocolError("the node sent a malformed message")
    del world.alive[B]
    nodes.look()
    assert isinstance(job.error, Unreachable)
    assert world.peer(A) is not odd
    world.pass_by(nodes, 1.2)
    assert states(nodes) == ["UP", "DOWN"]


def test_a_node_that_is_removed_while_it_is_not_there_is_not_waited_for(world: World) -> None:
    nodes = world.nodes("a", "b", "c")
    del world.alive[B], world.alive[C]
    world.pass_by(nodes, 0.8)
    nodes.remove(B)
    nodes.look()
    assert world.peer(B).ended == ("the node was removed", True), "silent, though not for long enough to be lost"
    world.pass_by(nodes, 0.6)
    nodes.remove(C)
    nodes.look()
    assert world.peer(C).ended == ("the node was removed", True)


def test_a_node_of_the_beginning_has_time_to_answer_until_its_keys_go_elsewhere(world: World) -> None:
    nodes = Nodes([A, B, C], world.connect, "consistent_hash", None, {}, 1.0, clock=world.clock)
    world.alive.update({A: "a1", C: "c1"})
    nodes.look()
    route = next(f"r{n}" for n in range(1000) if nodes.preference(f"r{n}") == [B, C])
    other = next(f"r{n}" for n in range(1000) if nodes.preference(f"r{n}") == [C, B])
    assert list(nodes.coming(nodes.place(other))) == [], "its own is there"
    waits = nodes.coming(nodes.place(route))
    next(waits)
    world.alive[B] = "b1"
    world.now += nodes.pause
    assert list(waits) == []
    chosen = nodes.choose(nodes.place(route), ())
    assert chosen is not None
    assert chosen.address == B
    del world.alive[B]
    world.pass_by(nodes, 1.2)
    assert list(nodes.coming(nodes.place(route))) == [], "it was there: now it is lost"


@pytest.mark.parametrize("strategy", ["consistent_hash", "random"])
def test_nobody_is_waited_for_who_says_nothing_in_time(world: World, strategy: str) -> None:
    nodes = Nodes([A, B], world.connect, strategy, None, {}, 1.0, clock=world.clock)
    world.alive[A] = "a1"
    nodes.look()
    route = next(f"r{n}" for n in range(1000) if strategy == "random" or nodes.preference(f"r{n}")[0] == B)
    began = world.now
    for pause in nodes.coming(nodes.place(route)):
        world.now += pause
    assert world.now - began == pytest.approx(1.0, abs=0.02)
    assert list(nodes.coming(nodes.place(route))) == [], "once is enough"
    chosen = nodes.choose(nodes.place(route), ())
    assert chosen is not None
    assert chosen.address == A
    nodes = Nodes([A, B], world.connect, strategy, None, {}, 1.0, 0.2, clock=world.clock)
    nodes.look()
    began = world.now
    for pause in nodes.coming(until=began + 0.1):
        world.now += pause
    assert world.now - began == pytest.approx(0.1, abs=0.02)
    for pause in nodes.coming():
        world.now += pause
    assert world.now - began == pytest.approx(0.2, abs=0.02), "the cluster's own patience, once for all calls"
    assert list(nodes.coming()) == []


def test_nobody_waits_for_a_node_that_is_removed(world: World) -> None:
    world.alive[A] = "a1"
    nodes = Nodes([A, B], world.connect, "random", None, {}, 1.0, clock=world.clock)
    nodes.look()
    waits = nodes.coming()
    next(waits)
    nodes.remove(B)
    assert list(waits) == []


def test_how_long_anybody_waits_is_a_number_of_seconds(world: World) -> None:
    for odd in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="connect_timeout"):
            Nodes([A], world.connect, "random", None, {}, 1.0, odd, clock=world.clock)
    assert world.peers == []


@pytest.mark.parametrize("fault", ["raises", "nobody", "made for others"])
def test_a_plugins_balancer_that_fails_is_given_up_and_calls_go_on(
    world: World, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Odd:
        keyed = True

        def __init__(self, members: Members) -> None:
            self.placed = 0

        def place(self, point: int, loads: Sequence[float | None]) -> int:
            self.placed += 1
            if self.placed > 20 and fault == "raises":
                raise RuntimeError("out of luck")
            return 999 if self.placed > 20 and fault == "nobody" else 0

    monkeypatch.setattr(routes, "load_plugins", lambda: SimpleNamespace(balancers={"odd": Odd}))
    nodes = world.nodes("a", "b", strategy="odd")
    if fault == "made for others":
        del world.alive[A]
        world.pass_by(nodes, 1.2)
        world.alive[A] = "a2"
        nodes.choose(0, [A])
    for _ in range(40):
        assert nodes.choose(7, ()) is not None
    assert sorted(nodes.preference("key")) == [A, B]
    assert capsys.readouterr().err.count("balancer_failed") == 1
