"""A tool's policy with who decided each part of it: the tool, the configuration (which part of it), or nobody."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from toolring.config import GroupSection, Loaded
from toolring.spec import ToolSpec

_NOT_POLICY: Final = ("name", "description", "parameters", "version", "asks", "concurrent")
_NO_GROUP: Final = GroupSection()
_NODE_WIDE: Final = {
    "cache_strategy": "cache.strategy",
    "cache_layers": "cache.layers",
    "cache_local": "cache.local",
    "cache_early": "cache.early",
    "cache_namespace": "cache.namespace",
    "store_over": "results.store_over",
}
"""Settings that decide where the tool itself says nothing."""


def explained(spec: ToolSpec, loaded: Loaded) -> dict[str, dict[str, Any]]:
    """``value`` and ``source`` of each part, by its name."""
    policy: dict[str, dict[str, Any]] = {}
    for field in msgspec.structs.fields(ToolSpec):
        if field.name in _NOT_POLICY:
            continue
        value = getattr(spec, field.name)
        source = loaded.sources.get(f"tools.{spec.name}.{field.name}")
        if field.name == "group" and spec.name in loaded.config.groups.get(spec.group, _NO_GROUP).tools:
            source = loaded.sources[f"groups.{spec.group}.tools"]
        if source is None:
            source = "default" if value == field.default else "the tool"
        policy[field.name] = {"value": value, "source": source}
    policy["destructive"]["source"] = "the tool" if spec.destructive == spec.read_only else "default"
    policy["balancer"] = _balancer(spec, policy["balancer"], loaded)
    for name, setting in _NODE_WIDE.items():
        if name.startswith("cache") and not spec.cache:
            continue
        if policy.get(name, {}).get("value") is None:
            section, _, key = setting.partition(".")
            value = getattr(getattr(loaded.config, section), key)
            source = loaded.sources[setting]
            policy[name] = {"value": value, "source": f"{setting}, {source}"}
    return policy


def _balancer(spec: ToolSpec, said: dict[str, Any], loaded: Loaded) -> dict[str, Any]:
    if said["value"] is not None:
        return said
    if named := loaded.config.groups.get(spec.group, _NO_GROUP).balancer:
        return {"value": named, "source": loaded.sources[f"groups.{spec.group}.balancer"]}
    if spec.routed:
        return {"value": "ring", "source": "default, for its affinity or cache"}
    return {"value": "least_outstanding", "source": "default"}
