"""A node of the command line's own, for as long as it needs one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from toolring.errors import ConfigError, Unreachable


@contextmanager
def started(words: Sequence[str], settings: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """``toolring serve`` with these words and variables, once it is ready; ended by SIGTERM."""
    command = [sys.executable, "-P", "-m", "toolring", "serve", *words]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings})
    try:
        assert node.stdout is not None
        ready, _, _ = select.select([node.stdout], [], [], 60)
        if ready and not node.stdout.readline() and node.wait(30) == ConfigError.exit_status:
            raise ConfigError("the node did not start: what it says of that stands above")
        if not ready or node.returncode is not None:
            raise Unreachable("the node did not start")
        yield node
    finally:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(30)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
        if node.stdout is not None:
            node.stdout.close()
