from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from toolring import Context, tool
from toolring.errors import LoadError


def declared(**policy: Any) -> Any:
    def look(a: int, b: str = "") -> None: ...

    return tool(**{"read_only": True, **policy})(look)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"cache": 5, "read_only": False}, "cache= needs read_only=True"),
        ({"cache": -1}, "cache=-1 is not a number of seconds"),
        ({"cache": float("inf")}, "cache=inf is not a number of seconds"),
        ({"cache": "5"}, "cache='5' is not a number of seconds"),
        ({"cache": True}, "cache=True is not a number of seconds"),
        ({"cache": 5, "cache_scope": "mine"}, "none of public, caller, partition"),
        ({"cache_stale": 5}, "cache_stale=5 does nothing without cache=SECONDS"),
        ({"concurrency": 0}, "concurrency=0 must be at least 1"),
        ({"concurrency": 1.5}, "concurrency=1.5 is not a whole number"),
        ({"rate": 0}, "rate=0 is not a positive number of starts per second"),
        ({"rate": "5/s"}, "rate='5/s' is not a number"),
        ({"burst": 5}, "burst= does nothing without rate="),
        ({"backlog": -1}, "backlog=-1 must be at least 1"),
        ({"queue_timeout": float("nan")}, "queue_timeout=nan is not a positive number of seconds"),
        ({"adaptive": 1}, "adaptive=1 is not True or False"),
        ({"retries": 101}, "retries=101 is not from 0 to 100"),
        ({"retries": 1, "read_only": False}, "retries= runs it again, so it needs read_only=True or idempotent=True"),
        ({"retry_on": ["X"]}, "retry_on= does nothing without retries="),
        ({"retries": 1, "retry_delay": -1}, "retry_delay=-1 is not a number of seconds"),
        ({"cache_errors": 5}, "cache_errors=5 does nothing without cache=SECONDS"),
        ({"cache_scope": "caller"}, "cache_scope='caller' does nothing"),
        ({"tags": ["x"]}, r"tags=\['x'\] does nothing"),
        (
            {"cache": 5, "cache_stale": 5, "read_only": False, "cache_writes": True},
            "cache_stale= runs the tool unasked",
        ),
        ({"cache": 5, "tags": "x"}, "tags='x' is not a list of texts"),
        ({"cache": 5, "tags": [""]}, "a tag has 1 to 200 characters"),
        ({"cache": 5, "tags": ["{c}"]}, "'{c}' names 'c', which is not one of its arguments"),
        ({"invalidates": ["x{"]}, "a brace without its other half"),
        ({"affinity": "c"}, "affinity='c' is not one of its arguments"),
        ({"timeout": 0}, "timeout=0 is not a positive number"),
        ({"read_only": 1}, "read_only=1 is not True or False"),
        ({"balancer": 1}, "balancer=1 is not text"),
        ({"idempotent": None}, "idempotent=None is not True or False"),
        ({"destructive": 0}, "destructive=0 is not True or False"),
        ({"open_world": "no"}, "open_world='no' is not True or False"),
        ({"cache_writes": 1}, "cache_writes=1 is not True or False"),
        ({"timeout": "1"}, "timeout='1' is not a number of seconds"),
        ({"timeout": float("nan")}, "timeout=nan is not a positive number"),
        ({"timeout": float("inf")}, "timeout=inf is not a positive number"),
        ({"cache": float("nan")}, "cache=nan is not a number of seconds"),
        ({"cache": 5, "cache_stale": -1}, "cache_stale=-1 is not a number of seconds"),
        ({"cache": 5, "cache_stale": None}, "cache_stale=None is not a number of seconds"),
        ({"cache": 5, "cache_errors": float("inf")}, "cache_errors=inf is not a number of seconds"),
        ({"cache": 5, "cache_strategy": 1}, "cache_strategy=1 is not text"),
        ({"cache_strategy": "lru"}, "cache_strategy='lru' does nothing without cache=SECONDS"),
        ({"cache": 0, "tags": ["x"]}, r"tags=\['x'\] does nothing without cache=SECONDS"),
        ({"cache": 5, "cache_scope": None}, "cache_scope=None is not text"),
        ({"cache": 5, "tags": [1]}, r"tags=\[1\] is not a list of texts"),
        ({"cache": 5, "tags": {"x"}}, r"tags=\{'x'\} is not a list of texts"),
        ({"cache": 5, "tags": ["x" * 201]}, "a tag has 1 to 200 characters"),
        ({"cache": 5, "tags": ["{}"]}, "names '', which is not one of its arguments"),
        ({"cache": 5, "tags": ["{a.b}"]}, "names 'a.b', which is not one of its arguments"),
        ({"cache": 5, "tags": ["x}"]}, "a brace without its other half"),
        ({"cache": 5, "tags": ["{{a}}"]}, "a brace without its other half"),
        ({"invalidates": "x"}, "invalidates='x' is not a list of texts"),
        ({"invalidates": ["{c}"]}, r"invalidates: '\{c\}' names 'c'.*\(a, b\)"),
        ({"affinity": 1}, "affinity=1 is not text"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_the_reason(policy: dict[str, Any], why: str) -> None:
    with pytest.raises(LoadError, match=f"tool 'look': .*{why}"):
        declared(**policy)


def test_a_policy_that_makes_sense_is_what_the_tool_says() -> None:
    spec = declared(cache=5, cache_stale=1, cache_errors=2, cache_scope="caller", tags=["a:{a}"]).spec
    assert (spec.cache, spec.cache_stale, spec.cache_errors, spec.cache_scope) == (5, 1, 2, "caller")
    assert spec.tags == ("a:{a}",)
    assert not spec.destructive


def test_somebody_else_may_decide_and_is_held_to_the_same() -> None:
    one = declared(cache=5, tags=["x"])
    assert one.under({"cache": 9}).spec.cache == 9
    assert one.under({"cache": 9}).spec.tags == ("x",)
    with pytest.raises(LoadError, match="cache="):
        one.under({"cache": -9})


def test_turning_a_cache_off_takes_what_depends_on_it_along() -> None:
    spec = (
        declared(cache=5, tags=["x"], cache_strategy="lru", cache_scope="caller", cache_stale=1)
        .under({"cache": 0})
        .spec
    )
    assert (spec.cache, spec.tags, spec.cache_strategy, spec.cache_scope, spec.cache_stale) == (
        None,
        (),
        None,
        "public",
        0,
    )


def test_a_refusal_names_the_tool_in_its_facts() -> None:
    with pytest.raises(LoadError) as caught:
        declared(cache=-1)
    assert caught.value.facts["tool"] == "look"


def test_what_somebody_else_decides_is_checked_with_what_the_tool_says() -> None:
    one = declared(read_only=False, invalidates=["x"])
    with pytest.raises(LoadError, match="cache= needs read_only=True"):
        one.under({"cache": 5})
    assert one.under({"cache": 5, "cache_writes": True}).spec.cache == 5
    with pytest.raises(LoadError, match=r"tags=.* does nothing without cache"):
        one.under({"tags": ("x",)})
    with pytest.raises(LoadError, match=r"'\{c\}' names 'c'"):
        one.under({"invalidates": ("{c}",)})


def test_deciding_twice_starts_from_the_tool_again() -> None:
    one = declared(cache=5, tags=["x"])
    off = one.under({"cache": 0})
    assert off.under({}).spec == one.spec
    assert one.spec.cache == 5, "the tool itself is as it was"
    assert one.under({"cache": 9, "tags": ()}).spec.tags == ()


def test_turning_a_cache_off_wins_over_what_is_set_for_it() -> None:
    """An operator turns it off in one place, and leaves the rest of the section as it is."""
    spec = declared(cache=5).under({"cache": 0, "cache_strategy": "lru", "tags": ("x",), "cache_stale": 9.0}).spec
    assert (spec.cache, spec.cache_strategy, spec.tags, spec.cache_stale) == (None, None, (), 0)
    assert not spec.routed


def test_a_tool_under_another_policy_is_the_same_tool() -> None:
    one = declared(cache=5)
    other = one.under({"timeout": 3.0, "affinity": "a", "balancer": "ring"})
    assert (other.spec.timeout, other.spec.affinity, other.spec.balancer) == (3.0, "a", "ring")
    assert other.spec.version == one.spec.version
    assert other.spec.parameters == one.spec.parameters
    assert other.function is one.function


@pytest.mark.parametrize(
    ("policy", "destructive"),
    [({}, False), ({"read_only": False}, True), ({"read_only": False, "destructive": False}, False)],
)
def test_what_writes_counts_as_destructive_unless_it_says_no(policy: dict[str, Any], destructive: bool) -> None:
    assert declared(**policy).spec.destructive == destructive


def test_a_tag_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(LoadError, match="can't be encoded as UTF-8"):
        declared(cache=5, tags=["\ud800"])


# ---- what only some functions can have


def gathers(items: list[int]) -> None: ...
def yields(a: int) -> Iterator[int]:
    yield a


def asks(a: int, context: Context) -> None: ...
def plain(a: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "policy", "why"),
    [
        (plain, {"group": ""}, "group='': a group's name has 1 to 64 letters"),
        (plain, {"group": "x" * 65}, ".*a group's name has 1 to 64 letters"),
        (plain, {"group": "a.b"}, ".*a group's name has"),
        (plain, {"group": "a\n"}, ".*a group's name has"),
        (plain, {"group": 1}, "group=1 is not text"),
        (plain, {"memory": -1}, "memory=-1 is not a number of bytes"),
        (plain, {"memory": 1.5}, "memory=1.5 is not a whole number"),
        (plain, {"memory": True}, "memory=True is not a whole number"),
        (plain, {"memory": None}, "memory=None is not a whole number"),
        (plain, {"idle_timeout": 1}, "idle_timeout= needs a generator, or a Context"),
        (asks, {"idle_timeout": 0}, "idle_timeout=0 is not a positive number of seconds"),
        (asks, {"idle_timeout": float("inf")}, "idle_timeout=inf is not a positive number"),
        (asks, {"idle_timeout": 0.099}, "idle_timeout=0.099 must be at least 0.1 seconds: progress is told at most 20"),
        (yields, {"idle_timeout": 0.05}, "idle_timeout=0.05 must be at least 0.1 seconds"),
        (yields, {"idle_timeout": "1"}, "idle_timeout='1' is not a number of seconds"),
        (plain, {"batch": 2}, "batch= needs a function with one parameter, a list"),
        (gathers, {"batch": 1}, "batch=1 is not from 2 to 4096"),
        (gathers, {"batch": 0}, "batch=0 is not from 2 to 4096"),
        (gathers, {"batch": 4097}, "batch=4097 is not from 2 to 4096"),
        (gathers, {"batch": True}, "batch=True is not a whole number"),
        (gathers, {"batch": 2.0}, "batch=2.0 is not a whole number"),
        (gathers, {"batch": 2, "batch_delay": -1}, "batch_delay=-1 is not a number of seconds"),
        (gathers, {"batch": 2, "batch_delay": float("inf")}, "batch_delay=inf is not a number of seconds"),
        (gathers, {"batch": 2, "batch_delay": None}, "batch_delay=None is not a number of seconds"),
        (gathers, {"batch_delay": 1.0}, "batch_delay= does nothing without batch="),
        (gathers, {"batch": 2, "cache": 5}, "batch= and cache= don't go together"),
        (gathers, {"batch": 2, "invalidates": ["x"]}, "batch= and invalidates= don't go together"),
        (gathers, {"batch": 2, "affinity": "items"}, "batch= and affinity= don't go together"),
        (gathers, {"batch": 2, "retries": 1, "read_only": False}, "retries= runs it again"),
    ],
)
def test_what_a_function_cannot_have_is_refused(function: Any, policy: dict[str, Any], why: str) -> None:
    with pytest.raises(LoadError, match=f"tool '{function.__name__}': {why}"):
        tool(**{"read_only": True, **policy})(function)


