"""A service's operations as tools: each argument goes where the OpenAPI document says, and what comes back is the
result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from toolring import logs
from toolring.declare import DEFAULTS, Tool, Wants, check_name
from toolring.errors import ConfigError, InvalidArguments, LoadError, ServiceError, TooDeep
from toolring.given import Wanted
from toolring.policy.declared import decided
from toolring.policy.service import ServicePolicy
from toolring.spec import ToolSpec
from toolring.workers.services.openapi import DocumentError, Operation, Parameter, Refused
from toolring.workers.services.openapi import operations as described
from toolring.workers.services.service import AsyncService

_SERVICE: Final = "toolring.service"
"""The parameter that takes the service; no argument's field can be called so."""
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REPEATS: Final = frozenset({"PUT", "DELETE"})


def operations(service: str, policy: ServicePolicy) -> list[Tool[..., Any]]:
    """The tools that ``openapi`` of a service stands for.

    Raises ConfigError: its file can't be read or understood, an operation that is named isn't there or can't be a
    tool, or a package is missing.
    """
    key = f"services.{service}.openapi"
    need_jsonschema(key)
    wanted = set(policy.operations)
    found: dict[str, OperationTool] = {}
    left_out: dict[str, str] = {}
    try:
        for one in described(_document(policy.openapi, key)):
            name = one.id if isinstance(one, Refused) else one.name
            if wanted and not wanted & {one.id, name}:
                left_out[one.id] = ""
            elif isinstance(one, Refused):
                left_out[one.id] = one.why
            elif name in found:
                left_out[one.id] = f"another one is named {name!r}, too"
            else:
                try:
                    found[name] = OperationTool(service, policy, one)
                except (DocumentError, LoadError) as error:
                    left_out[one.id] = str(error)
                except RecursionError:
                    left_out[one.id] = "its schemas nest too deeply"
    except (DocumentError, RecursionError) as error:
        raise ConfigError(f"{key} = {policy.openapi!r}: {error}", key=key) from None
    for name in policy.operations:
        if name not in found and not any(tool.operation.id == name for tool in found.values()):
            raise _missing(service, name, found, left_out)
    if not found:
        why = next(iter(left_out.values()), "")
        text = f"{key} = {policy.openapi!r} describes no operation that can be a tool{': ' if why else ''}{why}"
        raise ConfigError(text, key=key)
    if reasons := {name: why for name, why in left_out.items() if why}:
        shown = dict(list(reasons.items())[:10])
        logs.bound(service=service).warning("operations_left_out", count=len(reasons), reasons=shown)
    return list(found.values())


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


def _missing(service: str, name: str, found: Mapping[str, OperationTool], left_out: Mapping[str, str]) -> ConfigError:
    """Why an operation that is named is none of the tools."""
    key = f"services.{service}.operations"
    if left_out.get(name):
        return ConfigError(f"{key}: {name!r} can't be a tool: {left_out[name]}", key=key)
    names = sorted({*left_out, *(tool.operation.id for tool in found.values())})
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ConfigError(f"{key}: there is no {name!r}; there is {', '.join(names[:20])}{more}", key=key)


class OperationTool(Tool[..., Any]):
    """A tool that is an operation of a service. Its arguments are checked against the document's own schema."""

    def __init__(self, service: str, policy: ServicePolicy, operation: Operation) -> None:
        """Raises DocumentError for a schema that is none, LoadError for a name that no tool may have."""
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
            version=_digest(operation),
        )
        said = {
            **DEFAULTS,
            "read_only": operation.method in _READS,
            "idempotent": operation.method in _REPEATS,
            "group": "async",
        }
        check_name(name)
        self.operation = operation
        self._names = {one.field: one.argument for one in operation.parameters}
        self._validator = _validator(operation)
        spec = decided(about, said, arguments.__struct_fields__)
        super().__init__(
            _caller(operation), spec, arguments, None, said, None, Wants({_SERVICE: Wanted(service, True)})
        )

    def decode(self, body: Any) -> msgspec.Struct:
        """As of any tool; what the document says of the arguments holds, too."""
        arguments, name = super().decode(body), self.spec.name
        given = {argument: getattr(arguments, field) for field, argument in self._names.items()}
        try:
            said = {argument: value for argument, value in given.items() if value is not msgspec.UNSET}
            error = next(iter(self._validator.iter_errors(said)), None)
        except RecursionError:
            raise TooDeep(f"{name}: the arguments nest too deeply", tool=name) from None
        except Exception as problem:  # numbers that a schema can't be applied to, references that lead nowhere
            text = f"{name}: the document's schema can't be applied to it: {type(problem).__name__}: {problem}"
            raise InvalidArguments(text[:500], tool=name) from None
        if error is not None:
            where = ".".join(str(part) for part in error.absolute_path)
            text = f"{name}: {where + ': ' if where else ''}{error.message:.300}"
            argument = str(error.absolute_path[0]) if error.absolute_path else None
            raise InvalidArguments(text, tool=name, argument=argument)
        return arguments


def need_jsonschema(key: str) -> None:
    """Raises ConfigError while it is missing."""
    try:
        import jsonschema  # noqa: F401  # optional: the openapi extra
    except ImportError as error:
        raise ConfigError(f"{key} needs jsonschema: pip install 'toolring[openapi]' ({error})", key=key) from None


def _validator(operation: Operation) -> Any:
    """Knows the operation's own schema, and fetches no other."""
    from jsonschema import Draft202012Validator, SchemaError  # optional: the openapi extra
    from referencing import Registry  # optional: the openapi extra

    try:
        Draft202012Validator.check_schema(operation.schema)
    except SchemaError as error:
        raise DocumentError(f"its schema is wrong: {error.message:.200}") from None
    return Draft202012Validator(operation.schema, registry=Registry())


def _digest(operation: Operation) -> str:
    whole = json.dumps(operation, sort_keys=True, default=str)
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
            path = path.replace(f"{{{one.name}}}", _in_path(operation, one, value))
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


def _in_path(operation: Operation, one: Parameter, value: Any) -> str:
    """One part of the path, whatever it holds."""
    written = _joined(one, value, lambda its: quote(_text(its), safe=""))
    if not written:
        raise InvalidArguments(
            f"{operation.name}: {one.argument} is empty, and its path can't be", argument=one.argument
        )
    return written


def _joined(one: Parameter, value: Any, text: Callable[[Any], str] | None = None) -> str:
    text = text or _text
    if one.as_json:
        return text(json.dumps(value))
    if isinstance(value, list):
        return one.separator.join(map(text, value))
    if isinstance(value, dict):
        between = "=" if one.explode else one.separator
        return one.separator.join(f"{text(key)}{between}{text(its)}" for key, its in value.items())
    return text(value)


def _query(one: Parameter, value: Any) -> list[tuple[str, str]]:
    if not one.as_json and isinstance(value, dict):
        if one.deep:
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
