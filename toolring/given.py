"""What a tool's parameter may ask of toolring itself, by its type; no caller passes it."""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Given:
    """Base of the types that a parameter asks with."""

    __slots__ = ()


class Wanted(NamedTuple):
    """A service that a parameter asks for, by its name in the configuration."""

    service: str
    concurrent: bool
    """Its calls are awaited."""


class GivenService(Given):
    """Base of a service's two faces."""

    __slots__ = ()
    concurrent: ClassVar[bool]
