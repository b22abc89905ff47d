"""The example plugin, installed by pip as a user would, at work in a running node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import kit
from toolring import Client

SOURCE = Path(__file__).parents[2] / "examples" / "toolring-sample-plugin"

TOOLS = """
from toolring import tool


@tool(read_only=True, cache=60)
def plain(text: str) -> str:
    return text


@tool(read_only=True, cache=60, cache_strategy="sample_fifo")
def fifo(text: str) -> str:
    return text
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package in it, to be put on PYTHONPATH."""
    work = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, work / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, *offline, "--target", str(work / "site"), str(work / "source")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return work / "site"


@pytest.fixture
def spot() -> Iterator[Path]:
    """A working directory with the tools in it and a path short enough for a socket."""
    with kit.place() as directory:
        (directory / "cached.py").write_text(TOOLS)
        (directory / "run").mkdir()
        yield directory


def toolring(*words: str, site: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end, with the plugin installed."""
    return subprocess.run(
        [*kit.COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=kit.environment(PYTHONPATH=str(site), XDG_RUNTIME_DIR=str(cwd / "run"), **env),
        cwd=cwd,
        check=False,
    )


@contextmanager
def node(site: Path, cwd: Path, config: str, **env: str) -> Iterator[Client]:
    """A node with one worker whose caches hold two entries, and a client of it."""
    (cwd / "node.toml").write_text(f"[cache]\nmax_entries = 2\nhot_bytes = 0\nlayers = []\n{config}")
    address = f"ipc://{cwd}/node.sock"
    with (cwd / "out").open("w") as out, (cwd / "err").open("w") as err:
        process = subprocess.Popen(
            [*kit.COMMAND, "serve", "cached.py", "--workers", "1", "--bind", address, "--config", "node.toml"],
            stdout=out,
            stderr=err,
            env=kit.environment(PYTHONPATH=str(site), XDG_RUNTIME_DIR=str(cwd / "run"), **env),
            cwd=cwd,
        )
    try:
        kit.eventually(lambda: process.poll() is not None or "is ready at" in (cwd / "out").read_text())
        assert process.poll() is None, (cwd / "err").read_text()
        with Client(address) as client:
            yield client
    finally:
        process.terminate()
        assert process.wait(30) == 0, (cwd / "err").read_text()


def hits(client: Client, tool: str, texts: str) -> Mapping[str, bool]:
    """Call the tool with each letter in turn; whether the last two calls were answered by the cache."""
    cached = []
    for text in texts:
        handle = client.submit(tool, {"text": text})
        assert handle.result() == text
        cached.append(handle.cached)
    return dict(zip(texts[-2:], cached[-2:], strict=True))


def first_to_leave(client: Client, tool: str) -> str:
    """Fill a cache of two with a and b, use a, add c. Who had to leave? Looking for it displaces others, so look at
    b first: where b is still there, a has left."""
    answers = hits(client, tool, "abacb")
    return "a" if answers["b"] else "b"


def test_toolring_plugins_lists_it_with_its_package(installed: Path, spot: Path) -> None:
    told = json.loads(toolring("plugins", "--json", site=installed, cwd=spot).stdout)
    assert told["plugins"][1:] == [
        {
            "name": "sample",
            "source": "package toolring-sample-plugin",
            "hooks": ["toolring_cache_strategies", "toolring_metrics_sinks"],
        }
    ]
    assert {"lru", "sample_fifo"} < set(told["cache_strategies"])
    assert told["metrics_sinks"] == ["jsonlines", "otlp", "sample_jsonl", "statsd", "structlog"]


def test_its_own_tests_pass(installed: Path, spot: Path) -> None:
    """Among them toolring's contract for cache strategies."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SOURCE / "tests")],
        capture_output=True,
        text=True,
        timeout=120,
        env=kit.environment(PYTHONPATH=str(installed), PYTHONDONTWRITEBYTECODE="1"),
        cwd=spot,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_block_list_hides_it(installed: Path, spot: Path) -> None:
    (spot / "toolring.toml").write_text('[plugins]\nblock = ["sample"]\n')
    told = json.loads(toolring("plugins", "--json", site=installed, cwd=spot).stdout)
    assert [plugin["name"] for plugin in told["plugins"]] == ["toolring"]
    assert "sample_fifo" not in told["cache_strategies"]


def test_the_allow_list_leaves_out_the_others(installed: Path, spot: Path) -> None:
    (spot / "toolring.toml").write_text('[plugins]\nallow = ["another"]\n')
    told = json.loads(toolring("plugins", "--json", site=installed, cwd=spot).stdout)
    assert [plugin["name"] for plugin in told["plugins"]] == ["toolring"]


def test_a_tool_may_choose_its_strategy(installed: Path, spot: Path) -> None:
    with node(installed, spot, 'strategy = "lru"\n') as client:
        assert first_to_leave(client, "plain") == "b"  # least recently used
        assert first_to_leave(client, "fifo") == "a"  # first in


def test_the_configuration_chooses_for_all_others(installed: Path, spot: Path) -> None:
    with node(installed, spot, 'strategy = "sample_fifo"\n') as client:
        assert first_to_leave(client, "plain") == "a"


def test_the_sink_gets_the_figures(installed: Path, spot: Path) -> None:
    file = spot / "figures.jsonl"
    config = '[metrics]\nsinks = ["sample_jsonl"]\ninterval = 0.05\n'
    with node(installed, spot, config, SAMPLE_SINK_FILE=str(file)) as client:
        client.call("plain", {"text": "a"})

        def told() -> bool:
            whole = [json.loads(line) for line in kit.lines(file) if line.endswith("}")]
            return any(figures["tools"]["plain"]["answered"] == 1 for figures in whole)

        kit.eventually(told, "a line of figures that counts the call")
        status = client.status()
        assert status["sinks"]["sample_jsonl"]["sent"] > 0
        assert status["sinks"]["sample_jsonl"]["failed"] == 0


def test_a_sink_that_cannot_be_made_ends_the_start(installed: Path, spot: Path) -> None:
    (spot / "toolring.toml").write_text('[metrics]\nsinks = ["sample_jsonl"]\n')
    done = toolring("serve", "cached.py", "--bind", f"ipc://{spot}/node.sock", site=installed, cwd=spot)
    assert done.returncode == 3
    assert "PLUGIN: the metrics sink 'sample_jsonl' can't be made" in done.stderr
    assert "SAMPLE_SINK_FILE" in done.stderr


def test_a_strategy_that_nobody_offers_ends_the_start(installed: Path, spot: Path) -> None:
    (spot / "toolring.toml").write_text('[plugins]\nblock = ["sample"]\n')
    done = toolring("serve", "cached.py:fifo", "--bind", f"ipc://{spot}/node.sock", site=installed, cwd=spot)
    assert done.returncode == 3
    assert "no cache strategy 'sample_fifo'; there is adaptive" in done.stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('as broken as can be')", "can't be imported: RuntimeError: as broken as can be"),
        ("x = 1", "implements no hook"),
        (
            "from toolring import hookimpl\n@hookimpl\ndef toolring_cache_strategy(): ...",
            "doesn't fit",
        ),
        (
            "from toolring import hookimpl\n@hookimpl\ndef toolring_cache_strategies(): return {'it': lambda n: None}",
            "the cache strategy 'it' doesn't work",
        ),
    ],
    ids=["raises", "no hook", "unknown hook", "a strategy that doesn't work"],
)
def test_a_broken_plugin_ends_the_start_by_name(spot: Path, source: str, reason: str) -> None:
    (spot / "broken.py").write_text(source)
    bind = f"ipc://{spot}/node.sock"
    done = toolring("serve", "cached.py:plain", "--bind", bind, "--plugin", "broken", site=spot, cwd=spot)
    assert done.returncode == 3
    assert done.stderr.startswith("toolring: PLUGIN: plugin 'broken'")
    assert reason in done.stderr
    assert kit.bystanders(bind) == []
    assert not os.path.exists(f"{spot}/node.sock")
