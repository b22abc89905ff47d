from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Raw

from tests.model.simulation import BREAKER, LIMITS, Node, SimClient, grouped_tools, sharing_tools, tool
from tests.unit.supervisor.steps import ask, codes, finish, start
from toolring.policy.histogram import bucket_of
from toolring.policy.series import Tally, Window
from toolring.protocol import CACHED, ERROR, KEEP, LAYER_SHIFT, NIL, OK, Answer, Follow, Job, encode
from toolring.supervisor.accounts import Account
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.figures import OTHER, WAIT_SECONDS, Figures, Of
from toolring.supervisor.fleet import Life, Worker
from toolring.supervisor.ledger import Entry, Session
from toolring.supervisor.rows import FULL, Rows

OKAY = ("ok", 10, 0)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    for served in node.core.tools.values():
        served.observe(10)
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> SimClient:
    return node.clients[0]


def figures_of(node: Node) -> Figures:
    figures = node.core.figures
    assert figures is not None
    return figures


def counted(node: Node, name: str, group: str = "default") -> Tally:
    figures = figures_of(node)
    figures.fold_all()
    return figures.tools[Of(name, group)].window(Window.START, node.now)[0]


def put_down(figures: Figures, worker: Worker, served: ServedTool, run_us: int) -> Rows:
    """One plain answer, that came at 3.0 to what was accepted at 1.0 and sent at 2.0."""
    rows = figures.rows(worker, served, 3.0)
    rows.parts.append((len(rows.runs), 1.0, 2.0, 3.0))
    rows.runs.append(run_us)
    return rows


def test_plain_answers_are_counted_with_their_times_and_bytes(node: Node, client: SimClient) -> None:
    ask(client, "read", "read", "write")
    finish(node)
    tally = counted(node, "read")
    assert (tally.jobs, tally.operations, tally.failed) == (2, 2, 0)
    assert tally.bytes_in > 0
    assert tally.bytes_out > 0
    for times in (tally.response, tally.queue, tally.run, tally.overhead):
        assert times.n == 2
    assert counted(node, "write").jobs == 1


def test_what_waits_to_be_counted_is_counted_after_half_a_second(node: Node, client: SimClient) -> None:
    ask(client, "read")
    finish(node)
    figures = figures_of(node)
    assert not figures.tools
    figures.fold_due(node.now)
    assert not figures.tools
    figures.fold_due(node.now + WAIT_SECONDS)
    assert figures.tools[Of("read", "default")].window(Window.START, node.now)[0].jobs == 1


def test_counting_in_steps_comes_to_an_end_whatever_comes_meanwhile(node: Node) -> None:
    figures, worker = figures_of(node), node.core.fleet.ready[0]
    first, *others = node.core.tools.values()
    put_down(figures, worker, first, 5)
    steps = 0
    for _ in figures.folding():
        steps += 1
        for served in (first, *others):
            put_down(figures, worker, served, 5)
    assert steps == 1
    assert counted(node, first.name).jobs == 2


def test_many_answers_are_counted_without_waiting(node: Node) -> None:
    figures = figures_of(node)
    worker = node.core.fleet.ready[0]
    served = node.core.tools["read"]
    for _ in range(2 * FULL):
        rows = put_down(figures, worker, served, 500_000)
        rows.bytes_in += 10
        rows.bytes_out += 20
    assert len(rows.runs) <= FULL
    figures.fold_all()
    tally = figures.tools[Of("read", "default")].window(Window.START, 3.0)[0]
    assert (tally.jobs, tally.bytes_in, tally.bytes_out) == (2 * FULL, 20 * FULL, 40 * FULL)
    assert tally.response.mean == 2e6
    assert tally.queue.mean == 1e6
    assert tally.run.mean == 5e5
    assert tally.overhead.mean == 5e5


def test_errors_are_counted_by_their_code(node: Node, client: SimClient) -> None:
    ask(client, "read")
    ask(client, "write", timeout=0.01)
    start(node)
    ask(client, "write")
    client.cancel(3)
    finish(node, "error")
    found = [code for code in codes(client) if code]
    every: dict[str, int] = {}
    for name in ("read", "write"):
        for code, count in counted(node, name).errors.items():
            every[code] = every.get(code, 0) + count
    assert every == {code: found.count(code) for code in found}


