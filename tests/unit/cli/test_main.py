"""Commands that need no node, through the real entry point, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolring.cli.main import COMMANDS, main
from toolring.config import Config, flat


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in flat(Config()):
        monkeypatch.delenv("TOOLRING_" + name.upper().replace(".", "_"), raising=False)


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out = capsys.readouterr().out
    assert all(f"    {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage: toolring " + command in capsys.readouterr().out


@pytest.mark.parametrize("words", [["fly"], ["call"], ["--fly"], ["call", "x", "--timeout", "soon"]])
def test_bad_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["list", "x"], ["list", "--json", "x"], ["status", "-"], ["call", "x", "a=1", "--fly"]]
)
def test_what_a_command_has_no_room_for_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_a_dash_is_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "x", "--address", "tcp://0.0.0.0:1", "-"]) == 3
    assert "ADDRESS" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("toolring 0.")


def test_config_says_what_holds_and_where_it_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_text("[node]\nworkers = 3\n")
    monkeypatch.setenv("TOOLRING_CACHE_STRATEGY", "mine")
    assert main(["config", "--config", "x.toml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["node.workers"] == {"value": 3, "source": "file x.toml"}
    assert found["cache.strategy"] == {"value": "mine", "source": "environment TOOLRING_CACHE_STRATEGY"}
    assert found["log.level"]["source"] == "default"
    assert main(["config", "--config", "x.toml"]) == 0
    assert "file x.toml" in capsys.readouterr().out


def test_a_wrong_configuration_is_status_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[node]\nworker = 3\n")
    assert main(["config", "--config", "x.toml"]) == 3
    assert "did you mean node.workers" in capsys.readouterr().err


def test_plugins_lists_what_would_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plugins"][0]["name"] == "toolring"
    assert "lru" in found["cache_strategies"]
    assert "structlog" in found["metrics_sinks"]
    assert main(["plugins", "--plugin", "no_such_plugin_here"]) == 3
    assert "'no_such_plugin_here' can't be imported" in capsys.readouterr().err


def test_an_address_that_is_refused_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", "x", "--address", "tcp://0.0.0.0:1", "--json"]) == 3
    out = json.loads(capsys.readouterr().out)
    assert out["error"]["code"] == "ADDRESS"
