"""A service's operations as tools: each argument goes where the OpenAPI document says, and what comes back is the
result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from toolring import logs
from toolring.declare import DEFAULTS, Tool, Wants
from toolring.errors import ConfigError, InvalidArguments, ServiceError
from toolring.given import Wanted
from toolring.policy.declared import decided
from toolring.policy.service import ServicePolicy
from toolring.spec import ToolSpec
from toolring.workers.services.openapi import DocumentError, Operation, Parameter, Refused
from toolring.workers.services.openapi import operations as described
from toolring.workers.services.service import AsyncService

_SERVICE: Final = "toolring_service"
"""The parameter that takes the service; no argument's field is called so."""
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REPEATS: Final = frozenset({"PUT", "DELETE"})


def operations(service: str, policy: ServicePolicy) -> list[Tool[..., Any]]:
    """The tools that ``openapi`` of a service stands for.

    Raises ConfigError: its file can't be read or understood, an operation that is named isn't there or can't be a
    tool, or a package is missing.
    """
    key = f"services.{service}.openapi"
    found: dict[str, Operation] = {}
    refused: dict[str, Refused] = {}
    try:
        for one in described(_document(policy.openapi, key)):
            if isinstance(one, Refused):
                refused[one.id] = one
            elif one.name in found:
                raise DocumentError(f"two operations are named {one.name!r}")
            else:
                found[one.name] = one
    except DocumentError as error:
        raise ConfigError(f"{key} = {policy.openapi!r}: {error}", key=key) from None
    chosen = list(found.values())
    if policy.operations:
        chosen = [_named(service, wanted, found, refused) for wanted in policy.operations]
    elif refused:
        reasons = {one.id: one.why for one in list(refused.values())[:10]}
        logs.bound(service=service).warning("operations_left_out", count=len(refused), reasons=reasons)
    if not chosen:
        raise ConfigError(f"{key} = {policy.openapi!r} describes no operation that can be a tool", key=key)
    return [OperationTool(service, policy, one) for one in chosen]


def _document(file: str, key: str) -> Any:
    try:
        text = Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} = {file!r} can't be read: {error}", key=key) from None
    try:
        return json.loads(text) if text.lstrip().startswith("{") else _yaml(text, key)
    except ValueError as error:
        raise ConfigError(f"{key} = {file!r} is neither JSON nor YAML: {error}", key=key) from None


def _yaml(text: str, key: str) -> Any:
    try:
        import yaml  # optional: the openapi extra
    except ImportError as error:
        raise ConfigError(f"{key} needs PyYAML: pip install 'toolring[openapi]' ({error})", key=key) from None
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _named(service: str, wanted: str, found: Mapping[str, Operation], refused: Mapping[str, Refused]) -> Operation:
    key = f"services.{service}.operations"
    for operation in found.values():
        if wanted in (operation.id, operation.name):
            return operation
    if wanted in refused:
        raise ConfigError(f"{key}: {wanted!r} can't be a tool: {refused[wanted].why}", key=key)
    names = sorted(one.id for one in found.values())
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    raise ConfigError(f"{key}: there is no {wanted!r}; there is {', '.join(names[:20])}{more}", key=key)


class OperationTool(Tool[..., Any]):
    """A tool that is an operation of a service. Its arguments are checked against the document's own schema."""

    def __init__(self, service: str, policy: ServicePolicy, operation: Operation) -> None:
        """Raises ConfigError while a package is missing; LoadError for a policy that makes no sense."""
        fields = [(one.field, Any) if one.required else (one.field, Any, msgspec.UNSET) for one in operation.parameters]
        name = f"{policy.prefix}{operation.name}"
        arguments = msgspec.defstruct(
            f"{re.sub('[.-]', '_', name)}_arguments",
            fields,
            kw_only=True,
            forbid_unknown_fields=True,
            rename={one.field: one.argument for one in operation.parameters},
        )
        about = ToolSpec(
            name=name,
            description=operation.description,
            parameters=operation.schema,
            concurrent=True,
            version=_digest(policy, operation),
        )
        said = {
            **DEFAULTS,
            "read_only": operation.method in _READS,
            "idempotent": operation.method in _REPEATS,
            "group": "async",
        }
        self.operation = operation
        self._validator = _validator(service, operation)
        spec = decided(about, said, arguments.__struct_fields__)
        super().__init__(
            _caller(operation), spec, arguments, None, said, None, Wants({_SERVICE: Wanted(service, True)})
        )

    def decode(self, body: Any) -> msgspec.Struct:
        """As of any tool; what the document says of the arguments holds, too."""
        arguments = super().decode(body)
        error = next(iter(self._validator.iter_errors(msgspec.to_builtins(arguments))), None)
        if error is not None:
            where = ".".join(str(part) for part in error.absolute_path)
            text = f"{self.spec.name}: {where + ': ' if where else ''}{error.message:.300}"
            argument = str(error.absolute_path[0]) if error.absolute_path else None
            raise InvalidArguments(text, tool=self.spec.name, argument=argument)
        return arguments

    def under(self, policy: Mapping[str, Any]) -> OperationTool:
        other = object.__new__(OperationTool)
        other.__dict__.update(super().under(policy).__dict__)
        other.operation, other._validator = self.operation, self._validator
        return other