def test_refusals_are_counted_at_the_door(node: Node, client: SimClient) -> None:
    for _ in range(LIMITS.per_client + 2):
        ask(client, "read")
    assert figures_of(node).door.window(Window.START, node.now)[0].errors == {"BUSY": 2}


def test_a_caller_that_joins_another_is_counted_and_its_run_is_not(node: Node, client: SimClient) -> None:
    ask(client, "write", key="k", mode=KEEP)
    ask(client, "write", key="k", mode=KEEP)
    finish(node)
    tally = counted(node, "write")
    assert (tally.jobs, tally.response.n, tally.run.n) == (2, 2, 1)


def test_members_of_a_batch_are_jobs_and_their_carrier_is_a_run() -> None:
    node = Node(served=grouped_tools() | {"bulk": tool("bulk", batch=3, batch_delay=0.0)})
    for worker in node.workers.values():
        worker.step()
    ask(node.clients[0], *["bulk"] * 3)
    finish(node)
    tally = counted(node, "bulk")
    assert tally.jobs == tally.response.n == 3
    assert 1 <= tally.run.n <= 3
    node.close()


def test_workers_count_what_they_ran(node: Node, client: SimClient) -> None:
    ask(client, *["read"] * 9)
    finish(node)
    figures = figures_of(node)
    figures.fold_all()
    assert [series.window(Window.START, node.now)[0].jobs for series in figures.workers.values()] == [3, 3, 3]
    figures.forget_workers([0, 2])
    assert sorted(figures.workers) == [0, 2]


def test_there_is_an_end_to_the_names_and_it_is_told() -> None:
    figures = Figures(0.0, most=2)
    node = Node(served=grouped_tools())
    for served in node.core.tools.values():
        figures.hit(served, CACHED, 1.0)
    assert len(figures.tools) == 3
    assert figures.passed_over == len(node.core.tools) - 2
    assert figures.tools[Of(OTHER, OTHER)].window(Window.START, 1.0)[0].cached == len(node.core.tools) - 2
    node.close()


def test_a_worker_s_end_is_counted_by_what_it_was_doing_and_how(node: Node) -> None:
    figures = figures_of(node)
    figures.exited(node.core.fleet.ready[0], "killed by SIGSEGV", True)
    assert figures.exits == {("ready", "killed by SIGSEGV"): 1}
    assert figures.deaths == 1


@pytest.mark.parametrize(
    ("life", "status", "deaths"),
    [
        (Life.READY, -11, 1),
        (Life.READY, 1, 1),
        (Life.RETIRING, 1, 1),
        (Life.RETIRING, 0, 0),
        (Life.ENDING, -9, 0),
        (Life.ENDING, 1, 0),
    ],
)
def test_a_death_is_an_end_that_nobody_wanted(node: Node, life: Life, status: int, deaths: int) -> None:
    worker = node.core.fleet.ready[0]
    worker.life = life
    node.watch.exited(worker, status, node.now)
    assert (figures_of(node).deaths, node.watch.deaths) == (deaths, deaths)
    assert sum(figures_of(node).exits.values()) == node.watch.exits == 1


def test_a_removed_tool_keeps_its_counts_and_what_is_in_hand_is_counted(node: Node, client: SimClient) -> None:
    ask(client, "read")
    finish(node)
    ask(client, "read")
    worker = start(node)
    node.core.tools.pop("read")
    worker.outcome = OKAY
    finish(node)
    assert counted(node, "read").jobs == 2


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x81\xa4code\x07"])
def test_an_error_that_cannot_be_read_has_the_code_of_a_tool_s(node: Node, client: SimClient, value: bytes) -> None:
    ask(client, "read")
    assert client.session is not None
    entry = next(iter(client.session.jobs.values()))
    figures_of(node).ended(entry, Answer(1, ERROR, Raw(value)), node.now)
    assert counted(node, "read").errors == {"TOOL_ERROR": 1}


# ---- what waits in vain, is ended, lost, or tried again


def later(node: Node, seconds: float) -> None:
    node.now += seconds
    node.tick()
    node.turn()


def test_a_job_that_ends_before_it_is_sent_has_waited(node: Node, client: SimClient) -> None:
    ask(client, *["few"] * 5, timeout=2.0)  # one at a time
    later(node, 3.0)
    tally = counted(node, "few")
    assert tally.errors == {"EXPIRED": 5}
    assert (tally.queue.n, tally.run.n) == (5, tally.overhead.n)
    assert max(tally.queue.counts) >= bucket_of(3_000_000)


