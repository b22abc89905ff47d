"""The queue with real processes: limits hold, callers share, refusals say why, what is cancelled ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import Node, alive, eventually, failure, lines, run_cli
from toolring import Client
from toolring.errors import Busy, Cancelled, Expired, OutcomeUnknown, UnknownJob

CONFIG = """
[limits]
backlog = 40

[callers.paying]
weight = 3

[callers.metered]
rate = 1
burst = 4

[callers.bounded]
in_flight = 2
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    file = tmp_path_factory.mktemp("flow") / "toolring.toml"
    file.write_text(CONFIG)
    with kit.running(kit.HERE / "flow_tools.py", TOOLRING_CONFIG=str(file)) as node:
        yield node


class Gates:
    """Both workers held, until told to go on."""

    def __init__(self, client: Client, directory: Path) -> None:
        self.spots = [directory / f"gate{n}" for n in range(2)]
        self.handles = [client.submit("gate", {"path": str(spot)}) for spot in self.spots]
        eventually(lambda: all(lines(spot) for spot in self.spots), "both workers are held")

    def open(self) -> None:
        for spot in self.spots:
            Path(f"{spot}.open").touch()
        for handle in self.handles:
            handle.result()


@pytest.fixture
def gates(client: Client, tmp_path: Path) -> Iterator[Gates]:
    gates = Gates(client, tmp_path)
    yield gates
    gates.open()


# ---- a tool's own limits


