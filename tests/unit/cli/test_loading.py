from __future__ import annotations

import sys

import pytest

from toolring.cli.loading import load
from toolring.config import Config
from toolring.supervisor.ground import worker_settings


def test_where_no_process_can_be_started_that_is_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    settings = worker_settings(Config())
    assert load(settings, 1.0).error == "there can be no process to load them: No such file or directory"
