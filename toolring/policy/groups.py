"""Groups of workers: which there are, of which kind, and who belongs to which. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from toolring.errors import LoadError
from toolring.policy.renewal import Renewal
from toolring.policy.scaling import Scaling
from toolring.spec import ToolSpec

if TYPE_CHECKING:
    from toolring.config import GroupSection

PER_WORKER: Final = 100
"""Runs of async tools that one process has under way at once, if nobody says otherwise."""


class Bounds(NamedTuple):
    """Limits of a tool or a group. ``memory`` in bytes, ``rate`` in starts per second; 0 and None: no limit."""

    concurrency: int = 0
    adaptive: bool = False
    rate: float = 0.0
    burst: int = 0
    backlog: int | None = None
    memory: int = 0

    @property
    def limit_anything(self) -> bool:
        return self != Bounds()


class Group(NamedTuple):
    """Processes that run the same tools. ``per_worker``: runs that one has under way at once, 0 for those that run
    one after the other."""

    name: str
    workers: int
    per_worker: int = 0
    bounds: Bounds = Bounds()
    balancer: str | None = None
    """Of those of its tools that name none themselves."""
    renewal: Renewal = Renewal()
    scaling: Scaling | None = None
    """None: it always has all its workers."""


def bounds_of(spec: ToolSpec) -> Bounds:
    """The limits that a tool has by itself."""
    return Bounds(spec.concurrency or 0, spec.adaptive, spec.rate or 0.0, spec.burst or 0, spec.backlog)


def planned(specs: Iterable[ToolSpec], sections: Mapping[str, GroupSection], workers: int, most: int) -> list[Group]:
    """The groups that these tools need, as they are configured.

    Args:
        specs: all tools, toolring's own too, which go along with whatever there is.
        sections: what the configuration says of groups, by name.
        workers: processes of a group that doesn't say it.
        most: processes that there may be, over all groups.

    Raises:
        LoadError: a section for a group that no tool is in, a group of both kinds, a limit that one of its tools can
            never pass, or one that means nothing there.
    """
    members: dict[str, list[ToolSpec]] = {}
    for spec in specs:
        if not spec.internal:
            members.setdefault(spec.group, []).append(spec)
    for name in sections:
        if name not in members:
            known = ", ".join(sorted(members))
            text = f"the configuration has [groups.{name}], but no tool is in that group; there is {known}"
            raise LoadError(text, key=f"groups.{name}")
    groups = [_group(name, own, sections.get(name), workers) for name, own in sorted(members.items())]
    total = sum(group.workers for group in groups)
    if total > most:
        each = ", ".join(f"{group.name} {group.workers}" for group in groups)
        text = f"{total} workers in all ({each}); a node that is set up like this has at most {most}"
        raise LoadError(text, key="node.workers")
    return groups


def _group(name: str, members: list[ToolSpec], section: GroupSection | None, workers: int) -> Group:
    concurrent = [spec.name for spec in members if spec.concurrent]
    others = [spec.name for spec in members if not spec.concurrent]
    if concurrent and others:
        raise LoadError(
            f"the group {name!r} has async tools ({_some(concurrent)}) and others ({_some(others)}); a worker process "
            "is for one kind, so give one of them another group="
        )
    per_worker = PER_WORKER if concurrent else 0
    if section is None:
        return Group(name, workers, per_worker)
    if section.per_worker and not concurrent:
        key = f"groups.{name}.per_worker"
        raise LoadError(f"{key} does nothing: its tools are not async, they run one after the other", key=key)
    bounds = Bounds(section.concurrency, section.adaptive, 0.0, 0, section.backlog or None, section.memory)
    for spec in members:
        if section.memory and spec.memory > section.memory:
            raise LoadError(
                f"tool {spec.name!r} declares {spec.memory} bytes; its group {name!r} has {section.memory}",
                tool=spec.name,
                key=f"groups.{name}.memory",
            )
    if section.memory and not any(spec.memory for spec in members):
        key = f"groups.{name}.memory"
        raise LoadError(f"{key} does nothing: none of its tools declares memory=", key=key)
    renewal = Renewal(section.max_jobs, section.max_age, section.max_idle, section.max_memory)
    most = section.workers or workers
    return Group(
        name,
        most,
        section.per_worker or per_worker,
        bounds,
        section.balancer or None,
        renewal,
        _scaling(name, section, most),
    )


def _scaling(name: str, section: GroupSection, most: int) -> Scaling | None:
    least = section.min_workers
    if least is None:
        for setting in ("scale_up_wait", "scale_down_after"):
            if getattr(section, setting):
                key = f"groups.{name}.{setting}"
                raise LoadError(f"{key} does nothing without min_workers", key=key)
        return None
    if least > most:
        key = f"groups.{name}.min_workers"
        raise LoadError(f"{key} = {least} is more than its {most} workers", key=key)
    given = {"wait": section.scale_up_wait, "after": section.scale_down_after}
    return Scaling(least, most, **{key: value for key, value in given.items() if value})


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
