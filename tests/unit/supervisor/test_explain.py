from __future__ import annotations

from pathlib import Path

import msgspec

from toolring.config import load
from toolring.spec import ToolSpec
from toolring.supervisor.explain import explained


def test_each_part_says_who_decided_it() -> None:
    loaded = load(environment={"TOOLRING_CACHE_EARLY": "0"}, flags={"cache.strategy": "lru"})
    loaded.sources["tools.look.cache"] = "file x.toml"
    policy = explained(ToolSpec(name="look", read_only=True, destructive=False, cache=7.0), loaded)
    assert policy["cache"] == {"value": 7.0, "source": "file x.toml"}
    assert policy["read_only"] == {"value": True, "source": "the tool"}
    assert policy["destructive"] == {"value": False, "source": "default"}
    assert policy["cache_scope"] == {"value": "public", "source": "default"}
    assert policy["cache_strategy"] == {"value": "lru", "source": "cache.strategy, flag"}
    assert policy["cache_early"] == {"value": 0.0, "source": "cache.early, environment TOOLRING_CACHE_EARLY"}
    assert policy["balancer"]["value"] == "ring"


def test_what_is_not_cached_has_no_layers() -> None:
    policy = explained(ToolSpec(name="do"), load(environment={}))
    assert "cache_layers" not in policy
    assert policy["cache_strategy"] == {"value": None, "source": "default"}
    assert policy["balancer"] == {"value": "least_outstanding", "source": "default"}


def test_the_configuration_of_a_tool_is_named_beside_what_the_tool_says(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[tools.look]\ncache = 9\ntags = ['x']\n[cache]\nlayers = []\n")
    spec = ToolSpec(name="look", read_only=True, destructive=False, cache=9.0, tags=("x",), cache_stale=3.0)
    policy = explained(spec, load(str(file), environment={}))
    assert policy["cache"] == {"value": 9.0, "source": f"file {file}"}
    assert policy["tags"] == {"value": ("x",), "source": f"file {file}"}
    assert policy["cache_stale"] == {"value": 3.0, "source": "the tool"}
    assert policy["cache_layers"] == {"value": (), "source": f"cache.layers, file {file}"}
    assert policy["cache_local"] == {"value": 1.0, "source": "cache.local, default"}


def test_a_strategy_of_the_tools_own_is_not_the_nodes(tmp_path: Path) -> None:
    spec = ToolSpec(name="look", read_only=True, destructive=False, cache=9.0, cache_strategy="lfu")
    policy = explained(spec, load(environment={}))
    assert policy["cache_strategy"] == {"value": "lfu", "source": "the tool"}


def test_a_balancer_of_the_tools_own_is_told_as_such() -> None:
    policy = explained(ToolSpec(name="look", balancer="round_robin", affinity="a"), load(environment={}))
    assert policy["balancer"] == {"value": "round_robin", "source": "the tool"}


def test_every_part_of_a_policy_is_told_and_nothing_else() -> None:
    policy = explained(ToolSpec(name="look", read_only=True, cache=1.0), load(environment={}))
    fields = {field.name for field in msgspec.structs.fields(ToolSpec)}
    assert fields - set(policy) == {"name", "description", "parameters", "version", "asks", "concurrent"}
    assert set(policy) - fields == {"cache_layers", "cache_local", "cache_early", "cache_namespace"}
    assert all(set(part) == {"value", "source"} for part in policy.values())
