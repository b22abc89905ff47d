"""What a node tells of its caches and of its tools' policy. The rest is in tests/process/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.model.simulation import Node, SimClient, sharing_tools
from tests.unit.supervisor.steps import memory_of
from toolring.calls import alone
from toolring.config import load
from toolring.protocol import CALL
from toolring.spec import INVALIDATE, ToolSpec
from toolring.supervisor.admin import Admin
from toolring.supervisor.alerts import Alerts
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.collector import About, Collector
from toolring.supervisor.looks import Looks
from toolring.supervisor.reports import Reports
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services
from toolring.supervisor.sharing import OVERHEAD
from toolring.supervisor.usage import Traffic, Usage


@pytest.fixture
def node() -> Iterator[Node]:
    own = ServedTool(ToolSpec(name=INVALIDATE, idempotent=True), None)
    node = Node(2, {**sharing_tools(), own.name: own})
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


@pytest.fixture
def admin(node: Node) -> Admin:
    return Admin(
        node.core,
        node.watch,
        "here",
        {"version": "1"},
        load(environment={}),
        Services({}, alone()),
        memory_of(node),
        Looks(node.core.fleet, Path(), lambda _pid, _number: None, lambda _pid: False),
        Results(None, "here", 600.0),
    )


def ask(client: SimClient, *names: str, n: int = 1) -> None:
    client.submit([(name, n, 0, None, "", CALL, b"") for name in names])


def finish(node: Node, kind: str = "ok") -> None:
    for _ in range(3):
        for worker in [worker for worker in node.workers.values() if worker.alive]:
            worker.outcome = (kind, 10, 0)
            while worker.step():
                pass
            while worker.sent:
                node.deliver(worker)


def told(admin: Admin, node: Node) -> dict[str, Any]:
    cache: dict[str, Any] = admin.present.status(node.now)["cache"]
    return cache


def test_every_call_is_counted_once_where_it_was_answered(node: Node, client: SimClient, admin: Admin) -> None:
    ask(client, "cached", "cached")  # one runs, the other joins
    finish(node)
    ask(client, "cached")  # held
    node.now += 1.0
    ask(client, "cached")  # given by a worker
    finish(node, "hit")
    node.change()
    ask(client, "cached")  # given by a worker, outdated, and run again behind
    finish(node, "stale")
    figures = told(admin, node)["tools"]["cached"]
    assert figures["hits"] == {"supervisor": 1, "memory": 2, "sqlite": 0}
    assert (figures["calls"], figures["joined"], figures["runs"]) == (5, 1, 1)
    assert (figures["stale"], figures["renewed"], figures["errors"]) == (1, 1, 0)
    assert figures["hit_ratio"] == 0.8
    assert figures["calls"] == figures["runs"] + figures["joined"] + sum(figures["hits"].values())
    assert admin.present.status(node.now)["jobs"]["answered"] == 5


def test_answered_is_what_was_accepted_and_is_not_in_hand(node: Node, client: SimClient, admin: Admin) -> None:
    def jobs() -> tuple[int, int]:
        found = admin.present.status(node.now)["jobs"]
        return found["accepted"], found["answered"]

    ask(client, "cached", "cached", "mine")
    assert jobs() == (3, 0), "two of them wait for one run"
    finish(node)
    ask(client, "own", "own")
    node.now += 3600.0
    node.tick()
    assert jobs() == (5, 5), "those too whose time was over"
    del node.core.tools["cached"]
    assert jobs() == (5, 5)


def test_ends_that_nobody_asked_for_are_told_apart(node: Node, admin: Admin) -> None:
    one, two, *_ = node.workers.values()
    node.watch.exited(one.record, -9, node.now)
    node.watch.give_up(two.record, node.now, "killed by an operator")
    node.watch.exited(two.record, -9, node.now)
    found = admin.present.status(node.now)
    assert (found["exits"], found["restarts"]) == (2, 1)


def test_before_any_call_there_is_no_hit_ratio(node: Node, admin: Admin) -> None:
    cache = told(admin, node)
    assert set(cache["tools"]) == {"cached", "mine", "own"}, "those that are cached"
    assert cache["tools"]["cached"]["hit_ratio"] is None
    assert cache["supervisor"] == {"entries": 0, "bytes": 0, "evictions": 0}
    assert cache["memory"] == cache["stores"] == {}


def test_what_is_held_is_told_with_its_bytes(node: Node, client: SimClient, admin: Admin) -> None:
    ask(client, "cached")
    finish(node)
    held = told(admin, node)["supervisor"]
    assert held["entries"] == 1
    assert held["bytes"] > OVERHEAD


def test_figures_of_workers_add_up_and_what_is_one_file_counts_once(node: Node, admin: Admin) -> None:
    store = {"entries": 5, "bytes": 100, "hits": 1, "state": "closed"}
    admin.present.reports.last = {
        b"1": {"cache": {"lru": {"entries": 1, "hits": 2}}, "stores": {"sqlite": store}},
        b"2": {"cache": {"lru": {"entries": 3, "hits": 4}}, "stores": {"sqlite": {**store, "entries": 7}}},
        b"3": {"memory": 17},
    }
    cache = told(admin, node)
    assert cache["memory"] == {"lru": {"entries": 4, "hits": 6}}
    assert cache["stores"] == {"sqlite": {"entries": 7, "bytes": 100, "hits": 2, "state": "closed"}}


@pytest.mark.parametrize("states", [("open", "closed"), ("closed", "open")])
def test_one_worker_whose_store_is_left_out_is_seen(node: Node, admin: Admin, states: tuple[str, str]) -> None:
    admin.present.reports.last = {
        bytes([i]): {"stores": {"sqlite": {"state": state}}} for i, state in enumerate(states)
    }
    assert told(admin, node)["stores"]["sqlite"]["state"] == "open"


def test_a_policy_is_told_by_name_with_its_sources(admin: Admin) -> None:
    policy = admin.answer("policy", {"tool": "mine"}, 0.0)["policy"]
    assert policy["cache_scope"] == {"value": "partition", "source": "the tool"}
    assert policy["timeout"] == {"value": None, "source": "default"}
    assert policy["balancer"] == {"value": "ring", "source": "default, for its affinity or cache"}


@pytest.mark.parametrize("name", ["min", "", INVALIDATE])
def test_a_policy_that_nobody_has_is_an_error(admin: Admin, name: str) -> None:
    error = admin.answer("policy", {"tool": name} if name else {}, 0.0)["error"]
    assert error["code"] == "UNKNOWN_TOOL"


def test_what_is_toolrings_own_is_listed_nowhere(node: Node, admin: Admin) -> None:
    assert INVALIDATE not in [spec.name for spec in admin.answer("tools", {}, 0.0)["tools"]]
    assert INVALIDATE not in admin.present.status(node.now)["tools"]


def test_another_question_is_refused_with_those_that_there_are(admin: Admin) -> None:
    error = admin.answer("weather", {}, 0.0)["error"]
    assert error["code"] == "PROTOCOL"
    assert "policy" in error["message"]


@pytest.mark.parametrize("which", [-1, True, None, "0"])
def test_only_a_worker_is_killed(node: Node, admin: Admin, which: Any) -> None:
    assert admin.answer("kill", {"worker": which}, node.now)["error"]["code"] == "INVALID_ARGUMENTS"
    assert not node.watch.kills


def test_a_worker_without_a_pid_is_not_number_0(node: Node, admin: Admin) -> None:
    workers = node.core.fleet.workers
    first = next(worker for worker in workers.values() if worker.slot.index == 0)
    workers[first.identity] = workers.pop(first.identity)  # as if it had been replaced: the others are older
    for worker in workers.values():
        worker.pid = 0
    assert admin.answer("kill", {"worker": 0}, node.now)["worker"] == 0


def test_a_worker_tells_its_age_and_what_it_is_at(node: Node, client: SimClient, admin: Admin) -> None:
    ask(client, "cached")
    node.now += 2.0
    workers = admin.present.status(node.now)["workers"]
    [at_work] = [worker for worker in workers if "runs" in worker]
    assert at_work["runs"] == "cached"
    assert at_work["for"] == pytest.approx(2.0)
    assert all(worker["age"] >= 2.0 for worker in workers)
    finish(node)
    assert not any("runs" in worker or "for" in worker for worker in admin.present.status(node.now)["workers"])


def test_a_tool_tells_what_its_circuit_does(node: Node, admin: Admin) -> None:
    assert admin.present.status(node.now)["tools"]["cached"]["circuit"] == "closed"
    admin.answer("breaker", {"tool": "cached", "order": "open"}, node.now)
    assert admin.present.status(node.now)["tools"]["cached"]["circuit"] == "forced_open"


@pytest.mark.parametrize("name", ["x", "a-" + "9" * 5000, "a-\u0661", "", "-", "a-\xb2"])
def test_of_a_job_that_there_never_was_nothing_is_known(admin: Admin, name: str) -> None:
    for what in ("job", "why", "cancel"):
        assert admin.answer(what, {"job": name}, 0.0)["error"]["code"] == "UNKNOWN_JOB"


def test_a_fault_in_an_answer_is_told_and_logged_and_ends_nothing(node: Node, admin: Admin) -> None:
    admin.present.alerts = cast("Alerts", object())
    error = admin.answer("status", {}, 0.0)["error"]
    assert error["code"] == "NODE_ERROR"
    assert "AttributeError" in error["message"]
    assert [name for name, _ in node.core.notes] == ["question_failed"]


@pytest.mark.parametrize("window", [[], {}, "1h", 5, None])
def test_only_a_window_is_one(node: Node, admin: Admin, window: Any) -> None:
    assert node.core.figures is not None
    admin.collector = Collector(
        About("1", 1.0, ()),
        node.core,
        node.core.figures,
        Usage(lambda _: None, Traffic),
        Reports(),
        Services({}, alone()),
        lambda: 0,
        (),
    )
    steps = admin.lengthy("metrics", {"window": window}, 1.0)
    assert steps is not None
    with pytest.raises(StopIteration) as over:
        next(steps)
    assert over.value.value["error"]["code"] == "INVALID_ARGUMENTS"
