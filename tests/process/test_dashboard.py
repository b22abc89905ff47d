"""A node's dashboard over HTTP: who is let in, what is told, and that nobody's job waits for it."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.process.kit import FAULTS, eventually, failure, place, run_cli, running
from tests.process.kit import Node as RunningNode
from toolring.errors import ToolError
from toolring.supervisor.dashboard.guard import API, HEADERS

ANY = "127.0.0.1:0"
TOKEN = "0123456789abcdef"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningNode]:
    with running(TOOLRING_DASHBOARD_LISTEN=ANY) as node:
        yield node


class Told(NamedTuple):
    status: int
    headers: Message
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


def fetch(node: RunningNode, path: str = "/", method: str = "GET", **headers: str) -> Told:
    url = str(node.status()["dashboard"]) + path
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return Told(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Told(error.code, error.headers, error.read())


def connected(node: RunningNode) -> socket.socket:
    host, _, port = str(node.status()["dashboard"]).removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def view(node: RunningNode, name: str) -> dict[str, Any]:
    told = fetch(node, f"/api/{name}")
    assert told.status == 200, told.body
    return told.json()


def test_the_page_comes_with_headers_that_let_nothing_else_run(shared: RunningNode) -> None:
    for path in ("/", "/app.js", "/style.css", "/favicon.svg", "/api/node", "/api/job?job=x", "/nothing"):
        told = fetch(shared, path)
        assert {name: told.headers[name] for name in HEADERS} == HEADERS, path
        assert told.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in told.headers
        assert "Access-Control-Allow-Origin" not in told.headers
    assert fetch(shared).headers["Content-Type"] == "text/html; charset=utf-8"
    assert fetch(shared, "/app.js").headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert fetch(shared, "/api/node").headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", ["/metrics", "/index.html", "/../guard.py", "/static/app.js", "/api", "/api/kill"])
def test_there_is_nothing_else(shared: RunningNode, path: str) -> None:
    assert fetch(shared, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_done_there(shared: RunningNode, method: str) -> None:
    for path in ("/", "/api/node"):
        told = fetch(shared, path, method)
        assert (told.status, told.headers["Allow"]) == (405, "GET, HEAD")


def test_another_name_is_not_served(shared: RunningNode) -> None:
    assert fetch(shared, "/api/node", Host="evil.example").status == 421
    assert fetch(shared, "/", Host="evil.example:80").status == 421
    assert fetch(shared, "/api/node", Host="localhost:1").status == 200
    with connected(shared) as client:
        client.sendall(b"GET /api/node HTTP/1.1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 421 ")


def test_with_a_token_only_who_knows_it_is_told_anything() -> None:
    with running(TOOLRING_DASHBOARD_LISTEN=ANY, TOOLRING_DASHBOARD_TOKEN=TOKEN) as node:
        assert fetch(node, "/").status == 200
        for path in API:
            told = fetch(node, path)
            assert (told.status, told.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert fetch(node, path, Authorization=f"Bearer {TOKEN[:-1]}").status == 401
        assert fetch(node, "/api/node", Authorization=f"Bearer {TOKEN}").status == 200
        assert TOKEN not in node.log + node.out.read_text()
        assert TOKEN not in json.dumps(node.status())


def test_tools_do_not_find_the_token_in_their_environment(tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text(
        "import os\nfrom toolring import tool\n@tool\ndef seen() -> list[str]:\n    return sorted(os.environ)\n"
    )
    with running(file, TOOLRING_DASHBOARD_LISTEN=ANY, TOOLRING_DASHBOARD_TOKEN=TOKEN) as node, node.client() as client:
        seen = client.call("seen")
        assert "TOOLRING_DASHBOARD_LISTEN" in seen
        assert "TOOLRING_DASHBOARD_TOKEN" not in seen
        assert fetch(node, "/api/node").status == 401


def test_the_token_is_not_printed_with_the_configuration() -> None:
    shown = run_cli("config", TOOLRING_DASHBOARD_TOKEN=TOKEN).stdout
    assert TOKEN not in shown
    assert "(set)" in shown


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"TOOLRING_DASHBOARD_LISTEN": "0.0.0.0:0"}, "is not on loopback: set a dashboard.token"),
        ({"TOOLRING_DASHBOARD_LISTEN": "example.org:80"}, "is not on loopback"),
        ({"TOOLRING_DASHBOARD_LISTEN": "here"}, "dashboard.listen: 'here' is not HOST:PORT"),
        ({"TOOLRING_DASHBOARD_TOKEN": "short"}, "at least 16 characters"),
        ({"TOOLRING_DASHBOARD_TOKEN": "sixteen letters it has"}, "no space"),
        ({"TOOLRING_DASHBOARD_LISTEN": ANY, "TOOLRING_METRICS_FIGURES": "false"}, "metrics.figures is false"),
        ({"TOOLRING_DASHBOARD_LISTEN": "[::1]:5", "TOOLRING_METRICS_LISTEN": "[::1]:5"}, "a port of its own"),
    ],
)
def test_what_would_not_be_safe_or_shows_nothing_is_refused(settings: dict[str, Any], says: str) -> None:
    done = run_cli("serve", str(FAULTS), **settings)
    assert done.returncode == 3
    assert says in done.stderr
    assert "short" not in done.stderr


def test_a_target_after_the_option_is_not_taken_for_an_address() -> None:
    done = run_cli("serve", "--dashboard", str(FAULTS))
    assert done.returncode == 2
    assert "name the targets before --dashboard" in done.stderr


def test_a_port_that_is_taken_ends_the_start(shared: RunningNode) -> None:
    taken = str(shared.status()["dashboard"]).removeprefix("http://")
    with place() as directory:
        done = run_cli("serve", str(FAULTS), "--dashboard", taken, "--bind", f"ipc://{directory}/x.sock")
    assert done.returncode == 3
    assert f"dashboard.listen: can't listen on {taken}" in done.stderr


def test_where_it_is_is_printed_and_metrics_are_beside_it_if_wanted() -> None:
    with running(TOOLRING_DASHBOARD_LISTEN=ANY, TOOLRING_METRICS_LISTEN=ANY) as node:
        status = node.status()
        assert f"dashboard: {status['dashboard']}/\n" in node.out.read_text()
        assert status["metrics"] != status["dashboard"]
        with urllib.request.urlopen(f"{status['metrics']}/readyz", timeout=20) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{status['metrics']}/api/node", timeout=20)
        refused.value.close()
        assert refused.value.code == 404


def test_without_it_nothing_is_kept_for_it() -> None:
    with running() as node:
        assert "dashboard" not in node.status()
        assert "dashboard" not in node.out.read_text()


def test_what_happens_is_shown_as_it_is(shared: RunningNode) -> None:
    with shared.client(caller="<b>caller</b>") as client:
        for _ in range(5):
            client.call("square", {"x": 3})
        error = failure(lambda: client.call("fail", {"message": HOSTILE}))
    assert isinstance(error, ToolError)
    jobs = view(shared, "jobs?words=fail+tool_error")["jobs"]
    assert jobs[0]["job"] == error.facts["job"]
    assert jobs[0]["caller"] == "<b>caller</b>"
    story = view(shared, f"job?job={error.facts['job']}")["story"]
    assert HOSTILE in story["error"]["message"], "it is the page that must not run it"
    tools = view(shared, "tools?window=start")["tools"]
    assert tools["square"]["cache"] is True
    assert tools["fail"]["errors"]["TOOL_ERROR"] >= 1
    (group,) = view(shared, "ring")["groups"]
    assert "square" in group["tools"]
    assert sum(slot["share"] for slot in group["slots"]) == pytest.approx(1.0)
    assert len(view(shared, "node")["workers"]) == 2


def test_points_come_every_five_seconds_and_only_new_ones_are_told(shared: RunningNode) -> None:
    with shared.client() as client:
        client.call("square", {"x": 4})
    points = eventually(lambda: [one for one in view(shared, "timeline")["points"] if one["jobs"]], "a slice is over")
    assert points[-1]["p50"] is not None
    assert points[-1]["memory"]["supervisor"] > 1 << 20
    last = points[-1]
    again = view(shared, f"timeline?after={last['slice'] - 1}")["points"]
    assert again[0] == last
    assert again[0] not in view(shared, f"timeline?after={last['slice']}")["points"]


def test_jobs_go_on_while_many_look_at_very_many_jobs(shared: RunningNode) -> None:
    """A search through all that is kept takes many turns; calls are answered between them."""
    with shared.client() as client:
        list(client.map("echo", [{"x": n} for n in range(3000)], chunk=1))
        with connected(shared) as one:
            one.sendall(b"GET /api/jobs?words=nothing+of+that+kind HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.call("echo", {"x": 1}) == 1
            assert one.recv(100).startswith(b"HTTP/1.1 200 ")
