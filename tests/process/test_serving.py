"""``toolring serve`` and its companions from outside: start, ways to fail, addresses, drain, stop."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import textwrap
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import Background, Node, alive, eventually, failure, kill_one, lines, run_cli
from toolring import Client
from toolring.errors import Draining, OutcomeUnknown, ToolringError, Unhealthy

GOOD = """
from toolring import tool

@tool(read_only=True)
def echo(x: int) -> int:
    return x
"""


def module(directory: Path, text: str, name: str = "mytools.py") -> Path:
    path = directory / name
    path.write_text(textwrap.dedent(text) + GOOD)
    return path


# ---- the commands


def test_call(node: Node) -> None:
    done = run_cli("call", "echo", "x=hello", address=node.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    done = run_cli("call", "nap", "seconds=0", "x=5", "--json", "--address", node.address)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"result": 5})
    done = run_cli("call", "echo", 'x:={"a": [1, null]}', "--json", address=node.address)
    assert json.loads(done.stdout) == {"result": {"a": [1, None]}}


STATUSES = {
    "the tool fails": (("fail", "message=oh"), 1, "TOOL_ERROR"),
    "unknown tool": (("ecko", "x=1"), 2, "UNKNOWN_TOOL"),
    "wrong type": (("nap", "seconds=long"), 2, "INVALID_ARGUMENTS"),
    "missing argument": (("nap",), 2, "INVALID_ARGUMENTS"),
    "no key=value": (("echo", "x"), 2, "INVALID_ARGUMENTS"),
    "deadline": (("nap", "seconds=100", "--timeout", "0.2"), 6, "EXPIRED"),
    "lost": (("die", "how=kill"), 7, "OUTCOME_UNKNOWN"),
}


@pytest.mark.parametrize("case", STATUSES)
def test_exit_statuses(node: Node, case: str) -> None:
    words, status, code = STATUSES[case]
    done = run_cli("call", *words, "--json", address=node.address)
    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == code
    assert done.stderr.startswith(f"toolring: {code}: ")
    assert done.stderr.count("\n") == 1


def test_a_tools_traceback_is_its_own(node: Node) -> None:
    done = run_cli("call", "fail", "message=oh no", address=node.address)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "toolring: TOOL_ERROR: fail: ValueError: oh no"
    assert "faults.py" in done.stderr
    assert "runner.py" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_stream_may_be_closed(node: Node, closed: str) -> None:
    command = f"{shlex.join([*kit.COMMAND, 'status', '--address', node.address])} {closed}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, check=False, timeout=kit.PATIENCE, env=kit.environment()
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("status", 0),
        ("metrics --watch", 0),
        ("top --json --interval 0.1", 0),
        ("call echo x=1", 0),
        ("call fail message=oh", 1),
    ],
)
def test_who_reads_no_more_has_read_enough(node: Node, words: str, status: int) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    env = kit.environment(TOOLRING_ADDRESS=node.address)
    try:
        done = subprocess.run(
            [*kit.COMMAND, *words.split()],
            stdout=writes,
            stderr=subprocess.PIPE,
            check=False,
            timeout=kit.PATIENCE,
            env=env,
        )
    finally:
        os.close(writes)
    assert done.returncode == status, done.stderr
    assert b"Broken" not in done.stderr


def test_nobody_answers() -> None:
    with kit.place() as directory:
        done = run_cli("call", "echo", "x=1", address=f"ipc://{directory}/none.sock")
    assert done.returncode == 4
    assert "toolring serve" in done.stderr


def test_bad_usage() -> None:
    assert run_cli("call").returncode == 2
    assert run_cli("dance").returncode == 2


def test_status_and_list(node: Node) -> None:
    status = json.loads(run_cli("status", "--json", address=node.address).stdout)
    assert [worker["id"] for worker in status["workers"]] == [0, 1]
    assert all(worker["state"] == "ready" and alive(worker["pid"]) for worker in status["workers"])
    assert status["pid"] == node.pid
    assert "healthy" in run_cli("status", address=node.address).stdout
    tools = {tool["name"]: tool for tool in json.loads(run_cli("list", "--json", address=node.address).stdout)["tools"]}
    assert tools["where"]["description"] == "The worker's pid."
    assert "echo" in run_cli("list", address=node.address).stdout


# ---- modules that don't load


BROKEN = {
    "raises": ("raise RuntimeError('no disk')", "RuntimeError: no disk", True),
    "exits": ("import sys; sys.exit(4)", "SystemExit: 4", True),
    "is killed": ("import os; os._exit(3)", "exited with status 3", False),
    "crashes": ("import os; os.abort()", "signal 6", False),
    "a syntax error": ("def f(:", "SyntaxError", True),
    "a missing import": ("import no_such_thing", "ModuleNotFoundError", True),
    "an interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt", True),
    "a bad declaration": (
        "from toolring import tool\n@tool\ndef f(*args): return 1",
        "tool 'f'",
        False,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_module_fails_at_start(case: str) -> None:
    text, cause, with_traceback = BROKEN[case]
    with kit.place() as directory:
        path = module(directory, text)
        done = run_cli("serve", str(path), "--bind", f"ipc://{directory}/n.sock", XDG_RUNTIME_DIR=str(directory))
        assert done.returncode == 3
        first, *rest = done.stderr.splitlines()
        assert first.startswith("toolring: LOAD: ")
        assert cause in first
        assert bool(rest) == with_traceback, rest
        if with_traceback:
            assert rest[0].startswith("Traceback")
        assert "ready" not in done.stdout
        assert not kit.bystanders(str(directory))
        assert not [p for p in directory.rglob("*") if p.is_socket() or p.suffix == ".lock"]


def test_no_such_module() -> None:
    with kit.place() as directory:
        for target in ("no_such_module", str(directory / "none.py"), f"{module(directory, '')}:nothing"):
            done = run_cli("serve", target, "--bind", f"ipc://{directory}/n.sock", XDG_RUNTIME_DIR=str(directory))
            assert done.returncode == 3
            assert len(done.stderr.splitlines()) == 1


def test_a_module_that_hangs_at_import_can_be_stopped() -> None:
    with kit.place() as directory:
        path = module(directory, f"import time\nopen({str(directory / 'here')!r}, 'w')\ntime.sleep(1000)")
        with kit.running(path, directory=directory, wait=False) as node:
            eventually((directory / "here").exists, "it imports")
            node.signal(signal.SIGTERM)
            node.wait()


DIES_AT_BIRTH = """
import os
os.register_at_fork(after_in_child=lambda: os._exit(9))
"""


def test_workers_that_die_at_birth_make_the_node_unhealthy() -> None:
    with kit.place() as directory:
        path = module(directory, DIES_AT_BIRTH)
        with kit.running(path, directory=directory) as node, node.client() as client:
            eventually(lambda: client.status()["state"] == "unhealthy")
            error = failure(lambda: client.call("echo", {"x": 1}))
            assert isinstance(error, Unhealthy)
            assert error.facts["retry_after"] > 0
            assert run_cli("call", "echo", "x=1", address=node.address).returncode == 5
            assert len(node.log.splitlines()) < 100
            assert "toolring is up, but can't work yet, at " in node.out.read_text()
            node.signal(signal.SIGTERM)
            assert node.wait() == 0


HEAVY = """
from toolring import tool

