"""Regular expression search, line by line as grep does, and the reading of line ranges."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from toolring.plugins.tools.roots import SourceFile
from toolring.plugins.tools.sources import clip, read_text, split_lines

MAX_WIDTH = 300
"""Characters shown of a found line; whoever wants the whole of a minified file can read it."""


class Match(msgspec.Struct, omit_defaults=True):
    path: str
    line: int
    column: int
    text: str
    before: list[str] = []
    after: list[str] = []


class SearchResult(msgspec.Struct):
    """``truncated``: there are more matches; then ``files_scanned`` counts only the files up to the last one
    shown."""

    matches: list[Match]
    truncated: bool
    files_scanned: int
    files_skipped: int


class LineRange(msgspec.Struct):
    path: str
    start: int
    end: int
    total: int
    text: str


def search(
    files: Iterable[SourceFile],
    pattern: str,
    *,
    ignore_case: bool = False,
    context_lines: int = 0,
    limit: int = 50,
) -> SearchResult:
    """The first ``limit`` lines that the expression is found in. Binary, huge and unreadable files are
    skipped.

    Raises ValueError naming the position where the expression is invalid.
    """
    expression = compile_pattern(pattern, ignore_case)
    result = SearchResult([], False, 0, 0)
    for file in files:
        try:
            lines = split_lines(read_text(file))
        except (ValueError, OSError):
            result.files_skipped += 1
            continue
        result.files_scanned += 1
        room = limit + 1 - len(result.matches)
        result.matches.extend(islice(_matches(file.shown, lines, expression, context_lines), room))
        if len(result.matches) > limit:
            result.matches.pop()
            result.truncated = True
            break
    return result


def compile_pattern(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """The compiled expression; ValueError says what is wrong with it and where."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "[[" may mean something else one day; the caller wrote it
            return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise ValueError(f"invalid regex {pattern!r} at position {error.pos or 0}: {error.msg}") from None
    except (OverflowError, RecursionError) as error:  # a{99999999999}, ((((...
        raise ValueError(f"invalid regex {clip(repr(pattern), 200)} at position 0: {error}") from None


def _matches(shown: str, lines: list[str], expression: re.Pattern[str], around: int) -> Iterator[Match]:
    find = expression.search
    for index, line in enumerate(lines):
        found = find(line)
        if found is not None:
            before = lines[max(0, index - around) : index]
            after = lines[index + 1 : index + 1 + around]
            yield Match(shown, index + 1, found.start() + 1, _show(line), _show_all(before), _show_all(after))


def _show(line: str) -> str:
    return clip(line, MAX_WIDTH)


def _show_all(lines: list[str]) -> list[str]:
    return [_show(line) for line in lines]


def read_lines(file: SourceFile, start: int, count: int, width: int = 1000) -> LineRange:
    """Up to ``count`` lines from line ``start`` on, each with its number and a tab before it.

    Raises ValueError when the file ends before ``start``.
    """
    lines = split_lines(read_text(file))
    if start > max(1, len(lines)):
        raise ValueError(f"{file.shown} has {len(lines)} lines; there is no line {start}")
    chosen = lines[start - 1 : start - 1 + count]
    text = "\n".join(f"{number}\t{clip(line, width)}" for number, line in enumerate(chosen, start))
    return LineRange(file.shown, start, start + len(chosen) - 1, len(lines), text)
