"""The lineup: which tools are served under which policy, in which groups, and by which balancers jobs are placed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from toolring.config import Config, check_alerts, check_tools
from toolring.errors import ConfigError, LoadError, PluginError
from toolring.policy import groups as policy
from toolring.policy.balance import Balancer, Members
from toolring.policy.groups import planned
from toolring.policy.guarded import Guarded
from toolring.spec import ToolSpec
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.fleet import Fleet, Group

UNPLACED: Final = "least_outstanding"
"""For which no balancer is needed: that is what one line for all comes to."""


class Lineup:
    """Makes it under one configuration, from what the tools' modules declare.

    Args:
        workers: processes of a group that doesn't say it.
        most: processes that there may be, over all groups.
        balancers: the factories of the plugins, by name.
        tell: takes a note for the log.
    """

    def __init__(
        self,
        config: Config,
        workers: int,
        most: int,
        balancers: Mapping[str, Callable[[Members], Balancer]],
        tell: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._config = config
        self._workers = workers
        self._most = most
        self._balancers = balancers
        self._tell = tell
        self._made: dict[tuple[Group, str], Guarded] = {}

    def plans(self, specs: Sequence[ToolSpec]) -> list[policy.Group]:
        """The groups of these tools. Raises LoadError or ConfigError if they don't fit the configuration."""
        check_tools(self._config, [spec.name for spec in specs if not spec.internal])
        plans = planned(specs, self._config.groups, self._workers, self._most)
        check_alerts(self._config, [spec.name for spec in specs if not spec.internal], [plan.name for plan in plans])
        known = ", ".join(sorted(self._balancers))
        for plan in plans:
            if plan.balancer is not None and plan.balancer not in self._balancers:
                key = f"groups.{plan.name}.balancer"
                raise ConfigError(f"{key} = {plan.balancer!r}: no such balancer; there is {known}", key=key)
        for spec in specs:
            if spec.balancer is not None and spec.balancer not in self._balancers:
                text = f"tool {spec.name!r}: no balancer {spec.balancer!r}; there is {known}"
                raise LoadError(text, tool=spec.name)
        return plans

    def balancer(self, spec: ToolSpec, group: Group) -> Guarded | None:
        """A tool's, one for each group and kind; None: whoever is free first. Raises PluginError."""
        name = spec.balancer or group.balancer or ("ring" if spec.routed else UNPLACED)
        if name == UNPLACED:
            return None
        if (group, name) not in self._made:
            try:
                made = self._balancers[name](group.members)
            except Exception as error:
                text = f"the balancer {name!r} can't be made for group {group.name!r}: {type(error).__name__}: {error}"
                raise PluginError(text, group=group.name) from error
            self._made[group, name] = Guarded(name, made, self._tell)
        return self._made[group, name]

    def served(self, specs: Sequence[ToolSpec], fleet: Fleet) -> dict[str, ServedTool]:
        """Each tool with its balancer."""
        return {spec.name: ServedTool(spec, self.balancer(spec, fleet.group_of(spec))) for spec in specs}

    def forget(self, groups: Sequence[Group]) -> None:
        """Balancers of groups that are no more."""
        self._made = {key: made for key, made in self._made.items() if key[0] not in groups}
