"""Operations of a document as tools: what is asked of the service, and what comes back."""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from toolring.errors import ConfigError, InvalidArguments, LoadError, ServiceError, TooDeep
from toolring.plugins.registry import load_plugins
from toolring.policy.service import ServicePolicy
from toolring.workers.services.configured import Services
from toolring.workers.services.operations import OperationTool, operations, request_of, result_of

PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "2"},
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "summary": "List pets",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
                    {"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {
                        "name": "near",
                        "in": "query",
                        "style": "deepObject",
                        "schema": {"type": "object", "additionalProperties": True},
                    },
                    {"name": "ids", "in": "query", "explode": False, "schema": {"type": "array", "items": {}}},
                    {"name": "where", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}},
                    {"name": "flat", "in": "query", "schema": {"type": "object"}},
                    {"name": "piped", "in": "query", "style": "pipeDelimited", "explode": False, "schema": {}},
                    {"name": "X-Request", "in": "header", "schema": {"type": "boolean"}},
                ],
            },
            "post": {
                "operationId": "makePet",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string", "minLength": 1},
                                    "from": {"type": "string", "nullable": True},
                                },
                            }
                        }
                    },
                },
            },
        },
        "/pets/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"operationId": "pet"},
            "delete": {"operationId": "dropPet"},
            "put": {
                "operationId": "tagPet",
                "requestBody": {
                    "content": {"application/x-www-form-urlencoded": {"schema": {"properties": {"tag": {}, "n": {}}}}}
                },
            },
            "patch": {"operationId": "note", "requestBody": {"content": {"text/plain": {}}}},
        },
        "/upload": {
            "post": {"operationId": "upload", "requestBody": {"content": {"multipart/form-data": {"schema": {}}}}}
        },
    },
}


def made(tmp_path: Path, document: Any = PETS, name: str = "pets.json", **settings: Any) -> dict[str, OperationTool]:
    file = tmp_path / name
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    policy = ServicePolicy(endpoints=("http://127.0.0.1:1",), openapi=str(file), **settings)
    return {tool.spec.name: tool for tool in operations("pets", policy)}  # type: ignore[misc]


def asked(tool: OperationTool, **arguments: Any) -> dict[str, Any]:
    decoded = tool.decode(msgspec.msgpack.encode(arguments))
    fields = {name: getattr(decoded, name) for name in decoded.__struct_fields__}
    return {key: value for key, value in request_of(tool.operation, fields).items() if value}


def test_each_operation_is_a_tool(tmp_path: Path) -> None:
    tools = made(tmp_path)
    assert list(tools) == ["listPets", "makePet", "pet", "tagPet", "dropPet", "note"], "the upload is left out"
    kinds = {name: (t.spec.read_only, t.spec.idempotent, t.spec.destructive) for name, t in tools.items()}
    assert kinds["listPets"] == (True, False, False)
    assert kinds["makePet"] == (False, False, True)
    assert kinds["tagPet"] == kinds["dropPet"] == (False, True, True)
    assert tools["listPets"].spec.group == "async"
    assert tools["listPets"].spec.concurrent
    assert tools["listPets"].spec.description == "List pets"


def test_where_arguments_go(tmp_path: Path) -> None:
    tools = made(tmp_path)
    found = asked(
        tools["listPets"],
        limit=3,
        tag=["a", "b c"],
        near={"x": 1, "y": True},
        ids=[1, 2],
        where={"a": None},
        flat={"k": "v"},
        piped=["a", "b"],
        **{"X-Request": False},
    )
    assert found == {
        "path": "/pets",
        "params": [
            ("limit", "3"),
            ("tag", "a"),
            ("tag", "b c"),
            ("near[x]", "1"),
            ("near[y]", "true"),
            ("ids", "1,2"),
            ("where", '{"a": null}'),
            ("k", "v"),
            ("piped", "a|b"),
        ],
        "headers": {"X-Request": "false"},
    }
    assert asked(tools["listPets"]) == {"path": "/pets"}


def test_a_path_takes_any_text_and_stays_one_part(tmp_path: Path) -> None:
    assert asked(made(tmp_path)["pet"], id="a/b?c#d é")["path"] == "/pets/a%2Fb%3Fc%23d%20%C3%A9"