def test_a_tool_runs_no_more_often_at_once_than_it_says(client: Client, node: Node, spot: Path, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    handles = [client.submit("single", {"path": str(spot), "gate": str(gate)}) for _ in range(4)]
    eventually(lambda: lines(spot) == ["begin"], "one runs")
    assert client.call("echo", {"x": 1}) == 1, "the other worker is free for others"
    queue = client.queue()
    assert queue["limits"]["tool single"]["running"] == 1
    (waiting,) = queue["waiting"]
    assert (waiting["waits_for"], waiting["tool"], waiting["count"]) == ("concurrency", "single", 3)
    refused = failure(lambda: client.call("single", {"path": str(spot)}))
    assert isinstance(refused, Busy)
    assert (refused.facts["limit"], refused.facts["tool"]) == ("tool_backlog", "single")
    assert refused.facts["retry_after"] > 0
    gate.touch()
    assert [handle.result() for handle in handles] == ["done"] * 4
    assert lines(spot) == ["begin", "end"] * 4


def test_a_run_that_does_not_end_still_counts(client: Client, spot: Path) -> None:
    """Its caller hears at once; the next one starts only when the worker is gone."""
    first = client.submit("stubborn", {"path": str(spot)})
    assert isinstance(first.exception(), Expired)
    second = client.submit("stubborn", {"path": str(spot)})
    assert isinstance(second.exception(), Expired)
    assert lines(spot) == ["begin"] * 2


def test_a_rate_spreads_starts(client: Client, spot: Path) -> None:
    handles = [client.submit("metered", {"path": str(spot)}) for _ in range(8)]
    for handle in handles:
        handle.result()
    starts = sorted(float(line) for line in lines(spot))
    assert len(starts) == 8
    assert starts[7] - starts[0] >= 6 / 20 - 0.05, "two at once, then one each 50 ms"


# ---- callers


def test_a_burst_of_one_caller_is_not_noticed_by_another(node: Node, client: Client, gates: Gates, spot: Path) -> None:
    with node.client() as other:
        many = [client.submit("mark", {"path": str(spot), "text": "burst"}) for _ in range(15)]
        few = [other.submit("mark", {"path": str(spot), "text": "other"}) for _ in range(3)]
        eventually(lambda: sum(w["count"] for w in client.queue()["waiting"]) == 18, "all wait")
        last, first = many[-1].position(), few[0].position()
        assert last is not None
        assert first is not None
        assert last > first
        wait = many[-1].estimated_wait()
        assert wait is not None
        assert wait > 0
        gates.open()
        for handle in (*many, *few):
            handle.result()
    order = lines(spot)
    assert order.index("other") <= 4, order
    assert [n for n, text in enumerate(order) if text == "other"][2] <= 9, order


def test_a_callers_weight_is_its_share(node: Node, gates: Gates, spot: Path) -> None:
    with node.client(caller="paying") as paying, node.client(caller="plain") as plain:
        handles = [plain.submit("mark", {"path": str(spot), "text": "plain"}) for _ in range(9)]
        handles += [paying.submit("mark", {"path": str(spot), "text": "paying"}) for _ in range(9)]
        eventually(lambda: sum(w["count"] for w in plain.queue()["waiting"]) == 18, "all wait")
        gates.open()
        for handle in handles:
            handle.result()
    first = lines(spot)[:10]
    assert 6 <= first.count("paying") <= 9, first


def test_one_caller_leaves_room_for_the_next(node: Node, client: Client, gates: Gates) -> None:
    handles = [client.submit("echo", {"x": n}) for n in range(40)]
    refused = eventually(lambda: [h for h in handles if h.done()], "some are refused")
    eventually(lambda: len([h for h in handles if h.done()]) == 20, "half of the backlog is for others")
    error = refused[0].exception()
    assert isinstance(error, Busy)
    assert error.facts["limit"] == "backlog_share"
    with node.client() as other:
        assert not other.submit("echo", {"x": 1}).done()
        gates.open()
    assert [h.result() for h in handles if h.exception() is None] == list(range(20))


def test_a_callers_rate_and_number_are_refused_by_name(node: Node, gates: Gates) -> None:
    for caller, most, limit in (("metered", 4, "caller_rate"), ("bounded", 2, "caller_in_flight")):
        with node.client(caller=caller) as client:
            handles = [client.submit("echo", {"x": n}) for n in range(most + 1)]
            error = handles[-1].exception()
            assert isinstance(error, Busy)
            assert error.facts["limit"] == limit
            assert 0 < error.facts["retry_after"] <= 30
            assert not any(handle.done() for handle in handles[:-1])


def test_higher_priorities_go_first_and_lower_ones_still_go(client: Client, gates: Gates, spot: Path) -> None:
    handles = []
    for priority in ("low", "normal", "high"):
        for _ in range(6):
            arguments = {"path": str(spot), "text": priority}
            handles.append(client.submit("mark", arguments, priority=priority))
    eventually(lambda: sum(w["count"] for w in client.queue()["waiting"]) == 18, "all wait")
    gates.open()
    for handle in handles:
        handle.result()
    order = lines(spot)
    assert order[:6].count("high") >= 4, order
    mean = {name: sum(n for n, text in enumerate(order) if text == name) / 6 for name in ("low", "normal", "high")}
    assert mean["high"] < mean["normal"] < mean["low"], order


# ---- waiting has an end


def test_what_waits_too_long_expires_before_its_deadline(client: Client, gates: Gates) -> None:
    for call in (
        partial(client.call, "impatient"),
        partial(client.call, "echo", {"x": 1}, queue_timeout=0.05),
    ):
        error = failure(call)
        assert isinstance(error, Expired)
        assert error.facts["limit"] == "queue_timeout"


def test_a_queue_timeout_ends_with_the_start(client: Client, spot: Path) -> None:
    assert client.call("note", {"path": str(spot), "text": "x", "seconds": 0.3}, queue_timeout=0.2) == "x"


# ---- trying again


def test_errors_that_may_pass_are_tried_again(client: Client, spot: Path) -> None:
    assert client.call("flaky", {"path": str(spot), "fails": 2}) == 3
    assert client.call("flaky", {"path": str(spot), "fails": 1, "how": "connection"}) == 2
    assert lines(spot) == ["1", "2", "3", "1", "2"]
    assert client.status()["tools"]["flaky"]["retried"] == 3


def test_other_errors_are_not(client: Client, spot: Path) -> None:
    assert failure(lambda: client.call("flaky", {"path": str(spot), "fails": 1, "how": "value"})).code == "TOOL_ERROR"
    assert lines(spot) == ["1"]


def test_retries_have_an_end(client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("flaky", {"path": str(spot), "fails": 9}))
    assert (error.code, error.retryable, error.facts["attempt"]) == ("RETRY", True, 4)
    assert lines(spot) == ["1", "2", "3", "4"]


def test_no_retry_goes_past_the_deadline(client: Client, spot: Path) -> None:
    assert failure(lambda: client.call("patient", {"path": str(spot)}, timeout=5)).code == "RETRY"
    assert lines(spot) == ["tried"]


# ---- ending work


def test_a_job_is_cancelled_from_the_command_line_in_every_state(
    node: Node, client: Client, tmp_path: Path, spot: Path
) -> None:
    def cancelled(job: str) -> str:
        done = run_cli("cancel", job, "--json", address=node.address)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["cancelled"])

    delayed = client.submit("patient", {"path": str(spot)})
    eventually(lambda: delayed.status() == "delayed", "it waits to be tried again")
    assert (client.job(delayed.id)["waits_for"], client.job(delayed.id)["attempt"]) == ("retry", 2)
    gates = Gates(client, tmp_path)
    queued = client.submit("echo", {"x": 1})
    running = gates.handles[0]
    for handle in (delayed, queued, running):
        assert cancelled(handle.id) == handle.id
        error = handle.exception()
        assert isinstance(error, Cancelled)
    assert isinstance(failure(lambda: client.cancel(queued.id)), UnknownJob)
    Path(f"{gates.spots[1]}.open").touch()
    gates.handles[1].result()


