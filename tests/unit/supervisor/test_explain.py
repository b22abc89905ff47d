from __future__ import annotations

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
