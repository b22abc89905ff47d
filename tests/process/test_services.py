"""Services: real HTTP servers that slow down, fail, hang, cut connections and come back, behind the tools of a node."""

from __future__ import annotations

import gzip
import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.process.http_servers import Behaviour, Server, servers
from tests.process.kit import HERE, Background, Node, eventually, failure, place, run_cli, running
from toolring import Client, Service, traced
from toolring.errors import (
    ConfigError,
    Expired,
    InvalidArguments,
    LoadError,
    OutcomeUnknown,
    ServiceError,
    ServiceUnavailable,
)

TOOLS = HERE / "service_tools.py"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def serving(
    endpoints: list[Server] | list[str],
    settings: str = "",
    workers: int = 2,
    more: str = "",
    env: Mapping[str, Any] = {},
) -> Iterator[Node]:
    """A node whose tools have the service ``shop``."""
    urls = [one if isinstance(one, str) else one.url for one in endpoints]
    with place() as directory:
        (directory / "toolring.toml").write_text(
            f"[services.shop]\nendpoints = {json.dumps(urls)}\n{settings}\n{more}\n"
        )
        address = f"ipc://{directory}/node.sock"
        with running(TOOLS, workers=workers, directory=directory, TOOLRING_ADDRESS=address, **env) as node:
            yield node


def ports(client: Client, count: int, tool: str = "read") -> Counter[int]:
    return Counter(client.call(tool, {"path": "/x"})["port"] for _ in range(count))


@pytest.mark.parametrize("tool", ["read", "read_async"])
def test_a_tool_asks_all_endpoints_of_a_service(tool: str) -> None:
    with servers(3) as three, serving(three) as node, node.client() as client:
        found = ports(client, 40, tool)
        assert set(found) == {one.port for one in three}
        assert client.call(tool, {"path": "/a%20b"})["path"] == "/a%20b"


def test_status_shows_the_endpoints() -> None:
    with servers(2) as two, serving(two, "breaker = true") as node, node.client() as client:
        ports(client, 20)
        ports(client, 20, "read_async")

        def told() -> Any:
            shown = node.status()["services"]["shop"]["endpoints"]
            return shown if sum(one["requests"] for one in shown.values()) == 40 else None

        shown = eventually(told, "all workers have reported")
        assert set(shown) == {one.url for one in two}
        for one in shown.values():
            assert set(one["health"]) == {"up"}
            assert set(one["circuit"]) == {"closed"}
            assert one["window"]["calls"] == one["requests"]
            assert one["failed"] == one["under_way"] == 0
            assert one["order"] == "auto"
        asked = client.metrics()["services"]["shop"]
        assert {base: one["requests"] for base, one in asked.items()} == {
            base: one["requests"] for base, one in shown.items()
        }
        for one in asked.values():
            assert one["failed"] == one["refused"] == 0
            assert 0 < one["mean"] < 60
        text = run_cli("metrics", address=node.address).stdout
        assert all(any(url in line and "shop" in line for line in text.splitlines()) for url in asked)
        text = run_cli("status", address=node.address).stdout
        assert all(any(one.url in line and "up" in line for line in text.splitlines()) for one in two)


@pytest.mark.parametrize("tool", ["read", "read_async"])
def test_a_dead_endpoint_costs_nobody_an_error(tool: str) -> None:
    with servers(3) as three, serving(three) as node, node.client() as client:
        three[0].stop()
        found = ports(client, 60, tool)
        assert set(found) == {three[1].port, three[2].port}


@pytest.mark.parametrize("tool", ["read", "read_async"])
@pytest.mark.parametrize(
    "fault",
    [
        Behaviour(status=503),
        Behaviour(cut=True),
        Behaviour(half=True),
        Behaviour(hang=True),
        Behaviour(drip=0.2, body=b"x" * 100),
        Behaviour(head_drip=0.1),
    ],
    ids=["503", "cut", "half", "hang", "drip", "head"],
)
def test_what_may_be_asked_twice_is_asked_elsewhere(fault: Behaviour, tool: str) -> None:
    """And the one that fails is left alone by and by."""
    with servers(2) as two, serving(two, "timeout = 0.3\nejection = {errors = 2, eject = 60.0}") as node:
        two[0].does = fault
        with node.client() as client:
            assert set(ports(client, 20, tool)) == {two[1].port}
            assert len(two[0].seen) <= 2 * 2, "each worker learns it from two failures"