def test_a_worker_is_killed_from_the_command_line(node: Node, client: Client, spot: Path) -> None:
    held = client.submit("gate", {"path": str(spot)})
    pid = int(eventually(lambda: lines(spot), "it runs")[0])
    done = run_cli("kill", str(pid), address=node.address)
    assert done.returncode == 0, done.stderr
    error = held.exception()
    assert isinstance(error, OutcomeUnknown)
    assert error.facts["cause"] == "killed by an operator"
    eventually(lambda: not alive(pid), "it is gone")
    unknown = run_cli("kill", "99", address=node.address)
    assert (unknown.returncode, "there is" in unknown.stderr) == (2, True)


def test_who_notices_by_itself_keeps_its_worker(client: Client, spot: Path) -> None:
    handle = client.submit("polite", {"path": str(spot)})
    pid = int(eventually(lambda: lines(spot), "it runs")[0])
    handle.cancel()
    assert isinstance(handle.exception(), Cancelled)
    eventually(lambda: "noticed" in lines(spot), "it notices")
    eventually(lambda: client.status()["jobs"]["running"] == 0, "it is over")
    workers = client.status()["workers"]
    assert pid in [worker["pid"] for worker in workers if worker["state"] == "ready"]


def test_a_shield_lets_a_critical_section_end(client: Client, spot: Path) -> None:
    handle = client.submit("careful", {"path": str(spot), "seconds": 1.5, "shield": 3})
    pid = int(eventually(lambda: lines(spot), "it runs")[0])
    handle.cancel()
    assert isinstance(handle.exception(timeout=1), Cancelled), "its caller hears at once"
    eventually(lambda: not alive(pid), "the worker is gone")
    assert lines(spot)[1:] == ["complete"]


def test_a_shield_is_bounded(client: Client, spot: Path) -> None:
    handle = client.submit("careful", {"path": str(spot), "seconds": 60, "shield": 0.3})
    pid = int(eventually(lambda: lines(spot), "it runs")[0])
    handle.cancel()
    eventually(lambda: not alive(pid), "the worker is gone")
    assert len(lines(spot)) == 1


# ---- seen from outside


def test_the_queue_is_shown(node: Node, client: Client, gates: Gates) -> None:
    handle = client.submit("echo", {"x": 1})
    eventually(lambda: client.queue()["waiting"], "it waits")
    shown = run_cli("queue", address=node.address)
    assert shown.returncode == 0, shown.stderr
    assert "workers" in shown.stdout
    assert "echo" in shown.stdout
    assert json.loads(run_cli("queue", "--json", address=node.address).stdout)["waiting"][0]["count"] == 1
    gates.open()
    assert handle.result() == 1
    assert handle.position() is None
    assert "nothing waits" in run_cli("queue", address=node.address).stdout


def test_a_bad_priority_or_patience_is_refused_by_name(client: Client) -> None:
    for given in ({"priority": "urgent"}, {"queue_timeout": -1}):
        error = failure(partial(client.call, "echo", {"x": 1}, **given))
        assert error.code == "INVALID_ARGUMENTS"
        assert next(iter(given)) in str(error)
