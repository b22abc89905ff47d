"""What a tool's parameter may ask of toolring itself, by its type; no caller passes it."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple


class Given:
    """Base of the types that a parameter asks with."""

    __slots__ = ()


class Wanted(NamedTuple):
    """A service that a parameter asks for, by its name in the configuration."""

    service: str
    concurrent: bool
    """Its calls are awaited."""


class GivenPool:
    """Base of the pools that a parameter may ask for, by the name of one in its module."""

    concurrent: ClassVar[bool]
    """It is for async tools."""
    name: str
    policy: Any

    def configure(self, **settings: Any) -> None:
        """Decide some of its policy anew, before its first use. Raises ValueError."""
        raise NotImplementedError

    def stats(self) -> dict[str, float]:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError


class GivenService(Given):
    """Base of a service's two faces."""

    __slots__ = ()
    concurrent: ClassVar[bool]
