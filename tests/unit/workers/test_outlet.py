"""What a job tells before its answer. Time is what the test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from toolring.client.feed import Feed
from toolring.errors import InvalidResult, TooLarge
from toolring.protocol import ALIVE, PART_BYTES, PROGRESS, Part, Work, decode_value, encode
from toolring.workers import outlet as module
from toolring.workers.outlet import PROGRESS_SECONDS, Outlet


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def made(stream: int = 0, progress: bool = False, limit: int = 1000) -> tuple[Outlet, list[Part]]:
    posted: list[Part] = []
    work = Work("t", Raw(b"\x80"), float("inf"), "abcd", 7, 1, stream=stream, progress=progress)
    return Outlet(5, work, posted.append, limit), posted


def told(parts: list[Part]) -> list[Any]:
    """(number, value), with the job's sequence number looked at."""
    assert {part.id for part in parts} <= {5}
    return [(part.number, decode_value(part.value)) for part in parts]


# ---- parts


def test_parts_are_numbered_and_count_against_what_is_granted() -> None:
    outlet, posted = made(stream=2 * (PART_BYTES + 1))
    assert not outlet.full
    outlet.give(1)
    assert not outlet.full
    outlet.give(2)
    assert outlet.full
    outlet.granted += 1
    assert not outlet.full
    outlet.give("three")
    assert outlet.full
    assert told(posted) == [(1, 1), (2, 2), (3, "three")]
    assert (outlet.parts, outlet.sent) == (3, 3 * PART_BYTES + 1 + 1 + 6)
    assert decode_value(outlet.result("returned")) == "returned"


@given(st.integers(1, 3000), st.lists(st.integers(0, 900), max_size=40))
def test_a_feed_and_an_outlet_never_wait_for_each_other(window: int, sizes: list[int]) -> None:
    """The reader takes parts only while the tool can't go on: the worst that it can do."""
    outlet, posted = made(stream=window)
    feed = Feed(window)
    taken: list[Any] = []
    for size in sizes:
        while outlet.full:
            assert posted, "the tool waits for a reader who has read everything"
            feed.arrived(posted.pop(0))
            taken.append(feed.take())
            if feed.more():
                outlet.granted = feed.granted
        before = outlet.sent
        outlet.give("x" * size)
        assert before < outlet.granted, "one part at most is more than was granted"
    for part in posted:
        feed.arrived(part)
        taken.append(feed.take())
    assert [len(text) for text in taken] == sizes
    assert not feed.lost
    assert feed.number == outlet.parts


@pytest.mark.parametrize("stream", [0, 10_000])
def test_what_can_not_be_sent_is_not_given(stream: int) -> None:
    outlet, posted = made(stream=stream, limit=10)
    with pytest.raises(TooLarge):
        outlet.give("x" * 10)
    with pytest.raises(InvalidResult):
        outlet.give(Raw(b"\xc1"))
    with pytest.raises(TypeError):
        outlet.give(object())
    assert posted == []
    assert (outlet.parts, outlet.sent) == (0, 0)
    outlet.give("x" * 6)
    with pytest.raises(TooLarge):
        outlet.result("x" * 10) if stream else outlet.result(None)


# ---- collected


def test_what_nobody_streams_is_collected() -> None:
    outlet, posted = made()
    for item in (1, "two", Raw(b"\x03")):
        outlet.give(item)
    assert not outlet.full
    assert decode_value(outlet.result("returned")) == [1, "two", 3], "what it returns is nobody's"
    assert posted == []
    outlet.begin()
    assert decode_value(outlet.result(None)) == []
    outlet.give(4)
    assert decode_value(outlet.result(None)) == [4]


@pytest.mark.parametrize("calls", [1, 3])
def test_what_is_collected_has_the_limit_of_one_result(calls: int) -> None:
    outlet, _ = made(limit=100)
    for _ in range(calls):
        outlet.begin()
        for _ in range(95):
            outlet.give(1)
        assert len(outlet.result(None)) == 100
    outlet.give(1)
    with pytest.raises(TooLarge, match="101 bytes, the limit is 100"):
        outlet.result(None)
    for _ in range(4):
        outlet.give(1)
    with pytest.raises(TooLarge, match="101 bytes, the limit is 100"):
        outlet.give(1)


# ---- progress


def test_words_too_close_together_are_dropped(clock: Clock) -> None:
    outlet, posted = made(progress=True)
    for step, after in enumerate([0.0, 0.01, 0.045, 0.06, 0.1, 0.111]):
        clock.now = 1000.0 + after
        outlet.tell(step, 10, f"step {step}")
    assert told(posted) == [
        (PROGRESS, [0, 10, "step 0"]),
        (PROGRESS, [3, 10, "step 3"]),
        (PROGRESS, [5, 10, "step 5"]),
    ]


def test_the_last_word_is_never_dropped(clock: Clock) -> None:
    outlet, posted = made(progress=True)
    outlet.tell(9, 10, "")
    outlet.tell(10, 10, "done")
    assert told(posted) == [(PROGRESS, [9, 10, ""]), (PROGRESS, [10, 10, "done"])]


@pytest.mark.parametrize("stream", [0, 10_000])
def test_nobody_hears_what_nobody_asked_for(clock: Clock, stream: int) -> None:
    outlet, posted = made(stream=stream)
    outlet.tell(10, 10, "done")
    assert posted == []


@pytest.mark.parametrize(
    ("given_", "value"),
    [
        ((0.5, None, ""), [0.5, None, ""]),
        ((1, 2, "x" * 5000), [1, 2, "x" * 1000]),
        ((1, 2, "caf\udce9"), [1, 2, "caf\\udce9"]),  # a name of a file that isn't UTF-8
    ],
)
def test_a_word_always_leaves(clock: Clock, given_: Any, value: Any) -> None:
    outlet, posted = made(progress=True)
    outlet.tell(*given_)
    assert told(posted) == [(PROGRESS, value)]


def test_what_is_collected_tells_now_and_then_that_it_goes_on(clock: Clock) -> None:
    outlet, posted = made(progress=True)
    for step in range(11):
        clock.now = 1000.0 + step * PROGRESS_SECONDS / 4
        outlet.give(step)
    assert told(posted) == [(ALIVE, None)] * 3
    assert decode_value(outlet.result(None)) == list(range(11))


def test_to_be_alive_does_not_take_the_place_of_a_word(clock: Clock) -> None:
    """A generator that yields and then tells how far it is: its caller, who collects, hears of it all the same."""
    outlet, posted = made(progress=True)
    for step in range(10):
        clock.now += PROGRESS_SECONDS * 1.01
        outlet.give(step)
        outlet.tell(step, 100, "")
    assert [value[0] for number, value in told(posted) if number == PROGRESS] == list(range(10))


def test_a_stream_tells_nothing_but_its_parts_and_its_progress(clock: Clock) -> None:
    outlet, posted = made(stream=10_000, progress=True)
    outlet.give("a")
    outlet.tell(1, 2, "")
    outlet.give("b")
    assert told(posted) == [(1, "a"), (PROGRESS, [1, 2, ""]), (2, "b")]
    assert outlet.sent == 2 * (PART_BYTES + len(encode("a")))