def test_what_may_not_be_asked_twice_is_asked_once() -> None:
    with servers(2) as two, serving(two) as node, node.client() as client:
        for one in two:
            one.does = Behaviour(cut=True)
        error = failure(lambda: client.call("order", {"item": "tea"}))
        assert type(error) is ServiceError
        assert error.facts["attempts"] == 1
        assert sum(len(one.seen) for one in two) == 1
        error = failure(lambda: client.call("order", {"item": "tea", "twice": True}))
        assert error.facts["attempts"] == 3
        assert sum(len(one.seen) for one in two) == 4


def test_what_never_arrived_is_sent_elsewhere_whatever_it_is() -> None:
    with servers(3) as three, serving(three) as node, node.client() as client:
        three[0].stop()
        three[1].stop()
        for _ in range(6):
            assert client.call("order", {"item": "tea"})["port"] == three[2].port
        three[2].stop()
        error = failure(lambda: client.call("order", {"item": "tea"}))
        assert type(error) is ServiceUnavailable
        assert error.retryable
        assert error.facts["service"] == "shop"


def test_answers_that_are_errors() -> None:
    with servers(1) as (one,), serving([one]) as node, node.client() as client:
        one.does = Behaviour(status=404, body=b'{"error": "no such cup"}')
        error = failure(lambda: client.call("read", {"path": "/cups/7"}))
        assert isinstance(error, ServiceError)
        assert error.facts["status"] == 404
        assert error.facts["body"] == '{"error": "no such cup"}'
        assert error.facts["attempts"] == 1
        assert "no such cup" in str(error)
        assert f"{one.url} answered 404" in str(error)
        assert client.call("ask", {"method": "GET", "path": "/cups/7"}) == 404
        one.does = Behaviour(status=500)
        assert failure(lambda: client.call("read", {"path": "/"})).facts["status"] == 500


def test_no_request_goes_where_the_configuration_does_not_say() -> None:
    """Neither by a redirect, nor by a path, nor by a proxy of the environment."""
    with servers(2) as (ours, foreign), serving([f"{ours.url}/api"]) as node, node.client() as client:
        for status in (301, 302, 303, 307, 308):
            ours.does = Behaviour(status=status, headers={"location": f"{foreign.url}/secret"})
            error = failure(lambda: client.call("read", {"path": "/x"}))
            assert isinstance(error, ServiceError)
            assert "not followed" in str(error)
        ours.does = Behaviour()
        for path in (
            f"//127.0.0.1:{foreign.port}/",
            f"@127.0.0.1:{foreign.port}/",
            f"http://127.0.0.1:{foreign.port}/",
            "/../secret",
            "/a/%2e%2e/%2E%2e/secret",
            "/a/..%2f../secret",
            "/x\r\nhost: evil",
            "/x?a=1",
            "",
        ):
            assert isinstance(failure(partial(client.call, "read", {"path": path})), InvalidArguments)
        assert not foreign.seen
        assert all(seen.path == "/api/x" for seen in ours.seen)
        assert isinstance(failure(lambda: client.call("ask", {"method": "CONNECT", "path": "/x"})), InvalidArguments)


def test_a_proxy_of_the_environment_is_not_asked() -> None:
    with servers(2) as (ours, proxy):
        names = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), proxy.url)
        with serving([ours], env=names) as node, node.client() as client:
            for tool in ("read", "read_async"):
                assert client.call(tool, {"path": "/x"})["port"] == ours.port
        assert not proxy.seen


def test_cookies_are_not_kept() -> None:
    with servers(1) as (one,), serving([one], workers=1) as node, node.client() as client:
        one.does = Behaviour(headers={"set-cookie": "whose=mine"})
        for _ in range(3):
            client.call("read", {"path": "/x"})
        assert not any("cookie" in seen.headers for seen in one.seen)


def test_deadlines_traces_and_headers_are_forwarded() -> None:
    with (
        servers(1) as (one,),
        serving([one], 'headers = {Authorization = "Bearer ${HOME}"}', more="[timeouts]\ndefault = 30.0") as node,
        node.client() as client,
    ):
        for tool in ("read", "read_async"):
            with traced(PARENT, "a=1"):
                client.call(tool, {"path": "/x"}, timeout=5)
            client.call(tool, {"path": "/x"})
            told, untold = one.seen[-2:]
            assert 3000 < int(told.headers["x-request-timeout-ms"]) <= 5000
            assert int(untold.headers["x-request-timeout-ms"]) == 10_000, "one attempt's own"
            assert told.headers["traceparent"] == PARENT
            assert told.headers["tracestate"] == "a=1"
            assert "traceparent" not in untold.headers
            assert told.headers["authorization"].startswith("Bearer /")


