"""The figures of a real node: over HTTP, while clients misbehave, workers die and code is loaded anew."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from tests.process.kit import FAULTS, Background, Node, eventually, failure, kill_one, lines, place, run_cli, running
from toolring import Client
from toolring.errors import OutcomeUnknown, ToolError
from toolring.supervisor.web import MOST_CONNECTIONS, MOST_REQUEST
from toolring.testing import FIGURES

OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}
ANY = "127.0.0.1:0"


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with running(TOOLRING_METRICS_LISTEN=ANY) as node:
        yield node


def fetch(url: str, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Status, content type and text."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def url(node: Node, path: str = "/metrics") -> str:
    return str(node.status()["metrics"]) + path


def values(node: Node) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, sorted by their names."""
    found = {}
    for family in parse_plain(fetch(url(node))[2]):
        for one in family.samples:
            found[one.name, *(value for _, value in sorted(one.labels.items()))] = one.value
    return found


def counters(found: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in found.items() if key[0].endswith(("_total", "_count", "_bucket"))}


def raw(node: Node, data: bytes) -> bytes:
    """What the server says to these bytes, until it closes."""
    host, _, port = url(node, "").removeprefix("http://").rpartition(":")
    said = b""
    with socket.create_connection((host, int(port)), 20) as client:
        client.sendall(data)
        while more := client.recv(65536):
            said += more
    return said


def test_calls_are_counted_with_their_errors_and_times(shared: Node) -> None:
    before = values(shared)
    with shared.client() as client:
        for _ in range(3):
            client.call("nap", {"seconds": 0.02})
        assert isinstance(failure(lambda: client.call("fail", {"message": "no"})), ToolError)
    after = values(shared)
    jobs = ("toolring_jobs_total", "default", "nap")
    assert after[jobs] - before.get(jobs, 0) == 3
    assert after["toolring_job_errors_total", "TOOL_ERROR", "default", "fail"] >= 1
    assert after["toolring_job_run_seconds_sum", "default", "nap"] >= 0.06
    runs = sum(value for key, value in after.items() if key[0] == "toolring_worker_jobs_total")
    assert runs == sum(value for key, value in after.items() if key[0] == "toolring_job_run_seconds_count")
    eventually(lambda: values(shared).get(("toolring_process_resident_bytes", "0"), 0) > 1 << 20, "it is looked at")


def test_openmetrics_is_given_to_who_asks_for_it(shared: Node) -> None:
    status, kind, text = fetch(url(shared), OPEN)
    assert (status, kind) == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert any(family.name == "toolring_jobs" for family in parse_open(text))
    assert fetch(url(shared))[1].startswith("text/plain; version=0.0.4")


