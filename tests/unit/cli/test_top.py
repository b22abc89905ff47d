"""What `toolring top` says where there is no terminal, or no textual."""

from __future__ import annotations

import sys

import pytest

from toolring.cli.main import main


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)


def test_without_textual_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal(monkeypatch)
    monkeypatch.delitem(sys.modules, "toolring.cli.screen", raising=False)
    monkeypatch.setitem(sys.modules, "textual.app", None)
    assert main(["top", "--address", "ipc:///tmp/nobody.sock"]) == 3
    assert "pip install 'toolring[top]'" in capsys.readouterr().err


def test_without_a_terminal_it_says_what_else_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--address", "ipc:///tmp/nobody.sock"]) == 2
    assert "--once or --json" in capsys.readouterr().err
