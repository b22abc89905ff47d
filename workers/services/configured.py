"""The services of a configuration, and the tools that ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolring.calls import Calls
from toolring.declare import Tool
from toolring.errors import LoadError
from toolring.policy.pool import Factory
from toolring.policy.service import ServicePolicy
from toolring.workers.services.service import AsyncService, Service, Source, balancer_of


class Services:
    """All of one process. Nothing is connected until a tool asks for something."""

    def __init__(
        self, policies: Mapping[str, ServicePolicy], balancers: Mapping[str, Factory], calls: Calls | None
    ) -> None:
        """Raises ConfigError for what a service lacks."""
        self._sources: dict[str, Source] = {}
        self._faces: dict[tuple[str, bool], Any] = {}
        self.used = False
        """Some tool asks for one."""
        first = 0
        for name, policy in policies.items():
            self._sources[name] = Source(name, policy, balancer_of(name, policy, balancers), calls, first)
            first += len(policy.endpoints)

    def given(self, tool: Tool[..., Any]) -> dict[str, Any]:
        """What a tool's parameters ask for. Raises LoadError for a service that isn't configured."""
        return {parameter: self._face(tool, *wanted) for parameter, wanted in tool.services.items()}

    def figures(self) -> dict[str, Any]:
        return {name: source.figures() for name, source in self._sources.items()}

    def _face(self, tool: Tool[..., Any], asked: str, concurrent: bool) -> Any:
        self.used = True
        name = asked if asked in self._sources else asked.replace("_", "-")
        source = self._sources.get(name)
        if source is None:
            known = ", ".join(self._sources) or "none"
            text = f"tool {tool.spec.name!r} asks for the service {asked!r}, but there is no [services.{asked}]"
            raise LoadError(f"{text}; there is {known}", tool=tool.spec.name)
        key = (name, concurrent)
        if key not in self._faces:
            self._faces[key] = (AsyncService if concurrent else Service).of(source)
        return self._faces[key]
