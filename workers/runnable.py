"""A tool made ready to be called many times, and what all ways of running it share. No tool is called here."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.declare import Tool
from toolring.errors import InvalidArguments, InvalidResult, TooLarge, ToolError, ToolringError
from toolring.protocol import Answer, Work
from toolring.workers.cache.results import Found, Question, ResultCache
from toolring.workers.failures import check_raw, failure, of_the_tool, refine
from toolring.workers.interrupt import JobInterrupted
from toolring.workers.resources import supplied
from toolring.workers.storing import ResultStore

_encode = protocol.encode
_SUCCEEDED: Final = b"\x92\x00"
_FAILED: Final = b"\x92\x01"
"""How the outcome of one of many calls begins: a pair of its status and its result or error."""


class Runnable:
    """What the hot path needs of a tool, looked up once."""

    __slots__ = (
        "batch",
        "cache",
        "call",
        "changes",
        "concurrent",
        "context",
        "decode",
        "decode_all",
        "given",
        "item",
        "positional",
        "store",
        "streams",
        "tool",
    )

    def __init__(
        self,
        tool: Tool[..., Any],
        cache: ResultCache | None,
        changes: Callable[[msgspec.Struct], None] | None = None,
        given: Mapping[str, Any] = MappingProxyType({}),
        store: ResultStore | None = None,
    ) -> None:
        """``changes`` is told the arguments of each run that has ended, however it ended. ``given``: what toolring
        passes to each run itself, by its parameter. ``store`` keeps its large results."""
        self.tool = tool
        self.decode = tool.decode
        self.decode_all = msgspec.msgpack.Decoder(list[tool.arguments]).decode  # type: ignore[name-defined]
        self.cache = cache
        self.context = tool.context_parameter
        self.call = supplied(tool)
        self.changes = changes
        self.given = given
        self.store = store
        self.concurrent = tool.spec.concurrent
        self.streams = tool.spec.streams
        self.item = tool.item
        self.batch = tool.spec.batch or 0
        self.positional = not self.streams and _all_positional(tool)

    def keywords(self, arguments: msgspec.Struct) -> dict[str, Any]:
        return {field: getattr(arguments, field) for field in arguments.__struct_fields__}

    def question(self, arguments: msgspec.Struct, work: Work) -> Question | None:
        """The look-up in the cache that a call is; None: it isn't cached."""
        if self.cache is None or work.partition is None or work.stream:
            return None
        try:
            return self.cache.question(arguments, work.partition)
        except Exception:
            return None  # what has no key is not cached


def _all_positional(tool: Tool[..., Any]) -> bool:
    """Can the arguments be passed by position, in the struct's order? It is half the cost of keywords."""
    code = getattr(tool.function, "__code__", None)
    if (
        code is None
        or tool.context_parameter is not None
        or tool.services
        or tool.resources
        or hasattr(tool.function, "__wrapped__")
    ):
        return False
    fields = tool.arguments.__struct_fields__
    return bool(code.co_kwonlyargcount == 0 and code.co_varnames[: code.co_argcount] == fields)


# ---- results


def encoded(work: Work, result: Any, limit: int, store: ResultStore | None = None) -> Raw:
    """A result as it travels. Raises TooLarge, InvalidResult, or what the encoder raises."""
    body = _encode(result)
    if type(result) is Raw:
        check_raw(work, body)
    return within(work, body if store is None else store.instead_of(body), limit)


def within(work: Work, body: bytes | Raw, limit: int) -> Raw:
    if len(body) > limit:
        text = f"{work.tool}: the result has {len(body)} bytes, the limit is {limit}"
        raise TooLarge(text, size=len(body), limit=limit)
    return Raw(body)


def joined(work: Work, parts: Sequence[bytes], limit: int) -> Raw:
    """Encoded values as one array. Raises TooLarge."""
    return within(work, b"".join((b"\xdd", len(parts).to_bytes(4, "big"), *parts)), limit)


def fitted(seq: int, work: Work, parts: list[bytes], limit: int) -> Raw:
    """The answers of many calls as one array. If they are too much together for one caller, the largest are errors
    instead."""
    if work.gathered:
        limit = sys.maxsize
    size = sum(map(len, parts))
    if size + 5 <= limit:
        return joined(work, parts, limit)
    for place in sorted(range(len(parts)), key=lambda place: len(parts[place]), reverse=True):
        if size + 5 <= limit:
            break
        size -= len(parts[place])
        text = f"{work.tool}: the results of {len(parts)} calls together exceed the limit of {limit} bytes"
        parts[place] = failed(seq, TooLarge(text, size=len(parts[place]) - 2, limit=limit), work)
        size += len(parts[place])
    return joined(work, parts, limit)


