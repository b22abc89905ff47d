"""Single decisions of the core. Whole histories are in tests/model/test_core.py, with the same simulated workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import Raw

from tests.model.simulation import LIMITS, Node, SimClient
from tests.unit.supervisor.steps import ask, codes, finish, start, workers
from toolring import protocol
from toolring.errors import ProtocolError
from toolring.protocol import CALL, INLINE, KEEP, OK, PACK, REPLAYED, Answer, Batch, Job, decode_value
from toolring.supervisor.fleet import Life
from toolring.supervisor.refusals import MOST_NAMED, unknown_tool

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


def test_a_job_goes_out_and_its_answer_comes_back(node: Node, client: SimClient) -> None:
    ask(client, "read", "write")
    finish(node)
    assert codes(client) == ["", ""]
    assert node.core.in_hand() == node.core.bytes == 0


def test_an_unknown_tool_is_refused_with_the_one_that_was_meant(node: Node, client: SimClient) -> None:
    session = client.session
    assert session is not None
    node.core.door.submit(session, [Job(1, "rea", Raw(b"\x80"))], node.now)
    error = decode_value(session.out[0].value)
    assert error["code"] == "UNKNOWN_TOOL"
    assert "'read'" in error["message"]
    assert node.core.in_hand() == 0


def test_an_unknown_tool_is_refused_with_how_many_more_there_are_than_are_named(node: Node, client: SimClient) -> None:
    served = [name for name, one in node.core.tools.items() if not one.spec.internal]
    error = unknown_tool(node.core.tools, "xyzzy")
    named = error.message.partition("there is ")[2]
    assert named.endswith(f" and {len(served) - MOST_NAMED} more")
    assert named.count(", ") == MOST_NAMED - 1
    few = {name: node.core.tools[name] for name in served[:2]}
    assert unknown_tool(few, "xyzzy").message.endswith(f"there is {', '.join(sorted(few))}")


def test_jobs_are_dealt_out_over_the_workers(node: Node, client: SimClient) -> None:
    ask(client, *["read"] * 9)
    assert [len(worker.record.line) for worker in workers(node)] == [3, 3, 3]


def test_a_slow_tool_is_given_one_at_a_time(node: Node, client: SimClient) -> None:
    node.core.tools["read"].observe(10_000_000)
    ask(client, *["read"] * 6)
    assert [len(worker.record.line) for worker in workers(node)] == [1, 1, 1]
    assert node.core.backlog.count == 3


def test_a_large_body_travels_by_itself(node: Node, client: SimClient) -> None:
    client.submit(
        [
            ("read", 1, 10, None, "", CALL, b""),
            ("read", 2, INLINE + 1, None, "", CALL, b""),
            ("read", 3, 10, None, "", CALL, b""),
        ]
    )
    bodies = [body for worker in workers(node) for _, body in worker.inbox if body is not None]
    assert len(bodies) == 1
    finish(node)
    assert codes(client) == ["", "", ""]


def test_no_message_holds_more_than_a_pack() -> None:
    node = Node()
    node.core.limits = LIMITS._replace(backlog=1000, per_client=1000)
    node.core.tools["read"].observe(10)
    ask(node.clients[0], *["read"] * 200)
    for worker in workers(node):
        worker.step()
    messages = [protocol.decode_from_supervisor(head) for worker in workers(node) for head, _ in worker.inbox]
    assert max(len(message.work) for message in messages if isinstance(message, Batch)) <= PACK
    node.close()


def test_equal_keys_stay_with_one_worker(node: Node, client: SimClient) -> None:
    ask(client, *["near"] * 5, route=b"same")
    assert sorted(len(worker.record.line) for worker in workers(node)) == [0, 0, 5]


def test_round_robin_takes_turns(node: Node, client: SimClient) -> None:
    ask(client, *["push"] * 6)
    assert [len(worker.record.line) for worker in workers(node)] == [2, 2, 2]


# ---- limits


def test_a_full_backlog_is_busy_at_once_and_says_when_to_come_back(node: Node) -> None:
    for worker in workers(node):
        worker.die(-9)
    while node.exits:
        node.hear_exit()
    one, _, other = node.clients
    ask(one, *["read"] * 12)
    ask(other, *["read"] * 12)
    one.read()
    other.read()
    assert (len(one.unanswered()), len(other.unanswered())) == (10, 5), "each has as much as it leaves to others"
    refused = next(asked.answer for asked in other.asked.values() if asked.answer)
    error = decode_value(refused.value)
    assert error["code"] == "BUSY"
    assert error["limit"] == "backlog_share"
    assert 0 < error["retry_after"] <= 30


def test_what_was_answered_in_line_takes_no_place(node: Node, client: SimClient) -> None:
    for worker in workers(node):
        worker.die(-9)
    while node.exits:
        node.hear_exit()
    ask(client, *["read"] * 12)
    for number in list(client.asked):
        client.cancel(number)
    assert node.core.backlog.count == 0
    assert node.core.bytes == 0


def test_one_client_can_not_take_it_all(node: Node, client: SimClient) -> None:
    for served in node.core.tools.values():
        served.observe(10)
    ask(client, *["read"] * 9)  # all of them go to workers: only their number counts
    ask(client, *["read"] * (LIMITS.per_client - 9 + 2))
    assert codes(client) == ["BUSY", "BUSY"]
    ask(node.clients[1], "read")
    assert codes(node.clients[1]) == []


def test_bytes_are_limited(node: Node, client: SimClient) -> None:
    ask(client, *["read"] * 5, size=70_000)
    ask(node.clients[1], "read")
    assert codes(node.clients[1]) == ["BUSY"]


def test_a_draining_node_refuses_what_is_new_and_finishes_the_rest(node: Node, client: SimClient) -> None:
    ask(client, "read")
    node.core.draining = True
    ask(client, "read")
    finish(node)
    assert sorted(codes(client)) == ["", "DRAINING"]


# ---- deaths


@pytest.mark.parametrize(
    ("tool", "code"), [("read", ""), ("near", ""), ("write", "OUTCOME_UNKNOWN"), ("push", "OUTCOME_UNKNOWN")]
)
def test_a_worker_dies_in_the_middle(node: Node, client: SimClient, tool: str, code: str) -> None:
    ask(client, tool)
    start(node).die(-11)
    node.hear_exit()
    finish(node)
    assert codes(client) == [code]
    assert len(node.runs) == (2 if code == "" else 1)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_worker_dies_before_it_started(node: Node, client: SimClient, steps: int) -> None:
    ask(client, "write")
    worker = next(worker for worker in workers(node) if worker.inbox)
    for _ in range(steps):
        worker.step()
    worker.die(-9)
    node.hear_exit()
    finish(node)
    assert codes(client) == [""]
    assert len(node.runs) == 1


def test_a_worker_dies_after_it_finished_and_before_anybody_heard(node: Node, client: SimClient) -> None:
    ask(client, "write")
    worker = start(node)
    worker.outcome = OKAY
    for _ in range(3):
        worker.step()
    worker.sent.clear()
    worker.die(-9)
    node.hear_exit()
    assert codes(client) == [""]


def test_a_job_that_kills_is_given_up(node: Node, client: SimClient) -> None:
    ask(client, "read")
    for _ in range(LIMITS.deaths):
        start(node).die(-6)
        node.hear_exit()
    finish(node)
    assert codes(client) == ["POISONED"]
    assert len(node.runs) == LIMITS.deaths


def test_neighbours_of_a_death_run_elsewhere_in_their_old_order(node: Node, client: SimClient) -> None:
    client.submit([("write", n, 0, None, "", CALL, b"") for n in range(9)])
    start(node).die(-9)
    node.hear_exit()
    finish(node)
    assert sorted(codes(client)) == [""] * 8 + ["OUTCOME_UNKNOWN"]
    starts = [int(run.job.rpartition("-")[2]) for run in node.runs]
    assert len(starts) == len(set(starts))


# ---- cancelling


def test_what_waits_is_cancelled_without_a_signal(node: Node, client: SimClient) -> None:
    node.core.tools["read"].observe(10_000_000)
    ask(client, *["read"] * 4)
    client.cancel(4)
    assert codes(client) == ["CANCELLED"]
    assert not any(worker.asked_to_end for worker in workers(node))


def test_what_was_sent_and_not_begun_is_taken_back(node: Node, client: SimClient) -> None:
    ask(client, *["write"] * 3)
    client.cancel(1)
    assert codes(client) == ["CANCELLED"]
    finish(node)
    assert codes(client) == ["CANCELLED", "", ""]
    assert len(node.runs) == 2
    assert not any(worker.asked_to_end for worker in node.workers.values())


def test_what_runs_is_interrupted_and_its_worker_replaced_at_once(node: Node, client: SimClient) -> None:
    ask(client, "write")
    worker = start(node)
    client.cancel(1)
    assert codes(client) == ["CANCELLED"]
    assert worker.asked_to_end
    assert worker.record.life is Life.ENDING
    node.tick()
    assert node.core.fleet.slots[worker.record.slot.index].worker is not None, "its successor starts while it cleans up"
    finish(node)
    assert worker.status == 0, "it ended by itself"


def test_one_jobs_end_touches_no_other(node: Node, client: SimClient) -> None:
    ask(client, *["write"] * 9)
    worker = start(node)
    assert worker.run is not None
    client.cancel(int(worker.run.job.rpartition("-")[2]))
    finish(node)
    assert sorted(codes(client)) == [""] * 8 + ["CANCELLED"]


def test_a_client_that_leaves_takes_its_calls_with_it_and_not_what_it_left_to_be_done(
    node: Node, client: SimClient
) -> None:
    node.core.tools["read"].observe(10_000_000)
    ask(client, *["read"] * 4)
    ask(client, "write", mode=KEEP)
    client.leave()
    finish(node)
    assert {run.tool for run in node.runs} == {"write"}


def test_leaving_with_jobs_that_had_ended_unheard(node: Node, client: SimClient) -> None:
    """Cancelling the first reads the journal, which settles the others."""
    ask(client, *["write"] * 9)
    for worker in workers(node):
        worker.outcome = OKAY
        for _ in range(14):
            worker.step()
    client.leave()
    assert node.core.in_hand() == 0


# ---- names


def test_the_same_key_runs_once_and_everybody_hears(node: Node) -> None:
    one, other, _ = node.clients
    for client in (one, other):
        ask(client, "write", key="k")
    finish(node)
    late = one
    ask(late, "write", key="k")
    assert [codes(client) for client in (one, other)] == [["", ""], [""]]
    assert len(node.runs) == 1
    first, again = (asked.answer for asked in late.asked.values())
    assert first is not None
    assert again is not None
    assert not first.flags & REPLAYED
    assert again.flags & REPLAYED


@pytest.mark.parametrize(("tool", "n"), [("write", 2), ("read", 1)])
def test_a_key_used_for_something_else_is_a_conflict(node: Node, client: SimClient, tool: str, n: int) -> None:
    ask(client, "write", key="k")
    ask(client, tool, key="k", n=n)
    finish(node)
    assert codes(client) == ["", "CONFLICT"]


def test_a_key_belongs_to_its_caller(node: Node) -> None:
    first, second = node.clients[:2]
    assert second.session is not None
    second.session.caller = "somebody else"
    ask(first, "write", key="k", n=1)
    ask(second, "write", key="k", n=2)
    finish(node)
    assert (codes(first), codes(second)) == ([""], [""])


def test_who_waits_for_a_key_may_stop_waiting(node: Node) -> None:
    first, second = node.clients[:2]
    ask(first, "write", key="k")
    ask(second, "write", key="k")
    worker = start(node)
    first.cancel(1)
    assert codes(first) == ["CANCELLED"]
    assert not worker.asked_to_end, "somebody still waits for it"
    second.cancel(1)
    assert worker.asked_to_end


def test_a_key_whose_job_never_left_the_line_is_free_again(node: Node, client: SimClient) -> None:
    node.core.tools["read"].observe(10_000_000)
    ask(client, *["read"] * 3)
    ask(client, "write", key="k")
    client.cancel(4)
    ask(client, "write", key="k")
    finish(node)
    assert codes(client) == ["", "", "", "CANCELLED", ""]


# ---- reconnects


def test_what_is_in_hand_is_passed_over_when_it_comes_again(node: Node, client: SimClient) -> None:
    ask(client, "write")
    start(node)
    client.resend()
    finish(node)
    assert codes(client) == [""]
    assert len(node.runs) == 1


def test_an_answer_that_was_lost_is_not_made_again_by_a_second_run(node: Node, client: SimClient) -> None:
    ask(client, "write", "read")
    ask(client, "write", key="k")
    finish(node)
    client.unread.clear()
    client.resend()
    finish(node)
    assert codes(client) == ["OUTCOME_UNKNOWN", "", ""]
    assert sum(run.tool == "write" for run in node.runs) == 2


# ---- the end


def test_shutting_down_answers_everything_truthfully(node: Node, client: SimClient) -> None:
    ask(client, "write")
    start(node)
    node.core.tools["read"].observe(10_000_000)
    ask(client, *["read"] * 5)
    node.shut_down()
    assert codes(client) == ["OUTCOME_UNKNOWN", *["CANCELLED"] * 5]


def test_a_protocol_error_of_a_worker_is_refused() -> None:
    node = Node()
    worker = next(iter(node.workers.values()))
    with pytest.raises(ProtocolError, match="never given"):
        node.core.returns.answers(worker.record, [Answer(1, OK, Raw(b"\x01"))], node.now)
    node.close()


def test_answers_out_of_order_are_refused(node: Node, client: SimClient) -> None:
    ask(client, *["read"] * 9)
    worker = next(iter(node.workers.values()))
    with pytest.raises(ProtocolError, match="2 before 1"):
        node.core.returns.answers(worker.record, [Answer(2, OK, Raw(b"\x01"))], node.now)


def test_listeners_hear_each_job_once(node: Node, client: SimClient) -> None:
    heard: list[tuple[str, int]] = []
    node.core.on_finished = lambda entry, answer: heard.append((entry.name, answer.status))
    ask(client, "read", "write")
    ask(client, "write", key="k")
    ask(client, "write", key="k")
    finish(node)
    assert sorted(heard) == [(f"{client.name}-{number}", 0) for number in (1, 2, 3, 4)]
