"""What Prometheus' own tool says of a real node's page."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request

import pytest

from tests.process.kit import failure, running
from toolring.errors import ToolError

pytestmark = pytest.mark.services


def test_promtool_finds_nothing_to_object_to() -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("this test needs promtool: apt install prometheus")
    with running(TOOLRING_METRICS_LISTEN="127.0.0.1:0") as node, node.client() as client:
        client.call("square", {"x": 2})
        assert isinstance(failure(lambda: client.call("fail", {"message": "no"})), ToolError)
        with urllib.request.urlopen(f"{client.status()['metrics']}/metrics", timeout=20) as answer:
            page = answer.read()
    assert b"toolring_job_run_seconds_bucket" in page
    done = subprocess.run([program, "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