def test_a_trace_reaches_tools_and_what_they_call() -> None:
    with servers(1) as (one,), serving([one]) as node, node.client() as client:
        headers = {"traceparent": PARENT}
        with traced(PARENT):
            assert client.call("who_traces") == [PARENT, headers]
            assert client.call("passes_on") == [PARENT, headers]
            assert client.call("traces_async") == headers
            assert client.submit("who_traces").result() == [PARENT, headers]
            assert list(client.map("who_traces", [{}] * 3)) == [[PARENT, headers]] * 3
        assert client.call("who_traces") == ["", {}]
        assert client.call("traces_async") == {}


def test_a_short_deadline_ends_the_call_and_tells_nothing_of_the_endpoint() -> None:
    settings = "ejection = {errors = 1, most = 1.0}\nbreaker = {minimum = 1, window = 10}\nretries = 0"
    with servers(1) as (one,), serving([one], settings, workers=1) as node, node.client() as client:
        assert client.call("read_async", {"path": "/x"})["port"] == one.port
        one.does = Behaviour(hang=True)
        for _ in range(3):
            error = failure(partial(client.call, "read_async", {"path": "/x"}, timeout=0.2))
            assert isinstance(error, Expired | ServiceError)
        node.until_whole(2)  # nobody waits any more for what is cut off now
        one.does = Behaviour()
        one.released.set()
        assert client.call("read_async", {"path": "/x"})["port"] == one.port

        def told() -> Any:
            shown = node.status()["services"]["shop"]["endpoints"][one.url]
            return shown if shown["requests"] == 5 else None

        shown = eventually(told, "the worker has reported")
        assert (shown["failed"], set(shown["health"]), set(shown["circuit"])) == (0, {"up"}, {"closed"})


def test_calls_that_end_early_leave_the_connections_in_order() -> None:
    """More callers than connections, whose deadlines end them wherever they are; afterwards all is as before."""
    settings = "connections = 10\ntimeout = 1.0\nbreaker = false\nejection = {errors = 1000}"
    with servers(1) as (one,), serving([one], settings, workers=1) as node, node.client() as client:
        one.does = Behaviour(delay=0.01)
        for turn in range(12):
            calls = [
                client.submit("read_async", {"path": "/x"}, timeout=0.005 + 0.002 * ((turn + n) % 20))
                for n in range(60)
            ]
            for call in calls:
                call.exception()
        one.does = Behaviour()
        found = eventually(lambda: ports(client, 8, "read_async"), "it answers again", timeout=10)
        assert found == {one.port: 8}


def test_what_a_killed_worker_had_under_way_is_over() -> None:
    with servers(1) as (one,), serving([one], "timeout = 20.0", workers=1) as node, node.client() as client:
        one.does = Behaviour(hang=True)
        call = Background(lambda: client.call("order", {"item": "tea"}))
        eventually(lambda: one.seen, "it has asked")

        def under_way() -> int:
            return int(node.status()["services"]["shop"]["endpoints"][one.url]["under_way"])

        assert under_way() == 1
        busy = next(worker for worker in node.status()["workers"] if worker["state"] == "busy")
        client.kill(busy["id"])
        with pytest.raises(OutcomeUnknown):
            call.result()
        eventually(lambda: under_way() == 0, "nothing is under way")


def test_what_a_schema_cannot_be_applied_to_hurts_nobody_else(tmp_path: Path) -> None:
    schema = {"name": "x", "in": "query", "schema": {"type": "number", "multipleOf": 0.01}}
    document = {"openapi": "3.0.0", "paths": {"/n": {"get": {"operationId": "num", "parameters": [schema]}}}}
    (tmp_path / "n.json").write_text(json.dumps(document))
    more = f'openapi = "{tmp_path}/n.json"'
    with servers(1) as (one,), serving([one], more, workers=1) as node, node.client() as client:
        calls = [client.submit("num", {"x": x}) for x in (1.0, float("nan"), 2.0, float("inf"), 3.0)]
        errors = [call.exception(20) for call in calls]
        assert [type(error) for error in errors] == [type(None), InvalidArguments] * 2 + [type(None)]
        assert "worker_exited" not in node.log


def test_health_checks_leave_out_who_is_not_well_and_let_it_back() -> None:
    settings = 'health_check = "/healthz"\nhealth_interval = 0.05'
    with servers(2) as two, serving(two, settings, workers=1) as node, node.client() as client:
        ports(client, 2)
        eventually(lambda: all(one.checks > 1 for one in two), "both are checked")
        two[0].well = False
        eventually(lambda: set(ports(client, 8)) == {two[1].port}, "the other has it all")
        two[0].well = True
        eventually(lambda: set(ports(client, 16)) == {one.port for one in two}, "it is back")


