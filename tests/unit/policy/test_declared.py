from __future__ import annotations

from typing import Any

import pytest

from toolring import tool
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
