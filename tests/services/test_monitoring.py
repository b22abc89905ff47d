"""The alert rules and the dashboard that ship, against a real Prometheus which scrapes a real node under load."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.process.kit import Node, eventually, place, running
from toolring.errors import ToolringError

pytestmark = pytest.mark.services

CONFIGS = Path(__file__).parents[2] / "configs"
RULES = CONFIGS / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((CONFIGS / "grafana" / "toolring.json").read_text())
TOOLS = """
import os
from toolring import Service, resource, tool

@resource(max=1, acquire_timeout=0.05)
def thing():
    yield 1

@tool
def plain(x: int) -> int:
    return x

@tool(read_only=True, cache=60)
def cached(x: int) -> int:
    return x

@tool(breaker={"minimum": 2, "window": 4, "wait": 3600})
def breaks(x: int) -> int:
    raise ValueError("no")

@tool
def fails(x: int) -> int:
    raise ValueError("no")

@tool
def borrows(thing: int, x: int) -> int:
    return thing

@tool(read_only=True)
def asks(x: int, shop: Service) -> int:
    return shop.get("/").status_code

@tool
def dies(x: int) -> int:
    os._exit(3)
"""
SETTINGS = """
[node]
workers = 2

[tools.plain]
rate = 20.0
burst = 1
backlog = 1

[services.shop]
endpoints = ["http://127.0.0.1:9"]

[tracing]
sinks = ["otlp"]
sample = 1.0

[alerts.busy]
figure = "throughput"
above = 0

[alerting]
interval = 0.2
command = ["true"]

[metrics]
sinks = ["jsonlines"]
file = "figures.jsonl"
interval = 0.5
"""
SCRAPE_SECONDS = 1


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"these tests need {name}: apt install prometheus"
    return found


# ---- promtool


@pytest.mark.parametrize(
    "words", ["check rules alerts.yml", "check config prometheus.yml", "test rules alerts_test.yml"]
)
def test_promtool_accepts_what_ships(words: str) -> None:
    done = subprocess.run(
        [program("promtool"), *words.split()],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_to_fire() -> None:
    tests = yaml.safe_load((RULES.parent / "alerts_test.yml").read_text())["tests"]
    fires = {one["alertname"] for test in tests for one in test.get("alert_rule_test", ()) if one["exp_alerts"]}
    assert fires == {rule["alert"] for rule in rules()}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


# ---- a real server


class Prometheus:
    """One that scrapes a node each second, with the rules that ship, in a directory of its own."""

    def __init__(self, directory: Path, target: str) -> None:
        config = {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "toolring", "static_configs": [{"targets": [target]}]}],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = directory / "log"
        command = [
            program("prometheus"),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            "--web.listen-address=127.0.0.1:0",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
        self._url = ""

    def until_ready(self) -> None:
        said = eventually(
            lambda: re.search(r'msg="Listening on" address=(\S+)', self._log.read_text()), "it listens", 60
        )
        self._url = f"http://{said[1]}/api/v1"
        eventually(self._is_ready, "it is ready", 60)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self._url.replace("/api/v1", "/-/ready"), timeout=30):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer. Raises AssertionError with what Prometheus says of a query that is wrong."""
        try:
            with urllib.request.urlopen(
                f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}", timeout=30
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expression)["result"])

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Load:
    """Callers of all tools, until it is closed."""

    def __init__(self, node: Node) -> None:
        self._over = threading.Event()
        self._node = node
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(4)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        with self._node.client(caller=f"caller{number}") as client:
            rounds = 0
            while not self._over.wait(0.02):
                rounds += 1
                names = ["plain", "cached", "breaks", "fails", "borrows", "asks"] + ["dies"] * (
                    number == 0 and rounds % 50 == 1
                )
                for handle in [client.submit(name, {"x": rounds % 10}) for name in names]:
                    try:
                        handle.result(20)
                    except ToolringError:
                        pass

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


