"""What a tool's calls become before and after its code: no tool is called here."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import Raw, Struct

from toolring import Context, Retry, tool
from toolring.declare import Tool
from toolring.errors import Conflict, InvalidArguments, InvalidResult, TooLarge, ToolError, ToolringError
from toolring.plugins.caches.lru import LRU
from toolring.protocol import CACHED, LAYER_SHIFT, OK, Work, decode_value, encode
from toolring.settings import CacheSettings
from toolring.stamps import BYTES, Stamps
from toolring.workers import runnable as module
from toolring.workers.cache.base import Cache
from toolring.workers.cache.results import Found, ResultCache
from toolring.workers.runnable import (
    Runnable,
    all_fail,
    calls_of,
    check_count,
    encoded,
    failed,
    failures,
    found_answer,
    joined,
    spread,
    succeeded,
    together,
    until,
    within,
)


def work(args: Any = None, name: str = "t", **more: Any) -> Work:
    return Work(name, Raw(encode({} if args is None else args)), float("inf"), "abcd", 7, 1, **more)


# ---- a tool made ready


@tool
def plain(a: int, b: int = 2) -> int:
    return a + b


@tool
def keyword(a: int, *, b: int) -> int:
    return a + b


@tool
def asks(a: int, context: Context) -> int:
    return a


@tool
def yields(a: int) -> Iterator[int]:
    yield a


def doubled(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return 2 * function(*args, **kwargs)

    return wrapper


@tool
@doubled
def wrapped(a: int) -> int:
    return a


@tool(read_only=True, cache=60)
def cached(a: Any) -> Any: ...


@pytest.mark.parametrize(
    ("one", "positional"), [(plain, True), (keyword, False), (asks, False), (yields, False), (wrapped, False)]
)
def test_arguments_go_by_position_only_where_that_is_the_same(one: Tool[..., Any], positional: bool) -> None:
    assert Runnable(one, None).positional == positional


def test_arguments_by_name() -> None:
    assert Runnable(keyword, None).keywords(keyword.decode(encode({"b": 6, "a": 5}))) == {"a": 5, "b": 6}


@pytest.mark.parametrize(
    ("with_cache", "given", "asked"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"partition": None}, False),
        (True, {"partition": "p"}, True),
        (True, {"stream": 100}, False),
        (True, {"renew": True}, True),
    ],
)
def test_which_calls_are_looked_up(with_cache: bool, given: dict[str, Any], asked: bool) -> None:
    cache = ResultCache(Cache(LRU(10), 10, 10_000), cached.spec, CacheSettings(), Stamps(bytearray(BYTES)))
    ready = Runnable(cached, cache if with_cache else None)
    arguments = cached.decode(encode({"a": 1}))
    assert (ready.question(arguments, work(**given)) is not None) == asked


class Keyless(ResultCache):
    def key(self, arguments: Struct, partition: str = "") -> bytes:
        raise RuntimeError("no key can be made of it")


def test_what_has_no_key_is_not_cached() -> None:
    cache = Keyless(Cache(LRU(10), 10, 10_000), cached.spec, CacheSettings(), Stamps(bytearray(BYTES)))
    assert Runnable(cached, cache).question(cached.decode(encode({"a": 1})), work()) is None


# ---- results


@pytest.mark.parametrize(("limit", "fits"), [(5, False), (6, True)])
def test_a_result_has_a_limit_in_bytes(limit: int, fits: bool) -> None:
    if fits:
        assert bytes(encoded(work(), "hello", limit)) == encode("hello")
        assert bytes(within(work(), b"123456", limit)) == b"123456"
        return
    for made in (lambda: encoded(work(), "hello", limit), lambda: within(work(), b"123456", limit)):
        with pytest.raises(TooLarge, match="t: the result has 6 bytes, the limit is 5") as caught:
            made()
        assert caught.value.facts == {"size": 6, "limit": 5}


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01\x02", b"\x91"])
def test_a_tools_own_bytes_are_one_value(data: bytes) -> None:
    assert bytes(encoded(work(), Raw(b"\x01"), 10)) == b"\x01"
    with pytest.raises(InvalidResult, match="not msgpack"):
        encoded(work(), Raw(data), 10)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70_000])
def test_parts_are_joined_as_one_array(count: int) -> None:
    assert decode_value(joined(work(), [encode(n) for n in range(count)], 1_000_000)) == list(range(count))


def test_parts_together_have_the_limit_of_one_result() -> None:
    assert len(joined(work(), [b"\x01"] * 5, 10)) == 10
    with pytest.raises(TooLarge):
        joined(work(), [b"\x01"] * 6, 10)


def test_an_answer_from_the_cache_says_how_long_it_holds() -> None:
    now = time.monotonic()
    answer = found_answer(4, Found(b"\x01", OK, CACHED | 1 << LAYER_SHIFT, 9.0, 5.0), now - 1.0)
    assert (answer.id, answer.status, bytes(answer.value), answer.flags) == (4, OK, b"\x01", CACHED | 1 << LAYER_SHIFT)
    assert 1_000_000 <= answer.run_us < 2_000_000
    assert 4.9 < answer.until_us * 1e-6 - now < 6.0
    assert [until(0.0), until(-1.0)] == [0, 0]


# ---- chunks


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_a_chunk_has_as_many_calls_as_it_says(chunk: int) -> None:
    assert [bytes(one) for one in calls_of(work([{}] * chunk, chunk=chunk))] == [b"\x80"] * chunk
    for wrong in (chunk - 1, chunk + 1):
        with pytest.raises(InvalidArguments, match=f"{chunk} calls, where {wrong} were announced"):
            check_count(work(chunk=wrong), chunk)
        with pytest.raises(InvalidArguments):
            calls_of(work([{}] * chunk, chunk=wrong))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x92\x80", b"\xc1", b"\x91\x80\x80", b"\x01", b"\xc0"])
def test_what_is_no_array_of_calls_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArguments, match="an array of maps"):
        calls_of(Work("t", Raw(data), 1.0, "s", 7, 1, chunk=1))


def test_each_call_has_its_own_word() -> None:
    assert decode_value(succeeded(Raw(encode([1, "a"])))) == [0, [1, "a"]]
    status, error = decode_value(failed(1, Conflict("taken", holder="me"), work(name="tool")))
    assert (status, error["code"], error["holder"], error["tool"], error["attempt"]) == (1, "CONFLICT", "me", "tool", 1)


# ---- many calls in one run


class Request(Struct):
    a: int
    b: str = "b"

    def __post_init__(self) -> None:
        if self.a == 13:
            raise LookupError("not that one")


@dataclass
class Plain:
    a: int


@tool(batch=3)
def structs(requests: list[Request]) -> None: ...


@tool(batch=3)
def dataclasses(requests: list[Plain]) -> None: ...


@tool(batch=3)
def words(keys: list[str]) -> None: ...


@pytest.mark.parametrize(
    ("one", "calls", "items", "places"),
    [
        (structs, [{"a": 1}, {"a": 2, "b": "x"}], [Request(1), Request(2, "x")], [0, 1]),
        (structs, [{"a": "one"}, {"a": 2}, {"a": 13}, {}, {"a": 3}], [Request(2), Request(3)], [1, 4]),
        (structs, [{"a": 13}], [], []),
        (dataclasses, [{"a": 1}, 5, {"a": 2, "c": 3}], [Plain(1)], [0]),
        (words, [{"keys": "x"}, {"keys": 5}, {"key": "y"}, {"keys": "z"}], ["x", "z"], [0, 3]),
    ],
)
def test_those_whose_arguments_are_right_go_together(
    one: Tool[..., Any], calls: list[Any], items: list[Any], places: list[int]
) -> None:
    batch = together(1, work(calls, one.spec.name, chunk=len(calls)), Runnable(one, None))
    assert batch.items == items
    assert batch.places == places
    assert len(batch.parts) == len(calls)
    for place, part in enumerate(batch.parts):
        if place in places:
            assert part == b""
        else:
            status, error = decode_value(part)
            assert (status, error["code"], error["tool"]) == (1, "INVALID_ARGUMENTS", one.spec.name)


def test_what_the_elements_own_class_says_is_told() -> None:
    batch = together(1, work([{"a": 13}], "structs", chunk=1), Runnable(structs, None))
    assert decode_value(batch.parts[0])[1]["message"] == "structs: LookupError: not that one"


@pytest.mark.parametrize(
    ("count", "most", "runs"), [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (7, 3, [3, 3, 1])]
)
def test_no_run_takes_more_than_it_may(count: int, most: int, runs: list[int]) -> None:
    calls = [{"keys": str(n)} for n in range(count)]
    batch = together(1, work(calls, chunk=count), Runnable(words, None))
    made = list(batch.runs(most))
    assert [len(items) for items, _ in made] == [len(places) for _, places in made] == runs
    assert [(item, place) for run in made for item, place in zip(*run, strict=True)] == [
        (str(n), n) for n in range(count)
    ]


def batch_of(count: int) -> Any:
    return together(1, work([{"keys": "k"}] * count, "words", chunk=count), Runnable(words, None))


def told(batch: Any) -> list[Any]:
    """Values, and the codes of errors."""
    found = [decode_value(part) for part in batch.parts]
    return [value if status == 0 else value["code"] for status, value in found]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize(
    ("results", "each"),
    [
        ([1, "a", None], [1, "a", None]),
        ((1, [2], {"x": 3}), [1, [2], {"x": 3}]),
        ([1, ValueError("no"), Unprintable()], [1, "TOOL_ERROR", "TOOL_ERROR"]),
        ([Retry("later"), Conflict("taken"), SystemExit(1)], ["RETRY", "CONFLICT", "TOOL_ERROR"]),
        ([object(), 2**70, Raw(b"\x02")], ["INVALID_RESULT", "INVALID_RESULT", 2]),
        ([Raw(b"\xc1"), Raw(b"\x01\x01"), 3], ["INVALID_RESULT", "INVALID_RESULT", 3]),
    ],
)
def test_each_call_gets_its_own_result_or_error(results: Any, each: list[Any]) -> None:
    batch = batch_of(3)
    spread(1, work(name="words", chunk=3), batch, batch.places, 1000, results)
    assert told(batch) == each


def test_an_error_that_is_a_result_says_what_it_is() -> None:
    batch = batch_of(1)
    spread(1, work(name="words", chunk=1), batch, batch.places, 1000, [ValueError("an empty word")])
    error = decode_value(batch.parts[0])[1]
    assert (error["message"], error["type"], error["tool"]) == (
        "words: ValueError: an empty word",
        "ValueError",
        "words",
    )


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ([1], "1 results"),
        ([1, 2, 3], "3 results"),
        ([], "0 results"),
        (None, "a NoneType"),
        ({1: 2, 3: 4}, "a dict"),
        ("ab", "a str"),
        ({1, 2}, "a set"),
        (iter([1, 2]), "a list_iterator"),
    ],
)
def test_a_run_that_does_not_give_one_for_each_gives_none(results: Any, says: str) -> None:
    batch = batch_of(2)
    with pytest.raises(InvalidResult, match=f"a run of 2 calls returned {says}, not a list with one for each"):
        spread(1, work(name="words", chunk=2), batch, batch.places, 1000, results)
    assert batch.parts == [b"", b""]


def test_memory_that_runs_out_is_no_calls_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(_: Any) -> bytes:
        raise MemoryError

    batch = batch_of(2)
    monkeypatch.setattr(module, "_encode", out_of_memory)
    with pytest.raises(MemoryError):
        spread(1, work(name="words", chunk=2), batch, batch.places, 1000, [1, 2])


@pytest.mark.parametrize("error", [ToolError("it broke"), InvalidResult("of no use")])
def test_an_error_of_a_run_is_that_of_its_calls_only(error: ToolringError) -> None:
    batch = together(1, work([{"keys": "a"}, {"keys": 1}, {"keys": "b"}], "words", chunk=3), Runnable(words, None))
    wrong = batch.parts[1]
    all_fail(1, work(name="words", chunk=3), batch, batch.places[:1], error)
    assert told(batch._replace(parts=batch.parts[:2])) == [error.code, "INVALID_ARGUMENTS"]
    assert batch.parts[1:] == [wrong, b""]


@pytest.mark.parametrize("code", [5, None, [1], {"a": 1}])
def test_calls_that_failed_are_told_by_code_whatever_a_tool_made_of_it(code: Any) -> None:
    odd = b"\x92\x01" + encode({"code": code, "message": "x"})
    wrong = b"\x92\x01" + encode({"code": "INVALID_ARGUMENTS"})
    assert failures([b"\x92\x00\x05", odd, wrong, odd]) == {"TOOL_ERROR": 2, "INVALID_ARGUMENTS": 1}
    assert failures([b"\x92\x00\x05", b"\x92\x00\xc0"]) is None
    assert failures([]) is None
