"""Stacks as files."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from toolring.cli.flame import TOP, WIDTH, bars, folded, speedscope, svg

STACKS = [(("main", "f"), 3.0), (("main", "g", "h <x>&;"), 1.0), (("main", "f", "g"), 2.0), (("other",), 2.0)]


def test_bars_lie_below_what_called_them_and_side_by_side() -> None:
    found = {(bar.name, bar.depth): (bar.start, bar.seconds) for bar in bars(STACKS)}
    assert found == {
        ("all", 0): (0.0, 8.0),
        ("main", 1): (0.0, 6.0),
        ("other", 1): (6.0, 2.0),
        ("f", 2): (0.0, 5.0),
        ("g", 3): (0.0, 2.0),
        ("g", 2): (5.0, 1.0),
        ("h <x>&;", 3): (5.0, 1.0),
    }


def test_a_picture_is_whole_and_needs_nothing_from_elsewhere() -> None:
    text = svg(STACKS, "worker <0>")
    root = ElementTree.fromstring(text)
    drawn = [one for one in root.iter("{http://www.w3.org/2000/svg}g") if one.get("class") == "bar"]
    assert len(drawn) == 7
    rect = drawn[0].find("{http://www.w3.org/2000/svg}rect")
    assert rect is not None
    assert (float(rect.get("width", "")), float(rect.get("y", ""))) == (WIDTH, TOP)
    titles = [one[0].text for one in drawn]
    assert "h <x>&;: 1.000 s, 12.5 %" in titles
    assert text.count("http") == 1, "the name of the format, and no address that is asked"
    assert "{{" not in text


def test_names_may_have_any_characters() -> None:
    text = svg([(("main", "thread \x1b[1m\0\udcff"), 1.0)], "worker \x1b[1m")
    titles = [one.text for one in ElementTree.fromstring(text.encode()).iter("{http://www.w3.org/2000/svg}title")]
    assert titles[-1] == r"thread \x1b[1m\x00\udcff: 1.000 s, 100.0 %"


def test_what_was_never_seen_is_a_picture_too() -> None:
    ElementTree.fromstring(svg([], "nothing"))


def test_a_line_for_each_stack() -> None:
    assert folded(STACKS).splitlines()[:2] == ["main;f 3000000", "main;g;h <x>&: 1000000"]


def test_speedscope_has_each_name_once() -> None:
    told = json.loads(speedscope(STACKS, "t"))
    assert [one["name"] for one in told["shared"]["frames"]] == ["main", "f", "g", "h <x>&;", "other"]
    (profile,) = told["profiles"]
    assert profile["samples"] == [[0, 1], [0, 2, 3], [0, 1, 2], [4]]
    assert profile["weights"] == [3.0, 1.0, 2.0, 2.0]
    assert profile["endValue"] == 8.0