def test_bodies(tmp_path: Path) -> None:
    tools = made(tmp_path)
    found = asked(tools["makePet"], name="Rex", **{"from": None})
    assert json.loads(found["content"]) == {"name": "Rex", "from": None}
    assert found["headers"] == {"content-type": "application/json"}
    assert json.loads(asked(tools["makePet"], name="Rex")["content"]) == {"name": "Rex"}
    assert asked(tools["tagPet"], id="1", tag=["a", "b"], n=True)["content"] == "tag=a&tag=b&n=true"
    assert asked(tools["note"], id="1", body="höh")["content"] == "höh"
    assert "content" not in asked(tools["note"], id="1")
    assert "content" not in asked(tools["tagPet"], id="1")


@pytest.mark.parametrize(
    ("name", "arguments", "culprit"),
    [
        ("listPets", {"limit": 0}, "limit"),
        ("listPets", {"limit": "3"}, "limit"),
        ("listPets", {"tag": [1]}, "tag"),
        ("listPets", {"nosuch": 1}, "nosuch"),
        ("makePet", {}, "name"),
        ("makePet", {"name": ""}, "name"),
        ("makePet", {"name": "x", "from": 5}, "from"),
    ],
)
def test_what_the_document_does_not_allow(tmp_path: Path, name: str, arguments: dict[str, Any], culprit: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        asked(made(tmp_path)[name], **arguments)
    assert caught.value.facts["argument"] == culprit
    assert name in str(caught.value)


def test_policy_of_the_configuration_holds_for_them(tmp_path: Path) -> None:
    tool = made(tmp_path)["pet"]
    cached = tool.under({"cache": 60.0, "affinity": "id", "tags": ("pet:{id}",)})
    assert (cached.spec.cache, cached.spec.affinity) == (60.0, "id")
    with pytest.raises(InvalidArguments):
        cached.decode(msgspec.msgpack.encode({"id": 5}))
    with pytest.raises(LoadError, match="cache="):
        made(tmp_path)["makePet"].under({"cache": 60.0})


def test_the_version_is_of_all_that_results_depend_on(tmp_path: Path) -> None:
    one = made(tmp_path)["pet"].spec.version
    assert made(tmp_path)["pet"].spec.version == one
    assert made(tmp_path)["dropPet"].spec.version != one
    other = Services({"pets": ServicePolicy(endpoints=("http://a",), version="2")}, load_plugins().balancers, None)
    assert other.versioned(made(tmp_path)["pet"]).spec.version != one
    same = Services({"pets": ServicePolicy(endpoints=("http://b",))}, load_plugins().balancers, None)
    assert same.versioned(made(tmp_path)["pet"]).spec.version == one, "where it is makes no difference"


def test_those_that_are_wanted_and_what_they_are_called(tmp_path: Path) -> None:
    assert list(made(tmp_path, operations=("pet", "makePet"), prefix="zoo.")) == ["zoo.makePet", "zoo.pet"]
    with pytest.raises(ConfigError, match="can't be a tool: its body is multipart"):
        made(tmp_path, operations=("upload",))
    with pytest.raises(ConfigError, match="there is no 'nosuch'; there is dropPet, listPets"):
        made(tmp_path, operations=("nosuch",))


def test_yaml_is_read_too(tmp_path: Path) -> None:
    text = "openapi: 3.1.0\npaths:\n  /a:\n    get:\n      operationId: a\n"
    assert list(made(tmp_path, text, "a.yaml")) == ["a"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "neither JSON nor YAML"),
        ("a: [", "neither JSON nor YAML"),
        ("swagger: '2.0'", "Swagger 2.0"),
        ("openapi: 3.0.0", "describes no operation"),
        ("openapi: 3.0.0\npaths: {/a: {get: {parameters: [{name: q, in: query, schema: {type: 5}}]}}}", "schema"),
        ("openapi: 3.0.0\npaths: {/a: {post: {requestBody: {content: {a/b: {}}}}}}", "describes no operation"),
    ],
)
def test_documents_that_are_no_use(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        made(tmp_path, text, "a.yaml")


def response(content: bytes, kind: str) -> httpx.Response:
    return httpx.Response(
        200, content=content, headers={"content-type": kind}, request=httpx.Request("GET", "http://a")
    )


def test_results() -> None:
    assert result_of(response(b'{"a": [1]}', "application/json; charset=utf-8")) == {"a": [1]}
    assert result_of(response(b"[]", "application/problem+json")) == []
    assert result_of(response("hé".encode(), "text/plain; charset=utf-8")) == "hé"
    assert result_of(response(b"\x89PNG", "image/png")) == b"\x89PNG"
    assert result_of(response(b"", "application/json")) is None
    with pytest.raises(ServiceError, match="says that it is JSON"):
        result_of(response(b"{", "application/json"))


def test_the_function_behind_a_tool_asks_the_service(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Shop:
        async def request(self, method: str, **more: Any) -> httpx.Response:
            seen.append((method, more["path"]))
            return response(b"7", "application/json")

    tool = made(tmp_path)["dropPet"]
    assert asyncio.run(tool(**{"id": "x", "toolring.service": Shop()})) == 7
    assert seen == [("DELETE", "/pets/x")]


def test_a_path_is_never_another_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidArguments, match="id is empty"):
        asked(made(tmp_path)["dropPet"], id="")


def test_parts_of_a_path_are_quoted_one_by_one(tmp_path: Path) -> None:
    parameters = [{"name": "ids", "in": "path", "required": True, "schema": {"type": "array"}}]
    document = {"openapi": "3.0.0", "paths": {"/a/{ids}": {"get": {"operationId": "a", "parameters": parameters}}}}
    assert asked(made(tmp_path, document)["a"], ids=["a,b", "c"])["path"] == "/a/a%2Cb,c"


def test_bytes_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidArguments):
        asked(made(tmp_path)["pet"], id=b"abc")


