"""Tools that take many calls in one run: from the list that the function takes to what one call must bring."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from toolring.policy.declared import refused


class Item(NamedTuple):
    """The parameter that takes the list, and what makes one element of it from the arguments of one call."""

    parameter: str
    make: Callable[[msgspec.Struct], Any]


def of_one_call(name: str, parameters: list[Any]) -> tuple[Item, list[Any]]:
    """How the list is made, and the parameters of one call. Raises LoadError for any other signature."""
    kind = parameters[0][1] if len(parameters) == 1 and len(parameters[0]) == 2 else None
    if get_origin(kind) is not list:
        raise refused(name, "batch= needs a function with one parameter, a list: def f(requests: list[Request])")
    parameter, element = parameters[0][0], get_args(kind)[0]
    if isinstance(element, type) and issubclass(element, msgspec.Struct):
        fields = [
            _field(one.name, one.type, one.default, one.default_factory) for one in msgspec.structs.fields(element)
        ]
        return Item(parameter, _maker(element)), fields
    if dataclasses.is_dataclass(element) and isinstance(element, type):
        hints = get_type_hints(element, include_extras=True)
        fields = [
            _field(one.name, hints[one.name], one.default, one.default_factory)
            for one in dataclasses.fields(element)
            if one.init
        ]
        given = {one[0] for one in fields}
        for needed in inspect.signature(element).parameters.values():
            if needed.default is needed.empty and needed.name not in given:
                raise refused(name, f"{element.__name__} needs {needed.name!r}, which is none of its fields")
        return Item(parameter, _maker(element)), fields
    return Item(parameter, lambda arguments: getattr(arguments, parameter)), [(parameter, element)]


def _field(name: str, kind: Any, default: Any, factory: Any) -> Any:
    if not _missing(factory):
        return name, kind, msgspec.field(default_factory=factory)
    return (name, kind) if _missing(default) else (name, kind, default)


def _missing(value: Any) -> bool:
    return value is msgspec.NODEFAULT or value is dataclasses.MISSING


def _maker(element: type) -> Callable[[msgspec.Struct], Any]:
    def make(arguments: msgspec.Struct) -> Any:
        return element(**{name: getattr(arguments, name) for name in arguments.__struct_fields__})

    return make
