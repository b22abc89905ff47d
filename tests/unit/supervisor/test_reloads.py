"""Other code of the tools takes over as a whole, or not at all; what it declares holds from then on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.model.simulation import GROUPS, Node, SimClient, grouped_tools
from tests.unit.supervisor.steps import ask, codes, finish, start
from toolring import config
from toolring.errors import Draining, LoadError, PluginError
from toolring.policy.balance import Balancer, Members, RingOverflow
from toolring.policy.breaker import Event, State
from toolring.policy.groups import Group
from toolring.protocol import Counted, Job, decode_value
from toolring.spec import ToolSpec
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.door import REMOVED_SECONDS
from toolring.supervisor.fleet import Fleet, Life
from toolring.supervisor.lineup import Lineup
from toolring.supervisor.reloads import TABLE, Reloads, Stage, Step


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(served=grouped_tools(), groups=GROUPS)
    for served in node.core.tools.values():
        served.observe(10)
    boot(node)
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


@pytest.fixture
def reloads(node: Node) -> Reloads:
    return node.watch.reloads


def boot(node: Node) -> None:
    for worker in list(node.workers.values()):
        if worker.record.life is Life.STARTING:
            worker.step()


def wait(node: Node, seconds: float) -> None:
    for _ in range(max(1, round(seconds / 0.05))):
        node.now += 0.05
        node.tick()


def turn_over(node: Node, without: str = "", **changes: dict[str, Any]) -> None:
    """Reload; these tools declare something else, and one is not there any more."""
    reloads = node.watch.reloads
    reloads.ask("wanted", node.now)
    specs = [served.spec for served in node.core.tools.values() if served.name != without]
    reloads.loaded([msgspec.structs.replace(spec, **changes.get(spec.name, {})) for spec in specs], node.now)
    wait(node, 0.05)
    boot(node)
    wait(node, 0.05)
    assert reloads.stage is Stage.IDLE
    assert reloads.outcomes[-1].error is None
    node.check_books()
    wait(node, 0.05)
    for worker in list(node.workers.values()):  # who has nothing to finish leaves
        if worker.record.life is Life.RETIRING and worker.run is None:
            while worker.alive and worker.step():
                pass
    while node.exits:
        node.hear_exit()


def tool(node: Node, name: str) -> ServedTool:
    return node.core.tools[name]


def test_every_step_at_every_stage() -> None:
    allowed = {
        (Stage.IDLE, Step.ASK): Stage.LOADING,
        (Stage.LOADING, Step.LOADED): Stage.STARTING,
        (Stage.LOADING, Step.FAIL): Stage.IDLE,
        (Stage.STARTING, Step.TURN_OVER): Stage.IDLE,
        (Stage.STARTING, Step.FAIL): Stage.IDLE,
    }
    assert {(stage, step): after for stage, steps in TABLE.items() for step, after in steps.items()} == allowed


def test_nothing_changes_until_all_stand_by(node: Node, client: SimClient, reloads: Reloads) -> None:
    reloads.ask("wanted", node.now)
    reloads.loaded([served.spec for served in node.core.tools.values()], node.now)
    wait(node, 0.05)
    coming = [worker for worker in node.workers.values() if worker.record.life is Life.STARTING]
    assert len(coming) == len(node.core.fleet.slots)
    for worker in coming[:-1]:
        worker.step()
    wait(node, 0.5)
    assert node.core.fleet.code == 1
    assert all(worker.code == 1 for worker in node.core.fleet.ready)
    ask(client, "write")
    finish(node)
    assert codes(client) == [""]
    coming[-1].step()
    wait(node, 0.05)
    assert node.core.fleet.code == 2
    assert all(worker.code == 2 for worker in node.core.fleet.ready)


def test_an_old_worker_that_dies_meanwhile_is_replaced_by_another_old_one(node: Node, reloads: Reloads) -> None:
    reloads.ask("wanted", node.now)
    reloads.loaded([served.spec for served in node.core.tools.values()], node.now)
    wait(node, 0.05)
    slot = node.core.fleet.slots[0]
    assert slot.worker is not None
    node.workers[slot.worker.identity].die(-9)
    while node.exits:
        node.hear_exit()
    wait(node, 0.1)
    assert slot.worker is not None
    assert (slot.worker.code, slot.worker.life) == (1, Life.STARTING)
    assert slot.successor is not None
    assert slot.successor.code == 2
    boot(node)
    wait(node, 0.05)
    assert slot.worker.code == 2
    assert slot.successor is None


def test_it_fails_with_the_first_worker_that_does(node: Node, reloads: Reloads) -> None:
    reloads.ask("wanted", node.now)
    reloads.loaded([served.spec for served in node.core.tools.values()], node.now)
    wait(node, 0.05)
    coming = [worker for worker in node.workers.values() if worker.record.life is Life.STARTING]
    coming[0].step()
    coming[0].die(-11)
    node.hear_exit()
    assert reloads.stage is Stage.IDLE
    error = reloads.outcomes[-1].error
    assert error is not None
    assert error["code"] == LoadError.code
    assert "SIGSEGV" in error["message"]
    wait(node, 0.1)
    while node.exits:
        node.hear_exit()
    assert not any(worker.alive for worker in coming)
    assert all(slot.successor is None for slot in node.core.fleet.slots)
    assert len(node.core.fleet.ready) == len(node.core.fleet.slots)


def test_loading_has_an_end(node: Node, reloads: Reloads) -> None:
    reloads.ask("wanted", node.now)
    wait(node, 4.9)
    assert not reloads.outcomes
    wait(node, 0.3)
    assert reloads.outcomes[-1].error is not None
    assert "not imported within 5 s" in reloads.outcomes[-1].error["message"]


def test_a_draining_node_loads_nothing(node: Node, reloads: Reloads) -> None:
    reloads.ask("wanted", node.now)
    node.core.draining = True
    wait(node, 0.05)
    assert reloads.stage is Stage.IDLE
    with pytest.raises(Draining):
        reloads.ask("wanted", node.now)


def test_counts_stay_and_what_is_declared_holds(node: Node, client: SimClient) -> None:
    ask(client, "write")
    finish(node)
    answered, cost = tool(node, "write").answered, tool(node, "write").cost
    turn_over(node, write={"timeout": 3.0, "read_only": True, "version": "2"})
    served = tool(node, "write")
    assert (served.answered, served.cost) == (answered, cost)
    assert (served.spec.timeout, served.repeatable) == (3.0, True)


def test_what_tools_measure_may_change_its_form(node: Node) -> None:
    figures = node.core.figures
    assert figures is not None
    figures.measured.heard(0, Counted([("counter", "pages", [("site", "a")], 1.0, {})]))
    turn_over(node)
    figures.measured.heard(0, Counted([("counter", "pages", [], 2.0, {})]))
    assert [values for _, values in figures.measured.families()] == [{(): 2.0}]


def test_a_limit_that_comes_or_changes_finds_what_runs(node: Node, client: SimClient) -> None:
    ask(client, "write", "write")
    start(node)
    turn_over(node, write={"concurrency": 1})
    valve = tool(node, "write").valves[0]
    assert valve.running == 1, "the other had not been begun, and waits for the new limit"
    assert valve.waiting == 1
    turn_over(node, write={"concurrency": 5})
    assert tool(node, "write").valves[0].running == 2
    turn_over(node, write={"concurrency": None})
    assert tool(node, "write").valves == ()
    finish(node)
    wait(node, 0.1)
    assert codes(client) == [""] * 2


def test_what_waits_moves_along_with_its_tool(node: Node, client: SimClient) -> None:
    ask(client, "few", "few", "few", "few")
    valve = tool(node, "few").valves[0]
    assert (valve.running, valve.waiting) == (2, 2)
    turn_over(node, few={"group": "heavy", "concurrency": 1})
    group = tool(node, "few").group
    assert group.name == "heavy"
    assert tool(node, "few").valves[0].running == 1, "nobody had begun one: they wait for the new limit"
    assert [entry.tool.name for entry in tool(node, "few").valves[0].line] == ["few"] * 3
    for _ in range(4):
        finish(node)
    assert codes(client) == [""] * 4
    assert {run.worker.record.slot.group.name for run in node.runs} == {"heavy"}


def test_those_that_wait_for_company_wait_for_it_anew(node: Node, client: SimClient) -> None:
    node.core.valves[0].backlog = None
    ask(client, "bulk", "bulk")
    assert not node.core.house.jobs, "they wait for a third, or for a moment"
    turn_over(node, bulk={"batch": 2})
    finish(node)
    assert codes(client) == ["", ""]
    assert [len(run.jobs) for run in node.runs] == [2]


def test_a_tool_that_is_gone_is_refused_at_the_door_and_what_waits_goes_to_a_worker(
    node: Node, client: SimClient
) -> None:
    gone = tool(node, "large")
    ask(client, "large", "large")
    turn_over(node, without="large")
    assert "large" not in node.core.tools
    assert gone.valves == ()
    assert gone.group in node.core.fleet.groups
    session = client.session
    assert session is not None
    assert [entry.tool for entry in session.jobs.values()] == [gone, gone], "accepted, so somebody answers"
    assert sum(len(worker.line) for worker in gone.group.ready) == 2


@pytest.mark.parametrize(
    ("order", "state"),
    [(None, State.CLOSED), (Event.FORCE_OPEN, State.FORCED_OPEN), (Event.FORCE_CLOSE, State.FORCED_CLOSED)],
)
def test_new_code_gets_a_new_circuit_but_for_an_operators_word(node: Node, order: Event | None, state: State) -> None:
    served = tool(node, "brittle")
    if order is not None:
        node.core.circuits.order(served, order, node.now)
    for _ in range(6):
        permit = served.circuit.breaker.permit(node.now)
        if permit is not None:
            served.circuit.breaker.record(permit, True, 0.0, node.now)
    assert served.circuit.breaker.state is (State.OPEN if order is None else state)
    turn_over(node, brittle={"timeout": 9.0})
    assert served.circuit.breaker.state is (State.OPEN if order is None else state), "its code is the same"
    turn_over(node, brittle={"version": "2"})
    assert served.circuit.breaker.state is state
    assert served.circuit.armed


def test_a_lost_zygote_is_tried_again_until_it_succeeds(node: Node, client: SimClient, reloads: Reloads) -> None:
    node.lose_zygote()
    assert reloads.lost
    ask(client, "write")
    for _ in range(3):
        wait(node, 0.05)
        assert not node.watch.due(node.now), "there is nothing to start them from"
        code = reloads.code
        node.load(0)
        assert reloads.code == code + 1, "and the next is on its way"
        assert reloads.opens_at > node.now
    node.load(3)
    wait(node, 0.05)
    boot(node)
    wait(node, 0.05)
    assert not reloads.lost
    finish(node)
    assert codes(client) == [""]


def test_what_runs_is_judged_by_what_its_own_code_said(node: Node, client: SimClient) -> None:
    """The new code may be repeated, and may take less time: neither is true of the run that began before."""
    ask(client, "write")
    start(node)
    turn_over(node, write={"read_only": True, "timeout": 0.01, "version": "2"})
    wait(node, 0.5)
    assert codes(client) == [], "its own code has no such limit"
    (worker,) = [worker for worker in node.workers.values() if worker.run is not None]
    worker.die(-9)
    node.hear_exit()
    assert codes(client) == ["OUTCOME_UNKNOWN"]


def test_what_may_be_repeated_runs_again_under_the_new_codes_limit(node: Node, client: SimClient) -> None:
    ask(client, "read")
    start(node)
    turn_over(node, read={"timeout": 0.5, "version": "2"})
    (worker,) = [worker for worker in node.workers.values() if worker.run is not None]
    worker.die(-9)
    node.hear_exit()
    wait(node, 0.05)
    start(node)
    assert len(node.runs) == 2
    wait(node, 0.8)
    assert codes(client) == ["EXPIRED"]


def lose_answers(client: SimClient) -> None:
    """They were on their way when the connection was cut."""
    client.unread.clear()
    client.resend()


def test_who_asks_again_for_what_earlier_code_did_is_not_given_a_second_run(node: Node, client: SimClient) -> None:
    """Its answer was lost on the way, and whether it may be repeated was for that code to say."""
    ask(client, "write", "read")
    finish(node)
    turn_over(node, write={"read_only": True, "version": "2"})
    lose_answers(client)
    finish(node)
    assert sorted(codes(client)) == ["", "OUTCOME_UNKNOWN"]
    assert [run.tool for run in node.runs if run.tool == "write"] == ["write"]
    ask(client, "write")
    finish(node)
    lose_answers(client)
    finish(node)
    assert sorted(codes(client)) == ["", "", "OUTCOME_UNKNOWN"], "what the new code did may be repeated"


def test_a_tool_that_comes_back_while_its_old_runs_go_on_counts_them(node: Node, client: SimClient) -> None:
    ask(client, "few", "few")
    served = tool(node, "few")
    start(node)
    start(node)
    spec = served.spec
    turn_over(node, without="few")
    assert node.core.gone == {"few": served}
    turn_over(node, without="write")
    assert node.core.gone["few"] is served
    assert served.group in node.core.fleet.groups
    reloads = node.watch.reloads
    reloads.ask("wanted", node.now)
    reloads.loaded([*(one.spec for one in node.core.tools.values()), spec], node.now)
    wait(node, 0.05)
    boot(node)
    wait(node, 0.05)
    assert tool(node, "few") is served
    assert served.valves[0].running == 2
    ask(client, "few")
    finish(node)
    wait(node, 0.1)
    finish(node)
    assert codes(client) == [""] * 3
    assert served.answered == 3
    assert "few" not in node.core.gone


def test_whose_policy_of_sharing_changes_shares_nothing_of_what_was_asked_before(node: Node, client: SimClient) -> None:
    ask(client, "cached", n=4)
    turn_over(node, cached={"cache_scope": "caller"})
    session = client.session
    assert session is not None
    kept = [entry for entry in session.jobs.values() if entry.tool.name == "cached"]
    assert [entry.run.partition for entry in kept] == [None]


def test_starting_has_an_end_too(node: Node, reloads: Reloads) -> None:
    """Where no lane is free for its workers."""
    node.core.fleet.free.clear()
    reloads.ask("wanted", node.now)
    reloads.loaded([served.spec for served in node.core.tools.values()], node.now)
    wait(node, 4.9)
    assert reloads.stage is Stage.STARTING
    wait(node, 0.3)
    error = reloads.outcomes[-1].error
    assert error is not None
    assert "not ready within 5 s" in error["message"]


def test_where_nobody_may_start_any_more_a_lost_zygote_is_not_replaced(node: Node, reloads: Reloads) -> None:
    node.watch.stopping = True
    node.lose_zygote()
    assert (reloads.lost, reloads.stage) == (True, Stage.IDLE)


def test_a_balancer_that_cannot_be_made_fails_the_reload_by_name() -> None:
    def broken(_members: Members) -> Balancer:
        raise ValueError("no disks")

    lineup = Lineup(config.Config(), 2, 8, {"broken": broken, "ring": RingOverflow}, lambda _name, _facts: None)
    (group,) = Fleet([Group("default", 2)], []).groups
    with pytest.raises(PluginError, match="balancer 'broken' can't be made for group 'default': ValueError: no disks"):
        lineup.balancer(ToolSpec(name="one", balancer="broken"), group)
    made = lineup.balancer(ToolSpec(name="two", balancer="ring"), group)
    assert made is lineup.balancer(ToolSpec(name="three", affinity="x"), group)
    lineup.forget([group])
    assert made is not lineup.balancer(ToolSpec(name="three", affinity="x"), group)


def test_a_tool_that_was_removed_and_is_still_called_is_told_of_now_and_then(node: Node, client: SimClient) -> None:
    session = client.session
    assert session is not None

    def calls(*names: str) -> list[dict[str, Any]]:
        """What is told of them."""
        core = node.core
        core.door.submit(session, [Job(session.highest + 1, name, msgspec.Raw(b"")) for name in names], node.now)
        assert {decode_value(answer.value)["code"] for answer in session.out} == {"UNKNOWN_TOOL"}
        session.out.clear()
        found = [facts for name, facts in core.notes if name == "removed_tool_called"]
        core.notes.clear()
        return found

    assert calls("nosuch") == []
    turn_over(node, without="read")
    assert calls("read", "read", "nosuch") == [{"tool": "read", "caller": client.caller or "a caller without a name"}]
    node.now += REMOVED_SECONDS - 1
    assert calls("read") == []
    node.now += 1
    assert len(calls("read")) == 1, "of whoever calls it then"
    node.now += REMOVED_SECONDS
    turn_over(node, without="write")
    assert [line["tool"] for line in calls("write", "read")] == ["write", "read"]
