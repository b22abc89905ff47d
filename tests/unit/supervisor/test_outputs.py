"""What workers have spooled, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.simulation import Node
from toolring import protocol
from toolring.lane import WRITTEN
from toolring.protocol import CALL, OK, TOLD, Answer
from toolring.spool import Spool
from toolring.supervisor.fleet import Worker
from toolring.supervisor.ledger import Entry
from toolring.supervisor.outputs import LOOK_SECONDS, Outputs


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(1)
    for worker in node.workers.values():
        worker.step()
    yield node
    node.close()


def submitted(node: Node) -> tuple[Entry, Worker, int]:
    """A job that a worker holds, and its number there."""
    node.clients[0].submit([("read", 1, 0, None, "", CALL, b"")])
    entry = list(node.clients[0].session.jobs.values())[-1]  # type: ignore[union-attr]
    assert entry.worker is not None
    return entry, entry.worker, entry.worker.number_of(entry)


def spool(worker: Worker, seq: int, text: str, stream: str = "stdout", level: str = "") -> None:
    assert Spool(worker.lane).append(protocol.encode((seq, 1000.5, stream, level, text)))


def texts(entry: Entry) -> list[str]:
    return [] if entry.past is None else [line.text for line in entry.past.output]


def notes(node: Node) -> list[dict[str, Any]]:
    found = [facts for name, facts in node.core.notes if name == "tool_output"]
    node.core.notes.clear()
    return found


def test_lines_that_follow_each_other_are_one_note(node: Node) -> None:
    entry, worker, seq = submitted(node)
    for text in ("a", "b"):
        spool(worker, seq, text)
    spool(worker, seq, "c", "logging", "error")
    spool(worker, seq, "in the log already", "log")
    node.core.outputs.drain(worker)
    assert texts(entry) == ["a", "b", "c", "in the log already"]
    first, second = notes(node)
    assert (first["job"], first["tool"], first["attempt"], first["worker"]) == (entry.name, "read", 1, worker.pid)
    assert (first["stream"], first["text"]) == ("stdout", "a\nb")
    assert (second["severity"], second["text"]) == ("error", "c")


def test_an_answer_that_says_so_is_read_before_it_is_given(node: Node) -> None:
    entry, worker, seq = submitted(node)
    spool(worker, seq, "told")
    answer = Answer(seq, OK, protocol.NIL, 10, TOLD)
    node.core.returns.answers(worker, [answer], node.now)
    assert texts(entry) == ["told"]
    assert answer.flags == 0, "its caller has nothing to do with it"


def test_a_lost_worker_leaves_what_was_written(node: Node) -> None:
    entry, worker, seq = submitted(node)
    spool(worker, seq, "the last words")
    node.watch.exited(worker, -9, node.now)
    assert texts(entry) == ["the last words"]


def test_what_is_nobodys_any_more_is_in_the_log(node: Node) -> None:
    _, worker, seq = submitted(node)
    spool(worker, seq + 100, "whose?")
    node.core.outputs.drain(worker)
    (found,) = notes(node)
    assert (found["text"], "job" in found) == ("whose?", False)


def test_it_is_looked_for_now_and_then(node: Node) -> None:
    entry, worker, seq = submitted(node)
    node.core.outputs.look(node.now)
    spool(worker, seq, "meanwhile")
    node.core.outputs.look(node.now)
    assert texts(entry) == []
    node.core.outputs.look(node.now + LOOK_SECONDS)
    assert texts(entry) == ["meanwhile"]


def test_the_oldest_leaves_and_is_counted(node: Node) -> None:
    outputs = node.core.outputs = Outputs(node.core, 1000)
    entry, worker, seq = submitted(node)
    for n in range(4):
        spool(worker, seq, str(n) * 200)
        outputs.drain(worker)
    assert entry.past is not None
    assert outputs.bytes <= 1000
    assert [text[0] for text in texts(entry)] == ["1", "2", "3"]
    assert entry.past.forgotten == 1


def test_a_spool_that_can_not_be_read_condemns_its_worker(node: Node) -> None:
    _, worker, _ = submitted(node)
    worker.lane.words[WRITTEN] = 1 << 50
    node.core.outputs.drain(worker)
    assert Spool(worker.lane).append(protocol.encode(["no", "record"]))
    node.core.outputs.drain(worker)
    assert [one for one, _ in node.core.faulty] == [worker, worker]
