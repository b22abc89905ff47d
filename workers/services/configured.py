"""The services of a configuration, and the tools that ask for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from toolring.calls import Calls
from toolring.declare import Tool
from toolring.errors import LoadError
from toolring.policy.pool import Factory
from toolring.policy.service import ServicePolicy

if TYPE_CHECKING:
    from toolring.workers.services.service import Source


class Services:
    """All of one process. Nothing is connected until a tool asks for something."""

    def __init__(
        self, policies: Mapping[str, ServicePolicy], balancers: Mapping[str, Factory], calls: Calls | None
    ) -> None:
        """Raises ConfigError for what a service lacks."""
        self._sources: dict[str, Source] = {}
        self._faces: dict[tuple[str, bool], Any] = {}
        self.lively = False
        """What is known of one that some tool asks for changes by itself: its endpoints are asked for their health."""
        self._module: Any = None
        if not policies:
            return  # nobody needs what it takes, asyncio above all
        self._module = module = import_module("toolring.workers.services.service")
        first = 0
        for name, policy in policies.items():
            balancer = module.balancer_of(name, policy, balancers)
            self._sources[name] = module.Source(name, policy, balancer, calls, first)
            first += len(policy.endpoints)

    def given(self, tool: Tool[..., Any]) -> dict[str, Any]:
        """What a tool's parameters ask for. Raises LoadError for a service that isn't configured."""
        return {parameter: self._face(tool, *wanted) for parameter, wanted in tool.services.items()}

    def versioned(self, tool: Tool[..., Any]) -> Tool[..., Any]:
        """A tool whose results depend on the versions of its services. Raises LoadError as ``given`` does."""
        versions = [self._source(tool, wanted.service).wire.policy.version for wanted in tool.services.values()]
        if not any(versions):
            return tool
        whole = "\0".join((tool.spec.version, *versions))
        version = hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()
        return tool.described(msgspec.structs.replace(tool.spec, version=version))

    def figures(self) -> dict[str, Any]:
        return {name: source.endpoints.figures() for name, source in self._sources.items()}

    def _source(self, tool: Tool[..., Any], asked: str) -> Source:
        source = self._sources.get(asked) or self._sources.get(asked.replace("_", "-"))
        if source is None:
            known = ", ".join(self._sources) or "none"
            text = f"tool {tool.spec.name!r} asks for the service {asked!r}, but there is no [services.{asked}]"
            raise LoadError(f"{text}; there is {known}", tool=tool.spec.name)
        return source

    def _face(self, tool: Tool[..., Any], asked: str, concurrent: bool) -> Any:
        source = self._source(tool, asked)
        self.lively = self.lively or bool(source.wire.policy.health_check)
        key = (source.endpoints.name, concurrent)
        if key not in self._faces:
            self._faces[key] = (self._module.AsyncService if concurrent else self._module.Service).of(source)
        return self._faces[key]