NODE = {"type": "object", "properties": {"n": {"$ref": "#/components/schemas/Node"}}}
STRANGE: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/a": {
            "get": {"operationId": "num", "parameters": [{"name": "x", "in": "query", "schema": {"multipleOf": 0.01}}]}
        },
        "/b": {
            "post": {
                "operationId": "deep",
                "requestBody": {
                    "content": {"application/json": {"schema": {"allOf": [{"$ref": "#/components/schemas/Node"}]}}}
                },
            }
        },
    },
    "components": {"schemas": {"Node": NODE}},
}


def test_whatever_arguments_hold_it_is_a_refusal(tmp_path: Path) -> None:
    tools = made(tmp_path, STRANGE)
    for number in (float("nan"), float("inf")):
        with pytest.raises(InvalidArguments):
            asked(tools["num"], x=number)
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"n": nested}
    try:
        asked(tools["deep"], body=nested)
    except (InvalidArguments, TooDeep):
        pass


def test_one_odd_operation_does_not_spoil_the_others(tmp_path: Path) -> None:
    text = """
openapi: 3.0.0
paths:
  /a: {get: {operationId: good}}
  /b: {get: {operationId: bad, parameters: [{name: q, in: query, schema: {type: 5}}]}}
  /c: {get: {operationId: good}}
  x-more: {get: 1}
"""
    assert list(made(tmp_path, text, "a.yaml")) == ["good"]
    with pytest.raises(ConfigError, match="'bad' can't be a tool: its schema is wrong"):
        made(tmp_path, text, "a.yaml", operations=("bad",))


@pytest.mark.parametrize("prefix", ["ü", "a b", "1", "/"])
def test_a_prefix_makes_a_name(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        made(tmp_path, prefix=prefix)


def test_a_schema_is_never_fetched(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.timeout = 0.0
        asked_for: list[Any] = []
        server.process_request = lambda *request: asked_for.append(request)  # type: ignore[method-assign]
        reference = {"$ref": "#/components/schemas/Far"}
        document = {
            "openapi": "3.1.0",
            "paths": {
                "/a": {"get": {"operationId": "a", "parameters": [{"name": "q", "in": "query", "schema": reference}]}}
            },
            "components": {
                "schemas": {"Far": {"$schema": f"http://127.0.0.1:{server.server_port}/", "type": "string"}}
            },
        }
        assert asked(made(tmp_path, document)["a"], q="x")
        server.handle_request()
        assert not asked_for
