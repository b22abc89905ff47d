"""``toolring doctor`` on set-ups that are broken, really. What root may do anyway is broken by other means."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit

DOCTOR = [*kit.COMMAND, "doctor"]
TOOL = "from toolring import tool\n\n\n@tool\ndef one() -> int:\n    return 1\n"


class Machine:
    """A place to run it in, with what is wrong there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run = directory / "run"
        self.run.mkdir()
        self.sockets = self.run / "toolring"
        self.env: dict[str, str] = {}
        self.limit = ":"
        """What the shell does first."""
        self.write("tools.py", TOOL)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def doctor(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f'{self.limit}; exec "$@"', "bash", *DOCTOR, *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=kit.environment(**{"XDG_RUNTIME_DIR": str(self.run), **self.env}),
            cwd=self.directory,
            check=False,
        )

    def findings(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit status, and what isn't well, by check."""
        done = self.doctor("tools.py", "--workers", "2", "--json", *words)
        assert done.stdout, done.stderr
        assert done.stderr == ""
        findings = json.loads(done.stdout)["findings"]
        return done.returncode, {one["check"]: one for one in findings if one["status"] != "ok"}

    def failure(self, check: str, *words: str) -> str:
        """The one thing that fails here."""
        status, findings = self.findings(*words)
        assert status == 3
        assert [one["check"] for one in findings.values() if one["status"] == "failure"] == [check], findings
        assert findings[check]["advice"]
        return str(findings[check]["found"])


@pytest.fixture
def machine() -> Iterator[Machine]:
    with kit.place() as directory:
        yield Machine(directory)


def test_nothing_is_wrong_and_nothing_is_left_behind(machine: Machine) -> None:
    done = machine.doctor("tools.py", "--workers", "2")
    assert done.returncode == 0, done.stdout
    assert "1 loaded: one" in done.stdout
    assert re.search(r"\d+ checks: 0 failed", done.stdout)
    assert "\x1b" not in done.stdout, "no colour unless on a terminal"
    assert list(machine.run.iterdir()) == []


def test_few_descriptors(machine: Machine) -> None:
    machine.limit = "ulimit -n 64"
    assert "64 for the node, 64 for each worker" in machine.failure("descriptors")


def test_fewer_descriptors_than_clients_are_a_warning(machine: Machine) -> None:
    machine.limit = "ulimit -n 512"
    status, findings = machine.findings()
    assert status == 0
    assert findings["descriptors"]["status"] == "warning"
    assert "lower limits.clients to 478" in findings["descriptors"]["advice"]


def test_no_shared_memory(machine: Machine) -> None:
    machine.limit = "ulimit -f 1000"
    assert "File too large" in machine.failure("shared memory")


def test_a_directory_that_others_can_write_to(machine: Machine) -> None:
    machine.sockets.mkdir()
    machine.sockets.chmod(0o777)
    assert "written to by others (mode 777)" in machine.failure("directory")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else(machine: Machine) -> None:
    machine.sockets.mkdir(mode=0o700)
    os.chown(machine.sockets, 12345, 12345)
    assert "belongs to user 12345" in machine.failure("directory")


def test_a_file_in_the_place_of_the_directory(machine: Machine) -> None:
    machine.sockets.write_text("")
    assert "is not a directory" in machine.failure("directory")


def test_an_address_where_anybody_can_take_the_name(machine: Machine) -> None:
    shared = machine.directory / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert "anybody can write" in machine.failure("directory", "--bind", f"ipc://{shared}/node.sock")


def test_a_path_that_is_too_long(machine: Machine) -> None:
    long = machine.directory / ("x" * 100)
    found = machine.failure("address", "--bind", f"ipc://{long}.sock")
    assert "longer than 107 bytes" in found


def test_a_directory_whose_sockets_would_have_too_long_a_path(machine: Machine) -> None:
    machine.run = machine.directory / ("x" * 70)
    machine.run.mkdir()
    found = machine.failure("address", "--bind", f"ipc://{machine.directory}/node.sock")
    assert "more than 107 bytes" in found
    served = kit.run_cli("serve", "--bind", f"ipc://{machine.directory}/n.sock", XDG_RUNTIME_DIR=str(machine.run))
    assert served.returncode != 0, "a node fails there, too"


def test_a_module_that_can_not_be_imported(machine: Machine) -> None:
    machine.write("tools.py", "print('hello')\nimport no_such_module\n")
    assert "No module named 'no_such_module'" in machine.failure("tools")


def test_a_module_that_ends_its_process(machine: Machine) -> None:
    machine.write("tools.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert "was killed by signal 9" in machine.failure("tools")


def test_a_module_that_does_not_end(machine: Machine) -> None:
    machine.write("tools.py", "import time\ntime.sleep(1000)\n")
    machine.env["TOOLRING_TIMEOUTS_START"] = "0.5"
    assert "not loaded after 0.5 s" in machine.failure("tools")


def test_a_configuration_of_tools_that_are_not_there(machine: Machine) -> None:
    machine.write("toolring.toml", "[tools.two]\ntimeout = 1.0\n")
    assert "no such tool is served" in machine.failure("tools")


@pytest.mark.parametrize(
    ("text", "check", "said"),
    [
        ('[metrics]\nsinks = ["nobody"]', "plugins", "no metrics sink 'nobody'"),
        ('[tracing]\nsinks = ["nobody"]', "plugins", "no span sink 'nobody'"),
        ('[metrics]\nsinks = ["jsonlines"]', "plugins", "metrics.file names no file"),
        (
            '[metrics]\nsinks = ["jsonlines"]\nfile = "/nodir/x"',
            "plugins",
            "metrics.file: there can be no file in /nodir",
        ),
        ('[metrics]\nsinks = ["jsonlines"]\nfile = "."', "plugins", "Is a directory"),
        ('[metrics]\nsinks = ["statsd"]', "plugins", "metrics.statsd names no HOST:PORT"),
        ('[metrics]\nsinks = ["otlp"]\nfigures = false', "plugins", "metrics.figures is false"),
        ('[alerting]\ncommand = ["/nonexistent/x"]', "alerts", "there is no program '/nonexistent/x'"),
        ('[groups.default]\nbalancer = "nobody"', "tools", "no such balancer"),
        ('[tools.one]\nbalancer = "nobody"', "tools", "no balancer 'nobody'"),
        ("[groups.default]\nopen_files = 3", "group limits", "groups.default"),
        ("[groups.default]\nopen_files = 20", "group limits", "open_files = 20"),
        ("[groups.default]\naddress_space = 1000", "group limits", "groups.default"),
        ("[groups.default]\naddress_space = 100000000", "group limits", "groups.default"),
    ],
)
def test_what_a_node_can_not_run_with(machine: Machine, text: str, check: str, said: str) -> None:
    machine.write("toolring.toml", f"{text}\n")
    assert said in machine.failure(check)


def test_a_port_that_another_program_has(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        assert f"another program listens at {where}" in machine.failure("address", "--bind", where)
    assert machine.findings("--bind", where)[0] == 0
    assert machine.findings("--bind", "tcp://127.0.0.1:0")[0] == 0


@pytest.mark.parametrize("setting", ["metrics", "dashboard"])
def test_a_port_for_http_that_another_program_has(machine: Machine, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        machine.write("toolring.toml", f'[{setting}]\nlisten = "{where}"\n')
        assert f"{setting}.listen: can't listen on {where}: Address already in use" in machine.failure("address")
    assert machine.findings()[0] == 0


def test_a_file_for_figures_is_not_made(machine: Machine) -> None:
    machine.write("toolring.toml", '[metrics]\nsinks = ["jsonlines"]\nfile = "figures.jsonl"\n')
    assert machine.findings()[0] == 0
    assert not (machine.directory / "figures.jsonl").exists()


def test_no_place_for_temporary_files(machine: Machine) -> None:
    machine.limit = "ulimit -f 0"
    status, findings = machine.findings()
    assert status == 3
    assert "No usable temporary directory" in findings["temporary files"]["found"]


def test_too_many_workers_are_not_judged(machine: Machine) -> None:
    done = machine.doctor("tools.py", "--workers", "2000", "--json")
    findings = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert "at most 1024" in findings["configuration"]["found"]
    assert "000 workers" not in findings["cores"]["found"]


def test_a_module_that_starts_threads(machine: Machine) -> None:
    machine.write(
        "tools.py", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    with (machine.directory / "tools.py").open("a") as file:
        file.write(TOOL)
    status, findings = machine.findings()
    assert (status, findings["start method"]["status"]) == (0, "warning")
    machine.env["TOOLRING_NODE_START_METHOD"] = "fork"
    assert "start 1 threads" in machine.failure("start method")


def test_an_unknown_key_and_the_rest_is_looked_at_all_the_same(machine: Machine) -> None:
    machine.write("toolring.toml", "[node]\nworker = 3\n")
    assert "did you mean node.workers" in machine.failure("configuration")
    machine.limit = "ulimit -n 64"
    status, findings = machine.findings()
    assert status == 3
    assert {"configuration", "descriptors"} <= set(findings)


def test_a_layer_whose_extra_is_missing(machine: Machine) -> None:
    machine.write("hidden/redis/__init__.py", "raise ImportError(\"No module named 'redis'\", name='redis')\n")
    machine.write("toolring.toml", '[cache]\nlayers = ["sqlite", "redis"]\n')
    machine.env["PYTHONPATH"] = str(machine.directory / "hidden")
    assert "pip install 'toolring[redis]'" in machine.failure("plugins")


def test_sockets_of_nodes_that_were_killed(machine: Machine) -> None:
    machine.sockets.mkdir(mode=0o700)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in ("node.sock", f"{gone.pid}-0badcafe.back"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(machine.sockets / name))
    status, findings = machine.findings()
    assert status == 0
    assert findings["address"]["status"] == "warning"
    for name in ("node.sock", f"{gone.pid}-0badcafe.back"):
        assert name in findings["address"]["found"]


def test_something_else_in_the_place_of_the_socket(machine: Machine) -> None:
    precious = machine.write("precious.txt", "mine")
    assert "is no socket; a node would delete it" in machine.failure("address", "--bind", f"ipc://{precious}")
    assert precious.read_text() == "mine"


def test_beside_a_node_that_runs(machine: Machine) -> None:
    tools = machine.directory / "tools.py"
    with kit.running(tools, directory=machine.directory, TOOLRING_METRICS_LISTEN="127.0.0.1:0") as node:
        with node.client() as client:
            machine.env["TOOLRING_METRICS_LISTEN"] = client.status()["metrics"].removeprefix("http://")
        done = machine.doctor("tools.py", "--bind", node.bind)
        assert done.returncode == 0, done.stdout
        assert "where a node listens now" in done.stdout
        with node.client() as client:
            assert client.call("one") == 1
