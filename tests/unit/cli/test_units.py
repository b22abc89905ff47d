"""How figures are written."""

from __future__ import annotations

from typing import Any

import pytest

from toolring.cli.units import LONGEST_NAME, shortened, with_unit, written


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("text", None, "-"),
        ("text", "", "-"),
        ("text", "a\x1b[31m", "a\\x1b[31m"),
        ("whole", 0, "0"),
        ("whole", 1234567, "1234567"),
        ("rate", 0.0, "0"),
        ("rate", 0.0123, "0.01"),
        ("rate", 9.994, "9.99"),
        ("rate", 9.996, "10.0"),
        ("rate", 123.4, "123"),
        ("rate", 9999.0, "9999"),
        ("rate", 12345.0, "12.3k"),
        ("rate", 999_600.0, "1.00M"),
        ("ms", 0.0, "0"),
        ("ms", 0.0000042, "0.004"),
        ("ms", 0.00012, "0.12"),
        ("ms", 0.0123, "12.3"),
        ("ms", 0.9996, "1.00s"),
        ("ms", 12.0, "12.0s"),
        ("ms", 1800.0, "30m00s"),
        ("span", 0.04, "0.0s"),
        ("span", 59.6, "1m00s"),
        ("span", 3599.0, "59m59s"),
        ("span", 7260.0, "2h01m"),
        ("span", 90000.0, "1d01h"),
        ("bytes", 0, "0B"),
        ("bytes", 1023, "1023B"),
        ("bytes", 1536, "1.5K"),
        ("bytes", 200 << 20, "200M"),
        ("bytes", 3 << 40, "3.0T"),
        ("share", 0.256, "26%"),
        ("share", 1.5, "150%"),
    ],
)
def test_figures(kind: str, value: Any, text: str) -> None:
    assert written(value, kind) == text


def test_a_time_that_stands_alone_has_its_unit() -> None:
    assert [with_unit(one) for one in (None, 0, 0.0345, 1.2, 3600)] == ["-", "0ms", "34.5ms", "1.20s", "1h00m"]


def test_a_text_may_have_to_fit() -> None:
    assert written("a" * 40 + "b" * 40, "text", 11) == "aaaaa…bbbbb"
    assert written("a" * 80, "text") == "a" * 80


def test_a_long_name_loses_its_middle() -> None:
    name = "crawl_" + "x" * 40 + "_final"
    short = shortened(name)
    assert len(short) == LONGEST_NAME
    assert short.startswith("crawl_")
    assert short.endswith("_final")
    assert shortened("short") == "short"