def test_a_batch_is_not_for_generators() -> None:
    def many(items: list[int]) -> Iterator[int]:
        yield from items

    def knows(items: list[int], context: Context) -> list[int]:
        return items

    with pytest.raises(LoadError, match="batch= is not for generators"):
        tool(batch=2)(many)
    with pytest.raises(LoadError, match="has no idle_timeout="):
        tool(batch=2, idle_timeout=1.0)(knows)


@pytest.mark.parametrize(
    ("function", "policy"),
    [
        (plain, {"group": "x" * 64, "memory": 0}),
        (plain, {"group": "A-b_9", "memory": 2**40}),
        (yields, {"idle_timeout": 0.5}),
        (yields, {"idle_timeout": 0.1}),
        (asks, {"idle_timeout": 5}),
        (gathers, {"batch": 2, "batch_delay": 0}),
        (gathers, {"batch": 4096, "concurrency": 2, "rate": 5.0, "timeout": 1.0, "retries": 2, "backlog": 9}),
    ],
)
def test_what_it_can_have_is_what_its_spec_says(function: Any, policy: dict[str, Any]) -> None:
    spec = tool(read_only=True, **policy)(function).spec
    assert {name: getattr(spec, name) for name in policy} == policy


@pytest.mark.parametrize(
    ("function", "policy", "why"),
    [
        (plain, {"idle_timeout": 1.0}, "idle_timeout= needs a generator"),
        (asks, {"idle_timeout": 0.01}, "idle_timeout=0.01 must be at least 0.1 seconds"),
        (plain, {"batch_delay": 1.0}, "batch_delay= does nothing without batch="),
        (plain, {"group": "no room"}, ".*a group's name has"),
    ],
)
def test_a_configuration_gives_no_function_what_it_cannot_have(function: Any, policy: dict[str, Any], why: str) -> None:
    with pytest.raises(LoadError, match=why):
        tool(function).under(policy)