def test_health_is_told_and_nothing_else(shared: Node) -> None:
    assert fetch(url(shared, "/healthz"))[0] == 200
    assert fetch(url(shared, "/readyz?verbose"))[:1] == (200,)
    assert fetch(url(shared, "/"))[0] == 404
    assert b" 405 " in raw(shared, b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head = raw(shared, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics\r\n\r\n", b"\xff\x00 /x HTTP/2\r\n\r\n"])
def test_what_is_not_http_is_refused(shared: Node, data: bytes) -> None:
    assert b" 400 " in raw(shared, data)


def test_a_request_without_end_is_refused(shared: Node) -> None:
    assert b" 431 " in raw(shared, b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"x" * MOST_REQUEST)


def test_clients_that_say_nothing_or_read_nothing_keep_nobody_from_calling(shared: Node) -> None:
    host, _, port = url(shared, "").removeprefix("http://").rpartition(":")
    silent = [socket.create_connection((host, int(port)), 20) for _ in range(MOST_CONNECTIONS + 8)]
    try:
        for one in silent[: MOST_CONNECTIONS // 2]:
            try:
                one.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            except OSError:
                pass  # one too many
        with shared.client() as client:
            assert client.call("square", {"x": 3}) == 9
    finally:
        for one in silent:
            one.close()
    eventually(lambda: fetch(url(shared, "/healthz"))[0] == 200, "there is room again")


def test_of_those_who_ask_at_once_nobody_is_forgotten(shared: Node) -> None:
    """One that asks while the loop looks at others must wake it again, or he waits until somebody else asks."""
    ready = url(shared, "/readyz")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(600):
            assert [status for status, _, _ in pool.map(fetch, [ready] * 4)] == [200] * 4


def test_a_draining_node_is_alive_and_not_ready(tmp_path: Path) -> None:
    with running(TOOLRING_METRICS_LISTEN=ANY) as node:
        gate = tmp_path / "gate"
        ready, alive = url(node, "/readyz"), url(node, "/healthz")
        with node.client() as client:
            held = Background(lambda: client.call("gate", {"path": str(gate)}))
            eventually(lambda: lines(gate), "it runs")
            node.signal(signal.SIGTERM)
            eventually(lambda: fetch(ready)[0] == 503, "it drains")
            assert fetch(ready)[2] == "draining\n"
            assert fetch(alive)[0] == 200
            Path(f"{gate}.open").touch()
            held.result()
        node.wait()


def test_an_address_that_is_taken_ends_the_start(shared: Node) -> None:
    taken = url(shared, "").removeprefix("http://")
    with place() as directory:
        done = run_cli("serve", str(FAULTS), "--metrics", taken, "--bind", f"ipc://{directory}/x.sock")
    assert done.returncode == 3
    assert f"can't listen on {taken}" in done.stderr


@pytest.mark.parametrize("wrong", ["here", ":9464", "127.0.0.1:99999", "::1:80"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    done = run_cli("serve", str(FAULTS), "--metrics", wrong)
    assert done.returncode == 3
    assert "HOST:PORT" in done.stderr


def test_no_counter_goes_back_when_workers_die_and_tools_come_and_go() -> None:
    def served(*names: str) -> str:
        tools = "".join(f"@tool\ndef {name}(x: int = 0) -> int:\n    return x\n" for name in names)
        return f"import os\nfrom toolring import tool\n{tools}@tool\ndef die() -> None:\n    os._exit(3)\n"

    with place() as directory:
        file = directory / "tools.py"
        file.write_text(served("one", "two"))
        with running(file, directory=directory, TOOLRING_METRICS_LISTEN=ANY) as node, node.client() as client:
            seen: list[dict[tuple[str, ...], float]] = []

            def look() -> None:
                seen.append(counters(values(node)))

            def reloaded(*names: str) -> None:
                file.write_text(served(*names))
                done = run_cli("reload", address=node.address)
                assert done.returncode == 0, done.stderr

            for _ in range(4):
                client.call("one")
                client.call("two")
            look()
            reloaded("one")
            client.call("one")
            look()
            assert isinstance(failure(lambda: client.call("die")), OutcomeUnknown)
            node.until_whole()
            kill_one(node.workers()[0])
            node.until_whole()
            look()
            reloaded("one", "two")
            client.call("two")
            look()
    for before, after in pairwise(seen):
        for key, count in before.items():
            if not key[0].startswith(("toolring_worker_", "toolring_process_")):  # slots may be other ones by now
                assert after[key] >= count, key
    assert seen[-1]["toolring_jobs_total", "default", "two"] == 5
    exits = {key: value for key, value in seen[-1].items() if key[0] == "toolring_worker_exits_total"}
    assert exits["toolring_worker_exits_total", "exited with status 3", "ready"] == 1


def test_the_command_shows_times_and_errors(shared: Node) -> None:
    with shared.client() as client:
        client.call("square", {"x": 2})
        failure(lambda: client.call("fail", {"message": "no"}))
        told = client.metrics("1m", tool="square")
    assert told["tools"]["square"]["response"]["count"] >= 1
    shown = run_cli("metrics", "--window", "start", address=shared.address)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^square +\d+ ", shown.stdout, re.M)
    assert re.search(r"^fail +TOOL_ERROR +\d+$", shown.stdout, re.M)
    as_json = json.loads(run_cli("metrics", "square", "--json", address=shared.address).stdout)
    assert list(as_json["tools"]) == ["square"]


@pytest.mark.parametrize(
    ("words", "why"),
    [(("nothing",), "no tool 'nothing'"), (("--most", "0"), "most=0 is not a number"), (("--window", "1h"), "1h")],
)
def test_a_question_that_makes_no_sense_is_refused(shared: Node, words: tuple[str, ...], why: str) -> None:
    done = run_cli("metrics", *words, address=shared.address)
    assert done.returncode == 2
    assert why in done.stderr


def test_sinks_get_the_figures_and_one_that_is_broken_holds_up_nobody() -> None:
    with place() as directory, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        (directory / "toolring.toml").write_text(
            f"""[metrics]
            sinks = ["jsonlines", "statsd"]
            interval = 0.05
            file = "{directory}/figures.jsonl"
            statsd = "127.0.0.1:{server.getsockname()[1]}"
            """
        )
        with running(directory=directory) as node, node.client() as client:
            client.call("square", {"x": 2})
            heard: set[str] = set()
            while "toolring.tool.square.jobs:1|c" not in heard:
                heard.update(server.recv(65536).decode().split("\n"))
            file = directory / "figures.jsonl"
            told = json.loads(eventually(lambda: [line for line in lines(file) if '"square":{"jobs":1' in line])[0])
            assert set(told) >= set(FIGURES)
            assert set(told["metrics"]) >= set(FIGURES["metrics"])
            assert set(told["metrics"]["total"]) == set(FIGURES["metrics"]["total"])
            assert set(told["counts"]["square"]) == set(FIGURES["counts"]["echo"])
            file.unlink()
            file.mkdir()  # nothing can be written there

            def given_up() -> bool:
                return bool(client.status()["sinks"]["jsonlines"]["state"] == "open")

            eventually(given_up, "it is left alone")
            shown = run_cli("status", address=node.address).stdout
            assert "the sink jsonlines keeps failing, and gets nothing for a while: " in shown
            assert "statsd" not in shown
            assert client.call("square", {"x": 3}) == 9


OWN = """
import asyncio, os
from toolring import metrics, monitor, tool

metrics.count("loaded")  # before the workers are forked: nobody's

@tool
@monitor
def parse(text: str) -> int:
    metrics.count("words", len(text.split()), kind=text[:1])
    metrics.gauge("longest", max(map(len, text.split())))
    if text == "bad":
        raise ValueError(text)
    return os.getpid()

@tool
async def fetch(n: int) -> int:
    with metrics.timer("wait"):
        await asyncio.sleep(0.01)
    return os.getpid()
"""


def test_what_tools_count_and_time_themselves_adds_up_over_workers_that_come_and_go() -> None:
    with place() as directory:
        file = directory / "own.py"
        file.write_text(OWN)
        with running(file, directory=directory, TOOLRING_METRICS_LISTEN=ANY) as node, node.client() as client:
            for text in ("a b", "a c d", "bad"):
                try:
                    client.call("parse", {"text": text})
                except ToolError:
                    assert text == "bad"
            client.call("fetch", {"n": 1})
            words = ("toolring_user_words_total", "a")
            eventually(lambda: values(node).get(words) == 5, "the words are counted")
            eventually(lambda: ("toolring_user_wait_seconds_count",) in values(node), "the wait is timed")
            found = values(node)
            assert found["toolring_user_parse_seconds_count", ""] == 2
            assert found["toolring_user_parse_seconds_count", "ValueError"] == 1
            assert found["toolring_user_wait_seconds_sum",] >= 0.01
            assert ("toolring_user_loaded_total",) not in found
            assert "toolring_user_longest" in {key[0] for key in found}
            client.call("parse", {"text": "a"})
            client.recycle()  # whoever has counted that tells of it before it ends
            eventually(lambda: values(node).get(words) == 6, "nothing is lost with a worker that leaves")
            eventually(
                lambda: "toolring_user_longest" not in {key[0] for key in values(node)}, "its gauge goes with it"
            )
            shown = run_cli("metrics", address=node.address).stdout
            assert re.search(r"^words +kind=a +6", shown, re.M), shown


def test_without_figures_the_page_says_so() -> None:
    with running(TOOLRING_METRICS_FIGURES="false", TOOLRING_METRICS_LISTEN=ANY) as node:
        status, _, text = fetch(url(node))
        assert (status, text) == (404, "metrics.figures is off\n")
        assert fetch(url(node, "/readyz"))[0] == 200
        assert "metrics.figures is false" in run_cli("metrics", address=node.address).stderr


def test_where_it_listens_is_told_by_status() -> None:
    with running(TOOLRING_METRICS_LISTEN=ANY) as node:
        told: dict[str, Any] = json.loads(run_cli("status", "--json", address=node.address).stdout)
        assert told["metrics"].startswith("http://127.0.0.1:")
        with Client(node.address) as client:
            assert client.call("square", {"x": 2}) == 4