@tool(read_only=True, group="heavy")
def heavy() -> int:
    return 1
"""


def test_a_group_whose_workers_can_not_live_is_nothing_to_the_others() -> None:
    with kit.place() as directory:
        path = module(directory, HEAVY)
        (directory / "toolring.toml").write_text("[groups.heavy]\nworkers = 2\naddress_space = 60_000_000\n")
        with kit.running(path, directory=directory) as node, node.client() as client:
            eventually(lambda: client.status()["state"] == "degraded")
            assert client.status()["groups"]["heavy"]["failing"]
            assert [client.call("echo", {"x": n}) for n in range(50)] == list(range(50))
            error = failure(lambda: client.call("heavy"))
            assert isinstance(error, Unhealthy)
            assert error.facts["group"] == "heavy"
            restarts = client.status()["restarts"]
            assert restarts < 40
            assert node.log.count('"group_failing"') == 1
            assert "node_unhealthy" not in node.log
            assert "toolring is ready at" in node.out.read_text()


def test_a_node_recovers_once_its_workers_live() -> None:
    """What was wrong at first is gone a moment later."""
    with kit.place() as directory:
        bad = directory / "bad"
        bad.touch()
        path = module(
            directory,
            f"import os\nos.register_at_fork(after_in_child=lambda: os.path.exists({str(bad)!r}) and os._exit(9))",
        )
        with kit.running(path, directory=directory) as node, node.client() as client:
            eventually(lambda: client.status()["state"] == "unhealthy")
            bad.unlink()
            eventually(lambda: client.status()["state"] == "healthy")
            assert client.call("echo", {"x": 1}) == 1
            node.until_whole()


def test_a_module_that_no_longer_loads_when_the_zygote_died() -> None:
    with kit.place() as directory:
        path = module(directory, "")
        with kit.running(path, directory=directory) as node, node.client() as client:
            assert client.call("echo", {"x": 1}) == 1
            path.write_text("raise RuntimeError('half saved')\n")
            os.kill(node.zygote(), signal.SIGKILL)
            eventually(lambda: "half saved" in node.log, "the reason is logged")
            eventually(lambda: client.status()["state"] == "unhealthy")
            assert isinstance(failure(lambda: client.call("echo", {"x": 1})), Unhealthy)
            path.write_text(GOOD)
            eventually(lambda: client.status()["state"] == "healthy")
            assert client.call("echo", {"x": 2}) == 2
            assert len(node.log.splitlines()) < 300
            node.until_whole()


# ---- start methods


def test_spawn() -> None:
    with kit.running(TOOLRING_NODE_START_METHOD="spawn") as node, node.client() as client:
        assert node.status()["start_method"] == "spawn"
        assert client.call("echo", {"x": 1}) == 1
        assert isinstance(failure(lambda: client.call("die", {"how": "kill"})), OutcomeUnknown)
        assert client.call("die_first", {"how": "segfault"}) == 2
        with kit.place() as spot:
            call = failure(lambda: client.call("hang", {"how": "sum", "path": str(spot / "x")}, timeout=0.2))
            assert call.code == "EXPIRED"
        node.until_whole()


def test_a_module_with_a_thread_is_spawned() -> None:
    with kit.place() as directory:
        text = "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()"
        path = module(directory, text)
        with kit.running(path, directory=directory) as node, node.client() as client:
            assert node.status()["start_method"] == "spawn"
            assert client.call("echo", {"x": 1}) == 1


def test_a_spawned_worker_that_never_becomes_ready_leaves_nothing() -> None:
    """It hangs in the second import, before toolring's own code in it has run far."""
    text = """
    import time
    from multiprocess import current_process
    if "worker" in current_process().name:
        time.sleep(1000)
    """
    with kit.place() as directory:
        path = module(directory, text)
        spawn = kit.running(
            path, directory=directory, wait=False, TOOLRING_NODE_START_METHOD="spawn", TOOLRING_TIMEOUTS_START="1"
        )
        with spawn as node:
            eventually(lambda: "was not ready" in node.log, "the worker is given up")
            node.remember()


