"""The outline of one Python file: what it imports and defines, without the bodies."""

from __future__ import annotations

import ast

import msgspec

from toolring.plugins.tools.memos import FileMemo
from toolring.plugins.tools.roots import SourceFile
from toolring.plugins.tools.sources import parse
from toolring.plugins.tools.symbols import Symbol, docline, statements, symbols, unparse

MEMO_BUDGET = 20_000
"""Symbols that a worker keeps: some 8 MB."""


class Outline(msgspec.Struct):
    """``imports`` are the module's own, wherever they stand outside functions and classes."""

    path: str
    lines: int
    doc: str
    imports: list[str]
    symbols: list[Symbol]


def outline(file: SourceFile) -> Outline:
    """The outline of the file as it is now. Raises SyntaxError naming the file and line, ValueError for no
    text."""
    return _memo.get(file)


def _outline(file: SourceFile) -> Outline:
    source = parse(file)
    own = statements(source.tree.body)
    imports = [unparse(node) for node in own if isinstance(node, ast.Import | ast.ImportFrom)]
    return Outline(file.shown, len(source.lines), docline(source.tree), imports, symbols(source))


def _size(found: Outline) -> int:
    pending = list(found.symbols)
    size = 0
    while pending:
        pending.extend(pending.pop().children)
        size += 1
    return size


_memo = FileMemo(_outline, _size, MEMO_BUDGET)
