"""What an OpenAPI 3 document says of a service: its operations, each with one JSON Schema for all its arguments.

Pure: a document comes in as plain data. See https://spec.openapis.org/oas/latest.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from toolring.policy.service import check_header, check_path

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_NO_IDENTIFIER: Final = re.compile(r"\W")
_NO_SCHEMA: Final = frozenset({"xml", "externalDocs", "discriminator", "example", "nullable"})
"""Of OpenAPI, and nothing that JSON Schema knows."""
_PLACES: Final = frozenset({"$id", "$schema", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment"})
"""What would make another document of a schema."""
_ELSEWHERE: Final = frozenset({"$dynamicRef", "$recursiveRef"})
_STYLES: Final = {"path": "simple", "query": "form", "header": "simple"}
_SEPARATORS: Final = {"form": ",", "simple": ",", "spaceDelimited": " ", "pipeDelimited": "|", "deepObject": ","}
MOST_CHARACTERS: Final = 128
"""Of a tool's name."""


class DocumentError(ValueError):
    """The document can't be understood, or asks for what isn't supported."""


class Parameter(NamedTuple):
    """An argument, and where it goes in a request."""

    field: str
    """As an identifier: its name as it is, if that is one."""
    argument: str
    """As callers name it."""
    name: str
    where: str
    """``path``, ``query``, ``header``, or ``body``: a property of the body; ``whole``: the body itself."""
    required: bool
    separator: str = ","
    explode: bool = False
    deep: bool = False
    """An object's members are written as ``name[member]``."""
    as_json: bool = False


class Operation(NamedTuple):
    """What becomes a tool."""

    id: str
    """As the document names it."""
    method: str
    path: str
    description: str
    parameters: tuple[Parameter, ...]
    body: str
    """How the body is written: ``json``, ``form``, ``text``; empty: there is none."""
    body_required: bool
    schema: dict[str, Any]
    """Of all arguments together."""

    @property
    def name(self) -> str:
        """Its id as a tool's name."""
        cleaned = _UNFIT.sub("_", self.id).strip("_.-")
        return (cleaned if cleaned[:1].isalpha() else f"op_{cleaned}")[:MOST_CHARACTERS]


class Refused(NamedTuple):
    """An operation that can't become a tool, and why."""

    id: str
    why: str