def test_a_module_that_starts_a_process_leaves_none() -> None:
    with kit.place() as directory:
        path = module(directory, "import subprocess\nchild = subprocess.Popen(['sleep', '1000.75'])")
        with kit.running(path, directory=directory) as node:
            node.remember()


# ---- addresses


def test_a_taken_ipc_address_is_refused(node: Node) -> None:
    with kit.place() as directory:
        done = run_cli("serve", str(kit.FAULTS), "--bind", node.address, XDG_RUNTIME_DIR=str(directory))
    assert done.returncode == 3
    assert done.stderr.startswith("toolring: ADDRESS: another node serves")
    assert len(done.stderr.splitlines()) == 1
    with node.client() as client:
        assert client.call("echo", {"x": 1}) == 1


def test_tcp_on_loopback() -> None:
    with kit.running(bind="tcp://127.0.0.1:0", workers=1) as node:
        assert node.address.startswith("tcp://127.0.0.1:")
        assert not node.address.endswith(":0")
        with node.client() as client:
            assert client.call("echo", {"x": 1}) == 1
        with kit.place() as directory:
            done = run_cli("serve", str(kit.FAULTS), "--bind", node.address, XDG_RUNTIME_DIR=str(directory))
            assert done.returncode == 3
            assert "toolring: ADDRESS: " in done.stderr
            assert not kit.bystanders(str(directory))


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:0", "tcp://*:5555", "tcp://192.0.2.1:5555", "udp://127.0.0.1:1", "x"]
)
def test_other_addresses_are_refused(address: str) -> None:
    done = run_cli("serve", str(kit.FAULTS), "--bind", address)
    assert done.returncode == 3
    assert done.stderr.startswith("toolring: ADDRESS: ")


