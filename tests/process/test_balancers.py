"""Balancers with real workers: chosen by tool and by group, from a plugin, and refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process import kit
from tests.process.kit import eventually, run_cli

MODULE = """
import os
from toolring import tool

@tool(balancer="round_robin")
def turns() -> int:
    return os.getpid()

@tool(balancer="third", group="special")
def third() -> int:
    return os.getpid()

@tool(group="special")
def grouped(n: int) -> int:
    return os.getpid()

@tool(balancer="p2c")
def two(n: int) -> int:
    return os.getpid()

@tool(balancer="peak_ewma")
def quick(n: int) -> int:
    return os.getpid()

@tool(balancer="rendezvous", affinity="n")
def keyed(n: int) -> int:
    return os.getpid()
"""
PLUGIN = """
from toolring import hookimpl

class Third:
    keyed = False

    def __init__(self, members):
        self.last = len(members.names) - 1

    def place(self, point, loads):
        able = [index for index, load in enumerate(loads) if load is not None]
        return self.last if self.last in able else able[0]

@hookimpl
def toolring_balancers():
    return {"third": Third}
"""
CONFIG = """
[groups.special]
workers = 3
balancer = "round_robin"
"""


def test_each_tool_is_placed_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "placed.py").write_text(MODULE)
    (tmp_path / "placing_plugin.py").write_text(PLUGIN)
    (tmp_path / "toolring.toml").write_text(CONFIG)
    config = str(tmp_path / "toolring.toml")
    with (
        kit.running(
            tmp_path / "placed.py",
            TOOLRING_PLUGINS_LOAD="placing_plugin",
            TOOLRING_CONFIG=config,
            PYTHONPATH=str(tmp_path),
        ) as node,
        node.client() as client,
    ):
        pids = {
            group: [w["pid"] for w in client.status()["workers"] if w["group"] == group]
            for group in ("default", "special")
        }
        assert [client.call("turns") for _ in range(4)] == pids["default"] * 2
        assert {client.call("third") for _ in range(5)} == {pids["special"][-1]}
        assert [client.call("grouped", {"n": 1}) for _ in range(3)] == pids["special"]
        homes = [client.call("keyed", {"n": n % 10}) for n in range(30)]
        assert homes[:10] == homes[10:20] == homes[20:]
        for name in ("two", "quick"):
            assert set(client.map(name, [{"n": n} for n in range(60)])) == set(pids["default"])
        assert client.policy("grouped")["balancer"]["value"] == "round_robin"
        assert "toolring.toml" in client.policy("grouped")["balancer"]["source"]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("return 7", "the balancer 'third' doesn't work: IndexError"),
        ("return 0", "it placed a job with member 0, which can't take any"),
        ("return None", "the balancer 'third' doesn't work: TypeError"),
    ],
)
def test_a_balancer_that_does_not_work_ends_the_start_by_name(tmp_path: Path, broken: str, says: str) -> None:
    (tmp_path / "broken_plugin.py").write_text(
        PLUGIN.replace("return self.last if self.last in able else able[0]", broken)
    )
    done = run_cli("plugins", "--plugin", "broken_plugin", PYTHONPATH=str(tmp_path))
    assert done.returncode == 3
    assert "plugin 'broken_plugin'" in done.stderr
    assert says in done.stderr


def test_a_balancer_that_nobody_offers_ends_the_start_by_name(tmp_path: Path) -> None:
    (tmp_path / "placed.py").write_text(MODULE)
    done = run_cli(
        "serve", str(tmp_path / "placed.py"), "--bind", f"ipc://{tmp_path}/n.sock", XDG_RUNTIME_DIR=str(tmp_path)
    )
    assert done.returncode == 3
    assert "tool 'third': no balancer 'third'; there is least_outstanding, p2c" in done.stderr


@pytest.mark.parametrize("fault", ["raise RuntimeError('it broke')", "return 99", "return None", "raise SystemExit(3)"])
def test_a_balancer_that_fails_later_is_given_up_and_the_node_goes_on(tmp_path: Path, fault: str) -> None:
    later = f"""self.placed = getattr(self, "placed", 0) + 1
        if self.placed > 20:
            {fault}
        return able[0]"""
    body = PLUGIN.replace("return self.last if self.last in able else able[0]", later)
    (tmp_path / "failing_plugin.py").write_text(body)
    (tmp_path / "placed.py").write_text(MODULE)
    with (
        kit.running(tmp_path / "placed.py", TOOLRING_PLUGINS_LOAD="failing_plugin", PYTHONPATH=str(tmp_path)) as node,
        node.client() as client,
    ):
        assert all(client.call("third") > 0 for _ in range(40))
        assert client.call("turns") > 0
        eventually(lambda: "balancer_failed" in node.log)
