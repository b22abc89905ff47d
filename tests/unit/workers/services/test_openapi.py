"""What is read off an OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest

from toolring.workers.services.openapi import DocumentError, Operation, Refused, operations


def document(paths: dict[str, Any], version: str = "3.0.3", **components: Any) -> dict[str, Any]:
    return {"openapi": version, "info": {"title": "x", "version": "1"}, "paths": paths, "components": components}


def one(item: dict[str, Any], path: str = "/things", method: str = "get", **components: Any) -> Operation:
    found = list(operations(document({path: {method: item}}, **components)))
    assert len(found) == 1
    assert isinstance(found[0], Operation), found[0]
    return found[0]


def refusal(item: dict[str, Any], path: str = "/things", method: str = "get", **components: Any) -> str:
    (found,) = operations(document({path: {method: item}}, **components))
    assert isinstance(found, Refused), found
    return found.why


def param(name: str, where: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": {"type": "string"}, **more}


def body(schema: Any, media: str = "application/json", required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {media: {"schema": schema}}}}


def test_names_and_descriptions() -> None:
    made = one(
        {"operationId": "things/list-all", "summary": "Lists.", "description": "All of them.", "deprecated": True}
    )
    assert made.name == "things_list-all"
    assert made.description == "Lists.\n\nAll of them.\n\nDeprecated."
    assert one({}, "/a/b").name == "get__a_b"
    assert one({"operationId": "2fa"}).name == "op_2fa"
    assert len(one({"operationId": "x" * 300}).name) == 128
    assert one({"operationId": "a", "summary": "Lists", "description": "Lists all."}).description == "Lists all."


def test_arguments_are_parameters_and_the_properties_of_the_body() -> None:
    made = one(
        {
            "operationId": "put",
            "parameters": [param("id", "path"), param("dry", "query"), param("X-Tag", "header", required=True)],
            **body(
                {
                    "type": "object",
                    "required": ["name", "made"],
                    "properties": {
                        "name": {"type": "string"},
                        "size": {"type": "integer"},
                        "made": {"type": "string", "readOnly": True},
                    },
                }
            ),
        },
        "/things/{id}",
        "put",
    )
    assert [(p.argument, p.where, p.required) for p in made.parameters] == [
        ("id", "path", True),
        ("dry", "query", False),
        ("X-Tag", "header", True),
        ("name", "body", True),
        ("size", "body", False),
    ]
    assert [p.field for p in made.parameters] == ["id", "dry", "X_Tag", "name", "size"]
    assert made.schema["required"] == ["id", "X-Tag", "name"]
    assert made.schema["additionalProperties"] is False
    assert (made.body, made.body_required) == ("json", True)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"oneOf": [{"type": "object", "properties": {"a": {}}}, {"type": "string"}]},
        {"allOf": [{"type": "object", "properties": {"a": {}}}], "properties": {"b": {}}},
        {"type": "object", "properties": {"id": {"type": "string"}}},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"type": "object"},
        True,
        {},
    ],
)
def test_a_body_that_is_no_plain_object_or_clashes_is_one_argument(schema: Any) -> None:
    made = one({"parameters": [param("id", "query")], **body(schema)}, method="post")
    assert [(p.argument, p.where) for p in made.parameters] == [("id", "query"), ("body", "whole")]


def test_names_that_clash_get_what_tells_them_apart() -> None:
    made = one(
        {"parameters": [param("id", "path"), param("id", "query"), param("a-b", "query"), param("a.b", "query")]},
        "/{id}",
    )
    assert [p.argument for p in made.parameters] == ["id", "id_query", "a-b", "a.b"]
    assert len({p.field for p in made.parameters}) == 4
    made = one({"parameters": [param("body", "query")], **body({"type": "array"})}, method="post")
    assert [p.argument for p in made.parameters] == ["body", "request_body"]


def test_an_operations_own_parameters_win_over_the_paths() -> None:
    paths = {
        "/things": {
            "parameters": [param("page", "query"), {"$ref": "#/components/parameters/Size"}],
            "get": {"parameters": [param("page", "query", required=True)]},
        }
    }
    (made,) = operations(document(paths, parameters={"Size": param("size", "query")}))
    assert isinstance(made, Operation)
    assert [(p.argument, p.required) for p in made.parameters] == [("page", True), ("size", False)]


def test_schemas_are_whole_and_may_refer_to_themselves() -> None:
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}},
    }
    made = one(body({"$ref": "#/components/schemas/Tree"}), method="post", schemas={"Tree": tree})
    assert made.schema["properties"] == {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}
    assert made.schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_what_openapi_says_in_its_own_way_is_said_as_json_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "nullable": True, "enum": ["x"], "example": "x", "x-ours": 1},
            "b": {"type": "integer", "minimum": 1, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": False},
            "example": {"type": "string"},
        },
    }
    assert one(body(schema), method="post").schema["properties"] == {
        "a": {"type": ["string", "null"], "enum": ["x", None]},
        "b": {"type": "integer", "exclusiveMinimum": 1, "maximum": 9},
        "example": {"type": "string"},
    }


def test_a_parameters_description_is_kept() -> None:
    made = one({"parameters": [param("q", "query", description="What is looked for.")]})
    assert made.schema["properties"]["q"] == {"type": "string", "description": "What is looked for."}


@pytest.mark.parametrize(
    ("media", "kind"),
    [
        ("application/json; charset=utf-8", "json"),
        ("application/vnd.api+json", "json"),
        ("application/x-www-form-urlencoded", "form"),
        ("text/plain", "text"),
    ],
)
def test_kinds_of_bodies(media: str, kind: str) -> None:
    assert one(body({"type": "string"}, media), method="post").body == kind


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (body({}, "multipart/form-data"), "multipart/form-data"),
        ({"requestBody": {}}, "unknown"),
        ({"parameters": [param("c", "cookie", required=True)]}, "cookie"),
        ({"parameters": [param("a", "query", style="odd")]}, "'odd'"),
        ({"parameters": [param("Host", "header", required=True)]}, "Host"),
        ({"parameters": [param("x", "foo")]}, "'foo'"),
        ({"parameters": [{"$ref": "other.yaml#/x"}]}, "leads out of the document"),
        ({"parameters": [{"$ref": "#/components/none"}]}, "there is no"),
        ({"parameters": [{"$ref": "#/components/parameters/Me"}]}, "leads to itself"),
        ({"parameters": [{}]}, "malformed"),
        ({"parameters": 5}, "malformed"),
        (None, "malformed"),
    ],
)
def test_what_cannot_be_a_tool_is_said(item: dict[str, Any], why: str) -> None:
    loop = {"Me": {"$ref": "#/components/parameters/Me"}}
    assert why in refusal(item, method="post", parameters=loop)


def test_a_path_must_have_its_parameters() -> None:
    assert "{id}" in refusal({}, "/things/{id}")


def test_cookies_and_headers_that_nobody_needs_are_left_out() -> None:
    made = one({"parameters": [param("c", "cookie"), param("Accept", "header"), param("Authorization", "header")]})
    assert made.parameters == ()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "no OpenAPI document"),
        ({}, "missing"),
        ({"swagger": "2.0"}, "Swagger 2.0"),
        ({"openapi": "3.1.0", "paths": [1]}, "no object"),
        ({"openapi": "3.1.0", "paths": {"/a": 1}}, "'/a'"),
    ],
)
def test_what_is_no_document(given: Any, why: str) -> None:
    with pytest.raises(DocumentError, match=why):
        list(operations(given))


def test_extensions_among_the_paths_are_passed_over() -> None:
    assert list(operations(document({"x-internal": {"get": 5}}))) == []
    assert list(operations({"openapi": "3.1.0"})) == []


def test_patterns_that_python_does_not_know_are_left_to_the_service() -> None:
    made = one(
        body(
            {"type": "object", "properties": {"a": {"type": "string", "pattern": r"^\p{L}+$"}, "b": {"pattern": "^x"}}}
        ),
        method="post",
    )
    assert made.schema["properties"] == {"a": {"type": "string"}, "b": {"pattern": "^x"}}


def test_no_schema_is_another_document() -> None:
    schemas = {"O": {"$id": "http://elsewhere/o", "$schema": "x", "$anchor": "a", "type": "string"}}
    made = one(
        body({"properties": {"o": {"$ref": "#/components/schemas/O", "description": "d"}}}),
        method="post",
        schemas=schemas,
    )
    assert made.schema["$defs"] == {"O": {"type": "string"}}
    assert made.schema["properties"]["o"] == {"$ref": "#/$defs/O", "description": "d"}
    assert "$dynamicRef" in refusal(body({"properties": {"a": {"$dynamicRef": "http://elsewhere"}}}), method="post")


def test_what_only_the_service_sets_is_never_required() -> None:
    inner = {
        "type": "object",
        "required": ["id", "n"],
        "properties": {"id": {"type": "integer", "readOnly": True}, "n": {}},
    }
    made = one(body({"allOf": [inner]}), method="post")
    assert made.schema["properties"]["body"]["allOf"][0]["required"] == ["n"]


@pytest.mark.parametrize("name", ["no", "m\u00b2", "1", "a b", "class", "toolring.service", "\u00e9", "a-b"])
def test_any_name_is_an_argument_and_has_a_field(name: str) -> None:
    made = one({"parameters": [param(name, "query"), param(name + "_", "query")]})
    assert [p.argument for p in made.parameters] == [name, name + "_"]
    assert all(p.field.isidentifier() for p in made.parameters)
    assert len({p.field for p in made.parameters}) == 2


def test_names_that_clash_twice() -> None:
    made = one({"parameters": [param("id", "path"), param("id_query", "query"), param("id", "query")]}, "/{id}")
    assert len({p.argument for p in made.parameters}) == 3
    parameters = [param("body", "query"), param("request_body", "query")]
    made = one({"parameters": parameters, **body({"type": "array"})}, method="post")
    assert len({p.argument for p in made.parameters}) == 3


def test_names_that_are_no_text_are_refused() -> None:
    assert "quote it" in refusal({"parameters": [param(True, "query")]})  # type: ignore[arg-type]
    assert "quote it" in refusal(body({"properties": {False: {}, "b": {}}}), method="post")


@pytest.mark.parametrize("path", ["//evil/x", "/../x", "/x?y=1", "/a/%2e%2e/b"])
def test_paths_that_could_never_be_asked_for(path: str) -> None:
    assert "path" in refusal({}, path)


def test_schemas_that_hold_themselves() -> None:
    held: dict[str, Any] = {"type": "object", "properties": {}}
    held["properties"]["n"] = held
    assert "themselves" in refusal(body({"properties": {"a": held}}), method="post")


def test_a_header_that_nobody_may_set_is_left_out() -> None:
    assert one({"parameters": [param("Host", "header"), param("X-A", "header")]}).schema["properties"].keys() == {"X-A"}
