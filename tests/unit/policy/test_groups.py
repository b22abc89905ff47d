"""Which groups of workers there are, by what the tools declare and what is configured."""

from __future__ import annotations

from typing import Any

import pytest

from toolring.config import GroupSection
from toolring.errors import LoadError
from toolring.policy.groups import PER_WORKER, Bounds, Group, bounds_of, planned
from toolring.spec import INVALIDATE, ToolSpec


def spec(name: str, group: str = "default", concurrent: bool = False, **more: Any) -> ToolSpec:
    return ToolSpec(name=name, group=group, concurrent=concurrent, **more)


PLAIN = spec("plain")
ASYNC = spec("soon", "async", True)
HEAVY = spec("heavy", "big", memory=600)
INTERNAL = ToolSpec(name=INVALIDATE)


def section(**more: Any) -> GroupSection:
    return GroupSection(**more)


@pytest.mark.parametrize(
    ("specs", "sections", "groups"),
    [
        ([], {}, []),
        ([INTERNAL], {}, []),
        ([PLAIN, INTERNAL], {}, [Group("default", 3)]),
        ([ASYNC, INTERNAL], {}, [Group("async", 3, PER_WORKER)]),
        (
            [PLAIN, HEAVY, spec("other"), ASYNC],
            {},
            [Group("async", 3, PER_WORKER), Group("big", 3), Group("default", 3)],
        ),
        ([PLAIN], {"default": section()}, [Group("default", 3, 0, Bounds())]),
        (
            [ASYNC, PLAIN],
            {"async": section(workers=1, per_worker=500, concurrency=20, adaptive=True, backlog=5)},
            [Group("async", 1, 500, Bounds(20, True, 0.0, 0, 5)), Group("default", 3)],
        ),
        ([HEAVY], {"big": section(memory=1000)}, [Group("big", 3, 0, Bounds(memory=1000))]),
        ([HEAVY], {"big": section(memory=600)}, [Group("big", 3, 0, Bounds(memory=600))]),
        ([HEAVY, spec("light", "big")], {"big": section(memory=600)}, [Group("big", 3, 0, Bounds(memory=600))]),
        ([spec("odd", "async")], {}, [Group("async", 3)]),
        ([spec("odd", "default", True)], {}, [Group("default", 3, PER_WORKER)]),
    ],
)
def test_groups_are_those_that_have_tools(
    specs: list[ToolSpec], sections: dict[str, GroupSection], groups: list[Group]
) -> None:
    assert planned(specs, sections, 3, 100) == groups
    assert planned(reversed(specs), sections, 3, 100) == groups, "in an order of their own"


@pytest.mark.parametrize(
    ("specs", "sections", "most", "says"),
    [
        (
            [PLAIN, ASYNC],
            {"slow": section()},
            9,
            r"\[groups.slow\], but no tool is in that group; there is async, default",
        ),
        ([INTERNAL, ASYNC], {"default": section()}, 9, r"\[groups.default\], but no tool is in that group"),
        ([PLAIN, spec("soon", concurrent=True)], {}, 9, r"'default' has async tools \(soon\) and others \(plain\)"),
        (
            [*(spec(f"a{n}") for n in range(6)), spec("soon", concurrent=True)],
            {},
            9,
            r"and others \(a0, a1, a2, a3, \.\.\.\)",
        ),
        (
            [PLAIN],
            {"default": section(per_worker=5)},
            9,
            r"groups.default.per_worker does nothing: its tools are not async",
        ),
        ([HEAVY], {"big": section(memory=599)}, 9, r"'heavy' declares 600 bytes; its group 'big' has 599"),
        ([PLAIN], {"default": section(memory=599)}, 9, r"groups.default.memory does nothing: none of its tools"),
        (
            [PLAIN, HEAVY],
            {},
            5,
            r"6 workers in all \(big 3, default 3\); a node that is set up like this has at most 5",
        ),
        ([PLAIN], {"default": section(workers=6)}, 5, r"6 workers in all"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    specs: list[ToolSpec], sections: dict[str, GroupSection], most: int, says: str
) -> None:
    with pytest.raises(LoadError, match=says):
        planned(specs, sections, 3, most)


def test_a_refusal_names_the_tool_that_can_never_run() -> None:
    with pytest.raises(LoadError) as caught:
        planned([HEAVY], {"big": section(memory=1)}, 3, 9)
    assert caught.value.facts["tool"] == "heavy"


def test_as_many_workers_as_there_may_be() -> None:
    assert [group.workers for group in planned([PLAIN, HEAVY], {"big": section(workers=2)}, 3, 5)] == [2, 3]


@pytest.mark.parametrize(
    ("policy", "bounds", "limits"),
    [
        ({}, Bounds(), False),
        ({"memory": 600}, Bounds(), False),
        ({"concurrency": 2}, Bounds(concurrency=2), True),
        ({"adaptive": True}, Bounds(adaptive=True), True),
        ({"rate": 0.5, "burst": 3}, Bounds(rate=0.5, burst=3), True),
        ({"backlog": 1}, Bounds(backlog=1), True),
    ],
)
def test_a_tools_own_limits(policy: dict[str, Any], bounds: Bounds, limits: bool) -> None:
    found = bounds_of(spec("one", **policy))
    assert found == bounds
    assert found.limit_anything == limits
    assert Bounds(memory=1).limit_anything