def operations(document: Any) -> Iterator[Operation | Refused]:
    """All that the document describes, in its order. Raises DocumentError."""
    if not isinstance(document, Mapping):
        raise DocumentError("it is no OpenAPI document: an object is wanted")
    version = str(document.get("openapi", ""))
    if not version.startswith("3."):
        found = f"Swagger {document['swagger']}" if "swagger" in document else f"openapi: {version or 'missing'}"
        raise DocumentError(f"OpenAPI 3 is wanted, this is {found}")
    reader = _Reader(document)
    paths = document.get("paths") or {}
    if not isinstance(paths, Mapping):
        raise DocumentError("its paths are no object")
    for path, item in paths.items():
        if not str(path).startswith("/"):
            continue  # an extension, x-...
        shared = reader.resolved(item)
        if not isinstance(shared, Mapping):
            raise DocumentError(f"paths: {path!r} is no object")
        for method in METHODS:
            if method in shared:
                yield reader.operation(path, method, shared)


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def resolved(self, value: Any) -> Any:
        """What a reference stands for; anything else as it is."""
        seen = []
        while isinstance(value, Mapping) and "$ref" in value:
            reference = value["$ref"]
            if reference in seen:
                raise DocumentError(f"the reference {reference!r} leads to itself")
            seen.append(reference)
            value = self.at(reference)
        return value

    def at(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise DocumentError(f"the reference {reference!r} leads out of the document; bundle it into one file")
        value: Any = self._document
        for part in reference[2:].split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise DocumentError(f"there is no {reference!r}") from None
        return value

    def operation(self, path: str, method: str, item: Mapping[str, Any]) -> Operation | Refused:
        said = item[method]
        name = f"{method}_{path}"
        try:
            name = str(said.get("operationId") or name)
            return self._operation(name, path, method, item, said)
        except DocumentError as error:
            return Refused(name, str(error))
        except RecursionError:
            return Refused(name, "its schemas nest too deeply, or hold themselves without a reference")
        except (KeyError, TypeError, AttributeError) as error:
            return Refused(name, f"it is malformed ({type(error).__name__}: {error})")

    def _operation(
        self, name: str, path: str, method: str, item: Mapping[str, Any], said: Mapping[str, Any]
    ) -> Operation:
        schemas = _Schemas(self)
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for one in [*item.get("parameters", ()), *said.get("parameters", ())]:  # an operation's own win
            parameter = self.resolved(one)
            found[parameter["name"], parameter["in"]] = parameter
        taken: list[Parameter] = []
        properties: dict[str, Any] = {}
        for (wire, where), parameter in found.items():
            one = self._parameter(wire, where, parameter, properties)
            if one is not None:
                taken.append(one)
                properties[one.argument] = schemas.parameter(parameter)
        kind, needed_body = "", False
        if "requestBody" in said:
            body = self.resolved(said["requestBody"])
            needed_body = bool(body.get("required"))
            kind, schema = self._content(body)
            for one, its in schemas.body(schema, needed_body, properties):
                taken.append(one)
                properties[one.argument] = its
        try:
            check_path(_PLACE.sub("x", path))
        except ValueError as error:
            raise DocumentError(str(error)) from None
        for place in _PLACE.findall(path):
            if not any(one.where == "path" and one.name == place for one in taken):
                raise DocumentError(f"its path has {{{place}}}, which is no parameter")
        whole: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if needed := [one.argument for one in taken if one.required]:
            whole["required"] = needed
        if schemas.definitions:
            whole["$defs"] = schemas.definitions
        return Operation(
            name, method.upper(), path, _description(said), tuple(_distinct(taken)), kind, needed_body, whole
        )

    def _parameter(
        self, wire: str, where: str, said: Mapping[str, Any], properties: Mapping[str, Any]
    ) -> Parameter | None:
        required = bool(said.get("required")) or where == "path"
        if not isinstance(wire, str):
            raise DocumentError(f"the parameter {wire!r} has a name that is no text; quote it")
        if where == "header" and wire.lower() in ("accept", "content-type", "authorization"):
            return None  # by the standard these are described elsewhere
        if where not in (*_STYLES, "cookie"):
            raise DocumentError(f"the parameter {wire!r} is in {where!r}, which is no place for one")
        if where == "header":
            try:
                check_header(wire)
            except ValueError as error:
                if not required:
                    return None
                raise DocumentError(str(error)) from None
        if where not in _STYLES:
            if required:
                raise DocumentError(f"the parameter {wire!r} is in a {where}, which is not supported")
            return None
        style = said.get("style", _STYLES[where])
        deep = style == "deepObject" and where == "query"
        if style not in _SEPARATORS or (style == "deepObject" and not deep):
            raise DocumentError(f"the parameter {wire!r} has the style {style!r}, which is not supported")
        argument = _unlike(wire if wire not in properties else f"{wire}_{where}", properties)
        explode = said.get("explode", style == "form")
        return Parameter("", argument, wire, where, required, _SEPARATORS[style], explode, deep, "content" in said)

    def _content(self, body: Mapping[str, Any]) -> tuple[str, Any]:
        kinds: dict[str, tuple[str, Any]] = {}
        for media, described in body.get("content", {}).items():
            bare = media.partition(";")[0].strip().lower()
            if bare in ("application/json", "*/*") or bare.endswith("+json"):
                kinds.setdefault("json", ("json", described.get("schema", {})))
            elif bare == "application/x-www-form-urlencoded":
                kinds.setdefault("form", ("form", described.get("schema", {})))
            elif bare.startswith("text/"):
                kinds.setdefault("text", ("text", {"type": "string"}))
        for kind in ("json", "form", "text"):
            if kind in kinds:
                return kinds[kind]
        raise DocumentError(f"its body is {' or '.join(body.get('content', {})) or 'unknown'}, which is not supported")


class _Schemas:
    """The schemas of one operation, self-contained: what they refer to is under ``$defs``."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self.definitions: dict[str, Any] = {}
        self._names: dict[str, str] = {}

    def parameter(self, said: Mapping[str, Any]) -> Any:
        schema = said.get("schema")
        if schema is None:
            schema = next((one.get("schema", {}) for one in said.get("content", {}).values()), {})
        found = self.plain(schema)
        if said.get("description") and isinstance(found, dict) and "$ref" not in found:
            found = {**found, "description": said["description"]}
        return found

    def body(
        self, schema: Any, required: bool, properties: Mapping[str, Any]
    ) -> Iterator[tuple[Parameter, dict[str, Any]]]:
        """The body's properties as arguments beside the parameters; the whole body as one, if that can't be."""
        whole = self._reader.resolved(schema)
        its = {} if not isinstance(whole, Mapping) else whole.get("properties") or {}
        its = {name: one for name, one in its.items() if not self._of_answers(one)}
        composed = isinstance(whole, Mapping) and any(key in whole for key in ("oneOf", "anyOf", "allOf", "not"))
        open_ended = not isinstance(whole, Mapping) or whole.get("additionalProperties") not in (None, False)
        if not its or composed or open_ended or any(name in properties for name in its):
            argument = _unlike("body" if "body" not in properties else "request_body", properties)
            yield Parameter("", argument, argument, "whole", required), self.plain(schema)
            return
        needed = whole.get("required", ()) if required else ()
        for name, one in its.items():
            if not isinstance(name, str):
                raise DocumentError(f"the property {name!r} has a name that is no text; quote it")
            yield Parameter("", name, name, "body", name in needed), self.plain(one)

    def plain(self, schema: Any) -> Any:
        """As JSON Schema: what OpenAPI 3.0 says differently is said as everybody does."""
        if isinstance(schema, list):
            return [self.plain(one) for one in schema]
        if not isinstance(schema, Mapping):
            return schema
        if elsewhere := _ELSEWHERE & schema.keys():
            raise DocumentError(f"{', '.join(sorted(elsewhere))} is not supported")
        found: dict[str, Any] = {}
        if "$ref" in schema:
            found["$ref"] = f"#/$defs/{self._definition(schema['$ref'])}"
        for key, value in schema.items():
            if key == "$ref" or key in _PLACES:
                continue
            if key == "pattern" and not _compiles(value):
                continue  # JavaScript knows some that Python doesn't; the service looks itself
            if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, Mapping):
                found[key] = {name: self.plain(one) for name, one in value.items()}
            elif key in ("enum", "const", "default", "examples", "required"):
                found[key] = value
            elif key not in _NO_SCHEMA and not key.startswith("x-"):
                found[key] = self.plain(value)
        if "required" in found and isinstance(schema.get("properties"), Mapping):
            its = schema["properties"]
            found["required"] = [one for one in found["required"] if not self._of_answers(its.get(one))]
        for limit, of in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if isinstance(found.get(limit), bool) and found.pop(limit) and of in found:
                found[limit] = found.pop(of)
        if schema.get("nullable") is True and isinstance(found.get("type"), str):
            found["type"] = [found["type"], "null"]
            if "enum" in found and None not in found["enum"]:
                found["enum"] = [*found["enum"], None]
        return found

    def _of_answers(self, schema: Any) -> bool:
        """Is it a property that only the service sets?"""
        found = self._reader.resolved(schema)
        return isinstance(found, Mapping) and found.get("readOnly") is True

    def _definition(self, reference: str) -> str:
        name = self._names.get(reference)
        if name is None:
            value = self._reader.at(reference)
            name = _UNFIT.sub("_", reference.rsplit("/", 1)[-1])
            while name in self.definitions:
                name += "_"
            self._names[reference] = name
            self.definitions[name] = {}  # it may refer to itself
            self.definitions[name] = self.plain(value)
        return name


def _unlike(name: str, others: Mapping[str, Any]) -> str:
    """The name, or one like it that nobody has."""
    while name in others:
        name += "_"
    return name


def _compiles(pattern: Any) -> bool:
    try:
        re.compile(pattern)
    except (re.error, TypeError):
        return False
    return True


def _distinct(taken: list[Parameter]) -> Iterator[Parameter]:
    """Each with a field of its own."""
    used: set[str] = set()
    for one in taken:
        field = _NO_IDENTIFIER.sub("_", one.argument)
        if not (field[:1].isalpha() and field.isidentifier()):
            field = f"p_{field}" if f"p_{field}".isidentifier() else f"p{len(used)}"
        while field in used:
            field += "_"
        used.add(field)
        yield one._replace(field=field)


def _description(said: Mapping[str, Any]) -> str:
    parts = [str(said.get(key) or "").strip() for key in ("summary", "description")]
    if parts[1].startswith(parts[0].rstrip(".")):
        parts = parts[1:]
    if said.get("deprecated"):
        parts.append("Deprecated.")
    return "\n\n".join(part for part in parts if part)
