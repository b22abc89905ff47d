from __future__ import annotations

from typing import Any

import pytest

from toolring import tool
from toolring.declare import Tool
from toolring.errors import LoadError
from toolring.plugins.registry import load_plugins
from toolring.policy.memory import MemoryPolicy
from toolring.protocol import OK, encode
from toolring.settings import CacheSettings, ResultSettings, WorkerSettings
from toolring.stamps import BYTES, Stamps
from toolring.workers.main import Kit


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
    node="",
    address="",
    lanes="",
    start_method="fork",
    overrides={},
    cache=CacheSettings(strategy="lru", entries=1, bytes=1 << 20),
    services={},
    processes={},
    memory=MemoryPolicy(),
    resources={},
    results=ResultSettings(),
    max_result=1 << 20,
    plugins=(),
    allow=(),
    block=(),
    log_format="json",
    log_level="info",
)


def prepared(*tools: Tool[..., Any], **settings: Any) -> dict[str, Any]:
    given = SETTINGS._replace(cache=SETTINGS.cache._replace(**settings))
    stamps = Stamps(bytearray(BYTES))
    return Kit(given, {each.spec.name: each for each in tools}, load_plugins(block=[]), stamps).runnables


def test_only_cached_tools_have_a_cache() -> None:
    made = prepared(one, plain)
    assert made["one"].cache is not None
    assert made["plain"].cache is None


def test_tools_of_one_strategy_share_the_workers_limits() -> None:
    made = prepared(one, two)
    questions = {}
    for name, runnable in list(made.items())[:2]:
        questions[name] = runnable.cache.question(runnable.decode(encode({"n": 1})))
        runnable.cache.keep(questions[name], OK, b"v", 0.1)
    assert made["one"].cache.find(questions["one"]) is None, "there was room for one entry"
    assert made["two"].cache.find(questions["two"]).value == b"v"


def test_a_strategy_that_nobody_offers_is_refused_with_the_tools_name() -> None:
    with pytest.raises(LoadError, match=r"tool 'odd': no cache strategy 'no_such'; there is .*lru"):
        prepared(odd)
    with pytest.raises(LoadError, match="tool 'one': no cache strategy 'other'"):
        prepared(one, strategy="other")
    with pytest.raises(LoadError, match=r"cache.layers: no store 'no_such'; there is .*sqlite"):
        prepared(one, layers=("no_such",))
