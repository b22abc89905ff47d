"""Tags: what a tool's results depend on, or what its runs change, with the arguments' values in their places."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_canonical = msgspec.json.Encoder(order="deterministic").encode


def renderer(templates: Sequence[str]) -> Callable[[msgspec.Struct], tuple[bytes, ...]]:
    """A function from arguments to tags. A tag is the same for whoever renders it: 1 and "1" are one value here."""
    if not any("{" in template for template in templates):
        fixed = tuple(named(template) for template in templates)
        return lambda _arguments: fixed

    def render(arguments: msgspec.Struct) -> tuple[bytes, ...]:
        return tuple(named(_PLACE.sub(lambda found: _text(getattr(arguments, found[1])), t)) for t in templates)

    return render


def named(tag: str) -> bytes:
    return b"tag:" + tag.encode("utf-8", "surrogateescape")


def of_key(key: bytes) -> bytes:
    return b"key:" + key


def _text(value: object) -> str:
    """The same for whoever renders it, whatever its declared type is there: 1, 1.0 and "1", a UUID and its text."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    try:
        plain = msgspec.to_builtins(value)
        return plain if type(plain) is str else _canonical(plain).decode()
    except (TypeError, ValueError):  # keys that are no text or have no order, an extension of msgpack's
        return msgspec.msgpack.encode(value).hex()