def test_the_socket_of_a_killed_node_is_used_again() -> None:
    with kit.running(workers=1) as node:
        node.kill()
        assert Path(node.bind.removeprefix("ipc://")).is_socket()
        node.start()
        node.until_ready()
        with node.client() as client:
            assert client.call("echo", {"x": 1}) == 1


# ---- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(number: int, tmp_path: Path) -> None:
    """What was accepted is finished, what comes later is refused, nobody is interrupted."""
    spot, ledger = tmp_path / "spot", tmp_path / "ledger"
    with kit.running() as node, node.client() as client, node.client() as late:
        gate = Background(lambda: client.call("gate_once", {"path": str(spot)}))
        eventually(lambda: lines(spot), "it runs")
        notes = [client.submit("note", {"path": str(ledger), "number": n, "seconds": 0.001}) for n in range(200)]
        assert late.call("echo", {"x": 1}) == 1
        client.status()  # all of the above has arrived
        node.signal(number)
        eventually(lambda: late.status()["state"] == "draining")
        error = failure(lambda: late.call("echo", {"x": 2}))
        assert isinstance(error, Draining)
        assert [note.result() for note in notes] == list(range(200))
        Path(f"{spot}.open").touch()
        assert gate.result()["attempt"] == 1
        assert node.wait() == 0
    assert len(lines(ledger)) == 200


def test_drain_under_load(tmp_path: Path) -> None:
    """Threads that call all the time: each call ends as a result or as refused, none is lost."""
    ledger = tmp_path / "ledger"
    outcomes: list[str] = []
    with kit.running() as node, node.client() as client:

        def calls(first: int) -> None:
            for n in range(first, first + 100_000):
                try:
                    client.call("note", {"path": str(ledger), "number": n})
                    outcomes.append("done")
                except ToolringError as error:
                    outcomes.append(error.code)
                    return

        threads = [Background(partial(calls, n * 100_000)) for n in range(4)]
        eventually(lambda: len(lines(ledger)) > 100)
        node.signal(signal.SIGTERM)
        for thread in threads:
            thread.result()
        assert node.wait() == 0
    assert len(lines(ledger)) == outcomes.count("done")
    assert set(outcomes) == {"done", "DRAINING"}


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with kit.running() as node, node.client() as client:
        paths = [tmp_path / str(n) for n in range(2)]
        running = [
            Background(partial(client.call, tool, {"path": str(p)}))
            for p, tool in zip(paths, ("gate", "gate_once"), strict=True)
        ]
        eventually(lambda: all(lines(p) for p in paths), "both run")
        note = partial(client.call, "note", {"path": str(tmp_path / "ledger"), "number": 1})
        waiting = [Background(note) for _ in range(5)]
        eventually(lambda: client.status()["jobs"]["accepted"] == 7)
        node.signal(signal.SIGTERM)
        eventually(lambda: client.status()["state"] == "draining")
        node.signal(signal.SIGTERM)
        codes = []
        for call in [*running, *waiting]:
            with pytest.raises(ToolringError) as caught:
                call.result()
            codes.append(caught.value.code)
        assert codes == ["CANCELLED", "OUTCOME_UNKNOWN", *["CANCELLED"] * 5]
        assert node.wait() == 0
    assert not (tmp_path / "ledger").exists()


def test_who_asks_a_node_to_drain_twice_does_not_stop_it_at_once(spot: Path) -> None:
    with kit.running(workers=1) as node, node.client() as client:
        call = Background(lambda: client.call("gate", {"path": str(spot)}))
        eventually(lambda: lines(spot), "it runs")
        told = kit.run_cli("drain", "--json", address=node.address)
        assert (told.returncode, json.loads(told.stdout)) == (0, {"draining": 1})
        eventually(lambda: client.status()["state"] == "draining")
        assert client.drain() == 1
        assert kit.failure(lambda: client.call("echo", {"x": 1})).code == "DRAINING"
        Path(f"{spot}.open").touch()
        call.result()
        client.close()
        assert node.wait() == 0


