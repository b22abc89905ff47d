"""A tool's policy, as it is declared or configured: checked as a whole, whoever decided each part of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import Any, Final

import msgspec

from toolring.errors import LoadError
from toolring.policy.breaker import BreakerPolicy
from toolring.spec import ToolSpec

SCOPES: Final = ("public", "caller", "partition")
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
MOST_TOGETHER: Final = 4096
LEAST_IDLE: Final = 0.1
"""Seconds; words of progress are told at most 20 times a second, so a shorter silence says nothing."""
_BATCH_DELAY: Final = ToolSpec(name="").batch_delay
_NOT_TOGETHER: Final = {
    "cache": "its calls are looked up one by one",
    "invalidates": "its arguments are many",
    "affinity": "calls with different arguments share a run",
}
_GROUP: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def decided(spec: ToolSpec, policy: Mapping[str, Any], arguments: Collection[str]) -> ToolSpec:
    """The tool's specification under this policy. Raises LoadError, naming the tool and what to change."""
    name = spec.name
    _check_types(name, policy)
    _check_cache(name, policy)
    for field in ("tags", "invalidates"):
        for tag in policy[field]:
            _check_tag(name, field, tag, arguments)
    affinity = policy["affinity"]
    if affinity is not None and affinity not in arguments:
        raise refused(name, f"affinity={affinity!r} is not one of its arguments ({', '.join(arguments) or 'none'})")
    _check_flow(name, policy)
    _check_kind(spec, policy)
    breaker = _breaker(name, policy["breaker"])
    values = {key: value for key, value in policy.items() if key != "cache_writes"}
    values.update(
        destructive=not policy["read_only"] if policy["destructive"] is None else policy["destructive"],
        cache=policy["cache"] or None,
        tags=tuple(policy["tags"]),
        invalidates=tuple(policy["invalidates"]),
        retry_on=tuple(policy["retry_on"]),
        breaker=breaker,
    )
    return msgspec.structs.replace(spec, **values)


def refused(name: str, why: str) -> LoadError:
    return LoadError(f"tool {name!r}: {why}", tool=name)


def _check_types(name: str, policy: Mapping[str, Any]) -> None:
    for field, value in policy.items():
        wanted, fits = _KINDS[field]
        if not (value is None and field in _OPTIONAL) and not fits(value):
            raise refused(name, f"{field}={value!r} is not {wanted}")


def _check_cache(name: str, policy: Mapping[str, Any]) -> None:
    cached = policy["cache"]
    for field in ("cache", "cache_stale", "cache_errors"):
        if policy[field] is not None and not 0 <= policy[field] < inf:
            raise refused(name, f"{field}={policy[field]!r} is not a number of seconds")
    if cached and not policy["read_only"] and not policy["cache_writes"]:
        raise refused(name, "cache= needs read_only=True (or cache_writes=True, if a skipped side effect is wanted)")
    if policy["cache_scope"] not in SCOPES:
        raise refused(name, f"cache_scope={policy['cache_scope']!r} is none of {', '.join(SCOPES)}")
    idle = [field for field, nothing in UNCACHED.items() if (policy[field] or nothing) != nothing]
    if idle and not cached:
        raise refused(name, f"{idle[0]}={policy[idle[0]]!r} does nothing without cache=SECONDS")
    if policy["cache_stale"] and not policy["read_only"]:
        raise refused(name, "cache_stale= runs the tool unasked, so it needs read_only=True")


def _check_flow(name: str, policy: Mapping[str, Any]) -> None:
    for field in ("timeout", "queue_timeout", "idle_timeout", "rate"):
        if policy[field] is not None and not 0 < policy[field] < inf:
            unit = "starts per second" if field == "rate" else "seconds"
            raise refused(name, f"{field}={policy[field]!r} is not a positive number of {unit}")
    for field in ("concurrency", "burst", "backlog"):
        if policy[field] is not None and policy[field] < 1:
            raise refused(name, f"{field}={policy[field]!r} must be at least 1")
    if not 0 <= policy["retry_delay"] < inf:
        raise refused(name, f"retry_delay={policy['retry_delay']!r} is not a number of seconds")
    if not _GROUP.fullmatch(policy["group"]):
        raise refused(name, f"group={policy['group']!r}: a group's name has 1 to 64 letters, digits, '_' or '-'")
    if policy["memory"] < 0:
        raise refused(name, f"memory={policy['memory']!r} is not a number of bytes")
    if policy["store_over"] is not None and policy["store_over"] < 0:
        raise refused(name, f"store_over={policy['store_over']!r} is not a number of bytes")
    if policy["burst"] is not None and policy["rate"] is None:
        raise refused(name, "burst= does nothing without rate=")
    if not 0 <= policy["retries"] <= 100:
        raise refused(name, f"retries={policy['retries']!r} is not from 0 to 100")
    if policy["retries"] and not (policy["read_only"] or policy["idempotent"]):
        raise refused(name, "retries= runs it again, so it needs read_only=True or idempotent=True")
    if policy["retry_on"] and not policy["retries"]:
        raise refused(name, "retry_on= does nothing without retries=")