def _validator(service: str, operation: Operation) -> Any:
    try:
        from jsonschema import Draft202012Validator, SchemaError  # optional: the openapi extra
    except ImportError as error:
        key = f"services.{service}.openapi"
        raise ConfigError(f"{key} needs jsonschema: pip install 'toolring[openapi]' ({error})", key=key) from None
    try:
        Draft202012Validator.check_schema(operation.schema)
    except SchemaError as error:
        key = f"services.{service}.openapi"
        raise ConfigError(f"{key}: {operation.id}: its schema is wrong: {error.message:.200}", key=key) from None
    return Draft202012Validator(operation.schema)


def _digest(policy: ServicePolicy, operation: Operation) -> str:
    whole = json.dumps([policy.version, policy.bases, operation], sort_keys=True, default=str)
    return hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()


# ---- the request, and the result


def _caller(operation: Operation) -> Any:
    """The function behind the tool."""

    async def call(**given: Any) -> Any:
        service: AsyncService = given.pop(_SERVICE)
        response = await service.request(operation.method, **request_of(operation, given))
        return result_of(response)

    call.__name__ = operation.name
    call.__doc__ = operation.description
    return call


def request_of(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """What ``AsyncService.request`` is called with, from arguments by their fields."""
    path = operation.path
    params: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    properties: dict[str, Any] = {}
    sent: Any = {} if operation.body_required else msgspec.UNSET
    for one in operation.parameters:
        value = given[one.field]
        if value is msgspec.UNSET:
            continue
        if one.where == "path":
            path = path.replace(f"{{{one.name}}}", quote(_joined(one, value), safe=""))
        elif one.where == "query":
            params += _query(one, value)
        elif one.where == "header":
            headers[one.name] = _joined(one, value)
        elif one.where == "body":
            sent = properties
            properties[one.name] = value
        else:
            sent = value
    request: dict[str, Any] = {"path": path, "params": params or None, "headers": headers}
    if sent is msgspec.UNSET:
        return request
    if operation.body == "json":
        headers["content-type"] = "application/json"
        request["content"] = msgspec.json.encode(sent)
    elif operation.body == "form":
        headers["content-type"] = "application/x-www-form-urlencoded"
        request["content"] = urlencode(
            {key: its if isinstance(its, list) else _text(its) for key, its in sent.items()}, doseq=True
        )
    else:
        headers["content-type"] = "text/plain; charset=utf-8"
        request["content"] = str(sent)
    return request


def result_of(response: Any) -> Any:
    """JSON decoded, text as text, anything else as bytes; None for nothing."""
    if not response.content:
        return None
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return msgspec.json.decode(response.content)
        except msgspec.DecodeError as error:
            raise ServiceError(f"{response.request.url}: its answer says that it is JSON, but {error}") from None
    return response.text if kind.startswith("text/") else response.content


def _joined(one: Parameter, value: Any) -> str:
    if one.as_json:
        return json.dumps(value)
    separator = _SEPARATORS.get(one.style, ",")
    if isinstance(value, list):
        return separator.join(map(_text, value))
    if isinstance(value, dict):
        between = "=" if one.explode else separator
        return separator.join(f"{key}{between}{_text(its)}" for key, its in value.items())
    return _text(value)


_SEPARATORS: Final = {"spaceDelimited": " ", "pipeDelimited": "|"}


def _query(one: Parameter, value: Any) -> list[tuple[str, str]]:
    if not one.as_json and isinstance(value, dict):
        if one.style == "deepObject":
            return [(f"{one.name}[{key}]", _text(its)) for key, its in value.items()]
        if one.explode:
            return [(key, _text(its)) for key, its in value.items()]
    if not one.as_json and isinstance(value, list) and one.explode:
        return [(one.name, _text(its)) for its in value]
    return [(one.name, _joined(one, value))]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
