from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolring.plugins.tools.roots import CodeRoot, SourceFile
from toolring.plugins.tools.searching import compile_pattern, read_lines, search
from toolring.plugins.tools.trees import walk

Write = Callable[[str, str | bytes], SourceFile]


def test_matches_with_context(write: Write) -> None:
    result = search([write("a.txt", "one\ntwo\nthree\nfour\ntwo\n")], "t(w)o", context_lines=2)
    first, last = result.matches
    assert (first.path, first.line, first.column, first.text) == ("a.txt", 2, 1, "two")
    assert (first.before, first.after) == (["one"], ["three", "four"])
    assert (last.line, last.before, last.after) == (5, ["three", "four"], [])
    assert (result.truncated, result.files_scanned, result.files_skipped) == (False, 1, 0)


def test_a_pattern_is_matched_within_a_line(write: Write) -> None:
    file = write("a", "a\nb\r\n\x0cc d\n")
    assert search([file], r"a\s+b").matches == []
    assert [match.line for match in search([file], "^.$").matches] == [1, 2]
    assert [match.line for match in search([file], "d$").matches] == [3], "a form feed ends no line"
    assert search([file], "^$").matches == [], "the end of the last line is no line of its own"


def test_case(write: Write) -> None:
    file = write("a", "Word\n")
    assert search([file], "word").matches == []
    assert search([file], "word", ignore_case=True).matches[0].text == "Word"


def test_the_limit(write: Write) -> None:
    files = [write("a", "x\nx\n"), write("b", "x\n"), write("c", "")]
    assert [search(files, "x", limit=limit).truncated for limit in (1, 2, 3)] == [True, True, False]
    result = search(files, "x", limit=2)
    assert ([match.path for match in result.matches], result.files_scanned) == (["a", "a"], 2)


def test_binary_huge_and_vanished_files_are_skipped(root: CodeRoot, write: Write) -> None:
    gone = write("gone", "x")
    Path(gone.path).unlink()
    files = [write("a", b"x\0"), write("b", b"x" * 4_000_001), gone, write("c", b"x\xff")]
    result = search(files, "x")
    assert (len(result.matches), result.files_scanned, result.files_skipped) == (1, 1, 3)
    assert result.matches[0].text == "x\ufffd"


def test_long_lines_are_cut_and_the_column_tells_where(write: Write) -> None:
    (match,) = search([write("a", "-" * 5000 + "x")], "x").matches
    assert (len(match.text), match.column) == (300, 5001)


@pytest.mark.parametrize(
    ("pattern", "position"), [("a(b", 1), ("[z-a]", 1), ("*", 0), (r"\Q", 0), ("a{99999999999}", 0)]
)
def test_an_invalid_regex_names_the_position(pattern: str, position: int) -> None:
    with pytest.raises(ValueError, match=f"^invalid regex .* at position {position}: "):
        search([], pattern)


@example("[[")
@given(st.text(max_size=30))
def test_any_text_is_a_regex_or_a_value_error(pattern: str) -> None:
    with contextlib.suppress(ValueError):
        assert compile_pattern(pattern, False).pattern == pattern


def test_the_standard_library_agrees_with_a_naive_search(stdlib: CodeRoot) -> None:
    result = search(walk(stdlib, "json", "*.py"), r"def \w+", limit=1000)
    expected = {
        (f"json/{path.name}", number)
        for path in Path(stdlib.path, "json").glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"def \w+", line)
    }
    assert {(match.path, match.line) for match in result.matches} == expected


def test_reading_a_range(write: Write) -> None:
    file = write("a", "one\ntwo\nthree\n")
    part = read_lines(file, 2, 1)
    assert (part.path, part.start, part.end, part.total, part.text) == ("a", 2, 2, 3, "2\ttwo")
    assert read_lines(file, 2, 99).text == "2\ttwo\n3\tthree"
    with pytest.raises(ValueError, match="a has 3 lines; there is no line 4"):
        read_lines(file, 4, 1)


def test_reading_nothing_much(write: Write) -> None:
    empty = read_lines(write("a", ""), 1, 10)
    assert (empty.start, empty.end, empty.total, empty.text) == (1, 0, 0, "")
    with pytest.raises(ValueError, match="there is no line 2"):
        read_lines(write("a", ""), 2, 1)
    assert read_lines(write("a", "x" * 2000), 1, 1).text == "1\t" + "x" * 999 + "…"
    with pytest.raises(ValueError, match="a: is a binary file"):
        read_lines(write("a", b"\0"), 1, 1)