class _Coded(msgspec.Struct):
    code: str = ToolError.code


_coded = msgspec.msgpack.Decoder(_Coded).decode


def failures(parts: Sequence[bytes]) -> dict[str, int] | None:
    """How many of many calls failed, by their errors' codes; None: none did."""
    if max(parts, default=b"") < _FAILED:  # the quick way: this is asked of each chunk
        return None
    return dict(Counter(_code(part[2:]) for part in parts if part.startswith(_FAILED)))


def _code(error: bytes) -> str:
    try:
        return _coded(error).code
    except (msgspec.DecodeError, RecursionError):  # a tool's own error may hold anything
        return ToolError.code


def found_answer(seq: int, found: Found, start: float) -> Answer:
    """The answer from a cache; ``start`` is when the attempt began."""
    spent = int((time.monotonic() - start) * 1e6)
    return Answer(seq, found.status, Raw(found.value), spent, found.flags, until(found.hold))


def until(hold: float) -> int:
    return int((time.monotonic() + hold) * 1e6) if hold > 0 else 0


# ---- chunks: many calls as one job


_decode_calls = msgspec.msgpack.Decoder(list[Raw]).decode


def calls_of(work: Work) -> list[Raw]:
    """The arguments of each call. Raises InvalidArguments."""
    try:
        calls = _decode_calls(work.args)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArguments(f"{work.tool}: a chunk's arguments are an array of maps: {error}") from None
    check_count(work, len(calls))
    return calls


def check_count(work: Work, count: int) -> None:
    if count != work.chunk:
        raise InvalidArguments(f"{work.tool}: {count} calls, where {work.chunk} were announced")


def succeeded(value: Any) -> bytes:
    return _SUCCEEDED + bytes(value)


def failed(seq: int, error: ToolringError, work: Work) -> bytes:
    return _FAILED + bytes(failure(seq, error, work).value)


# ---- many calls in one run


class Together(NamedTuple):
    """The calls of a chunk whose arguments are right, and the places that their results go to."""

    items: list[Any]
    places: list[int]
    parts: list[bytes]
    """One for each call: an error already, or to be filled in."""

    def runs(self, most: int) -> Iterator[tuple[list[Any], list[int]]]:
        """What each run takes, and the places of its results."""
        for first in range(0, len(self.items), most):
            yield self.items[first : first + most], self.places[first : first + most]


def together(seq: int, work: Work, runnable: Runnable) -> Together:
    """What one run of a tool is given that takes many calls at once. Raises InvalidArguments."""
    assert runnable.item is not None
    make = runnable.item.make
    found = Together([], [], [])
    for place, call in enumerate(calls_of(work)):
        try:
            found.items.append(make(runnable.decode(call)))
            found.places.append(place)
            found.parts.append(b"")
        except ToolringError as error:
            found.parts.append(failed(seq, error, work))
        except Exception as error:  # the element's own class refuses what its fields allow
            refusal = InvalidArguments(f"{work.tool}: {type(error).__name__}: {error}", tool=work.tool)
            found.parts.append(failed(seq, refusal, work))
    return found


def spread(
    seq: int,
    work: Work,
    batch: Together,
    places: Sequence[int],
    limit: int,
    results: Any,
    store: ResultStore | None = None,
) -> None:
    """Give each call of one run its result, or its error. Raises InvalidResult if there are not as many."""
    if not isinstance(results, list | tuple) or len(results) != len(places):
        got = f"{len(results)} results" if isinstance(results, list | tuple) else f"a {type(results).__name__}"
        raise InvalidResult(f"{work.tool}: a run of {len(places)} calls returned {got}, not a list with one for each")
    for place, result in zip(places, results, strict=True):
        if isinstance(result, BaseException):
            batch.parts[place] = failed(seq, of_the_tool(work, result), work)
            continue
        try:
            batch.parts[place] = succeeded(encoded(work, result, limit, store))
        except (JobInterrupted, MemoryError):
            raise
        except ToolringError as error:
            batch.parts[place] = failed(seq, error, work)
        except BaseException as error:
            batch.parts[place] = failed(seq, refine(work, error), work)


def all_fail(seq: int, work: Work, batch: Together, places: Sequence[int], error: ToolringError) -> None:
    for place in places:
        batch.parts[place] = failed(seq, error, work)
