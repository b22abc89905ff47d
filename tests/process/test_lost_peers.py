"""The supervisor is lost, clients are lost: nothing hangs, nothing is left, nobody else is harmed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import psutil
import pytest
import zmq

from tests.process import kit
from tests.process.kit import Background, Node, alive, eventually, failure, lines
from toolring import Client
from toolring.errors import OutcomeUnknown, UnknownJob, Unreachable

CALLER = """
import sys
from toolring import Client
how, address, tool, path = sys.argv[1:]
with Client(address) as client:
    if how == "submit":
        handle = client.submit(tool, {"path": path}, timeout=60)
        print(handle.id, flush=True)
        handle.result()
    else:
        print("calling", flush=True)
        client.call(tool, {"path": path}, timeout=60)
"""


def caller(node: Node, how: str, tool: str, spot: Path) -> tuple[subprocess.Popen[str], str]:
    """A client process that runs a tool; its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, how, node.address, tool, str(spot)],
        stdout=subprocess.PIPE,
        text=True,
        env=kit.environment(),
    )
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    process.stdout.close()
    eventually(lambda: lines(spot), "the tool runs")
    return process, first


def vanish(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


# ---- clients


@pytest.mark.parametrize("tool", ["gate", "gate_once"])
def test_a_vanished_clients_call_is_cancelled(node: Node, client: Client, spot: Path, tool: str) -> None:
    process, _ = caller(node, "call", tool, spot)
    vanish(process)
    eventually(lambda: lines(Path(f"{spot}.cleaned")), "the tool's cleanup")
    assert client.call("echo", {"x": 1}) == 1
    assert len(lines(spot)) == 1


def test_a_vanished_clients_submission_goes_on(node: Node, client: Client, spot: Path) -> None:
    process, job = caller(node, "submit", "gate_once", spot)
    before = node.log.count("client_lost")
    vanish(process)
    eventually(lambda: node.log.count("client_lost") > before, "the client is forgotten")
    assert client.job(job)["state"] == "running"
    Path(f"{spot}.open").touch()
    eventually(lambda: client.job(job)["state"] == "done")
    assert client.job(job)["value"]["attempt"] == 1
    assert len(lines(spot)) == 1


def test_an_interrupted_client_cancels_its_call(node: Node, client: Client, spot: Path) -> None:
    process, _ = caller(node, "call", "gate", spot)
    process.send_signal(signal.SIGINT)
    eventually(lambda: lines(Path(f"{spot}.cleaned")), "the tool's cleanup")
    process.wait()


def test_an_unknown_job_is_told(client: Client) -> None:
    assert isinstance(failure(lambda: client.job("0123-4")), UnknownJob)


def test_a_client_that_never_reads_harms_nobody(node: Node, client: Client) -> None:
    """It asks for 200 MB and reads none of it; the node's memory stays bounded, others are served meanwhile."""
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.rcvhwm = 1
    socket.connect(node.address)
    try:
        socket.send(msgspec.msgpack.encode(["hello", 1, b"n" * 16, ""]))
        for first in range(0, 4000, 100):
            jobs = [[n, "big", {"size": 50_000}] for n in range(first, first + 100)]
            socket.send(msgspec.msgpack.encode(["submit", jobs]))
            assert client.call("echo", {"x": first}) == first
        eventually(lambda: client.status()["jobs"]["running"] == 0 and client.status()["jobs"]["waiting"] == 0)
        handles = [client.submit("echo", {"x": n}) for n in range(500)]
        assert [handle.result() for handle in handles] == list(range(500))
        assert psutil.Process(node.pid).memory_info().rss < 400 << 20
    finally:
        socket.close()
        context.term()
    assert client.call("echo", {"x": 1}) == 1


def test_many_clients_come_and_go(node: Node) -> None:
    for n in range(30):
        with node.client() as client:
            assert client.call("echo", {"x": n}) == n
    assert node.status()["state"] == "healthy"


def test_nobody_there() -> None:
    with kit.place() as directory, Client(f"ipc://{directory}/none.sock", connect_timeout=0.2) as client:
        error = failure(lambda: client.call("echo", {"x": 1}))
    assert isinstance(error, Unreachable)
    assert str(directory) in str(error)


# ---- the supervisor


@pytest.fixture
def own() -> Iterator[Node]:
    with kit.running() as node:
        yield node


def test_kill_9_leaves_nobody_and_the_next_life_takes_over(own: Node, tmp_path: Path) -> None:
    """Several lives at one address, with one client that stays: what may be repeated is, the rest is told."""
    with own.client() as client:
        for life in range(2):
            again, once = tmp_path / f"again{life}", tmp_path / f"once{life}"
            repeatable = Background(partial(client.call, "gate", {"path": str(again)}))
            not_repeatable = Background(partial(client.call, "gate_once", {"path": str(once)}))
            eventually(lambda: lines(again) and lines(once), "both run")  # noqa: B023 - called here and now
            own.kill()
            own.start()
            own.until_ready()
            with pytest.raises(OutcomeUnknown) as caught:
                not_repeatable.result()
            assert caught.value.facts["tool"] == "gate_once"
            eventually(lambda: len(lines(again)) == 2, "it runs again")  # noqa: B023
            Path(f"{again}.open").touch()
            assert repeatable.result()["pid"] == int(lines(again)[1].split()[0])
            assert len(lines(once)) == 1
            assert client.call("echo", {"x": life}) == life


def test_a_job_submitted_while_the_node_is_away_is_run_once(own: Node, spot: Path) -> None:
    """It never left for the old life, so that it may run in the new one; told as unknown is right as well."""
    with own.client() as client:
        assert client.call("echo", {"x": 1}) == 1
        own.kill()
        noted = Background(lambda: client.call("note", {"path": str(spot), "number": 1}))
        echoed = Background(lambda: client.call("echo", {"x": 2}))
        own.start()
        own.until_ready()
        assert echoed.result() == 2
        try:
            assert noted.result() == 1
            assert lines(spot) == ["1"]
        except OutcomeUnknown:
            assert len(lines(spot)) <= 1


@pytest.mark.parametrize("how", ["subprocess", "fork"])
def test_kill_9_takes_the_tools_children_along(own: Node, spot: Path, how: str) -> None:
    with own.client() as client:
        client.submit("with_child", {"path": str(spot), "how": how})
        worker, child = (int(word) for word in eventually(lambda: lines(spot), "the tool runs")[0].split())
        own.kill()
    eventually(lambda: not alive(worker) and not alive(child), "all are gone")


def test_kill_loop(own: Node, tmp_path: Path) -> None:
    """Killed at random moments under load: each job of a tool that may not be repeated runs at most once."""
    ledger = tmp_path / "ledger"
    outcomes: dict[int, str] = {}
    with own.client() as client:
        for life in range(2):
            had = len(lines(ledger))
            numbers = range(life * 400, life * 400 + 400)
            handles = {n: client.submit("note", {"path": str(ledger), "number": n, "seconds": 0.001}) for n in numbers}
            echoes = [client.submit("echo", {"x": n}) for n in numbers]
            eventually(lambda: len(lines(ledger)) > had + 20, "some have run")  # noqa: B023
            own.kill()
            own.start()
            own.until_ready()
            for n, handle in handles.items():
                error = handle.exception()
                outcomes[n] = "" if error is None else error.code
            assert [echo.result() for echo in echoes] == list(numbers)
    assert set(outcomes.values()) <= {"", "OUTCOME_UNKNOWN"}
    written = [int(line) for line in lines(ledger)]
    assert len(written) == len(set(written)), "ran twice"
    assert {n for n, code in outcomes.items() if not code} <= set(written)


def test_a_node_that_never_comes_back_is_told(tmp_path: Path) -> None:
    """The caller named no timeout, so the node's default holds, also when nobody is there to enforce it."""
    with kit.running(TOOLRING_TIMEOUTS_DEFAULT="0.5") as node, node.client() as client:
        calls = {
            tool: Background(partial(client.call, tool, {"path": str(tmp_path / tool)}))
            for tool in ("gate", "gate_once")
        }
        eventually(lambda: all(lines(tmp_path / tool) for tool in calls), "both run")
        node.kill()
        codes = {tool: failure(call.result).code for tool, call in calls.items()}
    assert codes["gate"] in ("EXPIRED", "UNREACHABLE")
    assert codes["gate_once"] == "OUTCOME_UNKNOWN"


def test_a_stopped_supervisor_is_waited_for(own: Node) -> None:
    """SIGSTOP, CONT: callers just wait longer."""
    with own.client() as client:
        assert client.call("echo", {"x": 1}) == 1
        own.signal(signal.SIGSTOP)
        call = Background(lambda: client.call("echo", {"x": 2}))
        assert not call.join(0.1)  # type: ignore[func-returns-value]
        own.signal(signal.SIGCONT)
        assert call.result() == 2
