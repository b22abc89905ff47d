"""Public OpenAPI documents, as packages of the registry bring them: each operation is a tool of a real node, and what
callers ask arrives at a real HTTP server as the document says."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.http_servers import Behaviour, Server, servers
from tests.process.kit import failure, place, running
from toolring import Client
from toolring.errors import InvalidArguments, ServiceError
from toolring.policy.service import ServicePolicy
from toolring.workers.services.operations import operations

pytestmark = pytest.mark.services

AIRFLOW = ("apache-airflow-core", "--only-binary", "openapi/v2-rest-api-generated.yaml")
DATADOG = ("datadog-api-client", "--no-binary", ".generator/schemas/v1/openapi.yaml")


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for package, kind, name in (AIRFLOW, DATADOG):
        place = tmp_path_factory.mktemp("document")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            kind,
            ":all:",
            "-d",
            str(place),
            package,
        ]
        subprocess.run(command, check=True, timeout=300)
        (archive,) = place.iterdir()
        found[package] = place / "openapi.yaml"
        found[package].write_bytes(_member(archive, name))
    return found


def _member(archive: Path, ending: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if name.endswith(ending)))
    with tarfile.open(archive) as source:
        member = source.extractfile(next(one for one in source.getmembers() if one.name.endswith(ending)))
        assert member is not None
        return member.read()


@contextmanager
def serving(document: Path, settings: str) -> Iterator[tuple[Server, Client]]:
    """A node with no other tools than the document's."""
    with servers(1) as (server,), place() as directory:
        (directory / "toolring.toml").write_text(
            f'[services.there]\nendpoints = ["{server.url}"]\nopenapi = "{document}"\n{settings}\n'
        )
        with running("toolring.plugins.tools.code", workers=1, directory=directory) as node, node.client() as client:
            yield server, client


@pytest.mark.parametrize(("package", "least"), [(AIRFLOW[0], 100), (DATADOG[0], 200)])
def test_every_operation_but_uploads_is_a_tool(documents: dict[str, Path], package: str, least: int) -> None:
    policy = ServicePolicy(endpoints=("http://127.0.0.1:1",), openapi=str(documents[package]))
    tools = operations("there", policy)
    assert len(tools) >= least
    for tool in tools:
        assert tool.spec.parameters["type"] == "object"
        assert json.dumps(tool.spec.parameters)


def test_airflow(documents: dict[str, Path]) -> None:
    wanted = 'operations = ["get_dags", "get_dag", "trigger_dag_run", "delete_dag"]\nprefix = "airflow."'
    with serving(documents[AIRFLOW[0]], wanted) as (server, client):
        tools = {tool.name: tool for tool in client.tools() if tool.name.startswith("airflow.")}
        assert set(tools) == {"airflow.get_dags", "airflow.get_dag", "airflow.trigger_dag_run", "airflow.delete_dag"}
        assert tools["airflow.get_dag"].read_only
        assert not tools["airflow.trigger_dag_run"].repeatable
        server.does = Behaviour(body=b'{"dags": [], "total_entries": 0}')
        found = client.call("airflow.get_dags", {"limit": 5, "tags": ["a", "b"]})
        assert found == {"dags": [], "total_entries": 0}
        assert server.seen[-1].path == "/api/v2/dags?limit=5&tags=a&tags=b"
        client.call("airflow.get_dag", {"dag_id": "my dag"})
        assert server.seen[-1].path == "/api/v2/dags/my%20dag"
        client.call("airflow.trigger_dag_run", {"dag_id": "d", "conf": {"n": 1}, "logical_date": None})
        assert (server.seen[-1].method, server.seen[-1].path) == ("POST", "/api/v2/dags/d/dagRuns")
        assert json.loads(server.seen[-1].body) == {"conf": {"n": 1}, "logical_date": None}
        before = len(server.seen)
        error = failure(lambda: client.call("airflow.get_dags", {"limit": -5}))
        assert isinstance(error, InvalidArguments)
        assert error.facts["argument"] == "limit"
        assert len(server.seen) == before, "refused at the door"
        server.does = Behaviour(status=404, body=b'{"detail": "no such dag"}')
        error = failure(lambda: client.call("airflow.delete_dag", {"dag_id": "d"}))
        assert isinstance(error, ServiceError)
        assert error.facts["status"] == 404


def test_datadog(documents: dict[str, Path]) -> None:
    wanted = 'operations = ["GetMonitor", "CreateMonitor", "ListMonitors"]'
    with serving(documents[DATADOG[0]], wanted) as (server, client):
        client.call("ListMonitors", {"page": 0, "name": "cpu & more"})
        assert server.seen[-1].path == "/api/v1/monitor?name=cpu+%26+more&page=0"
        assert client.call("GetMonitor", {"monitor_id": 7})["path"] == "/api/v1/monitor/7"
        made: dict[str, Any] = {"type": "metric alert", "query": "avg(last_5m):avg:system.cpu{*} > 90"}
        client.call("CreateMonitor", made)
        assert json.loads(server.seen[-1].body) == made
        error = failure(lambda: client.call("CreateMonitor", {"type": "no such kind", "query": "x"}))
        assert isinstance(error, InvalidArguments)
        assert error.facts["argument"] == "type"
