"""A plugin that doesn't come back while a node starts: a signal ends it all the same, and nothing is left."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.process.kit import eventually, lines, place, running

PLUGIN = """
import threading
from toolring import hookimpl

def hang():
    with open("hangs", "a") as file:
        print("here", file=file)
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            pass

@hookimpl
def {hook}:
    {body}
"""
SINKS = ("toolring_metrics_sinks()", 'return {"mine": lambda settings: hang()}')
STARTED = ("toolring_node_started(event)", "hang()")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("hook", "body", "sinks"), [(*SINKS, "mine"), (*STARTED, "")])
def test_a_start_that_hangs_is_ended_by_a_signal(number: int, hook: str, body: str, sinks: str) -> None:
    with place() as directory:
        (directory / "hanging.py").write_text(PLUGIN.format(hook=hook, body=body))
        settings: dict[str, Any] = {"TOOLRING_PLUGINS_LOAD": "hanging", "TOOLRING_METRICS_SINKS": sinks}
        with running(workers=1, directory=directory, wait=False, **settings) as node:
            eventually(lambda: lines(directory / "hangs"), "the plugin hangs")
            node.remember()
            node.signal(number)
            assert node.wait() == 0
            eventually(lambda: "start_given_up" in node.log)