def test_the_circuit_of_an_endpoint() -> None:
    settings = "retries = 0\nbreaker = {minimum = 4, window = 10, wait = 0.2, probes = 1}\nejection = {errors = 1000}"
    with servers(1) as (one,), serving([one], settings, workers=1) as node, node.client() as client:
        one.does = Behaviour(status=500)
        for _ in range(4):
            assert failure(lambda: client.call("read", {"path": "/x"})).facts["status"] == 500
        before = len(one.seen)
        error = failure(lambda: client.call("read", {"path": "/x"}))
        assert isinstance(error, ServiceUnavailable)
        assert 0 < error.facts["retry_after"] <= 0.2
        assert len(one.seen) == before, "nothing was sent"
        one.does = Behaviour()

        def answers() -> Any:
            try:
                return client.call("read", {"path": "/x"})
            except ServiceUnavailable:
                return None

        eventually(answers, "a probe lets it back")


def test_a_service_that_fails_is_an_alert_by_itself() -> None:
    more = "[alerting]\ninterval = 0.05"
    settings = "retries = 0\nbreaker = {minimum = 4, window = 10, wait = 1000.0}\nejection = {errors = 1000}"
    with servers(1) as (one,), serving([one], settings, 1, more) as node, node.client() as client:
        one.does = Behaviour(status=500)
        for _ in range(24):
            failure(lambda: client.call("read", {"path": "/x"}))

        def firing() -> dict[str, Any]:
            found = {row["alert"]: row for row in client.alerts() if row["state"] == "firing"}
            return found if {"service_circuit_open", "service_failing"} <= set(found) else {}

        found = eventually(firing, "both fire")
        assert {row["service"] for name, row in found.items() if "service" in name} == {"shop"}
        assert found["service_failing"]["value"] == 1.0
        assert found["service_circuit_open"]["value"] == 1.0
        eventually(lambda: client.breakers()[f"shop@{one.url}"]["refused"] == 20, "what was refused is counted, too")
        text = run_cli("alerts", address=node.address).stdout
        assert any("service_failing" in line and "firing" in line and "shop" in line for line in text.splitlines())


def test_an_operator_opens_and_closes_the_circuit_of_an_endpoint() -> None:
    with servers(2) as two, serving(two) as node, node.client() as client:
        name = f"shop@{two[0].url}"
        told = run_cli("breaker", "open", name, address=node.address)
        assert told.returncode == 0, told.stderr
        assert set(ports(client, 20)) == {two[1].port}
        assert set(ports(client, 20, "read_async")) == {two[1].port}
        listed = run_cli("breaker", "list", address=node.address).stdout
        assert any(name in line and "forced open" in line for line in listed.splitlines())
        assert client.breaker(f"shop@{two[1].url}", "open")["order"] == "open"
        error = failure(lambda: client.call("read", {"path": "/x"}))
        assert "an operator opened them" in str(error)
        for one in two:
            client.breaker(f"shop@{one.url}", "auto")
        assert set(ports(client, 40)) == {one.port for one in two}
        error = failure(lambda: client.breaker("shop@http://nowhere", "open"))
        assert two[0].url in str(error)


def test_what_is_under_way_is_known_of_the_whole_node() -> None:
    """With a worker for each call, a balancer can only tell which endpoint is busy from what the others do."""
    settings = 'balancer = "least_outstanding"\ntimeout = 20.0'
    with servers(2) as two, serving(two, settings, workers=3) as node, node.client() as client:
        two[0].does = Behaviour(hang=True)
        calls = []
        while not two[0].seen:
            calls.append(Background(lambda: node.client().call("read", {"path": "/x"})))
            calls[-1].join(0.3)
        assert set(ports(client, 12)) == {two[1].port}
        two[0].does = Behaviour()
        two[0].released.set()
        for one in calls:
            one.join(20)


def test_an_answer_that_is_too_large_is_refused() -> None:
    with servers(1) as (one,), serving([one], "max_response = 1000") as node, node.client() as client:
        one.does = Behaviour(body=b"[" + b" " * 2000 + b"]")
        for tool in ("read", "read_async"):
            error = failure(partial(client.call, tool, {"path": "/x"}))
            assert "1000 bytes" in str(error)
            assert error.facts["attempts"] == 1