def test_a_run_that_is_ended_lasted_until_then(node: Node, client: SimClient) -> None:
    ask(client, *["write"] * 3)
    finish(node)  # what it did before is nothing to it
    ask(client, "write", timeout=1.0)
    start(node)
    later(node, 2.0)
    tally = counted(node, "write")
    assert (tally.queue.n, tally.run.n, tally.overhead.n) == (4, 4, 4)
    assert max(tally.run.counts) == bucket_of(2_000_000)
    assert tally.lost == 0
    assert {"EXPIRED": 1} in [series.since_start[1].errors for series in figures_of(node).workers.values()]


@pytest.mark.parametrize(("name", "code"), [("read", "LOST"), ("write", "OUTCOME_UNKNOWN")])
def test_a_run_that_is_lost_with_its_worker_is_one(node: Node, client: SimClient, name: str, code: str) -> None:
    ask(client, *["few"] * 6)
    finish(node)
    ask(client, name)
    worker = start(node)
    later(node, 1.5)
    worker.die(-11)
    node.hear_exit()
    assert ("worker_exited", name) in [(what, facts.get("tool")) for what, facts in node.notes]
    later(node, 1.0)
    finish(node)
    tally = counted(node, name)
    assert (tally.jobs, tally.lost, tally.run.n) == (1, 1, 2 if name == "read" else 1)
    assert max(tally.run.counts) == bucket_of(1_500_000)
    assert max(tally.queue.counts) < bucket_of(1_200_000), "its second run waited since the first was lost"
    errors = [series.window(Window.START, node.now)[0].errors for series in figures_of(node).workers.values()]
    assert {code: 1} in errors


def test_the_delay_before_another_try_is_no_time_in_the_queue(node: Node, client: SimClient) -> None:
    ask(client, "again")
    finish(node, "retry")
    later(node, 5.0)
    finish(node)
    tally = counted(node, "again")
    assert (tally.jobs, tally.retried, tally.run.n, tally.queue.n) == (1, 1, 2, 2)
    assert max(tally.queue.counts) < bucket_of(1_000_000)
    assert max(tally.response.counts) >= bucket_of(5_000_000)


def test_what_goes_together_has_waited_each_for_itself(node: Node) -> None:
    node = Node(served=grouped_tools() | {"bulk": tool("bulk", batch=3, batch_delay=0.5)})
    for worker in node.workers.values():
        worker.step()
    ask(node.clients[0], "bulk")
    later(node, 0.3)
    ask(node.clients[0], "bulk")
    later(node, 0.3)
    finish(node)
    tally = counted(node, "bulk")
    assert (tally.queue.n, tally.run.n) == (2, 1)
    assert sorted(tally.queue.counts) == [bucket_of(300_000), bucket_of(600_000)]
    node.close()


def test_an_error_from_the_cache_is_a_hit(node: Node) -> None:
    entry = Entry(Session(b"s" * 16, b"", ""), 1, node.core.tools["read"], NIL, 9.0, 1.0, Account(""), 9.0)
    figures_of(node).ended(entry, Answer(1, ERROR, Raw(encode({"code": "X"})), 5, CACHED | 1 << LAYER_SHIFT), 2.0)
    tally = counted(node, "read")
    assert (tally.cached, tally.errors) == (1, {"X": 1})


def test_parts_of_a_stream_are_bytes_of_its_result(node: Node) -> None:
    node = Node(served=grouped_tools())
    for worker in node.workers.values():
        worker.step()
    served, worker = node.core.tools["flow"], node.core.fleet.ready[0]
    entry = Entry(Session(b"s" * 16, b"", ""), 1, served, NIL, 9.0, 1.0, Account(""), 9.0)
    figures_of(node).told(entry, worker, 500, 2.0)
    assert counted(node, "flow").bytes_out == 500
    node.close()


@pytest.mark.parametrize("more", [{}, {"key": "k", "mode": KEEP}])
def test_a_status_counts_the_errors_of_all_callers_of_one_run(more: dict[str, Any]) -> None:
    node = Node(served=sharing_tools())
    for worker in node.workers.values():
        worker.step()
    for name in ("cached",) * 3 if not more else ("write",) * 3:
        ask(node.clients[0], name, **more)
    finish(node, "error")
    served = node.core.tools["write" if more else "cached"]
    assert sum(served.errors.values()) == 3
    assert sum(counted(node, served.name).errors.values()) == 3
    node.close()