def test_the_drain_has_an_end(spot: Path) -> None:
    with kit.running(workers=1, TOOLRING_TIMEOUTS_DRAIN="0.3") as node, node.client() as client:
        call = Background(lambda: client.call("gate_once", {"path": str(spot)}))
        eventually(lambda: lines(spot), "it runs")
        node.signal(signal.SIGTERM)
        with pytest.raises(OutcomeUnknown):
            call.result()
        assert node.wait() == 0


def test_signals_while_starting() -> None:
    with kit.running(wait=False) as node:
        eventually(node.tree, "it runs")
        eventually(lambda: len(node.tree()) > 1, "the zygote is there")
        node.signal(signal.SIGTERM)
        node.wait()


def test_a_terminals_interrupt_reaches_the_supervisor_alone(spot: Path) -> None:
    """Ctrl-C goes to the whole foreground group: a running tool must not get it."""
    with kit.running(workers=1) as node, node.client() as client:
        call = Background(lambda: client.call("gate", {"path": str(spot)}))
        eventually(lambda: lines(spot), "it runs")
        groups = {os.getpgid(process.pid) for process in node.tree()[1:]}
        assert os.getpgid(node.pid) not in groups
        for pid in node.workers():
            kill_one(pid, signal.SIGINT)
        node.signal(signal.SIGINT)
        eventually(lambda: client.status()["state"] == "draining")
        Path(f"{spot}.open").touch()
        assert call.result()["attempt"] == 1
        assert node.wait() == 0


def test_output_of_tools_does_not_mix_with_the_nodes() -> None:
    with kit.place() as directory:
        path = module(directory, "print('at import')")
        with kit.running(path, directory=directory) as node:
            assert len(node.out.read_text().splitlines()) == 1
            eventually(lambda: "at import" in node.log)


def test_two_nodes_side_by_side(node: Node) -> None:
    with kit.running(workers=1) as other, node.client() as one, other.client() as two:
        assert one.call("where") in node.workers()
        assert two.call("where") in other.workers()


def test_a_stream_that_nobody_reads_does_not_stop_it() -> None:
    """The supervisor's standard error is a closed pipe."""
    with kit.place() as directory:
        process = subprocess.Popen(
            [*kit.COMMAND, "serve", str(kit.FAULTS), "--bind", f"ipc://{directory}/n.sock", "--workers", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kit.environment(XDG_RUNTIME_DIR=str(directory)),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "ready" in process.stdout.readline()
            process.stderr.close()
            process.stdout.close()
            with Client(f"ipc://{directory}/n.sock") as client:
                for _ in range(3):
                    assert failure(lambda: client.call("die", {"how": "kill"}, timeout=5)).code == "OUTCOME_UNKNOWN"
                assert client.call("echo", {"x": 1}, timeout=5) == 1
            process.terminate()
            assert process.wait(kit.PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
        eventually(lambda: not kit.bystanders(str(directory)))


def test_a_log_whose_reader_stalls_holds_up_no_job() -> None:
    """The supervisor's standard error is a pipe that is full."""
    reads, writes = os.pipe()
    with kit.place() as directory:
        process = subprocess.Popen(
            [*kit.COMMAND, "serve", str(kit.FAULTS), "--bind", f"ipc://{directory}/n.sock", "--workers", "1"],
            stdout=subprocess.PIPE,
            stderr=writes,
            text=True,
            env=kit.environment(XDG_RUNTIME_DIR=str(directory)),
        )
        assert process.stdout is not None
        try:
            assert "ready" in process.stdout.readline()
            os.set_blocking(writes, False)
            with suppress(BlockingIOError):
                while os.write(writes, b"x" * 4096):
                    pass
            os.set_blocking(writes, True)  # of this pipe's end, which the node has, too
            with Client(f"ipc://{directory}/n.sock") as client:
                for _ in range(3):
                    assert failure(lambda: client.call("die", {"how": "kill"}, timeout=10)).code == "OUTCOME_UNKNOWN"
                assert client.call("echo", {"x": 1}, timeout=10) == 1
                assert client.status()["state"] == "healthy"
            process.terminate()
            assert process.wait(kit.PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            os.close(reads)
            os.close(writes)
        eventually(lambda: not kit.bystanders(str(directory)))