@contextmanager
def monitored() -> Iterator[Prometheus]:
    with place() as directory, place() as data:
        (directory / "tools.py").write_text(TOOLS)
        (directory / "toolring.toml").write_text(SETTINGS)
        nowhere = "http://127.0.0.1:9"
        with running(
            "tools",
            directory=directory,
            TOOLRING_METRICS_LISTEN="127.0.0.1:0",
            OTEL_EXPORTER_OTLP_ENDPOINT=nowhere,
        ) as node:
            load = Load(node)
            prometheus = None
            try:
                prometheus = Prometheus(data, str(node.status()["metrics"]).removeprefix("http://"))
                prometheus.until_ready()
                yield prometheus
            finally:
                load.close()
                if prometheus is not None:
                    prometheus.close()


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    with monitored() as server:
        yield server


def queries() -> list[tuple[str, str, str]]:
    """Each query of the dashboard, as Grafana would send it: its panel, its legend, and itself."""
    found = [
        (panel["title"], target["legendFormat"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]
    found += [("annotation", one["name"], one["expr"]) for one in DASHBOARD["annotations"]["list"] if "expr" in one]
    assert len(found) > 50
    return [(panel, legend, filled(expression)) for panel, legend, expression in found]


def filled(expression: str) -> str:
    text = expression.replace("$__rate_interval", f"{15 * SCRAPE_SECONDS}s").replace("$instance", ".*")
    assert "$" not in text, f"a variable that the dashboard doesn't declare: {expression}"
    return text


def test_every_query_of_the_dashboard_has_what_it_shows(prometheus: Prometheus) -> None:
    wrong = []
    for panel, legend, expression in queries():
        if panel == "annotation":  # there is one only where code was reloaded
            prometheus.query(expression)
            continue
        try:
            found = eventually(lambda query=expression: prometheus.query(query), timeout=60)  # type: ignore[misc]
        except AssertionError:
            wrong.append((panel, legend, expression))
            continue
        for label in re.findall(r"{{(\w+)}}", legend):
            assert all(label in one["metric"] for one in found), (panel, legend, found[0]["metric"])
    assert wrong == []


def test_the_dashboards_variable_finds_the_node(prometheus: Prometheus) -> None:
    names = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert set(names) == {"datasource", "instance"}
    assert names["instance"]["definition"] == "label_values(toolring_build_info, instance)"
    found = eventually(lambda: prometheus.ask("label/instance/values", **{"match[]": "toolring_build_info"}))
    assert len(found) == 1


def test_every_alert_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        found = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    found = eventually(evaluated, "all rules were evaluated", 60)
    assert {rule["name"] for rule in found} == {rule["alert"] for rule in rules()}
    assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"] == []


def test_what_the_node_does_wrong_makes_alerts_pending(prometheus: Prometheus) -> None:
    def seen() -> set[str]:
        return {one["metric"]["alertname"] for one in prometheus.query("ALERTS")}

    eventually(lambda: seen() >= {"ToolringCircuitOpen", "ToolringToolFailing"}, "they are pending, or fire", 60)
    assert not seen() & {"ToolringDown", "ToolringUnhealthy"}
    eventually(lambda: "ToolringNothingAnswered" not in seen(), "of which two samples are needed")


def test_every_expression_of_an_alert_finds_the_series_that_it_is_about(prometheus: Prometheus) -> None:
    """An expression that compares is empty for a node that is well, even if it asks for labels that there aren't."""
    for rule in rules():
        expression = re.sub(r"\b[5]m\]|\b10m\]", "30s]", rule["expr"])
        selectors = re.findall(r"((?:toolring_\w+|up)(?:\{[^}]*\})?)", expression)
        assert selectors, rule["alert"]
        for selector in selectors:
            if (
                re.search("_exits_total|_circuits|_health", selector)
                or 'outcome="failed"' in selector
                or "up{" in selector
            ):
                selector = selector.partition("{")[0]
            eventually(lambda wanted=selector: prometheus.query(wanted), f"{rule['alert']}: {selector}", 60)  # type: ignore[misc]