def test_a_status_counts_callers_that_gave_up_a_run_which_they_shared(node: Node) -> None:
    node = Node(served=sharing_tools())
    for worker in node.workers.values():
        worker.step()
    ask(node.clients[0], "cached", timeout=1.0)
    ask(node.clients[0], "cached", timeout=2.0)
    start(node)
    later(node, 1.5)
    later(node, 1.5)
    served = node.core.tools["cached"]
    assert served.errors == counted(node, "cached").errors == {"EXPIRED": 2}
    node.close()


def submit(node: Node, name: str, **more: Any) -> Entry:
    """One job of the first client's, as it may be written."""
    client = node.clients[0]
    session = client.session
    assert session is not None
    job = Job(900 + len(session.jobs) + session.highest, name, Raw(encode({"n": 0, "pad": b""})), 20.0, **more)
    node.core.door.submit(session, [job], node.now)
    entry = session.jobs[job.id]
    node.core.placing.dispatch(node.now)
    return entry


def answer(node: Node, entry: Entry, told: Answer) -> None:
    runs = entry.run
    assert runs.worker is not None
    told.id = runs.worker.number_of(runs)
    node.core.returns.answers(runs.worker, [told], node.now)


def test_a_hit_of_a_second_attempt_is_one(node: Node) -> None:
    node = Node(served={"c": tool("c", read_only=True, cache=60.0, retries=2)})
    for worker in node.workers.values():
        worker.step()
    entry = submit(node, "c", follow=Follow(0, False, 5.0))  # it goes by itself
    answer(node, entry, Answer(0, ERROR, Raw(encode({"code": "RETRY", "message": "x"})), 10))
    later(node, 5.0)
    answer(node, entry, Answer(0, OK, NIL, 10, CACHED | 1 << LAYER_SHIFT))
    assert counted(node, "c").hits == node.core.tools["c"].hits == {1: 1}
    node.close()


def test_a_replayed_chunk_has_its_errors_and_a_status_tells_the_same(node: Node) -> None:
    served = node.core.tools["read"]
    chunk: dict[str, Any] = {"chunk": 5, "key": "k", "mode": KEEP}
    answer(node, submit(node, "read", **chunk), Answer(0, OK, NIL, 10, 0, 0, 0, {"TOOL_ERROR": 4}))
    client = node.clients[0]
    assert client.session is not None
    assert [one.failed for one in client.session.out] == [None], "that is not for callers"
    job = Job(5000, "read", Raw(encode({"n": 0, "pad": b""})), 20.0, **chunk)
    node.core.door.submit(client.session, [job], node.now)
    answer(node, submit(node, "read", chunk=5), Answer(0, ERROR, Raw(encode({"code": "X"})), 10))
    tally = counted(node, "read")
    assert (tally.jobs, tally.operations, tally.errors) == (3, 15, {"TOOL_ERROR": 8, "X": 5})
    assert (served.answered, served.errors) == (15, {"TOOL_ERROR": 8, "X": 5})


def test_what_waits_together_and_is_never_sent_has_waited(node: Node) -> None:
    bulk = tool("bulk", batch=3, batch_delay=0.0, breaker=BREAKER, read_only=True)
    node = Node(served=grouped_tools() | {"bulk": bulk})
    for worker in node.workers.values():
        worker.step()
    for worker in node.workers.values():
        worker.stopped = True
    ask(node.clients[0], *["write"] * 3, *["bulk"] * 3)
    (carrier,) = [entry for entry in node.core.house.jobs.values() if entry.members]
    node.now += 0.5
    node.core.circuits.refuse(carrier, node.now)
    tally = counted(node, "bulk")
    assert (tally.jobs, tally.queue.n, tally.run.n) == (3, 3, 0)
    assert tally.queue.mean == pytest.approx(5e5, rel=0.01)
    node.close()


def test_what_is_given_up_with_the_node_ran_until_then(node: Node, client: SimClient) -> None:
    ask(client, "write")
    start(node)
    node.now += 3.0
    node.watch.endings.shut_down(node.now)
    tally = counted(node, "write")
    assert (tally.errors, tally.queue.n, tally.run.n) == ({"OUTCOME_UNKNOWN": 1}, 1, 1)
    assert max(tally.run.counts) == bucket_of(3_000_000)