def test_an_endpoint_that_swallows_connections() -> None:
    """Its queue of connections is full: connecting takes for ever, and connect_timeout ends it."""
    with socket.socket() as deaf, servers(1) as (one,):
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        try:
            with (
                serving([f"http://127.0.0.1:{port}", one.url], "connect_timeout = 0.2") as node,
                node.client() as client,
            ):
                assert set(ports(client, 12)) == {one.port}
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ('[services.other]\nendpoints = ["http://127.0.0.1:1"]', "asks for the service 'shop'"),
        ('[services.shop]\nendpoints = ["ftp://x"]', "ftp://x"),
        ('[services.shop]\nendpoints = ["http://127.0.0.1:1"]\nbalancer = "nosuch"', "no balancer 'nosuch'"),
        ('[services.shop]\nendpoints = ["http://127.0.0.1:1"]\nheaders = {A = "${NO_SUCH_THING}"}', "NO_SUCH_THING"),
        ('[services.shop]\nendpoints = ["http://127.0.0.1:1"]\nca_file = "/nowhere.pem"', "/nowhere.pem"),
        ('[services.shop]\nendpoints = ["http://127.0.0.1:1"]\nopenapi = "/nowhere.json"', "/nowhere.json"),
        ("[services.shop]", "at least one"),
    ],
)
def test_what_is_wrong_with_a_service_is_said_at_the_start(tmp_path: Path, settings: str, what: str) -> None:
    file = tmp_path / "toolring.toml"
    file.write_text(settings)
    told = run_cli("serve", str(TOOLS), "--config", str(file), "--bind", f"ipc://{tmp_path}/n")
    assert told.returncode == 3
    assert what in told.stderr
    assert "Traceback" not in told.stderr


def test_without_httpx_it_is_said_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("raise ImportError('no httpx here')")
    file = tmp_path / "toolring.toml"
    file.write_text('[services.shop]\nendpoints = ["http://127.0.0.1:1"]')
    told = run_cli(
        "serve", str(TOOLS), "--config", str(file), "--bind", f"ipc://{tmp_path}/n", PYTHONPATH=str(tmp_path)
    )
    assert told.returncode == 3
    assert "pip install 'toolring[http]'" in told.stderr
    assert LoadError.exit_status == 3


def test_the_configuration_is_shown_without_what_the_environment_holds(tmp_path: Path) -> None:
    file = tmp_path / "toolring.toml"
    file.write_text(
        '[services.shop]\nendpoints = ["http://127.0.0.1:1"]\nheaders = {A = "${SECRET_OF_MINE}"}\n'
        "[groups.x]\nworkers = 1\n"
    )
    for words in ((), ("--json",)):
        told = run_cli("config", "--config", str(file), *words, SECRET_OF_MINE="hunter2")
        assert told.returncode == 0, told.stderr
        assert "services.shop.balancer" in told.stdout
        assert "groups.x.tools" in told.stdout
        assert "hunter2" not in told.stdout


def test_health_is_told_while_nobody_asks() -> None:
    settings = 'health_check = "/healthz"\nhealth_interval = 0.1'
    with servers(2) as two, serving(two, settings, workers=1) as node, node.client() as client:
        for tool in ("read", "read_async"):
            ports(client, 2, tool)
        two[0].well = False

        def down() -> bool:
            shown = node.status()["services"]["shop"]["endpoints"][two[0].url]
            return bool(shown["health"] == {"down": 2})

        eventually(down, "both workers have told")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ({"name": "a b"}, "no name of a service"),
        ({"endpoints": "http://127.0.0.1:1"}, "not a list"),
        ({"openapi": "x.json"}, "whose node makes the tools"),
        ({"timeout": "x"}, "timeout"),
        ({"nosuch": 1}, "nosuch"),
    ],
)
def test_services_by_hand_are_checked_too(words: dict[str, Any], what: str) -> None:
    settings: dict[str, Any] = {"name": "shop", "endpoints": ["http://127.0.0.1:1"], **words}
    with pytest.raises(ConfigError, match=what):
        Service(**settings)


def test_a_compressed_answer_that_is_cut_off_is_asked_for_elsewhere() -> None:
    whole = gzip.compress(json.dumps({"read": "all of it"}).encode(), mtime=0)
    packed = {"content-encoding": "gzip"}
    with servers(2) as (good, bad):
        good.does = Behaviour(headers=packed, body=whole)
        bad.does = Behaviour(headers=packed, body=whole[:-9])
        with Service("shop", [good.url, bad.url], balancer="round_robin") as shop:
            assert [shop.get("/x").json() for _ in range(4)] == [{"read": "all of it"}] * 4
            assert bad.seen
            assert shop.figures()["endpoints"][bad.url]["failed"] == len(bad.seen)
        with Service("shop", [bad.url]) as shop, pytest.raises(ServiceError, match="cut off") as caught:
            shop.post("/x")
        assert caught.value.facts["attempts"] == 1