def _breaker(name: str, said: bool | Mapping[str, Any]) -> BreakerPolicy | None:
    """True: with the defaults; a mapping says what differs from them."""
    if said is False:
        return None
    known = BreakerPolicy.__struct_fields__
    for key in () if said is True else said:
        if key not in known:
            raise refused(name, f"breaker has no {key!r}; there is {', '.join(known)}")
    try:
        return msgspec.convert({} if said is True else said, BreakerPolicy)
    except (msgspec.ValidationError, ValueError) as error:
        raise refused(name, f"breaker={said!r}: {error}") from None


def _check_kind(spec: ToolSpec, policy: Mapping[str, Any]) -> None:
    """What only some functions can have."""
    name, batch = spec.name, policy["batch"]
    if policy["idle_timeout"] is not None and not (spec.streams or spec.asks):
        raise refused(name, "idle_timeout= needs a generator, or a Context whose progress() it calls")
    if policy["idle_timeout"] is not None and policy["idle_timeout"] < LEAST_IDLE:
        why = "progress is told at most 20 times a second"
        raise refused(name, f"idle_timeout={policy['idle_timeout']!r} must be at least {LEAST_IDLE} seconds: {why}")
    if not 0 <= policy["batch_delay"] < inf:
        raise refused(name, f"batch_delay={policy['batch_delay']!r} is not a number of seconds")
    if batch is None:
        if policy["batch_delay"] != _BATCH_DELAY:
            raise refused(name, "batch_delay= does nothing without batch=")
        return
    if not 2 <= batch <= MOST_TOGETHER:
        raise refused(name, f"batch={batch!r} is not from 2 to {MOST_TOGETHER}")
    for field, reason in _NOT_TOGETHER.items():
        if policy[field]:
            raise refused(name, f"batch= and {field}= don't go together: {reason}")
    if spec.streams or policy["idle_timeout"] is not None:
        raise refused(name, "batch= is not for generators, and has no idle_timeout=")


def _check_tag(name: str, field: str, tag: str, arguments: Collection[str]) -> None:
    try:
        tag.encode()
    except UnicodeEncodeError:
        raise refused(name, f"{field}: {tag!a} can't be encoded as UTF-8") from None
    if not tag or len(tag) > 200:
        raise refused(name, f"{field}: a tag has 1 to 200 characters, not {tag!r}")
    for argument in _PLACE.findall(tag):
        if argument not in arguments:
            known = ", ".join(arguments) or "none"
            raise refused(name, f"{field}: {tag!r} names {argument!r}, which is not one of its arguments ({known})")
    if "{" in _PLACE.sub("", tag) or "}" in _PLACE.sub("", tag):
        raise refused(name, f"{field}: {tag!r} has a brace without its other half")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_breaker(value: Any) -> bool:
    return isinstance(value, bool | Mapping)


_Kind = tuple[str, Callable[[Any], bool]]
_TEXT: Final[_Kind] = ("text", _is_text)
_TRUTH: Final[_Kind] = ("True or False", _is_truth)
_SECONDS: Final[_Kind] = ("a number of seconds", _is_number)
_TEXTS: Final[_Kind] = ("a list of texts", _are_texts)
_KINDS: Final[dict[str, _Kind]] = {
    **dict.fromkeys(("read_only", "idempotent", "destructive", "open_world", "cache_writes", "adaptive"), _TRUTH),
    **dict.fromkeys(("timeout", "cache", "cache_stale", "cache_errors", "queue_timeout", "retry_delay"), _SECONDS),
    **dict.fromkeys(("idle_timeout", "batch_delay"), _SECONDS),
    "rate": ("a number", _is_number),
    "breaker": ("True, False or a table of what differs from the defaults", _is_breaker),
    **dict.fromkeys(("concurrency", "burst", "backlog", "retries", "memory", "batch"), ("a whole number", _is_whole)),
    "store_over": ("a whole number", _is_whole),
    **dict.fromkeys(("cache_strategy", "cache_scope", "affinity", "balancer", "group"), _TEXT),
    **dict.fromkeys(("tags", "invalidates", "retry_on"), _TEXTS),
}
_OPTIONAL: Final = (
    *("destructive", "timeout", "cache", "cache_strategy", "affinity", "balancer"),
    *("concurrency", "rate", "burst", "backlog", "queue_timeout", "idle_timeout", "batch"),
    "store_over",
)
UNCACHED: Final[Mapping[str, Any]] = {
    "cache_strategy": None,
    "cache_stale": 0.0,
    "cache_errors": 0.0,
    "cache_scope": "public",
    "tags": (),
}
"""What says nothing without ``cache``, when it says nothing."""
