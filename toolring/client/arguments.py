"""What a caller gave, made fit to travel: refused here, by name, before it shares a message with others' jobs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.errors import InvalidArguments, TooDeep
from toolring.protocol import INLINE

_arguments = msgspec.msgpack.Encoder(order="sorted").encode
_encode = protocol.encode
_INSIDE: Final = b"\x91" * 64
_DEEP: Final = 256
"""Arguments of more bytes are tried 64 levels further down, since the node decodes them inside of other things."""


def check_text(what: str, text: Any, argument: str) -> None:
    """A message holds the jobs of many threads: what would have it refused must not get into one. Raises
    InvalidArguments."""
    if not isinstance(text, str):
        raise InvalidArguments(f"{what} is text, not {text!r:.100}", argument=argument)
    if len(text) > protocol.MAX_NAME:
        why = f"{what} has at most {protocol.MAX_NAME} characters, not {len(text)}"
        raise InvalidArguments(why, argument=argument)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArguments(f"{what} can't be encoded as UTF-8: {text!a:.100}", argument=argument) from None


def check_key(key: Any) -> None:
    """An empty one would be none on the wire, and the call would run as often as it is made."""
    check_text("an idempotency key", key, "key")
    if not key:
        raise InvalidArguments("an idempotency key has at least one character", argument="key")


def seconds(tool: str, timeout: Any, what: str = "timeout") -> float:
    """A timeout as a positive number of seconds. Raises InvalidArguments."""
    if isinstance(timeout, int | float) and not isinstance(timeout, bool):
        try:
            value = float(timeout)
        except OverflowError:
            value = math.inf
        if 0 < value < math.inf:
            return value
    why = f"{tool}: {what} {timeout!r:.100} is not a positive number of seconds"
    raise InvalidArguments(why, tool=tool, argument=what)


PRIORITIES: Final = {"low": protocol.LOW, "normal": protocol.NORMAL, "high": protocol.HIGH}


def priority_of(tool: str, name: Any) -> int:
    """A priority's number on the wire. Raises InvalidArguments."""
    found = PRIORITIES.get(name) if isinstance(name, str) else None
    if found is None:
        why = f"{tool}: priority {name!r:.100} is none of {', '.join(PRIORITIES)}"
        raise InvalidArguments(why, tool=tool, argument="priority")
    return found


def encoded(tool: str, arguments: Mapping[str, Any]) -> Raw:
    """Arguments as msgpack, keys sorted, so that equal arguments are equal bytes."""
    try:
        args = _arguments(arguments)
        if _DEEP < len(args) <= INLINE:  # what is larger travels alone, and hurts nobody else
            protocol.check_value(_INSIDE + args)
        return Raw(args)
    except (RecursionError, TooDeep):
        raise TooDeep(f"{tool}: the arguments nest too deeply", tool=tool) from None
    except (TypeError, ValueError, OverflowError):
        pass  # keys that have no order, or a value that can't be sent: which one?
    for name, value in arguments.items():
        try:
            _encode(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArguments(f"{tool}: {name} can't be sent: {error}", tool=tool, argument=name) from None
    try:
        return Raw(_encode(arguments))
    except (TypeError, ValueError) as error:
        raise InvalidArguments(f"{tool}: the arguments can't be sent: {error}", tool=tool) from None


def encoded_chunk(tool: str, calls: list[Mapping[str, Any]]) -> Raw:
    """The arguments of many calls as one array."""
    try:
        args = _arguments(calls)
        if len(args) <= INLINE:
            protocol.check_value(_INSIDE + args)
        return Raw(args)
    except (TypeError, ValueError, OverflowError, RecursionError, TooDeep):
        each = [bytes(memoryview(encoded(tool, call))) for call in calls]  # which says what is wrong with which
        return Raw(b"\xdd" + len(each).to_bytes(4, "big") + b"".join(each))


def route_of(affinity: str, arguments: Mapping[str, Any]) -> bytes:
    """The placement hint: the affine argument's canonical bytes, digested if they are long."""
    try:
        value = _arguments(arguments.get(affinity))
    except TypeError:  # keys that have no order
        value = _encode(arguments.get(affinity))
    return value if len(value) <= 64 else blake2b(value, digest_size=16).digest()


def what_to_invalidate(
    tool: str | None, tags: Iterable[str], arguments: Mapping[str, Any] | None, partition: str
) -> dict[str, Any]:
    """The arguments of toolring's own tool that invalidates results. Raises InvalidArguments."""
    if isinstance(tags, str):
        raise InvalidArguments(f"tags is a list of texts, not the text {tags!r}", argument="tags")
    given: dict[str, Any] = {"tool": tool, "tags": list(tags), "partition": partition}
    return given if arguments is None else {**given, "arguments": dict(arguments)}
