from __future__ import annotations

from typing import Any

import pytest

from toolring import tool
from toolring.declare import Tool
from toolring.errors import LoadError
from toolring.plugins.registry import load_plugins
from toolring.settings import WorkerSettings
from toolring.workers.main import prepare


@tool(read_only=True, cache=60)
def one(n: int) -> int:
    return n


@tool(read_only=True, cache=60)
def two(n: int) -> int:
    return n


@tool
def plain(n: int) -> int:
    return n


@tool(read_only=True, cache=60, cache_strategy="no_such")
def odd(n: int) -> int:
    return n


SETTINGS = WorkerSettings(
    targets=(),
    address="",
    lanes="",
    start_method="fork",
    cache_strategy="lru",
    cache_entries=1,
    cache_bytes=1 << 20,
    max_result=1 << 20,
    plugins=(),
    allow=(),
    block=(),
    log_format="json",
    log_level="info",
)


def prepared(*tools: Tool[..., Any], **settings: Any) -> dict[str, Any]:
    found: Any = prepare(
        SETTINGS._replace(**settings), {each.spec.name: each for each in tools}, load_plugins(block=[])
    )
    return dict(found[0] if isinstance(found, tuple) else found)


def test_only_cached_tools_have_a_cache() -> None:
    made = prepared(one, plain)
    assert made["one"].cache is not None
    assert made["plain"].cache is None


def test_tools_of_one_strategy_share_the_workers_limits() -> None:
    made = prepared(one, two)
    made["one"].cache.put(b"first", b"v")
    made["two"].cache.put(b"second", b"v")
    assert made["one"].cache.get(b"first") is None, "there was room for one entry"
    assert made["two"].cache.get(b"second") == b"v"


def test_a_strategy_that_nobody_offers_is_refused_with_the_tools_name() -> None:
    with pytest.raises(LoadError, match=r"tool 'odd': no cache strategy 'no_such'; there is .*lru"):
        prepared(odd)
    with pytest.raises(LoadError, match="tool 'one': no cache strategy 'other'"):
        prepared(one, cache_strategy="other")
