"""Spans of jobs: they add up, lie inside each other, and say what happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.sim_spans import Kept, check_spans, spans_into
from tests.model.simulation import GROUPS, Node, SimClient, sharing_tools
from tests.unit.supervisor.steps import ask, codes, finish, start
from toolring.plugins.specs import Span
from toolring.supervisor.accounts import Account
from toolring.supervisor.ledger import Entry, Session
from toolring.supervisor.spans import MOST, Feed
from toolring.tracing import is_trace

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
CALLER = 0xB7AD6B7169203331
PARENT = f"00-{TRACE:032x}-{CALLER:016x}-01"


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def node(kept: Kept) -> Iterator[Node]:
    node = Node(served=sharing_tools(), groups=GROUPS)
    for served in node.core.tools.values():
        served.observe(10)
    for worker in list(node.workers.values()):
        worker.step()
    node.core.spans = spans_into(kept)
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    client = node.clients[0]
    client.trace = PARENT
    return client


def spans(node: Node, kept: Kept) -> dict[str, list[Span]]:
    """By name, those that have been made; checked for what holds of all."""
    assert node.core.spans is not None
    node.core.spans.flush(node.now, last=True)
    found, kept.spans = kept.spans, []
    assert len({span.number for span in found}) == len(found)
    check_spans(found)
    by_name: dict[str, list[Span]] = {}
    for span in found:
        by_name.setdefault(span.name, []).append(span)
    return by_name


def test_a_job_is_one_span_with_the_time_in_line_and_that_with_a_worker(
    node: Node, client: SimClient, kept: Kept
) -> None:
    ask(client, "write")
    start(node)
    node.now += 0.5
    finish(node)
    told = spans(node, kept)
    assert sorted(told) == ["execute_tool write", "queue", "run"]
    ((job,), (queue,), (run,)) = told["execute_tool write"], told["queue"], told["run"]
    assert (job.trace, job.parent, job.kind, job.error) == (TRACE, CALLER, "server", "")
    assert job.attributes["gen_ai.tool.name"] == "write"
    assert job.attributes["toolring.attempts"] == 1
    assert queue.parent == run.parent == job.number
    assert (job.begin, job.end) == (queue.begin, run.end)
    assert queue.end == run.begin
    assert run.end - run.begin == pytest.approx(5e8, abs=1e7)
    assert job.begin == pytest.approx(5000e9, abs=2e9), "by the clock on the wall"


def test_each_attempt_is_told(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "again")
    finish(node, "retry")
    told = spans(node, kept)
    assert sorted(told) == ["queue", "run"], "the job is still in hand"
    assert told["run"][0].error == "RETRY"
    node.now += 5.0
    node.tick()
    finish(node)
    told = spans(node, kept)
    assert sorted(told) == ["execute_tool again", "retry", "run"]
    assert told["run"][0].attributes["toolring.attempt"] == 2
    assert told["execute_tool again"][0].attributes["toolring.attempts"] == 2
    assert told["execute_tool again"][0].error == ""


def test_a_worker_that_dies_is_told(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "read")
    start(node).die(-9)
    node.hear_exit()
    finish(node)
    told = spans(node, kept)
    assert [span.error for span in told["run"]] == ["worker lost", ""]
    assert told["execute_tool read"][0].attributes["toolring.attempts"] == 2
    assert [len(told[name]) for name in ("queue", "retry")] == [1, 1]
    ask(client, "write")
    start(node).die(-11)
    node.hear_exit()
    told = spans(node, kept)
    assert [span.error for span in told["execute_tool write"]] == ["OUTCOME_UNKNOWN"]
    assert [span.error for span in told["run"]] == ["OUTCOME_UNKNOWN"]


def test_what_never_ran_only_waited(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "few", "few", "few")
    client.cancel(3)
    told = spans(node, kept)
    assert sorted(told) == ["execute_tool few", "queue"]
    assert told["execute_tool few"][0].error == told["queue"][0].error == "CANCELLED"


def test_who_waits_for_anothers_run_is_told_its_attempts(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "cached", "cached")
    start(node).die(-9)
    node.hear_exit()
    finish(node)
    jobs = spans(node, kept)["execute_tool cached"]
    assert [span.attributes["toolring.attempts"] for span in jobs] == [2, 2]


def test_who_waits_for_anothers_run_has_no_run_of_its_own(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "cached", "cached")
    finish(node)
    ask(client, "cached")
    told = spans(node, kept)
    jobs = told["execute_tool cached"]
    assert [span.attributes.get("toolring.joined") for span in jobs] == [False, True, False], "the first began it"
    (run,) = told["run"]
    assert run.parent == jobs[0].number, "of the first who asked"
    (found,) = told["cache"]
    assert found.parent == jobs[2].number
    assert jobs[2].attributes["toolring.cached"] is True


def test_those_that_run_together_each_have_their_own(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "bulk", "bulk", "bulk")
    finish(node)
    assert codes(client) == [""] * 3
    told = spans(node, kept)
    assert [len(told[name]) for name in ("execute_tool bulk", "queue", "run")] == [3, 3, 3]
    assert {span.parent for span in told["run"]} == {span.number for span in told["execute_tool bulk"]}
    workers = {(worker.slot.index, worker.pid) for worker in node.core.fleet.workers.values()}
    (ran,) = {(run.attributes["toolring.worker.slot"], run.attributes["process.pid"]) for run in told["run"]}
    assert ran in workers


def test_who_leaves_what_it_began_has_joined_nobody(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "cached", "cached")
    client.cancel(1)
    finish(node)
    first, second = spans(node, kept)["execute_tool cached"]
    assert (first.error, first.attributes["toolring.joined"]) == ("CANCELLED", False)
    assert (second.error, second.attributes["toolring.joined"]) == ("", True)


def test_a_run_that_was_ended_has_no_time_of_its_own(node: Node, client: SimClient, kept: Kept) -> None:
    ask(client, "write")
    start(node).die(-9)
    node.hear_exit()
    (run,) = spans(node, kept)["run"]
    assert "toolring.run_us" not in run.attributes


def test_its_worker_gets_the_run_for_a_parent(node: Node, client: SimClient, kept: Kept) -> None:
    client.trace = f"{PARENT} a=1"
    ask(client, "write")
    finish(node)
    told = spans(node, kept)
    (run,) = told["run"]
    assert node.runs[-1].trace == f"00-{TRACE:032x}-{run.number:016x}-01 a=1"
    assert run.state == "a=1"


SHORT = f"00-{'0' * 16}{CALLER:016x}-{CALLER:016x}-00"
"""Of a system whose traces have numbers of 64 bits."""


@pytest.mark.parametrize("trace", ["", PARENT[:-2] + "00", SHORT, "nonsense", "00-" + "g" * 50, PARENT.upper()])
def test_who_is_not_traced_has_no_spans(node: Node, client: SimClient, kept: Kept, trace: str) -> None:
    client.trace = trace
    ask(client, "write", "cached", "few", "again")
    finish(node)
    assert codes(client) == [""] * 4
    assert {run.trace for run in node.runs} == {trace if is_trace(trace) else ""}, "it is handed on as it is"
    assert spans(node, kept) == {}


def test_a_share_of_the_others_has_a_trace_of_the_nodes_own(node: Node, client: SimClient, kept: Kept) -> None:
    node.core.spans = spans_into(kept, 0.25)
    client.trace = ""
    for _ in range(100):
        ask(client, "write")
        finish(node)
    told = spans(node, kept)
    jobs = told["execute_tool write"]
    assert 15 < len(jobs) < 35
    assert {span.parent for span in jobs} == {None}
    assert len({span.trace for span in jobs}) == len(jobs)
    client.trace = PARENT[:-2] + "00"
    ask(client, *["write"] * 10)
    finish(node)
    assert spans(node, kept) == {}, "their caller has decided"


def test_what_is_handed_on_is_a_trace() -> None:
    one = spans_into(Kept(), 1.0)
    assert one.given(PARENT) == PARENT
    for trace in (one.given(""), one.given("nonsense")):
        assert not is_trace(trace), "nobody is its first span's parent"
        entry = Entry(Session(b"", b"", ""), 1, sharing_tools()["write"], b"", 1.0, 0.0, Account("", 1.0), 1.0)
        entry.trace = trace
        assert is_trace(one.handed_on(entry))
        assert one.handed_on(entry)[:35] == trace[:35]


def test_a_sink_that_is_busy_gets_them_later_up_to_a_bound(kept: Kept) -> None:
    exporter: Any = kept
    feed = Feed(exporter)
    span = Span("run", 1, 2, 3, "internal", 4, 5, {}, "", "")
    feed.give([span] * 10)
    assert len(kept.spans) == 10
    kept.idle = False
    for _ in range(3):
        feed.give([span] * (MOST // 2))
    assert (len(feed.pending), feed.dropped) == (MOST, MOST // 2)
    kept.idle = True
    feed.give([span])
    assert (len(kept.spans), len(feed.pending), feed.dropped) == (10 + MOST, 0, MOST // 2 + 1)


def test_in_the_end_all_is_given(kept: Kept) -> None:
    one = spans_into(kept)
    kept.idle = False
    one.flush(0.0)
    one.held(Node().clients[0].session, 1, sharing_tools()["cached"], PARENT, 1000.0)  # type: ignore[arg-type]
    one.close()
    assert [span.name for span in kept.spans] == ["execute_tool cached", "cache"]
    assert kept.closed
