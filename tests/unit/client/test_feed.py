"""A job's parts on their way to its caller, and how many more the node may send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from toolring.client.feed import WINDOW, Feed, Progress, checked
from toolring.errors import InvalidArguments
from toolring.protocol import PART_BYTES, PROGRESS, Follow, Part, encode


def part(number: int, value: Any) -> Part:
    return Part(1, number, Raw(encode(value)))


def word(*value: Any) -> Part:
    return part(PROGRESS, value)


@pytest.mark.parametrize("window", [-1, 0, 1.5, "1", None, True, 10**30])
def test_a_window_is_a_number_of_bytes(window: Any) -> None:
    with pytest.raises(InvalidArguments) as caught:
        checked(window)
    assert caught.value.facts["argument"] == "window"


@pytest.mark.parametrize(("window", "streams"), [(0, False), (1, True), (WINDOW, True)])
def test_what_it_asks_of_the_node(window: int, streams: bool) -> None:
    feed = Feed(window)
    assert feed.streams == streams
    assert feed.granted == window
    assert feed.follow(True, 1.5) == Follow(window, True, 1.5)
    assert not feed.has_told


def test_parts_are_taken_in_their_order() -> None:
    feed = Feed(1000)
    for number, value in enumerate(["a", {"b": 1}, None], 1):
        feed.arrived(part(number, value))
    assert feed.has_told
    assert feed.number == 3
    assert [feed.take() for _ in range(3)] == ["a", {"b": 1}, None]
    assert not feed.has_told
    assert not feed.lost


@pytest.mark.parametrize("numbers", [[2], [1, 3], [1, 2, 2], [1, 2, 4, 5], [1, 2, 1]])
def test_a_gap_is_never_forgotten(numbers: list[int]) -> None:
    feed = Feed(1000)
    for number in numbers:
        feed.arrived(part(number, "x"))
    assert feed.lost
    assert feed.has_told
    feed.arrived(part(len(numbers) + 1, "x"))
    assert feed.lost


def test_a_word_of_progress_is_no_part() -> None:
    feed = Feed()
    feed.arrived(word(1, 2, "half"))
    assert feed.progress == Progress(1, 2, "half")
    assert (feed.number, list(feed.parts), feed.lost) == (0, [], False)


def test_a_caller_hears_the_last_word_once() -> None:
    feed = Feed()
    heard: list[Progress] = []
    feed.tell(heard.append)
    feed.arrived(word(1, 3, "a"))
    feed.arrived(word(2, None, "b"))
    assert feed.has_told
    feed.tell(heard.append)
    feed.tell(heard.append)
    assert heard == [(2, None, "b")]
    assert not feed.has_told
    feed.arrived(word(3, 3, "c"))
    feed.tell(None)
    assert not feed.has_told
    assert feed.progress == (3, 3, "c"), "it can be looked at all the same"


def test_in_a_stream_a_word_has_its_place_among_the_parts() -> None:
    feed = Feed(1000)
    heard: list[Progress] = []
    for one in (word(0, 2, ""), part(1, "a"), word(1, 2, ""), part(2, "b")):
        feed.arrived(one)
    feed.tell(heard.append)
    assert heard == [], "it is told when it is taken"
    taken = [feed.take() for _ in range(4)]
    assert taken == [(0, 2, ""), "a", (1, 2, ""), "b"]
    assert [isinstance(one, Progress) for one in taken] == [True, False, True, False]
    assert (feed.number, feed.lost) == (2, False)
    assert feed.progress == (1, 2, "")


@pytest.mark.parametrize("value", [[1, 2, "half", "newer"], [1, 2, "half", 4, [5]]])
def test_a_newer_node_may_say_more_of_it(value: list[Any]) -> None:
    feed = Feed()
    feed.arrived(part(PROGRESS, value))
    assert feed.progress == (1, 2, "half")


# ---- grants


def test_more_is_granted_once_half_of_the_window_is_taken() -> None:
    size = PART_BYTES + 1
    feed = Feed(10 * size)
    granted = []
    for number in range(1, 21):
        feed.arrived(part(number, 1))
        feed.take()
        if feed.more():
            granted.append((number, feed.granted // size))
    assert granted == [(5, 15), (10, 20), (15, 25), (20, 30)]


@given(
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 5)), max_size=60),
)
def test_the_node_may_go_on_whenever_all_is_taken(window: int, steps: list[tuple[int, int]]) -> None:
    """Parts of any size come while any are granted, and are taken some at a time."""
    feed = Feed(window)
    sent = number = 0
    granted = window
    for size, takes in steps:
        if sent < granted:
            number += 1
            value = "x" * size
            feed.arrived(part(number, value))
            sent += len(encode(value)) + PART_BYTES
        for _ in range(min(takes, len(feed.parts))):
            feed.take()
            if feed.more():
                assert feed.granted > granted, "a grant grows"
                granted = feed.granted
        waiting = sum(len(one) + PART_BYTES for one in feed.parts if isinstance(one, Raw))
        assert granted - (sent - waiting) <= window, "no more than the window is ever ahead"
        assert feed.parts or sent < granted
    assert not feed.lost
